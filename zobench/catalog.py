"""What the files of the optimizers say of themselves, as tables and texts, without importing them: for `list` and `info`."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from zobench import plan, registry
from zobench.core import info as formulas
from zobench.core.blocks import blocks
from zobench.registry import Entry

ORDERS = {"zo": "zeroth", "fo": "first"}  # as users write it
STEPS = 100  # over which the cost of a step is averaged
SORTS = ("name", "state", "forwards", "year")
LEGEND = (
    "forwards: mean of a step, with its backwards (b) and jvps (j); state: copies of the trained weights that it keeps, on "
    "OPT-125M in float32; paper: arXiv"
)
REPLAYS = {
    "exact": "the trace rebuilds the final weights, the same bits on every device",
    "local": "the trace rebuilds the final weights, the same bits on the same kind of device and versions",
    "none": "no trace: it uses gradients; a run is resumed from a checkpoint",
}
IN_FORMULAS = {"guided": "the forwards of a guide", "t": "the step, from 0", "blocks": "the layers of the model"}
ARXIV = re.compile(r"(?:arXiv[: ]*)?(\d{4}\.\d{4,5})", re.IGNORECASE)
WIDTH = 100  # of texts
UNTOLD = (ValueError, ArithmeticError, TypeError, KeyError, NameError)  # what a formula in a file may be wrong with


def facts(entry: Entry, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One optimizer with its cost and state at these options; None where its formulas do not tell them."""
    info, options = entry.info, registry.resolve(entry, given or {})
    shapes = formulas.opt_125m()
    try:
        parts = len(blocks([(shape.name, None) for shape in shapes], options.get("level", "layer")))
        steps = [formulas.cost(info, options, t, parts) for t in range(STEPS)]
        cost: dict[str, float | None] = {
            name: sum(getattr(step, name) for step in steps) / STEPS
            for name in ("forwards", "backwards", "jvps", "equivalents")
        }
    except UNTOLD:
        cost = dict.fromkeys(("forwards", "backwards", "jvps", "equivalents"))
    try:
        nbytes = formulas.state_bytes(info, options, shapes)
        state = nbytes / sum(math.prod(shape.dims) * shape.itemsize for shape in shapes)
    except UNTOLD:
        state = nbytes = None
    return {
        "name": entry.name,
        "title": info.get("title", entry.name),
        "about": entry.doc.splitlines()[0] if entry.doc else "",
        "order": info.get("order"),
        "family": info.get("family"),
        **cost,
        "state": state,
        "state_bytes": nbytes,
        "replay": info.get("replay"),
        "year": info.get("year"),
        "paper": info.get("paper"),
        "source": source(info),
        "mode": info.get("mode"),
        "grid": dict(info.get("grid", {})),
        "notes": info.get("notes", ""),
        "aliases": list(entry.aliases),
        "options": dict(entry.options),
        "formulas": {k: str(info[k]) for k in ("forwards", "backwards", "jvps", "state", "rate") if k in info},
    }


def arxiv(info: Mapping[str, Any]) -> str:
    """The arXiv number of the paper, or nothing."""
    found = ARXIV.match(str(info.get("paper", "")))
    return found[1] if found else ""


def source(info: Mapping[str, Any]) -> str:
    """Where to read of it: a link, or what the file names."""
    number = arxiv(info)
    return f"https://arxiv.org/abs/{number}" if number else str(info.get("paper", ""))


def optimizers(
    *,
    order: str | None = None,
    family: str | None = None,
    replay: str | None = None,
    max_state: float | None = None,
    max_forwards: float | None = None,
    sort: str = "name",
) -> list[dict[str, Any]]:
    """The optimizers that fit, sorted; what is not known fits no limit. Forwards are a budget's: a backward counts two."""

    def fits(row: dict[str, Any]) -> bool:
        wanted = {"order": ORDERS.get(order or "", order), "family": family, "replay": replay}
        # a thousandth: Adam's step counters are no third copy of the weights
        limits = {"state": None if max_state is None else 1.001 * max_state, "equivalents": max_forwards}
        return all(value in (None, row[key]) for key, value in wanted.items()) and all(
            limit is None or (row[key] is not None and row[key] <= limit) for key, limit in limits.items()
        )

    rows = [row for row in (facts(entry) for entry in registry.entries("optimizer").values()) if fits(row)]
    key = "equivalents" if sort == "forwards" else sort
    return sorted(rows, key=lambda row: (row[key] is None, row[key], row["name"]))


# --- as a table ---


def table(rows: Sequence[Mapping[str, Any]], width: int | None) -> list[dict[str, str]]:
    """The columns of `list optimizers`, in at most `width` characters with two between columns where that can be."""
    shown = [
        {
            "name": row["name"],
            "order": {v: k for k, v in ORDERS.items()}.get(row["order"], row["order"] or "-"),
            "forwards": calls(row),
            "state": copies(row["state"]),
            "replay": row["replay"] or "-",
            "year": str(row["year"] or "-"),
            "paper": arxiv(row) or "-",
            "what": what(row),
        }
        for row in rows
    ]
    if width is None or not shown:
        return shown
    whole, used = shown, 0
    for spare in ("", "replay", "what"):
        shown = [{k: v for k, v in row.items() if k != spare} for row in whole]
        used = sum(2 + max(len(k), *(len(row[k]) for row in shown)) for k in shown[0] if k != "what")
        if used + 24 <= width:
            break
    return [{k: _cut(v, width - used) if k == "what" else v for k, v in row.items()} for row in shown]


