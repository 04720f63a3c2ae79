"""The page's figures as SVG for papers: `zobench report --figures DIR`. Needs the extra `plot`.

Every figure is drawn at the width at which it is printed (3.3 inches: one column of most proceedings), in 7 pt type, with
text kept as text. The same board gives the same bytes.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zobench.record import json_text
from zobench.report import palette, stats
from zobench.report.curves import Race, pareto, race
from zobench.report.summary import SHARED, chosen_rows
from zobench.report.text import PERCENT, clean, title
from zobench.spec import EnvironmentUnmet, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from zobench.report.claimed import Claims
    from zobench.report.tables import Board, Row, Section

COLUMN = 3.3  # inches
HEIGHT = 2.2  # of a panel, inches
LINES = 8  # that are told apart in one figure; the rest are grey
ANCHORS = ("mezo", "adam")  # emphasised wherever they are: what every reader compares with
SHARES = (0.1, 0.01)  # of the way from the start to the best that may be missing: the targets of profiles
FLOOR = stats.FLOOR
MARKERS = "os^v"  # beside palette.DASHES
FORWARDS = "forwards (a backward counts 2)"
GREY, INK = palette.REST, "#222222"
LABEL_POINTS = 6.0
FAMILY = "DejaVu Sans"  # comes with matplotlib, so widths are the same everywhere
# Of the reader, for letters that it lacks; what matplotlib measures may not depend on which of them are here.
FALLBACKS = "'Noto Sans', 'Noto Sans CJK SC', 'Microsoft YaHei', 'PingFang SC', sans-serif"
RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "zobench",
    "text.parse_math": False,  # a name may hold a dollar
    "font.family": FAMILY,
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.1,
    "path.simplify": False,  # the numbers of the data stay in the paths
}


@dataclass(frozen=True)
class Line:
    """What is drawn of one row: its name beside the line, its colour and dashes; grey where it is not emphasised."""

    row: Any
    name: str
    colour: str = GREY
    dash: tuple[float, ...] = ()
    strong: bool = False

    @property
    def marker(self) -> str:
        """Of points, where there is no line to dash; a diamond is a reference line."""
        return "D" if self.row.reference else _marker(self.dash)


def write(board: Board, directory: Path, *, claims: Claims | None = None, width: float = COLUMN) -> list[Path]:
    """Draw every figure of the board into the directory and return the files, in the order of the board.

    Per section `learning-*.svg` and `cost-*.svg`; per suite `profile-*.svg` and `data-profile-*.svg`; with claims
    `claimed.svg`. board: made with curves=True. width: in inches. A figure without data is not made.
    EnvironmentUnmet where matplotlib is missing or the directory cannot be written.
    """
    if not 2 <= width <= 20:
        raise UsageError(f"a figure of {width:g} inches cannot be read; 3.3 is one column, 6.9 a page")
    with _drawing():
        drawn = [(name, figure) for name, figure in _figures(board, claims, width) if figure is not None]
        return _save(drawn, directory)


@contextmanager
def _drawing() -> Iterator[None]:
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise EnvironmentUnmet("figures need matplotlib: pip install 'zobench[plot]'") from error
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
        matplotlib.rcParams.update(RC)
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's font has it
        yield


def _figures(board: Board, claims: Claims | None, width: float) -> Iterator[tuple[str, Figure | None]]:
    for section in board.sections:
        yield f"learning {' '.join(title(section))}", learning(section, width)
        yield f"cost {' '.join(title(section))}", trade_off(section, width)
    for name, sections in suites(board):
        races = [race(sections, share) for share in SHARES]
        yield f"profile {name}", profiles(name, races, width, relative=True)
        yield f"data profile {name}", profiles(name, races, width, relative=False)
    if claims is not None:
        yield "claimed", claimed(claims, width)


def suites(board: Board) -> list[tuple[str, list[Section]]]:
    """Sections whose problems belong together, as in the tables of suites, with one row per optimizer; and their name."""
    found: dict[str, list[Section]] = {}
    for section in board.sections:
        key = json_text([section.partial, *(section.conditions[name] for name in SHARED)])
        found.setdefault(key, []).append(replace(section, rows=list(chosen_rows(section).values())))
    return [(_suite(sections[0]), sections) for _, sections in sorted(found.items())]


def _suite(section: Section) -> str:
    c = section.conditions
    model = [f"{c['model']}@{c['revision'][:12]}" if c["revision"] else c["model"]] if c["model"] else []
    adapter = [c["adapter"]] if c["adapter"] != "none" else []
    parts = [c["suite"] or "own tasks", *model, *adapter, c["dtype"], c["budget"], f"batch {c['batch_size']}"]
    parts.append(f"{c['score']} score")
    return ", ".join([*parts, *(["PARTIAL DATA"] if section.partial else [])])


def _save(drawn: Sequence[tuple[str, Figure]], directory: Path) -> list[Path]:
    taken: set[str] = set()
    paths = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, figure in drawn:
            path = directory / f"{_slug(name, taken)}.svg"
            sink = io.BytesIO()
            figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None, "Title": clean(name)})
            path.write_text(_with_fallbacks(sink.getvalue().decode()), encoding="utf-8", newline="\n")
            paths.append(path)
    except OSError as error:
        why = error.strerror or str(error)
        raise EnvironmentUnmet(f"cannot write figures into {directory}: {why}; choose another directory") from error
    return paths


def _with_fallbacks(svg: str) -> str:
    """More families in the styles of texts: `style="font: 6px 'DejaVu Sans'`, or `font-family: 'DejaVu Sans'`."""
    return re.sub(f'(<text style="[^"<>]*font(?:-family)?: [^"<>;]*\'{FAMILY}\')', rf"\1, {FALLBACKS}", svg)


def _slug(name: str, taken: set[str]) -> str:
    """A file name for every system, unlike those that are taken; letters, digits and hyphens."""
    words = re.sub(r"[^a-z0-9]+", "-", clean(name).lower()).strip("-")[:100].rstrip("-")
    words = words or "figure"
    slug, count = words, 1
    while slug in taken:
        count += 1
        slug = f"{words}-{count}"
    taken.add(slug)
    return slug


# ---- which lines ----


def lines(section: Section, usable: Callable[[Row], bool], preferred: Sequence[Row] = ()) -> list[Line]:
    """The rows that can be drawn, grey ones first, so that what is emphasised lies on top.

    Emphasised are at most LINES rows: ANCHORS (the best row of each), reference lines, those preferred, and then the
    best by rank.
    """
    rows = [row for row in section.rows if usable(row)]
    anchors = [next((row for row in rows if row.optimizer == name), None) for name in ANCHORS]
    wanted = [row for row in anchors if row is not None] + [row for row in rows if row.reference][:3]
    places = {id(row): None for row in (*wanted, *preferred, *rows)}  # in order, each once
    chosen = set(list(places)[:LINES])
    strong = [row for row in rows if id(row) in chosen]  # in the order of the table
    names = _names(strong)
    looks = palette.styles(row.optimizer for row in strong)
    grey = [Line(row, "") for row in rows if id(row) not in chosen]
    return grey + [
        Line(row, name, colour, dash, True) for row, name, (colour, dash) in zip(strong, names, looks, strict=True)
    ]


def _marker(dash: tuple[float, ...]) -> str:
    return MARKERS[palette.DASHES.index(dash)]


def _names(rows: Sequence[Row]) -> list[str]:
    """The bare name where it says which row is meant, or else the label."""
    names = [row.optimizer for row in rows]
    return [_short(row.optimizer if names.count(row.optimizer) == 1 else row.label) for row in rows]


def _short(name: str, width: int = 22) -> str:
    """At most so many columns; a letter of East Asian scripts takes two.

    >>> _short("mezo" * 9, 8), _short("零阶优化器", 8)
    ('mezomez…', '零阶优…')
    """
    name = clean(name)
    if sum(map(_columns, name)) <= width:
        return name
    room = accumulate(map(_columns, name))
    return name[: sum(used < width for used in room)] + "…"


def _columns(letter: str) -> int:
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


# ---- axes ----


def _new(width: float, panels: int = 1, height: float = HEIGHT) -> tuple[Figure, list[Axes]]:
    """Panels beside each other where there is room for them, one below the other where not."""
    from matplotlib.figure import Figure

    across = max(1, min(panels, int(width / 2)))
    down = math.ceil(panels / across)
    figure = Figure(figsize=(width, height * down + 0.25), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for spare in grid[panels:]:
        spare.remove()
    return figure, grid[:panels]


def _heading(figure: Figure, width: float, *parts: str) -> None:
    text = "\n".join(line for part in parts for line in textwrap.wrap(clean(part), int(width * 18)))
    figure.suptitle(text, x=0.01, ha="left", fontsize=7)


def _scale(axes: Axes, which: str, log: bool) -> None:
    """Ticks as the tables write numbers: 1e-3 and not ten to the power of -3, which would need formulas."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    if log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log", nonpositive="clip")
        low, high = axis.get_view_interval()
        several = LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=6 if which == "x" else 7)
        axis.set_major_locator(several if high > 5 * low else MaxNLocator(5))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: _tick(x)))


