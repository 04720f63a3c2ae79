// ---- the rules, and the files that could not be read ----

function about() {
  return {
    title: "Rules",
    content: [
      h("h1", { tabindex: -1 }, "How to read this board"),
      h("div", { class: "prose" }, [board.better, ...board.rules, board.suites].map((part) => h("p", {}, rich(part)))),
      h("h2", {}, "What fits"),
      h(
        "div",
        { class: "prose" },
        h("p", {}, "An optimizer fits when the median of its runs stayed within the memory and the time given: the memory of the process on the device where it was measured, or else the peak of tensor memory (or that as a multiple of the same model's inference), and the seconds inside the optimizer's step. Where runs take longer, what they would have ended with had they been stopped then, by their learning curve, stands for the row: it is marked as cut, because it was validated and not scored, and a whole run of the same value goes before it. Runs on partial data, reference lines and rows without a score do not answer. The best is the first by score of what fits; whole runs that share a rank with it cannot be told apart from it."),
      ),
      h("h2", {}, "What is left out"),
      h("p", {}, board.superseded ? `${plural(board.superseded, "run")} of older versions of their tasks.` : "No run of an older version of its task."),
      board.problems.length
        ? [h("p", {}, `${plural(board.problems.length, "file")} could not be read:`), plain("Files that could not be read", ["file", "why"], board.problems.map(([path, why]) => [h("bdi", {}, path), h("bdi", {}, why)]))]
        : h("p", {}, "Every file could be read."),
      h("h2", {}, "On this page"),
      h("p", {}, "Numbers are stored with six significant digits and printed with three or four; curves are stored to 0.2 % on log scales and to a ten-thousandth of the scale on linear ones. The address holds what is sorted, filtered and shown: copy it to share a view."),
    ],
  };
}
