// ---- a task: its table, what its rows cost, and how they learned ----

const FIDELITY = {
  probe_cosine: ["cosine", (x) => x.toFixed(3)],
  update_gain: ["gain", (x) => x.toFixed(3)],
  lost_updates: ["lost", (x) => `${(100 * x).toFixed(1)} %`],
  probe_unmoved: ["unmoved", (x) => `${(100 * x).toFixed(1)} %`],
  restore_drift: ["drift", (x) => power(x)],
};

const fidelity = (found) =>
  Object.entries(FIDELITY).filter(([name]) => known(found?.[name])).map(([name, [what, format]]) => `${what} ${format(found[name])}`);

function columnsOf(table, range, curveRange) {
  const down = table.higher;
  const columns = [
    { key: "optimizer", name: "Optimizer", value: (row) => row.label, cell: (row) => [link(row.href, named(row.label)), row.reference && h("span", { class: "mark" }, "reference"), warning(row.failures, row.marks)] },
    { key: "rank", name: "Rank", about: "From the best rank it could have to the worst; what cannot be told apart shares ranks", value: (row) => row.rank, cell: (row) => (row.reference ? "ref" : rank(row.rank)), numeric: true },
    board.ranked_by !== "memory" && { key: "spent", name: `Spent (${board.ranked_by})`, about: "What the board is ranked by", value: (row) => (row.spent === "never" ? Infinity : row.spent), cell: (row) => number(row.spent), numeric: true },
    { key: "score", name: "Score [95 %]", about: `${table.metric}, ${table.higher ? "higher" : "lower"} is better`, value: (row) => row.center, cell: (row) => interval(row.score, table), numeric: true, down },
    { key: "interval", name: "Interval", about: "The score and its 95 % interval on the table's scale", cell: (row) => whisker(row.score, range, table) },
    { key: "curve", name: "Curve", about: "Validation over forwards", cell: (row) => learned(row, curveRange) },
    { key: "order", name: "Order", about: "Of the derivatives it needs", value: (row) => row.order, cell: (row) => row.order ?? NONE, shown: false },
    { key: "n", name: "n", about: "Runs that gave a number", value: (row) => row.n, cell: (row) => row.n ?? 0, numeric: true, down: true },
    { key: "forwards", name: "Forwards", about: "Batches", value: (row) => row.forwards, cell: (row) => number(row.forwards), numeric: true },
    { key: "backwards", name: "Backwards", about: "Batches", value: (row) => row.backwards, cell: (row) => number(row.backwards), numeric: true, shown: false },
    { key: "cost", name: "Cost", about: "Forward-equivalents: a backward counts 2", value: (row) => row.cost, cell: (row) => number(row.cost), numeric: true, shown: false },
    { key: "seconds", name: "Time", about: "Inside the optimizer's step, without warm-up", value: (row) => row.seconds, cell: (row) => seconds(row.seconds), numeric: true },
    { key: "ms", name: "ms/step", value: (row) => row.ms, cell: (row) => number(row.ms), numeric: true, shown: false },
    { key: "total", name: "Total time", about: "With start, warm-up and evaluation", value: (row) => row.total, cell: (row) => seconds(row.total), numeric: true, shown: false },
    { key: "ratio", name: "Memory ×", about: "Peak over the peak of the same model's inference", value: (row) => row.ratio, cell: (row) => multiple(row.ratio), numeric: true },
    { key: "peak", name: "Peak", about: "Peak of tensor memory while training", value: (row) => row.peak, cell: (row) => bytes(row.peak), numeric: true },
    { key: "process", name: "Process", about: "Memory of the process on the device (NVML)", value: (row) => row.process, cell: (row) => bytes(row.process), numeric: true, shown: false },
    { key: "state", name: "State", about: "Optimizer state between steps", value: (row) => row.state, cell: (row) => bytes(row.state), numeric: true },
    { key: "flops", name: "FLOPs", value: (row) => row.flops, cell: (row) => count(row.flops), numeric: true, shown: false },
    { key: "joules", name: "Energy (J)", value: (row) => row.joules, cell: (row) => number(row.joules), numeric: true, shown: false },
    { key: "fidelity", name: "Fidelity", about: "How exactly the arithmetic carried out the method; the worst of the runs", value: (row) => row.exactness, cell: (row) => row.exactness ?? NONE },
    { key: "mode", name: "Probe", about: "How a probe was evaluated", value: (row) => row.mode, cell: (row) => row.mode ?? NONE, shown: false },
    { key: "trials", name: "Trials", about: "Settings tried on validation before this one was chosen", value: (row) => row.trials || null, cell: (row) => number(row.trials), numeric: true, shown: false },
    { key: "failed", name: "Failed", value: (row) => counted(row.failures) || null, cell: (row) => failed(row.failures) },
    { key: "marks", name: "Marks", there: (row) => row.marks.length > 0, cell: (row) => marked(row.marks) },
  ];
  return columns.filter(Boolean).filter(present(table.rows));
}

