// ---- how numbers are written: as on the leaderboard (zobench/report/text.py) ----

const NONE = "–";
const known = (x) => typeof x === "number" && Number.isFinite(x);

// Three digits, all of them above 100.
function number(x) {
  if (x === "never") return "never";
  if (!known(x)) return NONE;
  if (Math.abs(x) >= 1e9) return power(x);
  if (Math.abs(x) >= 100) return Math.round(x).toLocaleString("en-US");
  if (x === Math.trunc(x)) return String(x);
  return Math.abs(x) < 1e-3 ? power(x) : String(Number(x.toPrecision(3)));
}

function power(x) {
  const [mantissa, exponent] = x.toExponential(1).split("e");
  return `${mantissa}e${Number(exponent)}`;
}

// A value of a table's metric.
function score(x, table) {
  if (!known(x)) return NONE;
  if (table.log) return x <= FLOOR ? `≤${FLOOR.toExponential()}` : power(x);
  if (table.percent) return (100 * x).toFixed(1);
  return String(Number(x.toPrecision(4)));
}

function interval(found, table) {
  if (!found) return NONE;
  if (found.length < 3) return score(found[0], table);
  return `${score(found[0], table)} [${score(found[1], table)}, ${score(found[2], table)}]`;
}

function rank(found) {
  if (!found) return NONE;
  return found[0] === found[1] ? String(found[0]) : `${found[0]}–${found[1]}`;
}

function scaled(x, units, base) {
  let i = 0;
  while (i + 1 < units.length && Math.abs(x) >= base * 0.9995) {
    x /= base;
    i += 1;
  }
  return `${x >= 100 ? Math.round(x) : Number(x.toPrecision(3))} ${units[i]}`;
}

function bytes(x) {
  return known(x) ? scaled(x, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"], 1024) : NONE;
}

function count(x) {
  return known(x) ? scaled(x, ["", "k", "M", "G", "T", "P", "E"], 1000).trim() : NONE;
}

function seconds(x) {
  if (!known(x)) return NONE;
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (x >= size) return `${Number((x / size).toPrecision(3))} ${unit}`;
  }
  if (x >= 1) return `${Number(x.toPrecision(3))} s`;
  return x === 0 ? "0 s" : scaled(x * 1e6, ["µs", "ms", "s"], 1000);
}

const multiple = (x) => (known(x) ? `${x.toFixed(2)}×` : NONE);
const plural = (n, one, many = `${one}s`) => `${n.toLocaleString("en-US")} ${n === 1 ? one : many}`;
const counted = (counts) => Object.entries(counts ?? {}).map(([what, n]) => `${n} ${what}`).join(", ");
