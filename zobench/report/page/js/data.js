// ---- the board, read from the page; zobench/report/page/data.py writes it ----

const board = JSON.parse(document.getElementById("data").textContent);
const text = (place) => (place === null || place === undefined ? null : board.texts[place]);

const COLUMNS = [
  ...["label", "full", "optimizer", "order", "rank", "score", "spent", "mode", "fidelity", "exactness", "hitting", "reference", "failures"],
  ...["marks", "n", "forwards", "backwards", "cost", "ms", "seconds", "total", "ratio", "peak", "process"],
  ...["state", "flops", "joules", "trials"],
];
const TEXTS = ["label", "full", "optimizer", "order", "mode", "exactness"];
const FLOOR = board.floor; // of values on a log scale

const at = (column, i) => (Array.isArray(column) ? column[i] : column);

// How much better a is than b, in units of the metric.
const gain = (table, a, b) => (table.higher ? a - b : b - a);

const tables = board.sections.map((section, place) => {
  const table = {
    ...section,
    place,
    suite: text(section.suite),
    task: text(section.task),
    about: text(section.about),
    facts: section.facts.map(text),
    metric: text(section.metric),
  };
  const length = section.runs.length;
  table.rows = Array.from({ length }, (_, i) => {
    const row = { table, place: i };
    for (const name of COLUMNS) row[name] = at(section.rows[name], i) ?? null;
    for (const name of TEXTS) row[name] = text(row[name]);
    row.marks = (row.marks ?? []).map(text);
    row.cost ??= row.forwards === null ? null : row.forwards + 2 * (row.backwards ?? 0);
    row.center = row.score ? row.score[0] : null;
    row.memory = known(row.process) ? Math.max(row.peak ?? 0, row.process) : row.peak; // that the device has to have
    row.href = `#/optimizer/${encodeURIComponent(row.optimizer)}`;
    return row;
  });
  table.href = `#/task/${table.id}`;
  table.ranked = table.rows.filter((row) => row.rank).length;
  table.best = table.rows.filter((row) => !row.reference && known(row.center)).sort((a, b) => gain(table, b.center, a.center) || a.place - b.place)[0] ?? null;
  table.count = section.runs.reduce((sum, runs) => sum + runs[0].split(" ").length, 0);
  return table;
});

const byId = new Map(tables.map((table) => [table.id, table]));
const optimizers = [...new Set(tables.flatMap((table) => table.rows.map((row) => row.optimizer)))].sort();
const suites = [...new Set(tables.map((table) => table.suite))];
const styles = new Map(Object.entries(board.styles).map(([place, style]) => [text(Number(place)), style]));

// The runs of a row.
function runs(row) {
  const [cells, seeds, data, values, statuses, replays, reasons, instances] = row.table.runs[row.place];
  return cells.split(" ").map((cell, i) => ({
    cell,
    seed: at(seeds, i),
    data: at(data, i),
    instance: text(at(instances, i)),
    value: at(values, i),
    status: text(at(statuses, i)),
    reason: text(at(reasons, i)),
    replay: text(at(replays, i)),
  }));
}

// The learning curve of a row as arrays of one length, or null.
function curve(row) {
  if (row.curve !== undefined) return row.curve;
  const packed = row.table.curves.rows[row.place];
  row.curve = packed === null ? null : unpacked(packed, row.table);
  return row.curve;
}

function unpacked([costs, steps, clock, flops, joules, levels, below, above, n, farther], table) {
  const cost = sums(board.axes[costs]);
  const last = cost[cost.length - 1] || 1;
  const level = sums(levels);
  const unit = table.curves.unit;
  const value = (l) => (l === null ? null : unit === null ? 10 ** (l / 1000) : Number((l * unit).toPrecision(12)));
  const share = (total) => (known(total) ? cost.map((c) => (total * c) / last) : null);
  return {
    cost,
    steps: steps === null ? null : sums(board.axes[steps]),
    seconds: clock === null ? null : clock.length === cost.length ? clock : straight(cost, clock),
    flops: share(flops),
    joules: share(joules),
    center: level.map(value),
    low: below && level.map((l, i) => (l === null || below[i] === null ? null : value(l - below[i]))),
    high: above && level.map((l, i) => (l === null || above[i] === null ? null : value(l + above[i]))),
    kept: level.map((l, i) => (l === null ? null : value(l + (farther?.[i] ?? 0)))), // had the budget ended here
    n: cost.map((_, i) => at(n, i)),
  };
}

function sums(differences) {
  let last = 0;
  return differences.map((d) => (d === null ? null : (last += d)));
}

function straight(cost, [first, last]) {
  const span = cost[cost.length - 1] - cost[0] || 1;
  return cost.map((c) => first + ((last - first) * (c - cost[0])) / span);
}
