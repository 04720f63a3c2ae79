"""`zobench report --format html`: the board as one file that opens from disk and fetches nothing."""

from zobench.report.page.write import page

__all__ = ["page"]