def _tick(x: float) -> str:
    """
    >>> [_tick(x) for x in (0, 0.25, 1, 20, 2000, 10000, 2e6, 1e-3, 1e-12)]
    ['0', '0.25', '1', '20', '2000', '10k', '2M', '1e-3', '1e-12']
    """
    if x == 0 or 0.01 <= abs(x) < 10_000:
        return f"{x:.6g}"
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= abs(x) < 1000 * size:
            return f"{x / size:.6g}{unit}"
    mantissa, _, exponent = f"{x:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else f"{x:.0e}".replace("e-0", "e-").replace("e+0", "e")


def _metric(section: Section) -> str:
    unit = ", %" if section.metric in PERCENT else ""
    return f"{clean(section.metric).replace('_', ' ')}{unit} ({section.better} is better)"


def _factor(section: Section) -> float:
    return 100.0 if section.metric in PERCENT and section.scale != "log" else 1.0


def _on_scale(values: Any, section: Section) -> np.ndarray:
    """In the units of the figure; on a log scale nothing is below FLOOR."""
    x = np.asarray(values, dtype=float) * _factor(section)
    return np.fmax(x, FLOOR) if section.scale == "log" else x


def _beside(panels: Sequence[tuple[Axes, Sequence[tuple[float, Line]]]]) -> None:
    """Names at the right of each panel, at the height of their lines' ends (in data), moved apart where they would overlap."""
    for axes, _ in panels:
        for artist in (*axes.lines, *axes.collections):
            artist.set_in_layout(False)  # inside the axes; a layout that measures thousands of lines takes seconds
    height = 0.72 * HEIGHT * 72  # points; what titles and ticks leave of a panel, near enough
    for axes, ends in panels:
        axes.get_ylim()  # settles the limits
        to_axes = axes.transData + axes.transAxes.inverted()
        placed = [(float(np.clip(to_axes.transform((1.0, y))[1], 0, 1)), line) for y, line in ends]
        placed.sort(key=lambda pair: (pair[0], pair[1].name))
        heights = _apart([at for at, _ in placed], 1.2 * LABEL_POINTS / height)
        for (at, line), y in zip(placed, heights, strict=True):
            style: dict[str, Any] = {"color": line.colour, "transform": axes.transAxes, "clip_on": False}
            (leader,) = axes.plot([1.01, 1.05], [at, y], linewidth=0.4, scalex=False, scaley=False, **style)
            leader.set_in_layout(False)
            axes.text(1.06, y, line.name, fontsize=LABEL_POINTS, va="center", **style)


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """The increasing heights in [0, 1], moved as little as can be (least squares) until neighbours are a gap apart.

    >>> _apart([0.5, 0.5], 0.1)
    [0.45, 0.55]
    """
    # less i gaps, "a gap apart" is "not decreasing": isotonic regression, by pooling adjacent violators
    pools: list[tuple[float, int]] = []
    for i, h in enumerate(heights):
        mean, n = h - i * gap, 1
        while pools and pools[-1][0] > mean:
            before, m = pools.pop()
            mean, n = (before * m + mean * n) / (m + n), m + n
        pools.append((mean, n))
    top = max(0.0, 1 - (len(heights) - 1) * gap)
    level = [min(max(mean, 0.0), top) for mean, n in pools for _ in range(n)]
    return [round(base + i * gap, 9) for i, base in enumerate(level)]


