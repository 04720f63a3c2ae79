// ---- light and dark: as the system has it, until the reader chooses ----

const THEMES = ["auto", "light", "dark"];
const THEME = "zobench-theme";
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const redraws = new Set(); // functions that draw again with other colours

function stored() {
  try {
    return localStorage.getItem(THEME);
  } catch {
    return null; // some browsers keep nothing for files
  }
}

function wear(theme) {
  document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme");
  button.replaceChildren(h("span", { "aria-hidden": "true" }, { auto: "◐", light: "☀", dark: "☾" }[theme]), ` ${theme}`);
  button.setAttribute("aria-label", `Colours: ${theme}. Change`);
  button.dataset.theme = theme;
  try {
    localStorage.setItem(THEME, theme);
  } catch {
    // not kept, and nothing else is lost
  }
  for (const redraw of redraws) redraw();
}

// Paper is white, whatever the screen is.
let printing = false;
addEventListener("beforeprint", () => (printing = true));
addEventListener("afterprint", () => {
  printing = false;
  for (const redraw of redraws) redraw();
});

const isDark = () => {
  if (printing) return false;
  const theme = document.documentElement.dataset.theme;
  return theme === "dark" || (theme !== "light" && systemDark.matches);
};

function startTheme() {
  const button = document.getElementById("theme");
  wear(THEMES.includes(stored()) ? stored() : "auto");
  button.addEventListener("click", () => wear(THEMES[(THEMES.indexOf(button.dataset.theme) + 1) % THEMES.length]));
  systemDark.addEventListener("change", () => redraws.forEach((redraw) => redraw()));
}

// {colour, dash} of each line of a chart, by the rule of zobench/report/palette.py (places), so as in the figures.
function lines(rows) {
  const [light, dark, dashes] = board.palette;
  const colours = isDark() ? dark : light;
  const taken = new Set();
  const next = (first, n, free) => Array.from({ length: n }, (_, i) => (first + i) % n).find(free);
  const own = rows.map((row) => styles.get(row.optimizer) ?? [0, 0, dashes.length]);
  const found = [];
  for (const i of [...own.keys()].sort((a, b) => own[a][2] - own[b][2] || a - b)) {
    const [tint, stroke] = own[i];
    const colour = next(tint, colours.length, (c) => !taken.has(`${c}`)) ?? tint;
    const dash = next(stroke, dashes.length, (d) => !taken.has(`${colour} ${d}`)) ?? stroke;
    taken.add(`${colour}`).add(`${colour} ${dash}`);
    found[i] = { colour: colours[colour], dash: dashes[dash].map((x) => 2 * x).join(" ") };
  }
  return found;
}
