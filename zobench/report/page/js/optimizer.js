// ---- an optimizer: all its rows, and where they stand among the others ----

const rowsOf = (name) => tables.flatMap((table) => table.rows.filter((row) => row.optimizer === name));

function optimizer(name) {
  const own = rowsOf(name);
  const rows = own.map((row, place) => ({ row, place, label: row.table.task }));
  const columns = [
    { key: "task", name: "Task", value: (r) => r.label, cell: ({ row }) => [link(row.table.href, named(row.table.task)), row.table.partial && h("span", { class: "mark" }, "partial data"), warning(row.failures, row.marks), h("small", {}, `${row.table.suite} · ${row.table.about}`)] },
    { key: "options", name: "Options", value: ({ row }) => row.label, cell: ({ row }) => named(row.label) },
    { key: "rank", name: "Rank", value: ({ row }) => row.rank, cell: ({ row }) => (row.reference ? "ref" : row.rank ? `${rank(row.rank)} of ${row.table.ranked}` : NONE), numeric: true },
    { key: "place", name: "Among all", about: "Its rank interval: left is first, right is last", value: ({ row }) => (row.rank ? row.rank[0] / row.table.ranked : null), cell: ({ row }) => standing(row) },
    { key: "score", name: "Score [95 %]", cell: ({ row }) => [interval(row.score, row.table), h("small", {}, row.table.metric)], numeric: true },
    { key: "n", name: "n", value: ({ row }) => row.n, cell: ({ row }) => row.n ?? 0, numeric: true, down: true },
    { key: "forwards", name: "Forwards", value: ({ row }) => row.forwards, cell: ({ row }) => number(row.forwards), numeric: true },
    { key: "seconds", name: "Time", value: ({ row }) => row.seconds, cell: ({ row }) => seconds(row.seconds), numeric: true },
    { key: "ratio", name: "Memory ×", value: ({ row }) => row.ratio, cell: ({ row }) => multiple(row.ratio), numeric: true },
    { key: "peak", name: "Peak", value: ({ row }) => row.peak, cell: ({ row }) => bytes(row.peak), numeric: true },
    { key: "state", name: "State", value: ({ row }) => row.state, cell: ({ row }) => bytes(row.state), numeric: true },
    { key: "failed", name: "Failed", value: ({ row }) => counted(row.failures) || null, cell: ({ row }) => failed(row.failures) },
    { key: "marks", name: "Marks", there: ({ row }) => row.marks.length > 0, cell: ({ row }) => marked(row.marks) },
  ].filter(present(rows));
  const [partial, kept] = hiding("partial", "partial data", rows, ({ row }) => row.table.partial, () => made.refill());
  const made = sortable({
    caption: `All rows of ${name}`,
    columns,
    rows: () => rows.filter(kept),
    controls: [partial],
    details: ({ row }) => rowDetails(row),
    search: ({ row }) => `${row.table.task} ${row.table.suite} ${row.table.about} ${row.full} ${row.marks.join(" ")}`,
  });
  const ranked = own.filter((row) => row.rank && row.table.ranked > 1);
  const first = ranked.filter((row) => row.rank[0] === 1).length;
  return {
    title: name,
    content: [
      h("p", { class: "crumbs" }, link("#/optimizers", "Optimizers")),
      h("h1", { tabindex: -1 }, named(name)),
      asked(),
      h("p", { class: "lead" }, `${plural(own.length, "row")} over ${plural(new Set(own.map((row) => row.table)).size, "table")}. `, ranked.length ? `Among the first in ${first} of ${ranked.length} where it was ranked with others.` : ""),
      made.element,
    ],
  };
}

// The rank interval on a track from first to last.
function standing(row, width = 120) {
  if (!row.rank) return h("span", { class: "none" }, NONE);
  const all = row.table.ranked;
  const x = (place) => 4 + ((place - 0.5) / all) * (width - 8);
  const [low, high] = row.rank;
  return s(
    "svg",
    { class: "whisker", width, height: 18, viewBox: `0 0 ${width} 18`, "aria-hidden": "true" },
    s("line", { class: "track", x1: 4, x2: width - 4, y1: 9, y2: 9 }),
    low === high ? s("circle", { cx: x(low), cy: 9, r: 3.5 }) : s("line", { class: "wide", x1: x(low), x2: x(high), y1: 9, y2: 9 }),
  );
}

// ---- all optimizers ----

function allOptimizers() {
  const rows = optimizers.map((name, place) => {
    const own = rowsOf(name);
    const ranked = own.filter((row) => row.rank && row.table.ranked > 1);
    const middle = (field) => median(own.map((row) => row[field]).filter(known));
    return {
      place,
      label: name,
      reference: own.every((row) => row.reference),
      tables: new Set(own.map((row) => row.table)).size,
      runs: own.reduce((sum, row) => sum + runs(row).length, 0),
      first: ranked.filter((row) => row.rank[0] === 1).length,
      ranked: ranked.length,
      ratio: middle("ratio"),
      ms: middle("ms"),
      failures: own.reduce((sum, row) => sum + Object.values(row.failures ?? {}).reduce((a, b) => a + b, 0), 0),
    };
  });
  const columns = [
    { key: "optimizer", name: "Optimizer", value: (row) => row.label, cell: (row) => [link(`#/optimizer/${encodeURIComponent(row.label)}`, named(row.label)), row.reference && h("span", { class: "mark" }, "reference")] },
    { key: "tables", name: "Tables", value: (row) => row.tables, cell: (row) => row.tables, numeric: true, down: true },
    { key: "first", name: "Among the first", about: "Tables in which its rank interval begins at 1, of those where it was ranked with others", value: (row) => (row.ranked ? row.first / row.ranked : null), cell: (row) => (row.ranked ? `${row.first} of ${row.ranked}` : NONE), numeric: true, down: true },
    { key: "runs", name: "Runs", value: (row) => row.runs, cell: (row) => row.runs, numeric: true, down: true },
    { key: "ratio", name: "Memory ×", about: "Median over its rows", value: (row) => row.ratio, cell: (row) => multiple(row.ratio), numeric: true },
    { key: "failed", name: "Failed runs", value: (row) => row.failures || null, cell: (row) => row.failures || "", numeric: true, down: true },
  ].filter(present(rows));
  const made = sortable({ caption: "All optimizers", columns, rows: () => rows, search: (row) => `${row.label} ${row.reference ? "reference" : ""}`, unit: "optimizer" });
  return { title: "Optimizers", content: [h("h1", { tabindex: -1 }, "Optimizers"), h("p", { class: "lead" }, "Each leads to all of its rows."), asked(), made.element] };
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length ? (sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2) : null;
}
