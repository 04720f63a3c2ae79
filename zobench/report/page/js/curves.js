// ---- learning curves over any budget axis, with bands ----

const AXES = {
  cost: { name: "forwards (a backward counts 2)", format: count },
  steps: { name: "steps", format: count },
  seconds: { name: "time in the step", field: "seconds", format: seconds },
  flops: { name: "FLOPs", format: count },
  joules: { name: "energy (J)", format: count },
};
const SHOWN = 5;

function learningCurves(table) {
  const rows = table.rows.filter((row) => (curve(row)?.center ?? []).some(known));
  if (!rows.length) return null;
  const available = Object.entries(AXES).filter(([name]) => rows.some((row) => curve(row)[name]));
  let axis = available.some(([name]) => name === remembered("axis")) ? remembered("axis") : "cost";
  let log = remembered("axis.log") === "1";
  const asked = (remembered("curves") ?? "").split(".").filter(Boolean).map(Number);
  let chosen = asked.map((place) => rows.find((row) => row.place === place)).filter(Boolean);
  if (!chosen.length) chosen = rows.slice(0, SHOWN);
  const legend = h("div", { class: "legend", role: "group", "aria-label": "Curves shown" });

  function pick() {
    const styled = lines(chosen);
    legend.replaceChildren(
      ...chosen.map((row, i) =>
        h(
          "button",
          { type: "button", class: "chip", "aria-label": `Take out ${row.label}`, disabled: chosen.length === 1, onclick: () => change(chosen.filter((other) => other !== row)) },
          s("svg", { width: 26, height: 10, "aria-hidden": "true" }, s("line", { x1: 0, x2: 26, y1: 5, y2: 5, stroke: styled[i].colour, "stroke-width": 2.5, "stroke-dasharray": styled[i].dash || null })),
          named(short(row.label, 40)),
          h("span", { "aria-hidden": "true" }, "×"),
        ),
      ),
      rows.length > chosen.length &&
        select("Add", [["", "an optimizer …"], ...rows.filter((row) => !chosen.includes(row)).map((row) => [String(row.place), short(row.label, 60)])], "", (value) =>
          change([...chosen, rows.find((row) => row.place === Number(value))].filter(Boolean)),
        ),
    );
    [...legend.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).forEach((node) => node.remove());
  }

  function change(rows_) {
    chosen = rows_;
    remember({ curves: chosen.map((row) => row.place).join(".") });
    made.redraw();
  }

  function draw(width) {
    pick();
    const styled = lines(chosen);
    const series = chosen
      .map((row, i) => ({ row, ...styled[i], points: pointsOf(row, axis, log) }))
      .filter(({ points }) => points.length);
    const all = series.flatMap(({ points }) => points);
    const y = scoreScale(all.flatMap((p) => [p.center, p.low, p.high]), table) ?? scoreScale([0, 1], table);
    const clip = (x) => Math.min(Math.max(x, y.domain[0]), y.domain[1]);
    const xs = all.map((p) => p.x);
    const domain = xs.length ? [Math.min(...xs), Math.max(...xs)] : [0, 1];
    const made_ = Plot.plot({
      width,
      height: HEIGHT,
      marginLeft: 58,
      marginRight: 24,
      marginBottom: 42,
      marginTop: 28,
      style: { background: "none", fontSize: "12px", overflow: "visible" },
      x: costScale(AXES[axis], log, domain),
      y,
      marks: [costAxis(AXES[axis], log, domain), ...series.flatMap(({ points, colour, dash }) => [
        Plot.areaY(points.filter((p) => known(p.low) && known(p.high)), { x: "x", y1: (p) => clip(p.low), y2: (p) => clip(p.high), fill: colour, fillOpacity: 0.13, curve: "step-after" }),
        Plot.lineY(points, { x: "x", y: (p) => clip(p.center), stroke: colour, strokeWidth: 2, strokeDasharray: dash || null, curve: "step-after" }),
      ])],
    });
    const [sx, sy] = [made_.scale("x"), made_.scale("y")];
    const format = AXES[axis].format;
    return {
      svg: made_,
      points: series.flatMap(({ row, points }) =>
        points.map((p) => ({
          x: sx.apply(p.x),
          y: sy.apply(clip(p.center)),
          lines: [row.label, interval(known(p.low) ? [p.center, p.low, p.high] : [p.center], table), `${AXES[axis].name}: ${format(p.x)}`, `n = ${p.n}`],
          series: row.place,
        })),
      ),
      about:
        `Validation ${table.metric} of ${plural(series.length, "row")} over ${AXES[axis].name}: ` +
        `${series.map(({ row, points }) => `${row.label} from ${score(points[0].center, table)} to ${score(points[points.length - 1].center, table)} at ${format(points[points.length - 1].x)}`).join("; ")}. ` +
        "Each curve holds the last value validated; bands are 95 % intervals over runs.",
      numbers: [
        ["optimizer", AXES[axis].name, table.metric, "95 %", "n"],
        ...series.flatMap(({ row, points }) =>
          points.map((p) => [named(row.label), format(p.x), score(p.center, table), known(p.low) ? `${score(p.low, table)} to ${score(p.high, table)}` : NONE, p.n]),
        ),
      ],
    };
  }

  const redraw = () => {
    remember({ axis: axis === "cost" ? null : axis, "axis.log": log ? "1" : null });
    made.redraw();
  };
  const made = chart({
    title: "Learning curves",
    legend,
    controls: [
      select("Over", available.map(([name, a]) => [name, a.name]), axis, (value) => {
        axis = value;
        redraw();
      }),
      check("logarithmic", log, (on) => {
        log = on;
        redraw();
      }),
    ],
    draw,
  });
  pick();
  return made.figure;
}

function pointsOf(row, axis, log) {
  const found = curve(row);
  if (!found[axis]) return [];
  return found.center
    .map((center, i) => ({ x: found[axis][i], center, low: found.low?.[i] ?? null, high: found.high?.[i] ?? null, n: found.n[i] }))
    .filter((p) => known(p.center) && known(p.x) && (!log || p.x > 0));
}
