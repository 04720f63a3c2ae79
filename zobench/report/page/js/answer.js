// ---- "I have 8 GB and two hours": what fits, and which of that is best ----

const MEASURES = {
  peak: { name: "bytes", field: "memory", format: bytes, wish: 8 * 2 ** 30 },
  ratio: { name: "multiple of inference", field: "ratio", format: multiple, wish: Infinity },
};
const WISH = 2 * 3600; // seconds
const CLOCK = [1, 2, 5, 10, 15, 30]; // of seconds and minutes
const TIMES = [
  ...[1e-3, 1e-2, 1e-1].flatMap((unit) => [1, 2, 5].map((x) => x * unit)),
  ...CLOCK,
  ...CLOCK.map((x) => 60 * x),
  ...[1, 2, 4, 8, 12].map((x) => 3600 * x),
  ...[1, 2, 4, 7, 14, 30, 60, 120].map((x) => 86400 * x),
];
const POWERS = Array.from({ length: 48 }, (_, k) => [2 ** k, 1.5 * 2 ** k]).flat(); // 8, 12, 16, 24 GiB ...
const MULTIPLES = [1, 1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100, 200, 500, 1000];
const STOPS = { memory: POWERS, ratio: MULTIPLES, seconds: TIMES };

// Only runs on the whole data count; reference lines know too much, and a row without a number has no score.
const candidates = (table) => (table.partial ? [] : table.rows.filter((row) => !row.reference && row.rank && known(row.center)));

// The stops of a slider: from the last that admits nothing more than the cheapest row to the first that admits all.
function stops(all, field) {
  const values = all.map((row) => row[field]).filter(known);
  if (!values.length) return [];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const ladder = STOPS[field];
  const from = Math.max(0, ladder.findLastIndex((stop) => stop < low));
  const to = ladder.findIndex((stop) => stop >= high);
  return ladder.slice(from, to < 0 ? ladder.length : to + 1);
}

// What a run that takes longer would have ended with after this time: {row, value, seconds, whole}; null where nothing
// but its start was validated by then.
function cutAt(row, time) {
  const found = curve(row);
  const place = found?.seconds ? found.seconds.findLastIndex((clock, i) => clock <= time && found.cost[i] > 0 && known(found.kept[i])) : -1;
  return place < 0 ? null : { row, value: found.kept[place], seconds: found.seconds[place], whole: false };
}

// What fits into a table's limits, best first: {row, value, seconds, whole}. A whole run has its score; of a longer one
// stands what it had validated by then, and a whole one goes before it where both are equal.
function ordered(table, measured, { field, memory, time }) {
  const affordable = measured.filter((row) => row[field] <= memory);
  const whole = affordable.filter((row) => row.seconds <= time).map((row) => ({ row, value: row.center, seconds: row.seconds, whole: true }));
  const cut = affordable.filter((row) => row.seconds > time).map((row) => cutAt(row, time)).filter(Boolean);
  return [...whole, ...cut].sort((a, b) => gain(table, b.value, a.value) || b.whole - a.whole || a.row.place - b.row.place);
}

// The best that fits; of whole runs what shares its rank; beside a cut one the best whole one.
function answer(table, limits) {
  const { field, memory, time } = limits;
  const all = candidates(table);
  const measured = all.filter((row) => known(row[field]) && known(row.seconds));
  const [best, ...rest] = ordered(table, measured, limits);
  const whole = rest.filter((entry) => entry.whole).map(({ row }) => row);
  const tied = best?.whole ? whole.filter((row) => overlap(row.rank, best.row.rank)) : [];
  const excess = (row) => Math.max(row[field] / memory, row.seconds / time);
  const nearest = best ? null : measured.reduce((least, row) => (!least || excess(row) < excess(least) ? row : least), null);
  return { table, best, tied, whole: whole[0], nearest, all: all.length, unmeasured: all.length - measured.length };
}

const overlap = (a, b) => a[0] <= b[1] && b[0] <= a[1];

// How often each optimizer is the best that fits or shares its rank, over the tables where it was measured.
function leaders(answers) {
  const found = new Map();
  for (const { table, best, tied } of answers) {
    const first = new Set([best?.row, ...tied].filter(Boolean).map((row) => row.optimizer));
    for (const name of new Set(candidates(table).map((row) => row.optimizer))) {
      const entry = found.get(name) ?? { name, first: 0, of: 0, cut: 0 };
      entry.of += 1;
      entry.first += first.has(name) ? 1 : 0;
      entry.cut += first.has(name) && !best.whole ? 1 : 0;
      found.set(name, entry);
    }
  }
  return [...found.values()].filter(({ first }) => first).sort((a, b) => b.first - a.first || a.of - b.of || a.name.localeCompare(b.name, "en"));
}

