// ---- the first page: the answer, then each suite as one table ----

function overview() {
  const all = tables.reduce((sum, table) => sum + table.count, 0);
  const title = "Which optimizer should I use?";
  return {
    title,
    content: [
      h("h1", { tabindex: -1 }, title),
      h(
        "p",
        { class: "lead" },
        `${plural(optimizers.length, "optimizer")} in ${plural(tables.length, "table")}, ${plural(all, "run")}. `,
        "Zeroth-order optimizers train with forward passes alone, in the memory of inference; first-order ones need gradients.",
      ),
      asked(),
      byScore() ? answerCard() : h("p", { class: "about" }, "What fits into a memory and a time is answered on the board of whole runs ranked by their score: write it without ", h("code", {}, [board.ranked_by !== "accuracy" && "--rank-by", board.budget && "--budget"].filter(Boolean).join(" ")), "."),
      suites.map(suiteSection),
    ],
  };
}

// Whether rows are in the order of the scores of whole runs, as the answer takes them.
const byScore = () => board.ranked_by === "accuracy" && !board.budget;

// What the whole board was asked to be ranked by, where that is not the score of whole runs.
function asked() {
  const said = [
    board.ranked_by !== "accuracy" && `ranked by ${board.ranked_by}, not by the score`,
    board.budget && `each run cut at ${board.budget} and judged by validation`,
  ].filter(Boolean);
  return said.length ? h("p", { class: "note" }, `This board is ${said.join(", and ")}.`) : null;
}

function suiteSection(suite) {
  const own = board.summaries.map((summary, i) => ({ ...summary, place: i })).filter((summary) => text(summary.suite) === suite);
  const members = tables.filter((table) => table.suite === suite);
  return h(
    "section",
    {},
    h("h2", {}, suite),
    h("p", { class: "about" }, `${plural(members.length, "table")}, ${plural(members.reduce((sum, table) => sum + table.count, 0), "run")}. `, link(suiteHref(suite), "All its tasks")),
    own.map((summary) => [summaryTable(summary), summary.profile !== null && profile(board.profiles[summary.profile])]),
    board.profiles.filter((found, i) => text(found.suite) === suite && own.every((summary) => summary.profile !== i)).map(profile),
  );
}

function summaryTable(summary) {
  const shape = { log: summary.log, percent: summary.percent, metric: text(summary.metrics), higher: summary.higher };
  const rows = summary.rows.map((row, place) => ({
    ...row,
    place,
    label: text(row.optimizer),
    order: text(row.order),
    href: `#/optimizer/${encodeURIComponent(text(row.optimizer))}`,
    marks: (row.marks ?? []).map(text),
    center: row.score?.[0] ?? null,
  }));
  const range = extent(rows.flatMap((row) => row.score ?? []), shape);
  const down = summary.higher;
  const columns = [
    { key: "optimizer", name: "Optimizer", value: (row) => row.label, cell: (row) => [link(row.href, named(row.label)), warning(row.failures, row.marks)] },
    { key: "rank", name: "Rank", about: "From the best rank it could have to the worst", value: (row) => row.rank, cell: (row) => rank(row.rank), numeric: true },
    { key: "score", name: "Score [95 %]", about: "Interquartile mean over tasks and runs", value: (row) => row.center, cell: (row) => interval(row.score, shape), numeric: true, down },
    { key: "interval", name: "Interval", cell: (row) => whisker(row.score, range, shape) },
    { key: "order", name: "Order", about: "Of the derivatives it needs", value: (row) => row.order, cell: (row) => row.order ?? NONE, shown: false },
    ...summary.tasks.map(([name, id], i) => ({
      key: `t${i}`,
      name: text(name),
      about: "Score on this task",
      value: (row) => row.scores[i]?.[0] ?? null,
      cell: (row) => (row.scores[i] ? score(row.scores[i][0], shape) : h("span", { class: "none" }, row.labels[i] === null ? "missing" : "failed")),
      numeric: true,
      shown: summary.tasks.length <= 6,
      down,
      id,
    })),
    { key: "n", name: "n", about: "Runs that gave a number", value: (row) => row.n, cell: (row) => row.n, numeric: true, down: true },
    { key: "profile", name: "Profile", about: "Area under the performance profile, 0 to 1", value: (row) => row.profile, cell: (row) => (known(row.profile) ? row.profile.toFixed(2) : NONE), numeric: true, down: true },
    { key: "forwards", name: "Forwards", value: (row) => row.forwards, cell: (row) => number(row.forwards), numeric: true },
    { key: "seconds", name: "Time", value: (row) => row.seconds, cell: (row) => seconds(row.seconds), numeric: true },
    { key: "ratio", name: "Memory ×", about: "Peak over the peak of inference", value: (row) => row.ratio, cell: (row) => multiple(row.ratio), numeric: true },
    { key: "state", name: "State ×", about: "Optimizer state over the weights", value: (row) => row.state, cell: (row) => multiple(row.state), numeric: true },
    { key: "fidelity", name: "Fidelity", about: "What rounding left of what the optimizer meant", value: (row) => text(row.exactness), cell: (row) => text(row.exactness) ?? NONE },
    { key: "failed", name: "Failed", value: (row) => counted(row.failures) || null, cell: (row) => failed(row.failures) },
    { key: "marks", name: "Marks", there: (row) => row.marks.length > 0, cell: (row) => marked(row.marks) },
  ].filter(present(rows));
  const about = text(summary.about);
  const table = sortable({
    name: `s${summary.place}`,
    caption: `${text(summary.suite)}, ${about}`,
    columns,
    rows: () => rows,
    search: (row) => `${row.label} ${row.marks.join(" ")}`,
    unit: "optimizer",
  });
  const elsewhere = summary.elsewhere.map(text);
  return h(
    "section",
    { class: "summary" },
    h("h3", {}, about),
    h("p", { class: "about" }, `${shape.metric}, ${summary.higher ? "higher" : "lower"} is better${summary.log ? ", log scale" : ""}, over `, summary.tasks.map(([name, id], i) => [i ? ", " : "", id ? link(`#/task/${id}`, named(text(name))) : named(text(name))]), "."),
    table.element,
    reading(board.suites),
    elsewhere.length ? h("p", { class: "about" }, `Ran fewer than half of the tasks: ${elsewhere.join(", ")}.`) : null,
  );
}

// Whether any row has something in the column; columns that do not say when are kept.
const present = (rows) => (column) => {
  const there = column.there ?? (column.value && ((row) => !missing(column.value(row))));
  return column.key === "rank" || !there || rows.some(there);
};

const failed = (failures) => (failures ? h("span", { class: "failed" }, counted(failures)) : "");
const marked = (marks) => marks.map((mark) => [h("span", { class: "mark", title: mark }, mark), " "]);