def calls(row: Mapping[str, Any]) -> str:
    """`2`, `1+1b`: forwards of a step, its backwards and its jvps."""
    if row["forwards"] is None:
        return "-"
    extra = [f"+{row[key]:.3g}{key[0]}" for key in ("backwards", "jvps") if row[key]]
    return f"{row['forwards']:.3g}" + "".join(extra)


def copies(state: float | None) -> str:
    if state is None:
        return "-"
    return f"{state:.1f}" if state >= 0.995 else f"{state:.1g}" if state < 0.01 else f"{state:.2g}"


def what(row: Mapping[str, Any]) -> str:
    """The first line without the name before it and the paper after it, which have columns of their own."""
    text = re.sub(r" \([^()]*\b(?:19|20)\d\d\b[^()]*\)\.?$", "", row["about"])
    head, colon, rest = text.partition(": ")
    own = {_letters(row["name"]), _letters(row["title"])}
    return (rest if colon and _letters(head) in own else text).rstrip(".")


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)].rstrip() + "…"


# --- as a text ---


def explain(entry: Entry, given: Mapping[str, Any]) -> list[str]:
    """`zobench info` of an optimizer: what it does, options, cost, state, rate, source, deviations."""
    row, info = facts(entry, given), entry.info
    used = {**entry.options, **entry.common, **registry.resolve(entry, given)}
    lines = [f"optimizer {registry.label(entry, used)}: {entry.doc}", ""]
    if entry.method:
        lines += [*textwrap.indent(entry.method, "  ").splitlines(), ""]
    lines += ["options:", *_options(entry, entry.options, used, given)]
    if entry.common:
        lines += ["common options, of every zeroth-order optimizer:", *_options(entry, entry.common, used, given)]
    if "lr" in entry.options:
        lines += _wrapped("without lr", _rate(entry))
    lines += _wrapped("cost", _cost(row))
    lines += _wrapped("state", _state(row))
    if row["replay"] in REPLAYS:
        lines += _wrapped("replay", f"{row['replay']}: {REPLAYS[row['replay']]}")
    lines += _wrapped("mode", f"{row['mode']} (of the model while it steps)" if row["mode"] else "")
    lines += _wrapped("source", f"{row['source']} ({row['year']})" if row["year"] else row["source"])
    lines += _wrapped("also called", ", ".join(entry.aliases))
    return lines + _wrapped("notes", str(info.get("notes", "")))


def described(entry: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    """The same as data."""
    row = facts(entry, given)
    used = {**entry.options, **entry.common, **registry.resolve(entry, given)}
    cost = {name: row[name] for name in ("forwards", "backwards", "jvps", "equivalents")}
    limits, choices = registry.bounds(entry)
    return {
        "kind": entry.kind,
        "name": entry.name,
        "about": entry.doc,
        "method": entry.method,
        "options": dict(entry.options),
        "common": dict(entry.common),
        "used": used,
        "allowed": {name: allowed for name in used if (allowed := choices.get(name, limits.get(name)))},
        **entry.info,
        "cost": cost,
        "state_copies": row["state"],
        "state_bytes_opt_125m": row["state_bytes"],
        "source": row["source"],
    }


def _options(entry: Entry, names: Mapping[str, Any], used: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, default in names.items():
        grid = entry.info.get("grid", {}).get(name, ())
        parts = [f"default {default}" if name in given and used[name] != default else "", _allowed(entry, name)]
        parts.append(f"paper's grid: {', '.join(map(str, grid))}" if grid else "")
        rows.append((f"  {name} = {used[name]}", "; ".join(part for part in parts if part)))
    width = max((len(left) for left, _ in rows), default=0)
    return [f"{left:<{width}}   {right}".rstrip() for left, right in rows]


def _allowed(entry: Entry, name: str) -> str:
    limits, choices = registry.bounds(entry)
    if name in choices:
        return " | ".join(map(str, choices[name]))
    return limits.get(name, "")


def _rate(entry: Entry) -> str:
    tasks = [t.name for t in registry.entries("task").values() if plan.rated(entry, t.info.get("rates", ()))]
    family = f"for family {entry.info.get('family')!r}"
    if "rate" in entry.info:
        family = f"of its own ({entry.info['rate']}, from the task's rates by family)"
    where = f"{len(tasks)} tasks ({', '.join(tasks[-3:])}, ...)" if len(tasks) > 3 else ", ".join(tasks) or "no task"
    if "softmax_l2" in tasks and len(tasks) > 3:
        where = f"{len(tasks)} tasks (softmax_l2 and others)"
    return f"the task's rate {family} on {where}, else {entry.options['lr']}"


def _cost(row: Mapping[str, Any]) -> str:
    if row["forwards"] is None:
        return "not foretold; a run counts it"
    parts = [
        f"{row[k]:.3g} {k.removesuffix('s') if row[k] == 1 else k}" for k in ("forwards", "backwards", "jvps") if row[k]
    ]
    written = ", ".join(
        f"{k} = {row['formulas'][k]}" for k in ("forwards", "backwards", "jvps") if k in row["formulas"]
    )
    means = [f"{name}: {text}" for name, text in IN_FORMULAS.items() if re.search(rf"\b{name}\b", written)]
    return f"{' and '.join(parts)} a step ({'; '.join([written, *means])})"


def _state(row: Mapping[str, Any]) -> str:
    if row["state"] is None:
        return "not foretold; a run measures it"
    if not row["state"]:
        return "nothing is kept between steps"
    size = f"{row['state_bytes'] / 2**20:.1f} MiB on OPT-125M in float32"
    written = f"bytes of a tensor: {row['formulas']['state']}"
    return f"{copies(row['state'])} copies of the trained weights ({size}; {written})"


def _wrapped(name: str, text: str) -> list[str]:
    if not text:
        return []
    return textwrap.wrap(
        f"{name}: {text}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
