// ---- score against what it cost, with the Pareto front ----

// Places of the rows that no other beats, cheapest first (zobench/report/curves.py: pareto).
function front(rows, field, higher) {
  const gain = (row) => (higher ? row.center : -row.center);
  const order = [...rows].sort((a, b) => a[field] - b[field] || gain(b) - gain(a) || a.place - b.place);
  const found = [];
  for (const row of order) {
    const last = found[found.length - 1];
    if (!last || gain(row) > gain(last) || (gain(row) === gain(last) && row[field] === last[field])) found.push(row);
  }
  return found;
}

function tradeoff(table) {
  const rows = table.rows.filter((row) => !row.reference && known(row.center));
  const available = Object.entries(COSTS).filter(([, cost]) => rows.some((row) => row[cost.field] > 0));
  if (!rows.length || !available.length) return null;
  const names = available.map(([name]) => name);
  let chosen = names.includes(remembered("against")) ? remembered("against") : names[0];
  let log = remembered("against.log") !== "0";

  function draw(width) {
    const cost = COSTS[chosen];
    const shown = rows.filter((row) => row[cost.field] > 0);
    const best = front(shown, cost.field, table.higher);
    const onFront = new Set(best);
    const y = scoreScale(shown.flatMap((row) => row.score), table);
    const spread = [Math.min(...shown.map((row) => row[cost.field])), Math.max(...shown.map((row) => row[cost.field]))];
    const domain = log ? [spread[0] / 1.08, spread[1] * 1.08] : [0, spread[1] * 1.04];
    const clip = (x) => Math.min(Math.max(x, y.domain[0]), y.domain[1]);
    const anchorOf = (row) => (position(row[cost.field], domain, log) > 0.6 ? "end" : "start");
    const heightOf = (row) => position(clip(row.center), y.domain, table.log);
    const sideOf = (row) => (table.higher ? heightOf(row) < 0.93 ? -1 : 1 : heightOf(row) > 0.08 ? 1 : -1);
    const named_ = labelled(best, cost, y, domain, log, width);
    const made = Plot.plot({
      width,
      height: HEIGHT,
      marginLeft: 58,
      marginRight: 24,
      marginBottom: 42,
      marginTop: 28,
      style: { background: "none", fontSize: "12px", overflow: "visible" },
      x: costScale(cost, log, domain),
      y,
      marks: [
        costAxis(cost, log, domain),
        Plot.line(best, { x: cost.field, y: (row) => clip(row.center), curve: "step-after", stroke: "var(--accent)", strokeWidth: 2 }),
        Plot.ruleX(shown.filter((row) => row.score.length > 1), {
          x: cost.field,
          y1: (row) => clip(row.score[1] ?? (table.higher ? y.domain[0] : y.domain[1])),
          y2: (row) => clip(row.score[2] ?? (table.higher ? y.domain[0] : y.domain[1])),
          stroke: (row) => (onFront.has(row) ? "var(--accent)" : "var(--faint)"),
          strokeWidth: 1.2,
        }),
        Plot.dot(shown, {
          x: cost.field,
          y: (row) => clip(row.center),
          r: (row) => (onFront.has(row) ? 5 : 3.5),
          fill: (row) => (onFront.has(row) ? "var(--accent)" : "var(--muted)"),
          stroke: "var(--surface)",
        }),
        ...["start", "end"].flatMap((anchor) =>
          [1, -1].map((side) =>
            Plot.text(
              named_.filter((row) => anchorOf(row) === anchor && sideOf(row) === side),
              { x: cost.field, y: (row) => clip(row.center), text: (row) => short(row.label, 28), textAnchor: anchor, dy: 14 * side, fill: "currentColor", stroke: "var(--surface)", strokeWidth: 4 },
            ),
          ),
        ),
      ],
    });
    const [sx, sy] = [made.scale("x"), made.scale("y")];
    const outside = shown.filter((row) => row.center < y.domain[0] || row.center > y.domain[1]).length;
    return {
      svg: made,
      points: shown.map((row) => ({
        x: sx.apply(row[cost.field]),
        y: sy.apply(clip(row.center)),
        lines: [row.label, interval(row.score, table), `${cost.name}: ${cost.format(row[cost.field])}`, `rank ${rank(row.rank)}, n = ${row.n}`],
        series: "rows",
      })),
      about:
        `${plural(shown.length, "row")}; on the Pareto front, cheapest first: ` +
        `${best.slice(0, 8).map((row) => `${row.label} (${score(row.center, table)}, ${cost.format(row[cost.field])})`).join("; ")}` +
        `${best.length > 8 ? `; and ${best.length - 8} more` : ""}. Bars are 95 % intervals.` +
        `${outside ? ` ${plural(outside, "row")} beyond the edge, drawn at it.` : ""}`,
      numbers: [
        ["optimizer", cost.name, "score", "95 %", "on the front"],
        ...shown.map((row) => [
          named(row.label),
          cost.format(row[cost.field]),
          score(row.center, table),
          row.score.length > 1 ? `${score(row.score[1], table)} to ${score(row.score[2], table)}` : NONE,
          onFront.has(row) ? "yes" : "",
        ]),
      ],
    };
  }

  const redraw = () => {
    remember({ against: chosen === names[0] ? null : chosen, "against.log": log ? null : "0" });
    made.redraw();
  };
  const made = chart({
    title: "Score against cost",
    controls: [
      select("Against", available.map(([name, cost]) => [name, cost.name]), chosen, (value) => {
        chosen = value;
        redraw();
      }),
      check("logarithmic", log, (on) => {
        log = on;
        redraw();
      }),
    ],
    draw,
  });
  return made.figure;
}

const short = (label, length) => (label.length > length ? `${label.slice(0, length - 1)}…` : label);

const position = (x, [low, high], log) =>
  log ? Math.log(x / low) / Math.log(high / low) : (x - low) / (high - low || 1);

// Those of the front whose labels do not lie on each other.
function labelled(best, cost, y, domain, log, width) {
  const kept = [];
  const height = (row) => position(Math.min(Math.max(row.center, y.domain[0]), y.domain[1]), y.domain, y.type === "log") * HEIGHT;
  for (const row of best) {
    const [px, py] = [position(row[cost.field], domain, log) * width, height(row)];
    if (kept.every((other) => Math.abs(other.px - px) > 190 || Math.abs(other.py - py) > 16)) kept.push({ row, px, py });
  }
  return kept.map(({ row }) => row);
}