# ---- the figures ----


def learning(section: Section, width: float = COLUMN) -> Figure | None:
    """Validation against forward-equivalents: interquartile means, 95 % bands; None where nothing was validated twice."""
    drawn = lines(section, lambda row: row.curve is not None)
    if all(len(line.row.curve.cost) < 2 for line in drawn):
        return None
    figure, (axes,) = _new(width)
    log = section.scale == "log"
    ends = []
    last = max(line.row.curve.cost[-1] for line in drawn)
    for line in drawn:
        curve = line.row.curve
        cost, center = curve.cost, _on_scale(curve.center, section)
        if len(cost) == 1:  # a line that takes no steps holds over the whole axis
            cost, center = np.array([cost[0], last]), np.repeat(center, 2)
        keep = cost > 0 if log else cost >= 0  # the start has no place on a logarithmic axis
        style: dict[str, Any] = {"color": line.colour, "drawstyle": "steps-post", "zorder": 3 if line.strong else 1}
        style |= {"linestyle": (0, line.dash) if line.dash else "-"} if line.strong else {"linewidth": 0.5}
        axes.plot(cost[keep], center[keep], **style)
        if line.strong:
            end = {"marker": "o", "markersize": 1.8, "linestyle": "none"}
            axes.plot(cost[-1:], center[-1:], color=line.colour, zorder=3, **end)
            ends.append((float(center[-1]), _counted(line)))
            if len(curve.cost) > 1 and np.isfinite(curve.low).any():
                low, high = _on_scale(curve.low, section), _on_scale(curve.high, section)
                band = {"step": "post", "alpha": 0.14, "linewidth": 0, "zorder": 2}
                axes.fill_between(cost[keep], low[keep], high[keep], color=line.colour, **band)
    strong = [line.row.curve for line in drawn if line.strong]
    bands = [_on_scale(bound, section) for curve in strong for bound in (curve.low, curve.high)]
    _limit(axes, [_on_scale(line.row.curve.center, section) for line in drawn], bands, log)
    _scale(axes, "x", log)
    _scale(axes, "y", log)
    axes.set_xlabel(FORWARDS)
    axes.set_ylabel(_metric(section))
    _heading(figure, width, *_about(section))
    _beside([(axes, ends)])
    return figure


