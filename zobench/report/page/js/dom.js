// ---- elements; every text reaches the page as text, never as markup ----

const SVG = "http://www.w3.org/2000/svg";

// h("a", {href, class, onclick}, child, ...): null and false children are left out, arrays are unfolded.
function h(name, attributes, ...children) {
  return built(document.createElement(name), attributes, children);
}

function s(name, attributes, ...children) {
  return built(document.createElementNS(SVG, name), attributes, children);
}

function built(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

const unique = (() => {
  let last = 0;
  return (name) => `${name}-${++last}`;
})();

// A link inside the page.
const link = (href, ...children) => h("a", { href }, ...children);

// A name that came with the results: it may be long, and written from right to left. It breaks after commas first.
const named = (text) =>
  h(
    "bdi",
    { class: "name" },
    String(text).split(/(?<=,)/).map((part, i) => [i ? h("wbr") : null, h("span", { class: part.length < 28 ? "part" : null }, part)]),
  );

// A text of ours with `code` and **strong** words.
const rich = (text) =>
  text.split(/(`[^`]*`|\*\*[^*]*\*\*)/).map((part) => {
    if (part.startsWith("`")) return h("code", {}, part.slice(1, -1));
    return part.startsWith("**") ? h("strong", {}, part.slice(2, -2)) : part;
  });

function select(label, options, chosen, change) {
  const box = h(
    "select",
    { onchange: () => change(box.value) },
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
  );
  return h("label", { class: "control" }, h("span", {}, label), box);
}

function check(label, checked, change) {
  const box = h("input", { type: "checkbox", checked, onchange: () => change(box.checked) });
  return h("label", { class: "control check" }, box, h("span", {}, label));
}

// What may be wider than the page scrolls by itself, with a shadow at an edge beyond which there is more.
function scroller(attributes, child) {
  const region = h("div", { ...attributes, class: ["scroll", attributes.class].filter(Boolean).join(" "), role: "region", tabindex: 0 }, child);
  const edges = h("div", { class: "edges" }, region);
  const update = () => {
    edges.classList.toggle("before", region.scrollLeft > 1);
    edges.classList.toggle("after", region.scrollLeft < region.scrollWidth - region.clientWidth - 1);
  };
  region.addEventListener("scroll", update, { passive: true });
  const size = new ResizeObserver(update);
  size.observe(region);
  size.observe(child);
  leaving.push(() => size.disconnect());
  return edges;
}
