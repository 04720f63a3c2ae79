// ---- published values beside our runs ----

function claimed() {
  const percent = (x) => (known(x) ? x.toFixed(1) : NONE);
  const signed = (x) => (known(x) ? `${x >= 0 ? "+" : "−"}${Math.abs(x).toFixed(1)}` : NONE);
  const rows = (board.claims?.groups ?? []).flatMap((group) => group.claims.map((claim) => ({ group, ...claim })));
  rows.forEach((row, place) => {
    row.place = place;
    row.label = `${text(row.group.task)} · ${text(row.group.optimizer)}`;
  });
  const ours = (row) => (row.ours ? (row.ours.length > 1 ? `${percent(row.ours[0])} [${percent(row.ours[1])}, ${percent(row.ours[2])}]` : percent(row.ours[0])) : NONE);
  const columns = [
    { key: "task", name: "Task", value: (row) => row.label, cell: (row) => [named(text(row.group.task)), row.group.partial && h("span", { class: "mark" }, "partial data"), warning(row.group.failures, []), h("small", {}, [text(row.group.model), text(row.group.adapter)].filter((x) => x && x !== "none").join(" · "))] },
    { key: "optimizer", name: "Optimizer", value: (row) => text(row.group.optimizer), cell: (row) => named(text(row.group.optimizer)) },
    { key: "ours", name: "Ours [95 %]", about: "In percent", value: (row) => row.ours?.[0] ?? null, cell: (row) => [ours(row), h("small", {}, text(row.metric))], numeric: true, down: true },
    { key: "published", name: "Published", about: "In percent", value: (row) => row.published, cell: (row) => `${text(row.printed)}${known(row.std) ? ` ± ${row.std}` : ""}`, numeric: true, down: true },
    { key: "difference", name: "Difference", about: "Ours less published", value: (row) => row.difference, cell: (row) => signed(row.difference), numeric: true, down: true },
    { key: "differs", name: "Differs", about: "Between the two protocols", cell: (row) => h("small", { class: "long" }, text(row.differences) ?? "") },
    { key: "unknown", name: "Not known", about: "Of the published value", cell: (row) => h("small", { class: "long" }, text(row.unknown) ?? "") },
    { key: "source", name: "Source", value: (row) => text(row.source), cell: (row) => h("div", { class: "source" }, text(row.source), h("small", {}, text(row.method))) },
    { key: "quality", name: "Quality", about: "Of the source", value: (row) => text(row.quality), cell: (row) => h("div", { class: "source" }, text(row.quality)) },
    { key: "both", name: "Both", about: "Dot and bar: ours; ring: published; 0 to 100", cell: pair },
    { key: "n", name: "n", value: (row) => row.n, cell: (row) => row.n, numeric: true, down: true },
  ];
  const details = (row) => [
    h(
      "dl",
      {},
      [
        ["How ours was made", text(row.group.protocol)],
        ["Failed", counted(row.group.failures)],
        ["What differs", text(row.differences)],
        ["Not known of the published value", text(row.unknown)],
        ["Note", text(row.note)],
      ].filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, h("bdi", {}, value)))),
    ),
    row.group.cells.map((cell) => h("div", {}, replay({ cell }))),
  ];
  const made = rows.length
    ? sortable({ caption: "Published values beside our runs", columns, rows: () => rows, details, search: (row) => `${row.label} ${text(row.group.model)} ${text(row.source)} ${text(row.method)} ${text(row.metric)}`, unit: "value" }).element
    : h("p", { class: "note" }, "No published value of the same task, model, method and adapter stands beside these runs.");
  const [lost, groups] = board.claims?.unmatched ?? [0, 0];
  return {
    title: "Claimed and reproduced",
    content: [
      h("h1", { tabindex: -1 }, "Claimed and reproduced"),
      h("p", { class: "lead" }, rich(board.claims?.rules ?? "")),
      made,
      rows.length ? claimedChart(rows, percent) : null,
      lost ? h("p", { class: "about" }, `${plural(lost, "run")} in ${plural(groups, "group")} without a published counterpart of the same task, model, method and adapter.`) : null,
    ],
  };
}

function pair(row, width = 120) {
  const x = (value) => 4 + between(value, [0, 100], width - 8);
  return s(
    "svg",
    { class: "whisker", width, height: 18, viewBox: `0 0 ${width} 18`, "aria-hidden": "true" },
    s("line", { class: "track", x1: 4, x2: width - 4, y1: 9, y2: 9 }),
    row.ours?.length > 1 && s("line", { class: "bar", x1: x(row.ours[1] ?? 0), x2: x(row.ours[2] ?? 100), y1: 9, y2: 9 }),
    row.ours && s("circle", { cx: x(row.ours[0]), cy: 9, r: 3.5 }),
    known(row.published) && s("circle", { class: "ringed", cx: x(row.published), cy: 9, r: 4.5 }),
  );
}

function claimedChart(rows, percent) {
  const shown = rows.filter((row) => row.ours && known(row.published));
  if (!shown.length) return null;
  function draw(width) {
    const all = shown.flatMap((row) => [row.published, ...row.ours]).filter(known);
    const domain = [Math.max(0, Math.min(...all) - 2), Math.min(100, Math.max(...all) + 2)];
    const clip = (x) => Math.min(Math.max(x, domain[0]), domain[1]);
    const svg = Plot.plot({
      width,
      height: HEIGHT,
      marginLeft: 58,
      marginRight: 24,
      marginBottom: 42,
      marginTop: 28,
      style: { background: "none", fontSize: "12px", overflow: "visible" },
      x: { domain, grid: true, label: "published (%) →" },
      y: { domain, grid: true, label: "↑ ours (%)" },
      marks: [
        Plot.line([[domain[0], domain[0]], [domain[1], domain[1]]], { stroke: "var(--faint)", strokeDasharray: "4 4" }),
        Plot.ruleX(shown.filter((row) => row.ours.length > 1), { x: "published", y1: (row) => clip(row.ours[1] ?? domain[0]), y2: (row) => clip(row.ours[2] ?? domain[1]), stroke: "var(--muted)" }),
        Plot.dot(shown, { x: "published", y: (row) => row.ours[0], r: 4, fill: "var(--accent)", stroke: "var(--surface)" }),
      ],
    });
    const [sx, sy] = [svg.scale("x"), svg.scale("y")];
    return {
      svg,
      points: shown.map((row) => ({ x: sx.apply(row.published), y: sy.apply(row.ours[0]), lines: [row.label, `ours ${percent(row.ours[0])}, published ${percent(row.published)}`, text(row.source)], series: "values" })),
      about: `${plural(shown.length, "published value")} against ours; on the dashed line both are equal. ${shown.filter((row) => row.difference < 0).length} of ours are lower. Protocols differ: read what differs before comparing.`,
      numbers: [["what", "ours", "published", "source"], ...shown.map((row) => [named(row.label), percent(row.ours[0]), percent(row.published), text(row.source)])],
    };
  }
  return chart({ title: "Ours against published", draw }).figure;
}
