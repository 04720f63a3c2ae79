"""The board as CSV: a line per row of every table, numbers as they are."""

from __future__ import annotations

import csv
import io
from typing import Any

from zobench.record import json_text
from zobench.report.tables import CONDITIONS, FIDELITY, Board, Row, Section

NUMBERS = (
    *(
        "n",
        "forwards",
        "backwards",
        "cost",
        "step_seconds",
        "ms_per_step",
        "total_seconds",
        "memory_ratio",
        "peak_bytes",
    ),
    *("inference_bytes", "process_bytes", "state_bytes", "weight_bytes", "flops", "energy_joules", "trials"),
)


def csv_text(board: Board) -> str:
    """Comma-separated, a header first; what is missing is empty."""
    lines = [_line(row, section) for section in board.sections for row in section.rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _line(row: Row, section: Section) -> dict[str, Any]:
    score, rank = row.score, row.rank
    return {
        **{("split" if name == "score" else name): section.conditions[name] for name in CONDITIONS},
        "task_options": json_text(section.task_options),
        "partial_data": section.partial,
        "metric": section.metric,
        "better": section.better,
        "scale": section.scale,
        "rank_low": rank[0] if rank else None,
        "rank_high": rank[1] if rank else None,
        "reference": row.reference,
        "optimizer": _text(row.optimizer),
        "order": row.order,
        "label": _text(row.label),
        "options": json_text(row.options),
        "score": score.center if score else None,
        "score_low": score.low if score else None,
        "score_high": score.high if score else None,
        "validation": row.validation,
        "spent": row.spent,
        **{name: getattr(row, name) for name in NUMBERS},
        **{name: row.fidelity.get(name) for name in FIDELITY},
        "probe_mode": row.probe_mode,
        "failures": json_text(row.failures),
        "marks": _text("; ".join(row.marks)),
        "cells": " ".join(run.cell for run in row.runs),
    }


def _text(value: str) -> str:
    """A spreadsheet takes a text that begins so for a formula."""
    return f"'{value}" if value[:1] in "=+-@\t\r" and value else value
