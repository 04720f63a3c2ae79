// ---- a table that is sorted by its headers, filtered by a text, and opens a row's details ----

const FIRST = 20; // rows shown at once; the charts stand below

// columns: {key, name, about, value(row), cell(row), numeric, shown, down}; the first one names the row. down: the first
// click sorts with the largest on top. details(row): what a row opens to. name: of the table's part of the address.
function sortable({ name = "", caption, columns, rows, details, search, controls = [], unit = "row", tools = true }) {
  const key = (what) => (name ? `${name}.${what}` : what);
  const columnKeys = (remembered(key("cols")) ?? "").split(".").filter(Boolean);
  const shown = new Set(
    columns.filter((c, i) => i === 0 || (c.shown ?? true) !== columnKeys.includes(c.key)).map((c) => c.key),
  );
  const open = new Set((remembered(key("open")) ?? "").split(".").filter(Boolean).map(Number));
  const state = { sort: remembered(key("sort")), query: remembered(key("q"), ""), whole: remembered(key("all")) === "1" };

  const head = h("thead");
  const body = h("tbody");
  const status = h("p", { class: "count", role: "status" });
  const element = h("table", {}, h("caption", { class: "hidden" }, caption), head, body);
  const all = h("button", { type: "button", class: "all", onclick: () => showAll() });
  const region = scroller({ "aria-label": caption }, element);

  const visible = () => columns.filter((column) => shown.has(column.key));

  function header() {
    const sorted = (state.sort ?? "").replace(/^-/, "");
    head.replaceChildren(
      h(
        "tr",
        {},
        visible().map((column) =>
          h(
            "th",
            {
              scope: "col",
              class: column.numeric ? "numeric" : null,
              "aria-sort": column.key !== sorted ? "none" : state.sort.startsWith("-") ? "descending" : "ascending",
            },
            column.value
              ? h("button", { type: "button", "data-key": column.key, title: column.about, onclick: () => sortBy(column) }, column.name)
              : h("span", { title: column.about }, column.name),
          ),
        ),
      ),
    );
  }

  function sortBy(column) {
    const [first, second] = column.down ? [`-${column.key}`, column.key] : [column.key, `-${column.key}`];
    state.sort = state.sort === first ? second : first;
    remember({ [key("sort")]: state.sort });
    header();
    head.querySelector(`[data-key="${column.key}"]`).focus();
    fill();
  }

  function ordered() {
    const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = rows().filter((row) => words.every((word) => search(row).toLowerCase().includes(word)));
    const column = columns.find((c) => c.key === (state.sort ?? "").replace(/^-/, ""));
    if (!column?.value) return kept;
    const sign = state.sort.startsWith("-") ? -1 : 1;
    return kept
      .map((row, i) => ({ row, i, value: column.value(row) }))
      .sort((a, b) => compared(a.value, b.value, sign) || a.i - b.i)
      .map(({ row }) => row);
  }

  function fill() {
    const found = ordered();
    const cut = !state.whole && found.length > FIRST + 5;
    body.replaceChildren(...(cut ? found.slice(0, FIRST) : found).flatMap(lines_));
    all.hidden = !cut;
    all.textContent = `Show all ${found.length}`;
    if (!found.length) body.append(h("tr", {}, h("td", { colspan: visible().length, class: "none" }, "Nothing matches.")));
    const total = rows().length;
    status.textContent = found.length === total ? plural(total, unit) : `${found.length} of ${plural(total, unit)}`;
  }

  function lines_(row) {
    const [first, ...rest] = visible();
    const isOpen = details && open.has(row.place);
    const more =
      details &&
      h(
        "button",
        {
          type: "button",
          class: "more",
          "aria-expanded": String(isOpen),
          "aria-label": `Runs of ${row.label}`,
          "data-place": row.place,
          onclick: () => toggle(row),
        },
        isOpen ? "▾" : "▸",
      );
    const name = unique("row");
    const line = h(
      "tr",
      { class: [row.reference ? "reference" : "", details ? "opens" : ""].join(" ").trim() || null },
      // its name without that of the button, which repeats it
      h("th", { scope: "row", "aria-labelledby": more ? name : null }, h("div", { class: "first" }, more, h("div", { id: name }, first.cell(row)))),
      rest.map((column) => h("td", { class: column.numeric ? "numeric" : null }, column.cell(row))),
    );
    if (details) line.addEventListener("click", (event) => pressed(event) && toggle(row));
    if (!isOpen) return [line];
    return [line, h("tr", { class: "details" }, h("td", { colspan: 1 + rest.length }, h("div", {}, details(row))))];
  }

  function showAll() {
    state.whole = true;
    remember({ [key("all")]: "1" });
    fill();
    body.rows[FIRST]?.querySelector("a, button")?.focus();
  }

  // A click on the row itself, not on something in it, and not the end of marking a text.
  const pressed = (event) => !event.target.closest("a, button, input, label") && !String(getSelection());

  function toggle(row) {
    if (!open.delete(row.place)) open.add(row.place);
    remember({ [key("open")]: [...open].join(".") });
    fill();
    body.querySelector(`[data-place="${row.place}"]`)?.focus();
  }

  function choose(column, on) {
    if (on) shown.add(column.key);
    else shown.delete(column.key);
    const changed = columns.filter((c, i) => i > 0 && (c.shown ?? true) !== shown.has(c.key)).map((c) => c.key);
    remember({ [key("cols")]: changed.join(".") });
    header();
    fill();
  }

  const box = h("input", {
    type: "search",
    value: state.query,
    placeholder: "Filter",
    "aria-label": `Filter: ${caption}`,
    oninput: () => {
      state.query = box.value;
      remember({ [key("q")]: state.query });
      fill();
    },
  });
  const chooser = h(
    "details",
    { class: "columns" },
    h("summary", {}, "Columns"),
    h("div", { class: "menu" }, columns.slice(1).map((c) => check(c.name, shown.has(c.key), (on) => choose(c, on)))),
  );
  const print = () => {
    state.whole = true;
    fill();
  };
  addEventListener("beforeprint", print);
  leaving.push(() => removeEventListener("beforeprint", print));
  header();
  fill();
  return {
    element: h("div", { class: "table" }, tools && h("div", { class: "tools" }, box, controls, chooser, status), h("div", { class: "frame" }, region, all)),
    refill: fill,
  };
}

// A box beside the table that hides some of its rows: [the box or nothing, whether a row is kept]. The address has name=0.
function hiding(name, label, rows, hides, refill) {
  let on = remembered(name) !== "0";
  const box = check(label, on, (now) => {
    on = now;
    remember({ [name]: on ? null : "0" });
    refill();
  });
  return [rows.some(hides) ? box : null, (row) => on || !hides(row)];
}

// Missing values are last, whatever the direction.
function compared(a, b, sign) {
  const [noA, noB] = [missing(a), missing(b)];
  if (noA || noB) return noA - noB;
  if (Array.isArray(a)) return sign * (a[0] - b[0] || a[1] - b[1]);
  return sign * (typeof a === "string" ? a.localeCompare(b, "en") : a - b);
}

const missing = (x) => x === null || x === undefined || Number.isNaN(x);
