// ---- which page the address asks for ----

function asked_(parts) {
  const [kind, name] = parts;
  if (!kind) return overview();
  if (kind === "tasks") return tasks();
  if (kind === "task" && byId.has(name)) return task(byId.get(name));
  if (kind === "optimizers") return allOptimizers();
  if (kind === "optimizer" && styles.has(name)) return optimizer(name);
  if (kind === "claimed") return claimed();
  if (kind === "rules") return about();
  return {
    title: "Not here",
    content: [h("h1", { tabindex: -1 }, "Not on this board"), h("p", {}, "There is no ", h("bdi", {}, parts.join("/")), " here. ", link("#/", "Overview"))],
  };
}

function show() {
  if (location.hash && !location.hash.startsWith("#/")) return; // the link that skips to the content
  leaving.splice(0).forEach((stop) => stop());
  const { parts } = address();
  const { title, content } = asked_(parts);
  const main = document.getElementById("main");
  main.replaceChildren(...content.flat(Infinity).filter(Boolean));
  document.title = `${title} · zobench`;
  const section = { task: "tasks", optimizer: "optimizers" }[parts[0]] ?? parts[0] ?? "";
  for (const anchor of document.querySelectorAll(".top nav a")) {
    const current = anchor.getAttribute("href") === `#/${section}`;
    if (current) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
}

// An entry of the history holds how far its page was scrolled, and going back or loading again goes there.
history.scrollRestoration = "manual";
let settled;
addEventListener("scroll", () => {
  clearTimeout(settled);
  settled = setTimeout(keepPlace, 120);
}, { passive: true });
addEventListener("click", (event) => event.target.closest?.("a[href^='#/']") && keepPlace(), { capture: true });
addEventListener("pagehide", keepPlace);

function keepPlace() {
  clearTimeout(settled);
  history.replaceState({ ...history.state, y: scrollY }, "");
}

function takePlace() {
  const y = history.state?.y ?? 0;
  if (y) dispatchEvent(new CustomEvent("drawabove", { detail: y })); // what is drawn later would move the rest
  scrollTo(0, y);
}

addEventListener("hashchange", () => {
  clearTimeout(settled);
  show();
  document.querySelector("#main h1")?.focus({ preventScroll: true });
  takePlace();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
startTheme();
show();
if (history.state?.y) addEventListener("DOMContentLoaded", takePlace, { once: true });