function answerCard() {
  const whole = tables.filter((table) => candidates(table).length);
  const everything = whole.flatMap(candidates);
  const usable = Object.keys(MEASURES).filter((name) => stops(everything, MEASURES[name].field).length);
  if (!usable.length || !stops(everything, "seconds").length) return null;
  let measure = usable.includes(remembered("measure")) ? remembered("measure") : usable[0];
  let suite = suites.includes(remembered("suite")) ? remembered("suite") : "";
  let single = remembered("single") === "1";
  let memory;
  let time;

  const summary = h("p", { class: "verdict", role: "status" });
  const chart_ = h("ol", { class: "leaders" });
  const body = h("tbody", { role: "rowgroup" });
  const left = h("p", { class: "about" });
  const memorySlider = h("input", { type: "range", id: "memory", min: 0, step: 1 });
  const timeSlider = h("input", { type: "range", id: "time", min: 0, step: 1 });
  const memoryValue = h("output", { for: "memory" });
  const timeValue = h("output", { for: "time" });
  const memoryEnds = h("div", { class: "ends", "aria-hidden": "true" });
  const timeEnds = h("div", { class: "ends", "aria-hidden": "true" });

  const chosen = () => whole.filter((table) => !suite || table.suite === suite);
  const counts = (table) => single || new Set(candidates(table).map((row) => row.optimizer)).size > 1;

  // The stops of a slider, which is put where the address says, or else at 8 GiB and two hours.
  function ladder(slider, ends, field, name, wish, format) {
    const steps = stops(chosen().flatMap(candidates), field);
    const place = (limit) => String(Math.max(0, steps.findLastIndex((stop) => stop <= limit * (1 + 1e-9))));
    slider.max = String(steps.length - 1);
    slider.value = slider.dataset.first = place(wish);
    if (Number(remembered(name)) > 0) slider.value = place(Number(remembered(name)));
    ends.replaceChildren(h("span", {}, format(steps[0])), h("span", {}, format(steps[steps.length - 1])));
    return steps;
  }

  let memories;
  let times;
  function setUp() {
    memories = ladder(memorySlider, memoryEnds, MEASURES[measure].field, "memory", MEASURES[measure].wish, MEASURES[measure].format);
    times = ladder(timeSlider, timeEnds, "seconds", "time", WISH, seconds);
    move();
  }

  function move() {
    memory = memories[Number(memorySlider.value)];
    time = times[Number(timeSlider.value)];
    const words = [MEASURES[measure].format(memory), seconds(time)];
    memoryValue.textContent = words[0];
    timeValue.textContent = words[1];
    memorySlider.setAttribute("aria-valuetext", `${words[0]}${measure === "ratio" ? " the memory of inference" : ""}`);
    timeSlider.setAttribute("aria-valuetext", words[1]);
    for (const slider of [memorySlider, timeSlider]) slider.style.setProperty("--at", `${(100 * slider.value) / Math.max(1, slider.max)}%`);
    fill(words);
  }

  function moved() {
    move();
    remember({
      memory: memorySlider.value === memorySlider.dataset.first ? null : memory,
      time: timeSlider.value === timeSlider.dataset.first ? null : time,
    });
  }

  function fill([space, clock]) {
    const compared_ = chosen().filter(counts);
    const answers = compared_.map((table) => answer(table, { field: MEASURES[measure].field, memory, time }));
    const solved = answers.filter(({ best }) => best);
    const cut = solved.filter(({ best }) => !best.whole).length;
    const top = leaders(answers);
    summary.replaceChildren(
      ...(solved.length
        ? [
            `Within ${space}${measure === "ratio" ? " the memory of inference" : ""} and ${clock}, `,
            h("strong", {}, solved.length === answers.length ? (answers.length === 1 ? "the task" : `all ${answers.length} tasks`) : `${solved.length} of ${plural(answers.length, "task")}`),
            ` ${solved.length === 1 && answers.length === 1 ? "has" : "have"} an optimizer that fits${cut ? ` (${cut} by what a longer run had validated by then)` : ""}. Most often the best of them, or not to be told apart from it:`,
          ]
        : [answers.length ? `Nothing that was measured fits into ${space} and ${clock}.` : "No task here has two optimizers to choose from."]),
    );
    chart_.replaceChildren(
      ...top.slice(0, 6).map(({ name, first, of, cut }) =>
        h(
          "li",
          {},
          link(`#/optimizer/${encodeURIComponent(name)}`, named(name)),
          bar(first / Math.max(1, answers.length), ""),
          h("span", { class: "of" }, `${first} of ${plural(answers.length, "task")}${cut ? `, ${cut} cut` : ""}${of < answers.length ? `, measured on ${of}` : ""}`),
        ),
      ),
    );
    chart_.hidden = !top.length;
    const groups = [...new Set(compared_.map((table) => table.suite))];
    body.replaceChildren(
      ...groups.flatMap((group) => [
        h("tr", { role: "row", class: "group" }, h("th", { role: "rowheader", scope: "rowgroup", colspan: 5 }, h("div", {}, group))),
        ...answers.filter(({ table }) => table.suite === group).map(answered),
      ]),
    );
    const alone = chosen().filter((table) => !counts(table)).length;
    const partial = tables.filter((table) => table.partial && (!suite || table.suite === suite)).length;
    const unmeasured = answers.reduce((sum, found) => sum + found.unmeasured, 0);
    left.textContent = [
      alone ? `${plural(alone, "table")} with one optimizer left out.` : "",
      partial ? `${plural(partial, "table")} measured on partial data left out.` : "",
      unmeasured ? `${plural(unmeasured, "row")} without a measured memory or time cannot be said to fit.` : "",
      "Each on the hardware of its table. Where a run takes longer than the time given, what it had validated by then stands for it, marked as cut: a value on validation, not a score of a whole run.",
    ].filter(Boolean).join(" ");
  }

  function answered({ table, best, tied, whole, nearest, all }) {
    const task = h("th", { role: "rowheader", scope: "row" }, h("div", {}, link(table.href, named(table.task)), h("small", {}, table.about)));
    if (!best) {
      const least = nearest
        ? ["Nothing fits. The nearest: ", link(nearest.href, named(nearest.label)), `, ${MEASURES[measure].format(nearest[MEASURES[measure].field])} and ${seconds(nearest.seconds)}.`]
        : ["Memory or time was not measured."];
      return h("tr", { role: "row", class: "nothing" }, task, h("td", { role: "cell", colspan: 4 }, h("div", {}, least)));
    }
    const { row } = best;
    const names = tied.slice(0, 3).map((other, i) => [i ? ", " : "", link(other.href, named(other.label))]);
    const value = best.whole ? interval(row.score, table) : `validated ${score(best.value, table)} after ${seconds(best.seconds)} (cut)`;
    const clock = best.whole ? seconds(row.seconds) : `${seconds(best.seconds)} of ${seconds(row.seconds)}`;
    const others = best.whole
      ? tied.length
        ? [names, tied.length > 3 ? [" and ", link(table.href, `${tied.length - 3} more`)] : ""]
        : h("span", { class: "none" }, all > 1 ? "none" : NONE)
      : whole
        ? ["best whole run: ", link(whole.href, named(whole.label)), ` ${score(whole.center, table)}`]
        : h("span", { class: "none" }, "no whole run fits");
    return h(
      "tr",
      { role: "row" },
      task,
      h("td", { role: "cell", "data-label": "Best that fits" }, h("div", {}, link(row.href, named(row.label)), best.whole ? null : h("span", { class: "mark" }, "cut"), warning(row.failures, row.marks))),
      h("td", { role: "cell", "data-label": "Score", class: "numeric" }, h("div", {}, value, h("small", {}, table.metric))),
      h("td", { role: "cell", "data-label": "Memory, time", class: "numeric" }, h("div", {}, MEASURES[measure].format(row[MEASURES[measure].field]), h("small", {}, clock))),
      h("td", { role: "cell", "data-label": "Not told apart" }, h("div", {}, others)),
    );
  }

  memorySlider.addEventListener("input", moved);
  timeSlider.addEventListener("input", moved);
  const card = h(
    "section",
    { class: "answer", "aria-labelledby": "have" },
    h("h2", { id: "have" }, "What do you have?"),
    h(
      "div",
      { class: "sliders" },
      h("div", {}, h("label", { for: "memory" }, "I have the memory of "), memoryValue, memorySlider, memoryEnds),
      h("div", {}, h("label", { for: "time" }, "and the time of "), timeValue, timeSlider, timeEnds),
    ),
    h(
      "div",
      { class: "tools" },
      suites.length > 1 &&
        select("Suite", [["", "all"], ...suites.map((name) => [name, name])], suite, (value) => {
          suite = value;
          remember({ suite, memory: null, time: null });
          setUp();
        }),
      usable.length > 1 &&
        select("Memory as", usable.map((name) => [name, MEASURES[name].name]), measure, (value) => {
          measure = value;
          remember({ measure: measure === usable[0] ? null : measure, memory: null });
          setUp();
        }),
      check("tasks with one optimizer", single, (on) => {
        single = on;
        remember({ single: on ? "1" : null });
        move();
      }),
    ),
    summary,
    chart_,
    scroller(
      { class: "tall", "aria-label": "The best that fits, by task" },
      h(
        "table",
        { role: "table", class: "answers" }, // roles are said, because on a phone the rows are cards
        h("caption", { class: "hidden" }, "The best that fits, by task"),
        h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, [["Task"], ["Best that fits"], ["Score [95 %]", "numeric"], ["Memory, time", "numeric"], ["Not to be told apart from it"]].map(([name, kind]) => h("th", { role: "columnheader", scope: "col", class: kind }, name)))),
        body,
      ),
    ),
    left,
  );
  setUp();
  return card;
}