def _counted(line: Line) -> Line:
    """Its name with how many runs are left at the end, where some failed."""
    curve = line.row.curve
    left = int(curve.n[-1])
    return line if left == curve.runs else replace(line, name=f"{line.name} ({left} of {curve.runs} runs)")


def _limit(axes: Axes, values: Iterable[Any], bands: Iterable[Any], log: bool) -> None:
    """Limits from the values; intervals may widen the view by half on either side, and leave it where they are longer."""
    inner, outer = (np.concatenate([np.ravel(v) for v in (*group, [])]) for group in (list(values), list(bands)))
    inner, outer = inner[np.isfinite(inner)], outer[np.isfinite(outer)]
    if not len(inner):
        return
    if log:
        # the start of a logarithmic curve is about 1; what blew up beyond a hundred starts leaves the view
        inner = np.log10(np.minimum(inner, 100 * max(float(np.median(inner)), 1.0)))
        outer = np.log10(outer)
    low, high = float(inner.min()), float(inner.max())
    span = high - low or (1.0 if log else 0.1 * abs(high) or 1.0)
    if len(outer):
        low, high = max(min(low, outer.min()), low - 0.5 * span), min(max(high, outer.max()), high + 0.5 * span)
    low, high = low - 0.06 * span, high + 0.06 * span
    axes.set_ylim(10**low if log else low, 10**high if log else high)


COSTS = (
    ("memory_ratio", "peak memory (× inference)"),
    ("step_seconds", "time in steps (s)"),
    ("cost", FORWARDS),
)


