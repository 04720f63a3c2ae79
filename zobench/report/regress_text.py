"""What a gate found, written: a table for a terminal, Markdown for GitHub's summary, JUnit XML, annotations."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zobench.gate import GATES, RUN
from zobench.report.regress import CODES, OUTCOMES, Finding, Report
from zobench.report.slowdown import Verdict
from zobench.report.text import clean

SHOWN = 60  # lines of a table for people; JSON and JUnit have all
ANNOTATIONS = 10  # GitHub shows no more of a step
NOTHING = "nothing was compared"
MEANINGS = {3: "regression", 4: "failed runs", 5: "a baseline that is not all there", 6: "base cannot be run"}
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MARKS = {"regressed": "failure", **dict.fromkeys(("failed", "vanished", "unreadable", "unmet"), "error")}
SKIPPED = ("unknown", "unsure", "new")


def verdict(report: Report) -> str:
    """One line: what was compared, what came out."""
    names = {"baseline": "the baseline", "base": "base"}
    against = " and ".join(f"{names[kind]} {name}" for kind, name in report.against.items())
    gates = sum(f.gate != RUN for f in report.findings)
    counts = ", ".join(f"{n} {outcome}" for outcome, n in report.counts.items())
    say = said(report)
    return clean(
        f"{say}: {report.cells} cells of {report.suite} against {against}, {gates} comparisons: {counts or 'none'}"
    )


def said(report: Report) -> str:
    """What the exit code means, in a few words."""
    return MEANINGS.get(report.code, "no regression") if report.compared else NOTHING


def value(x: Any) -> str:
    """A value of a finding, short; a list by its length, a digest by its beginning."""
    if x is None:
        return "–"
    if isinstance(x, list):
        return f"{len(x)} entries"
    if isinstance(x, float):
        return f"{x:.6g}"
    text = clean(x)
    return f"{text[:12]}…" if re.fullmatch("(sha256:)?[0-9a-f]{40,}", text) else text


def rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """(outcome, cell, gate, against, before, after, note); findings that say the same of one gate are one line."""
    alike: dict[tuple[str, ...], list[Finding]] = {}
    for number, f in enumerate(findings):
        bulk = f.outcome in ("unknown", "new")
        key = (f.outcome, f.gate, f.against, f.note) if bulk else (str(number),)
        alike.setdefault(key, []).append(f)
    return [
        (
            f.outcome,
            clean(f.label) if len(group) == 1 else f"{len(group)} cells, first {clean(f.label)}",
            f.gate,
            f.against,
            *(value(x) if len(group) == 1 else "" for x in (f.before, f.after)),
            clean(f.note)[:200],
        )
        for group in alike.values()
        for f in group[:1]
    ]


HEADERS = ("outcome", "cell", "gate", "against", "before", "after", "")
TIMES = ("cell", "base ms", "change", "p", "base against itself", "alarm above", "detectable", "pairs", "verdict")


def times(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    return [
        (
            clean(v.label),
            f"{1e3 * v.seconds:.3g}",
            f"{100 * v.change:+.1f} %",
            f"{v.p:.2g}",
            f"{100 * v.noise:+.1f} % (p {v.noise_p:.2g})",
            percent(v.threshold),
            percent(v.detectable),
            str(v.pairs),
            v.outcome,
        )
        for v in verdicts
    ]


def percent(x: float) -> str:
    return f"{100 * x:.1f} %" if math.isfinite(x) and x < 100 else "–"


# --- terminal ---------------------------------------------------------------------------------------------------------


def show(report: Report, console: Console) -> None:
    """Print what moved and what wall-clock said; one line where everything is equal."""
    found = rows(report.moved())
    if found:
        console.print(_table(HEADERS, found[:SHOWN]))
    if len(found) > SHOWN:
        console.print(f"and {len(found) - SHOWN} more: --json has them all", markup=False)
    if report.verdicts:
        console.print(_table(TIMES, times(report.verdicts)))
        console.print(
            "detectable: the smallest slowdown that is found with a chance of 80 %", style="dim", markup=False
        )
    console.print(Text(verdict(report), style="bold red" if report.code else "bold green"), soft_wrap=True)


def _table(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for header in headers:
        table.add_column(header, overflow="fold", no_wrap=header in ("outcome", "gate", "against", "verdict"))
    for line in lines:
        table.add_row(*(Text(text) for text in line), style="red" if line[0] in CODES else "")
    return table


# --- GitHub -----------------------------------------------------------------------------------------------------------


def markdown(report: Report) -> str:
    """For $GITHUB_STEP_SUMMARY."""
    lines = [f"### zobench regress: {said(report)}", "", _escaped(verdict(report)), ""]
    found = rows(report.moved())
    if found:
        lines += _pipes(HEADERS, found[:SHOWN])
        lines += [f"and {len(found) - SHOWN} more", ""] if len(found) > SHOWN else []
    if report.verdicts:
        lines += ["Wall-clock, by turns on this machine; `detectable` is found with a chance of 80 %:", ""]
        lines += _pipes(TIMES, times(report.verdicts))
    return "\n".join(lines) + "\n"


def _pipes(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    cells = [[_escaped(text) for text in line] for line in lines]
    return [f"| {' | '.join(row)} |" for row in (headers, ["---"] * len(headers), *cells)] + [""]


def _escaped(text: str) -> str:
    """Nothing in a name is markup: characters of Markdown and HTML as entities."""
    return re.sub(r"[\\`*_{}\[\]<>&|#!@~$]", lambda m: f"&#{ord(m[0])};", text)


def errors(report: Report) -> list[str]:
    """Lines that GitHub shows as errors and warnings beside the run (workflow commands)."""
    lines = [] if report.compared else [f"::error title={NOTHING}::{_data(verdict(report))}"]
    for f in [f for f in report.moved() if f.outcome in (*CODES, "unsure")][:ANNOTATIONS]:
        kind = "error" if f.outcome in CODES else "warning"
        title = f"{f.gate} {f.outcome}".translate(str.maketrans({",": "%2C", ":": "%3A"}))
        change = f" {value(f.before)} -> {value(f.after)}" if f.gate != RUN else ""
        text = _data(f"{f.label}: {f.gate} {f.outcome} against {f.against}{change} {f.note}")
        lines.append(f"::{kind} title={title}::{text}")
    return lines


def _data(text: str) -> str:
    return clean(text).replace("%", "%25")


# --- JUnit ------------------------------------------------------------------------------------------------------------


def junit(report: Report) -> str:
    """JUnit XML: a suite for each side, a testcase for each cell and gate, as CI systems read it."""
    root = ElementTree.Element("testsuites", name=_xml(f"zobench regress {report.suite}"))
    for against, name in report.against.items():
        findings = [f for f in report.findings if f.against == against]
        suite = ElementTree.SubElement(root, "testsuite", name=_xml(f"{report.suite} against {against} {name}"))
        for f in sorted(findings, key=lambda f: (f.label, (RUN, *GATES).index(f.gate))):
            _case(suite, f, report.suite)
        if not report.compared:
            case = ElementTree.SubElement(suite, "testcase", classname=_xml(report.suite), name="compared", time="0")
            ElementTree.SubElement(case, "error", message=NOTHING, type="nothing")
        _count(suite)
    _count(root)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _case(suite: ElementTree.Element, f: Finding, name: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=_xml(f"{name}.{f.label}"), name=f.gate, time="0")
    message = f"{f.outcome}: {value(f.before)} -> {value(f.after)} {f.note}".strip()
    if f.outcome in MARKS:
        mark = ElementTree.SubElement(case, MARKS[f.outcome], message=_xml(message), type=f.outcome)
        mark.text = _xml(f"cell {f.cell}\nbefore {f.before}\nafter {f.after}\n{f.note}"[:4000])
    elif f.outcome in SKIPPED:
        ElementTree.SubElement(case, "skipped", message=_xml(message))
    elif f.outcome in OUTCOMES and f.outcome != "equal":
        ElementTree.SubElement(case, "system-out").text = _xml(message)


def _count(element: ElementTree.Element) -> None:
    for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(1 for _ in element.iter(tag))))


def _xml(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold."""
    return NOT_XML.sub("?", text)
