"""One HTML file from the board: template, style, scripts, libraries and data, put together.

Nothing in the file can fetch anything, and no text from results can become markup: the data is JSON in an element that is
not run, the scripts put it on the page as text, and the content security policy admits only the scripts named by their
digests.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from zobench.report.claimed import Claims
from zobench.report.page.data import embedded, payload
from zobench.report.summary import Summary
from zobench.report.tables import Board

LIBRARIES = ("d3.min.js", "plot.min.js")
LICENCES = {"D3": "d3.LICENSE", "Observable Plot": "plot.LICENSE", "Inside Observable Plot": "plot.bundled.LICENSE"}
# One concept each; a later one may use what an earlier one defines.
SCRIPTS = (
    *("dom", "numbers", "data", "state", "theme", "small", "table", "readout", "answer", "chart", "curves"),
    *("tradeoff", "profile", "claimed", "overview", "task", "optimizer", "about", "app"),
)


def page(board: Board, claims: Claims | None = None, summaries: Sequence[Summary] | None = None) -> str:
    """The whole page. The same board gives the same bytes."""
    here = files(__package__)
    scripts = [here.joinpath("js", f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    script = '"use strict";\n(() => {\n' + "\n".join(scripts) + "})();\n"
    libraries = [here.joinpath("vendor", name).read_text(encoding="utf-8") for name in LIBRARIES]
    template = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True).from_string(
        here.joinpath("page.html.j2").read_text(encoding="utf-8")
    )
    return template.render(
        policy=policy([script, *libraries]),
        style=here.joinpath("page.css").read_text(encoding="utf-8"),
        data=embedded(payload(board, claims, summaries)),
        libraries=libraries,
        licences={name: here.joinpath("vendor", file).read_text(encoding="utf-8") for name, file in LICENCES.items()},
        script=script,
        sections=len(board.sections),
        runs=sum(len(row.runs) for section in board.sections for row in section.rows),
        claims=claims is not None,
    )


def policy(scripts: Sequence[str]) -> str:
    """The content security policy under which only these scripts run and nothing is fetched."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