function learned(row, range) {
  const found = (curve(row)?.center ?? []).filter(known);
  const words = found.length > 1 ? `from ${score(found[0], row.table)} to ${score(found[found.length - 1], row.table)}` : "";
  return [sparkline(row, range), words && h("span", { class: "hidden" }, words)];
}

function task(table) {
  const [references, kept] = hiding("ref", "reference lines", table.rows, (row) => row.reference, () => made.refill());
  const scores = extent(table.rows.flatMap((row) => row.score ?? []), table);
  const made = sortable({
    caption: `${table.task}, ${table.about}`,
    columns: columnsOf(table, scores, extent(table.rows.flatMap((row) => curve(row)?.center ?? []), table)),
    rows: () => table.rows.filter(kept),
    details: rowDetails,
    search: (row) => `${row.label} ${row.full} ${row.marks.join(" ")} ${counted(row.failures)} ${row.reference ? "reference" : ""}`,
    controls: [references],
  });
  return {
    title: table.task,
    content: [
      h("p", { class: "crumbs" }, link("#/tasks", "Tasks"), " / ", link(suiteHref(table.suite), table.suite)),
      h("h1", { tabindex: -1 }, named(table.task)),
      h("p", { class: "lead" }, table.about),
      table.partial && h("p", { class: "note warn" }, "Measured on partial data: not the rows behind any published number."),
      asked(),
      h("ul", { class: "facts" }, table.facts.map((fact) => h("li", {}, fact))),
      made.element,
      reading("A row opens to its runs."),
      h("div", { class: "charts" }, tradeoff(table), learningCurves(table)),
    ],
  };
}

// What "better" means, beside every table that ranks.
const reading = (first) =>
  h(
    "details",
    { class: "reading" },
    h("summary", {}, "How to read this table"),
    h("div", { class: "prose" }, h("p", {}, first), h("p", {}, rich(board.better)), h("p", {}, rich(board.rules[0])), h("p", {}, link("#/rules", "All the rules"))),
  );

function rowDetails(row) {
  const all = runs(row);
  const facts_ = [
    ["Options", row.full],
    ["Score", interval(row.score, row.table)],
    ["Fidelity", fidelity(row.fidelity).join(", ")],
    ["Cost to a relative gap of", Object.entries(row.hitting ?? {}).map(([target, cost]) => `${target}: ${cost === null ? "never" : number(cost)}`).join(", ")],
    ["Failed", counted(row.failures)],
    ["Marks", row.marks.join(", ")],
  ].filter(([, value]) => value && value !== NONE);
  const dataSeeds = all.some((run) => run.data);
  const instances = all.some((run) => run.instance !== null);
  return [
    h("dl", {}, facts_.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, h("bdi", {}, value))))),
    h(
      "table",
      { class: "runs" },
      h("caption", { class: "hidden" }, `Runs of ${row.label}`),
      h("thead", {}, h("tr", {}, ["Seed", dataSeeds && "Data seed", instances && "Instance", "Value", "Status", "Replay"].filter(Boolean).map((name) => h("th", { scope: "col" }, name)))),
      h(
        "tbody",
        {},
        all.map((run) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, run.seed),
            dataSeeds && h("td", {}, run.data),
            instances && h("td", {}, run.instance ?? NONE),
            h("td", { class: "numeric" }, score(run.value, row.table)),
            h("td", {}, run.status === "ok" ? "ok" : h("span", { class: "failed" }, run.status), run.reason && h("small", { class: "reason" }, h("bdi", {}, run.reason))),
            h("td", {}, replay(run)),
          ),
        ),
      ),
    ),
  ];
}

