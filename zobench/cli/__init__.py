"""The command line: stdout carries the answer, stderr everything else; heavy imports stay inside the commands.

One file is one command; what they share is in common.py.
"""

from __future__ import annotations

import click

from zobench.cli import compare, doctor, info, prepare, regress, replay, report, run, sweep, test
from zobench.cli import list as listing
from zobench.cli.common import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(None, "--version", package_name="zobench", message="zobench %(version)s")
def main() -> None:
    """Zeroth-order against first-order optimizers, measured: run, replay and rank.

    \b
    zobench run                                         a first small run, seconds
    zobench run -t toy-sentiment -O mezo,adam           the bundled pretrained model, fine-tuned
    zobench sweep --suite opt11 -O mezo,adam -n         a paper's table: tune, then test; here the plan
    zobench report                                      the leaderboard of ./zobench-runs; -o board.html: a page
    zobench compare mezo adam                           better, same or worse, by how much, how sure
    zobench list optimizers                             what there is

    Exit codes: 0 fine, 1 internal error, 2 bad usage, 3 mismatch, 4 some runs failed, 5 nothing measured,
    6 environment unmet, 130 interrupted.
    """


COMMANDS = (
    *(run.run, sweep.sweep, report.report, compare.compare, regress.regress, listing.list_, info.info),
    *(replay.replay, prepare.prepare, test.test_, doctor.doctor),
)
for command in COMMANDS:
    main.add_command(command)
