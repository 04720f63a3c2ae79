// ---- a chart: drawn when it comes into view, again when its width or the colours change ----

const HEIGHT = 380;

// The libraries lie in the page as text, because they are half of it and the tables do not need them.
function libraries() {
  for (const source of document.querySelectorAll("script.library")) {
    document.head.append(h("script", {}, source.textContent));
    source.remove();
  }
}

// draw(width) -> {svg, points, about, numbers}: a drawing, the points that can be read off it, what it shows in words,
// and the rows of its table (the first are the headers).
function chart({ title, heading = "h2", controls = [], legend = null, draw }) {
  const plot = h("div", { class: "plot", tabindex: 0, role: "group", "aria-roledescription": "chart", "aria-label": title });
  const about = h("p", { class: "about" });
  const numbers = h("details", { class: "numbers" }, h("summary", {}, "The numbers as a table"));
  const figure = h(
    "figure",
    { class: "chart" },
    h("figcaption", {}, h(heading, {}, title), controls.length ? h("div", { class: "tools" }, controls) : null, legend),
    plot,
    about,
    numbers,
  );
  let width = 0;
  let seen = false;

  function redraw() {
    if (!seen || !plot.clientWidth) return;
    if (document.readyState === "loading") {
      document.addEventListener("DOMContentLoaded", redraw, { once: true }); // the libraries are last in the file
      return;
    }
    libraries();
    width = plot.clientWidth;
    const drawn = draw(width);
    plot.replaceChildren(drawn.svg);
    drawn.svg.setAttribute("aria-hidden", "true");
    plot.setAttribute("aria-label", `${title}. ${drawn.about} The arrow keys step through the points.`);
    about.textContent = drawn.about;
    readout(plot, drawn.points ?? []);
    numbers.ontoggle = () => fillNumbers(drawn.numbers);
    fillNumbers(drawn.numbers);
  }

  function fillNumbers([headers, ...rows]) {
    while (numbers.children.length > 1) numbers.lastChild.remove();
    if (!numbers.open) return;
    numbers.append(plain(`${title}: numbers`, headers, rows));
  }

  const sight = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    sight.disconnect();
    seen = true;
    redraw();
  }, { rootMargin: "200px" });
  sight.observe(plot);
  const size = new ResizeObserver(() => plot.clientWidth !== width && redraw());
  size.observe(plot);
  const print = () => {
    seen = true;
    redraw();
  };
  const above = ({ detail: y }) => {
    if (!seen && plot.getBoundingClientRect().top + scrollY < y) print();
  };
  addEventListener("beforeprint", print);
  addEventListener("drawabove", above);
  redraws.add(redraw);
  leaving.push(() => {
    sight.disconnect();
    size.disconnect();
    removeEventListener("beforeprint", print);
    removeEventListener("drawabove", above);
    redraws.delete(redraw);
  });
  return { figure, redraw };
}

// A table that is only read.
function plain(caption, headers, rows) {
  return scroller(
    { "aria-label": caption },
    h(
      "table",
      { class: "plain" },
      h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, headers.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map(([first, ...rest]) => h("tr", {}, h("th", { scope: "row" }, first), rest.map((x) => h("td", {}, x))))),
    ),
  );
}

// The vertical scale of scores; values far outside of the others are drawn at its edge.
function scoreScale(values, table) {
  const range = extent(values, table);
  if (!range) return null;
  const margin = 0.04 * (range[1] - range[0]);
  const [low, high] = [range[0] - margin, table.percent ? Math.min(range[1] + margin, 1.005) : range[1] + margin];
  return {
    domain: table.log ? [10 ** low, 10 ** high] : [low, high],
    type: table.log ? "log" : "linear",
    clamp: true,
    grid: true,
    nice: false,
    tickFormat: (x) => tick(x, table),
    label: `${table.higher ? "↑" : "↓"} ${table.metric}${table.percent ? " (%)" : ""}, ${table.higher ? "higher" : "lower"} is better`,
  };
}

function tick(x, table) {
  if (!table.log) return table.percent ? String(Number((100 * x).toPrecision(4))) : String(Number(x.toPrecision(4)));
  const exponent = Math.log10(x);
  return Math.abs(exponent - Math.round(exponent)) < 1e-9 ? power(x).replace(/^1(\.0)?e/, "1e") : "";
}

// The costs that a chart may be drawn over: name in the address -> what and how.
const COSTS = {
  peak: { name: "memory (peak)", field: "peak", format: bytes },
  ratio: { name: "memory (× inference)", field: "ratio", format: multiple },
  seconds: { name: "time in the step", field: "seconds", format: seconds },
  forwards: { name: "forwards (a backward counts 2)", field: "cost", format: count },
  flops: { name: "FLOPs", field: "flops", format: count },
  joules: { name: "energy (J)", field: "joules", format: count },
};

function costScale(cost, log, domain) {
  return {
    type: log ? "log" : "linear",
    domain: log && domain[0] === domain[1] ? [domain[0] / 2, domain[1] * 2] : domain,
    nice: false,
  };
}

// The axis is given as marks, because a logarithmic scale leaves out labels of its own accord.
function costAxis(cost, log, domain) {
  const ticks = ticksOf(cost, log, domain);
  return [Plot.gridX(ticks), Plot.axisX(ticks, { text: (x) => cost.format(x), label: `${cost.name} →` })];
}

// Ticks that people count in: 8, 12, 16 GiB; 10 s, 1 min, 2 h; 1, 2, 5, 10.
const TENS = Array.from({ length: 40 }, (_, k) => [1, 2, 5].map((x) => x * 10 ** (k - 12))).flat();
const COUNTED = { peak: POWERS, seconds: TIMES };
const TICKS = 6;

function ticksOf(cost, log, [low, high]) {
  const sizes = COUNTED[cost.field] ?? TENS;
  const inside = sizes.filter((x) => x >= low && x <= high);
  if (!log || inside.length < 2) {
    const step = sizes.find((size) => size >= (high - low) / TICKS) ?? (high - low) / TICKS;
    const first = Math.ceil(low / step);
    return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
  }
  const whole = inside.filter((x) => (sizes === POWERS ? Math.log2(x) : Math.log10(x)) % 1 === 0);
  const kept = inside.length > TICKS && whole.length > 2 ? whole : inside;
  const every = Math.ceil(kept.length / TICKS);
  return kept.filter((_, i) => i % every === 0);
}