def trade_off(section: Section, width: float = COLUMN) -> Figure | None:
    """The score against memory, time and forwards, with the Pareto front: a panel for each on which rows differ.

    Lines that take no steps are levels, without a cost. None where there is no such panel.
    """
    usable = lambda row: row.score is not None and math.isfinite(row.score.center)  # noqa: E731
    racing = [row for row in section.rows if usable(row) and not row.reference]
    panels = [(name, words) for name, words in COSTS if _tell([getattr(row, name) for row in racing])]
    if not panels:
        return None
    fronts = {name: _front(section, racing, name) for name, _ in panels}
    best_first = zip_longest(*(reversed(front) for front in fronts.values()))
    drawn = lines(section, usable, [row for rows in best_first for row in rows if row is not None])
    figure, grid = _new(width, len(panels))
    ends = []
    for axes, (name, words) in zip(grid, panels, strict=True):
        ends.append((axes, _trade_off(axes, section, drawn, name, fronts[name])))
        axes.set_xlabel(words)
        axes.set_ylabel(_metric(section))
    _heading(figure, width, *_about(section))
    _beside(ends)
    return figure


def _tell(costs: Sequence[float | None]) -> bool:
    """Whether an axis of these costs has something to say: two rows, and not all within 2 % (one budget for all)."""
    known = [cost for cost in costs if cost is not None]
    return len(known) > 1 and max(known) > 1.02 * min(known)


def _front(section: Section, rows: Sequence[Row], name: str) -> list[Row]:
    costs = [math.nan if getattr(row, name) is None else getattr(row, name) for row in rows]
    return [rows[i] for i in pareto(costs, [row.score.center for row in rows if row.score], section.better)]


def _trade_off(
    axes: Axes, section: Section, drawn: Sequence[Line], name: str, front: Sequence[Row]
) -> list[tuple[float, Line]]:
    """Draw one panel; the heights of its emphasised rows."""
    log = section.scale == "log"
    known, ends, bands = [], [], []
    for line in drawn:
        row = line.row
        x, y = getattr(row, name), float(_on_scale(row.score.center, section))
        if row.reference and not row.cost:
            if line.strong:
                axes.axhline(y, color=line.colour, linestyle=(0, line.dash or (1, 0)), linewidth=0.8, zorder=1)
                ends.append((y, line))
            continue
        if x is None:
            continue
        known.append((x, y))
        ends += [(y, line)] if line.strong else []
        if row.score.low is not None and row.score.high is not None:
            bounds = _on_scale([row.score.low, row.score.high], section)
            axes.plot([x, x], bounds, color=line.colour, linewidth=0.6, alpha=0.7, zorder=2 if line.strong else 1)
            bands += [bounds] if line.strong else []
        look: dict[str, Any] = {"marker": line.marker, "markersize": 3.5 if line.strong else 2, "linestyle": "none"}
        axes.plot([x], [y], color=line.colour, zorder=4 if line.strong else 1, **look)
    corners = [(getattr(row, name), float(_on_scale(row.score.center, section))) for row in front if row.score]
    axes.plot(*zip(*corners, strict=True), drawstyle="steps-post", color=INK, linewidth=0.7, zorder=3)
    _limit(axes, [[y for _, y in known] + [y for y, _ in ends]], bands, log)
    costs = [x for x, _ in known]
    _scale(axes, "x", min(costs) > 0 and max(costs) > 5 * min(costs))
    _scale(axes, "y", log)
    return ends


def profiles(name: str, races: Sequence[Race], width: float = COLUMN, *, relative: bool = True) -> Figure | None:
    """Share of problems solved against cost: relative to the best on each (Dolan and Moré 2002), or not (Moré and Wild 2009).

    A panel per target, see `curves.race`. None where fewer than two optimizers or problems are left.
    """
    shown = [(share, r) for share, r in zip(SHARES, races, strict=True) if min(r.costs.shape) > 1]
    if not shown:
        return None
    figure, grid = _new(width, len(shown))
    ends = []
    for axes, (share, found) in zip(grid, shown, strict=True):
        ends.append((axes, _profile(axes, found, relative)))
        axes.set_xlabel("cost, as a multiple of the cheapest" if relative else FORWARDS)
        axes.set_ylabel("problems solved (%)")
        goal = f"{100 * (1 - share):g} % of the way to the best"
        axes.set_title(f"target: {goal}; {len(found.problems)} problems", loc="left")
    _heading(figure, width, f"{'Performance' if relative else 'Data'} profile: {name}")
    _beside(ends)
    return figure


