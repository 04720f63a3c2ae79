// ---- performance profile of the tasks of a suite under equal conditions ----

function profile(found) {
  const key = `profile${board.profiles.indexOf(found) || ""}`; // in the address
  const names = found.names.map(text);
  const asked = (remembered(key) ?? "").split(".").filter(Boolean).map(Number).filter((i) => i < names.length);
  let chosen = asked.length ? asked : names.slice(0, 6).map((_, i) => i);
  const legend = h("div", { class: "legend", role: "group", "aria-label": "Optimizers shown" });

  function pick(styled) {
    legend.replaceChildren(
      ...chosen.map((at_, i) =>
        h(
          "button",
          { type: "button", class: "chip", "aria-label": `Take out ${names[at_]}`, disabled: chosen.length === 1, onclick: () => change(chosen.filter((other) => other !== at_)) },
          s("svg", { width: 26, height: 10, "aria-hidden": "true" }, s("line", { x1: 0, x2: 26, y1: 5, y2: 5, stroke: styled[i].colour, "stroke-width": 2.5, "stroke-dasharray": styled[i].dash || null })),
          named(short(names[at_], 40)),
          h("span", { "aria-hidden": "true" }, "×"),
        ),
      ),
    );
    const rest = names.map((name, i) => [String(i), name]).filter(([i]) => !chosen.includes(Number(i)));
    if (rest.length) legend.append(select("Add", [["", "an optimizer …"], ...rest], "", (value) => value && change([...chosen, Number(value)])));
  }

  function change(next) {
    chosen = next;
    remember({ [key]: chosen.join(".") });
    made.redraw();
  }

  function draw(width) {
    const styled = lines(chosen.map((i) => ({ optimizer: names[i] })));
    pick(styled);
    const series = chosen.map((i, k) => ({ name: names[i], ...styled[k], points: found.taus.map((tau, j) => ({ tau, share: found.shares[i][j] })) }));
    const ratio = { name: "forwards, × the cheapest's", format: (x) => `${count(x)}×` };
    const svg = Plot.plot({
      width,
      height: HEIGHT,
      marginLeft: 58,
      marginRight: 24,
      marginBottom: 42,
      marginTop: 28,
      style: { background: "none", fontSize: "12px", overflow: "visible" },
      x: { type: "log", nice: false },
      y: { domain: [0, 1], grid: true, tickFormat: (x) => String(Math.round(100 * x)), label: "↑ problems solved (%)" },
      marks: [costAxis(ratio, true, [1, found.taus[found.taus.length - 1]]), ...series.map(({ points, colour, dash }) => Plot.lineY(points, { x: "tau", y: "share", stroke: colour, strokeWidth: 2, strokeDasharray: dash || null, curve: "step-after" }))],
    });
    const [sx, sy] = [svg.scale("x"), svg.scale("y")];
    const percent = (x) => `${(100 * x).toFixed(0)} %`;
    return {
      svg,
      points: series.flatMap(({ name, points }) =>
        points.map((p) => ({ x: sx.apply(p.tau), y: sy.apply(p.share), lines: [name, `${percent(p.share)} of the problems`, `within ${count(p.tau)}× of the cheapest`], series: name })),
      ),
      about:
        `${plural(found.problems, "problem")} (a task with its seed) of ${plural(found.tasks, "task")}. Solved: nine tenths of the best improvement that any optimizer validated. ` +
        `Cheapest most often, and solved in the end: ${series.map(({ name, points }) => `${name} ${percent(points[0].share)}, ${percent(points[points.length - 1].share)}`).join("; ")}. ` +
        `Failed runs count as never.${found.left_out ? ` ${plural(found.left_out, "optimizer")} without a run on each problem left out.` : ""}`,
      numbers: [
        ["optimizer", ...[1, 2, 4, 10, 100].map((tau) => `within ${tau}×`), "in the end"],
        ...names.map((name, i) => [named(name), ...[1, 2, 4, 10, 100].map((tau) => percent(shareAt(found, i, tau))), percent(found.shares[i][found.shares[i].length - 1])]),
      ],
    };
  }

  const made = chart({ title: `Performance profile: ${text(found.suite)} · ${text(found.about)}`, heading: "h3", legend, draw });
  return made.figure;
}

// The share at the largest stored ratio that is at most tau.
function shareAt({ taus, shares }, i, tau) {
  const place = taus.findLastIndex((t) => t <= tau * 1.0001);
  return shares[i][Math.max(0, place)];
}