// How to rebuild the weights of a run; one that used gradients has no trace, and only its name is shown.
function replay(run) {
  if (run.replay === "none") return h("span", { class: "replay" }, h("code", {}, run.cell), h("small", {}, "no trace to replay"));
  const command = `zobench replay ${run.cell}`;
  const button = h("button", { type: "button", class: "copy", "aria-label": `Copy ${command}`, onclick: () => copy(command, button) }, "Copy");
  return h(
    "span",
    { class: "replay" },
    h("code", {}, command),
    button,
    run.replay === "local" && h("small", {}, "same bits on the same kind of machine"),
  );
}

async function copy(command, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(command);
  } catch {
    const box = h("textarea", { class: "hidden", value: command });
    document.body.append(box);
    box.select();
    done = document.execCommand("copy");
    box.remove();
    button.focus();
  }
  button.textContent = done ? "Copied" : "Mark and copy it";
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

// ---- all tasks ----

const suiteHref = (suite) => `#/tasks?suite=${encodeURIComponent(suite)}`;

function tasks() {
  let suite = suites.includes(remembered("suite")) ? remembered("suite") : "";
  const rows = tables.map((table) => ({ table, place: table.place, label: table.task, best: table.best }));
  const columns = [
    { key: "task", name: "Task", value: (row) => row.label, cell: (row) => [link(row.table.href, named(row.label)), h("small", {}, row.table.about)] },
    { key: "suite", name: "Suite", value: (row) => row.table.suite, cell: (row) => row.table.suite },
    { key: "best", name: "Best score", about: "Others may not be told apart from it", value: (row) => row.best?.label ?? null, cell: (row) => (row.best ? link(row.best.href, named(row.best.label)) : NONE) },
    { key: "score", name: "Score [95 %]", cell: (row) => (row.best ? [interval(row.best.score, row.table), h("small", {}, row.table.metric)] : NONE), numeric: true },
    { key: "rows", name: "Rows", value: (row) => row.table.rows.length, cell: (row) => row.table.rows.length, numeric: true, down: true },
    { key: "runs", name: "Runs", value: (row) => row.table.count, cell: (row) => row.table.count, numeric: true, down: true },
    { key: "data", name: "Data", value: (row) => (row.table.partial ? "partial" : "whole"), cell: (row) => (row.table.partial ? h("span", { class: "mark" }, "partial") : "whole") },
  ];
  const [partial, kept] = hiding("partial", "partial data", rows, (row) => row.table.partial, () => made.refill());
  const chooser =
    suites.length > 1 &&
    select("Suite", [["", "all"], ...suites.map((name) => [name, name])], suite, (value) => {
      suite = value;
      remember({ suite });
      made.refill();
    });
  const made = sortable({ caption: "All tasks", columns, rows: () => rows.filter((row) => kept(row) && (!suite || row.table.suite === suite)), controls: [chooser, partial], search: (row) => `${row.label} ${row.table.suite} ${row.table.about} ${row.table.partial ? "partial" : "whole"} ${row.table.metric}`, unit: "table" });
  return { title: "Tasks", content: [h("h1", { tabindex: -1 }, "Tasks"), h("p", { class: "lead" }, "One table for each task under equal conditions."), made.element] };
}