def _profile(axes: Axes, found: Race, relative: bool) -> list[tuple[float, Line]]:
    """Draw one panel; the ends of its emphasised lines."""
    costs = np.maximum(found.costs, 1.0)  # solved before the first step: a ratio to nothing
    met = np.isfinite(costs).any(axis=0)
    xs = np.where(np.isfinite(costs), costs, math.nan)[:, met] / (costs.min(axis=0)[met] if relative else 1.0)
    xs = np.unique(xs[np.isfinite(xs)])
    end = 1.2 * float(xs[-1]) if len(xs) else 2.0
    xs = np.append(xs, end)
    # no sizes: a cost is a number of forwards, not of simplex gradients, which no model could pay for
    shares = (
        stats.performance_profile(costs, xs) if relative else stats.data_profile(costs, np.zeros(costs.shape[1]), xs)
    )
    # the area over the logarithm of the cost, which is what is drawn
    area = (shares[:, :-1] * np.diff(np.log(xs))).sum(axis=1)
    order = sorted(range(len(area)), key=lambda i: (-area[i], found.optimizers[i]))
    names = found.optimizers
    first = [i for i in order if names[i] in ANCHORS]
    strong = sorted((first + [i for i in order if i not in first])[:LINES], key=order.index)
    looks = dict(zip(strong, palette.styles(names[i] for i in strong), strict=True))
    ends = []
    for i in [*(i for i in order if i not in looks), *strong]:
        x, y = np.insert(xs, 0, xs[0]), np.insert(100 * shares[i], 0, 0.0)
        if i not in looks:
            axes.plot(x, y, drawstyle="steps-post", color=GREY, linewidth=0.5, zorder=1)
            continue
        colour, dash = looks[i]
        style = {"color": colour, "linestyle": (0, dash) if dash else "-", "zorder": 3}
        axes.plot(x, y, drawstyle="steps-post", **style)
        ends.append((float(y[-1]), Line(None, _short(names[i]), colour, dash, True)))
    axes.set_ylim(-3, 103)
    axes.set_xlim(xs[0], end)
    _scale(axes, "x", True)
    _scale(axes, "y", False)
    return ends


def claimed(claims: Claims, width: float = COLUMN) -> Figure | None:
    """Our value against the published one, in percent, with our interval; on the diagonal they agree."""
    pairs = [
        (claim.published.value, claim.ours, group)
        for group in claims.groups
        for claim in group.claims
        if claim.ours is not None and claim.published.value is not None
    ]
    if not pairs:
        return None
    figure, (axes,) = _new(width, height=width * 0.8)
    names = [group.optimizer.partition("[")[0] for _, _, group in pairs]
    strong = sorted(
        sorted(set(names), key=lambda name: (-names.count(name), name))[:LINES]
    )  # those that are there most
    looks = dict(zip(strong, palette.styles(strong), strict=True))
    axes.axline((0, 0), slope=1, color=GREY, linewidth=0.6, zorder=1)
    told: dict[str, Any] = {}
    for (theirs, ours, group), name in zip(pairs, names, strict=True):
        tint, dash = looks.get(name, (GREY, ()))
        if ours.low is not None and ours.high is not None:
            axes.plot([theirs, theirs], [ours.low, ours.high], color=tint, linewidth=0.6, alpha=0.7, zorder=2)
        look: dict[str, Any] = {"marker": _marker(dash), "markersize": 3, "linestyle": "none", "color": tint}
        hollow = {"markerfacecolor": "white"} if group.partial else {}  # not the rows behind the published number
        axes.plot([theirs], [ours.center], zorder=3 if name in looks else 2, **look | hollow)
        if name in looks:
            (told[name],) = axes.plot([], [], **look)
    _scale(axes, "x", False)
    _scale(axes, "y", False)
    axes.set_xlabel("published (%)")
    axes.set_ylabel("here (%)")
    place: dict[str, Any] = {
        "loc": "upper left",
        "bbox_to_anchor": (1.0, 1.0),
        "frameon": False,
        "fontsize": LABEL_POINTS,
    }
    axes.legend([told[name] for name in strong], [_short(name) for name in strong], handletextpad=0, **place)
    _heading(
        figure, width, "Claimed and reproduced; hollow: partial data. What differs between the two is in the report."
    )
    return figure


def _about(section: Section) -> list[str]:
    """The section's title, in one line that is wrapped."""
    return [", ".join(title(section))]
