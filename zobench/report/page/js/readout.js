// ---- the point of a chart that is read: nearest to the pointer, or stepped to by the arrow keys ----

// points: {x, y, lines, series} in pixels of the drawing; left and right step along a series, up and down change it.
function readout(plot, points) {
  const ring = h("div", { class: "ring", hidden: true });
  const tip = h("div", { class: "tip", hidden: true, role: "status" });
  plot.append(ring, tip);
  let current = -1;

  function show(i) {
    current = i;
    const point = points[i];
    ring.hidden = tip.hidden = !point;
    if (!point) return;
    ring.style.left = `${point.x}px`;
    ring.style.top = `${point.y}px`;
    tip.replaceChildren(...point.lines.map((line, at) => h(at ? "div" : "strong", {}, line)));
    const right = point.x > plot.clientWidth / 2;
    tip.style.left = right ? "" : `${point.x + 12}px`;
    tip.style.right = right ? `${plot.clientWidth - point.x + 12}px` : "";
    tip.style.top = `${Math.max(0, point.y - 16)}px`;
  }

  function nearest(x, y, among = points.keys()) {
    let best = -1;
    let least = Infinity;
    for (const i of among) {
      const distance = (points[i].x - x) ** 2 + (points[i].y - y) ** 2;
      if (distance < least) [best, least] = [i, distance];
    }
    return [best, least];
  }

  function step(event) {
    const move = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (event.key === "Escape") return show(-1);
    if (!move || !points.length) return undefined;
    event.preventDefault();
    if (current < 0) return show(0);
    return show(move[1] ? sideways(move[1]) : along(move[0]));
  }

  const series = (which) => [...points.keys()].filter((i) => points[i].series === which).sort((a, b) => points[a].x - points[b].x);

  function along(direction) {
    const own = series(points[current].series);
    return own[Math.max(0, Math.min(own.length - 1, own.indexOf(current) + direction))];
  }

  function sideways(direction) {
    const all = [...new Set(points.map((point) => point.series))];
    const next = all[(all.indexOf(points[current].series) + direction + all.length) % all.length];
    return nearest(points[current].x, points[current].y, series(next))[0];
  }

  plot.onpointermove = (event) => {
    const box = plot.getBoundingClientRect();
    const [i, distance] = nearest(event.clientX - box.left, event.clientY - box.top);
    show(distance < 40 ** 2 ? i : -1);
  };
  plot.onpointerleave = () => show(-1);
  plot.onkeydown = step;
  plot.onblur = () => show(-1);
}
