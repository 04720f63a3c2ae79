"""The committed board and the committed description of the columns are what the program writes from results/."""

from pathlib import Path

from click.testing import CliRunner

from zobench import record
from zobench.cli import main

ROOT = Path(__file__).parents[1]


def test_the_leaderboard_is_current(tmp_path):
    """As `make report` writes it; where this fails, run that and look at what moved."""
    found = tmp_path / "leaderboard.md"
    result = CliRunner().invoke(main, ["report", str(ROOT / "results"), "-o", str(found)])
    assert result.exit_code == 0, result.output
    assert (ROOT / "leaderboard.md").read_text(encoding="utf-8") == found.read_text(encoding="utf-8")


def test_every_committed_run_reads_and_a_failed_one_says_why():
    rows, problems = record.scan(ROOT / "results")
    assert rows
    assert not problems
    assert all(row["status"] == "ok" or row["reason"] for row in rows)  # a run that diverged is a result


def test_a_committed_run_replays_to_its_digest():
    from zobench.replay import rebuild

    rows, _ = record.scan(ROOT / "results")
    row = next(r for r in rows if r["replay_class"] == "exact" and '"tiny"' in r["task_options"])
    rebuild(record.read(Path(row["path"])))
