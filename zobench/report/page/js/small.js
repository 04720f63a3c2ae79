// ---- small drawings inside tables: a learning curve, an interval, a bar ----

// The range in which a table's values are drawn; a few far off values do not decide it.
function extent(values, table) {
  const shown = values.filter(known).map((x) => level(x, table)).sort((a, b) => a - b);
  if (!shown.length) return null;
  const quantile = (q) => shown[Math.min(shown.length - 1, Math.max(0, Math.round(q * (shown.length - 1))))];
  let [low, high] = [shown[0], shown[shown.length - 1]];
  const core = quantile(0.9) - quantile(0.1);
  if (core > 0) {
    low = Math.max(low, quantile(0.1) - 3 * core);
    high = Math.min(high, quantile(0.9) + 3 * core);
  }
  if (table.percent) [low, high] = [Math.max(low, 0), Math.min(high, 1)]; // an interval may reach beyond what is possible
  const half = low === high ? (table.percent ? 0.01 : 0.5) : 0;
  return [low - half, high + half];
}

const level = (x, table) => (table.log ? Math.log10(Math.max(x, FLOOR)) : x);
const between = (x, [low, high], size) => Math.max(0, Math.min(size, ((x - low) / (high - low)) * size));

function whisker(found, range, table, width = 120) {
  if (!found || !range || !known(found[0])) return h("span", { class: "none" }, NONE);
  const place = (x) => 4 + between(level(x, table), range, width - 8);
  const [center, low, high] = found;
  return s(
    "svg",
    { class: "whisker", width, height: 18, viewBox: `0 0 ${width} 18`, "aria-hidden": "true" },
    s("line", { class: "track", x1: 4, x2: width - 4, y1: 9, y2: 9 }),
    found.length > 1 &&
      s("line", {
        class: "bar",
        x1: known(low) ? place(low) : 0,
        x2: known(high) ? place(high) : width,
        y1: 9,
        y2: 9,
      }),
    s("circle", { cx: place(center), cy: 9, r: 3.5 }),
  );
}

function sparkline(row, range, width = 84) {
  const found = curve(row);
  if (!found || !range || found.center.filter(known).length < 2) return h("span", { class: "none" }, NONE);
  const last = found.cost[found.cost.length - 1] || 1;
  const y = (x) => 22 - between(level(x, row.table), range, 20);
  const points = found.center
    .map((x, i) => (known(x) ? `${(1 + (found.cost[i] / last) * (width - 4)).toFixed(1)},${y(x).toFixed(1)}` : null))
    .filter(Boolean);
  const [endX, endY] = points[points.length - 1].split(",");
  return s(
    "svg",
    { class: "spark", width, height: 24, viewBox: `0 0 ${width} 24`, "aria-hidden": "true" },
    s("polyline", { points: points.join(" ") }),
    s("circle", { cx: endX, cy: endY, r: 2 }),
  );
}

// A sign beside the name of a row with failed runs or marks, whose columns may be out of sight.
function warning(failures, marks) {
  const failed_ = counted(failures);
  const said = [failed_ && `failed: ${failed_}`, ...marks.filter((mark) => mark !== "partial data")].filter(Boolean).join("; ");
  if (!said) return null;
  return h(
    "span",
    { class: "sign", role: "img", "aria-label": said, title: said },
    s("svg", { viewBox: "0 0 16 16", width: 15, height: 15, "aria-hidden": "true" }, s("path", { d: "M8 1.2 15.2 14.4H.8Z" }), s("path", { class: "inside", d: "M8 5.8v4M8 11.6v1.2" })),
  );
}

function bar(share, label) {
  const fill = h("span", { class: "fill" });
  fill.style.width = `${(100 * Math.max(0, Math.min(1, share))).toFixed(1)}%`;
  return h("span", { class: "bar", "aria-hidden": "true", title: label }, fill);
}
