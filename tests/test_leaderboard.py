"""The committed board and the committed description of the columns are what the program writes from results/."""

from pathlib import Path

from zobench import record
from zobench.report.leaderboard import markdown
from zobench.report.tables import board

ROOT = Path(__file__).parents[1]


def test_the_leaderboard_is_current():
    assert (ROOT / "leaderboard.md").read_text(encoding="utf-8") == markdown(board([ROOT / "results"]))


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
