"""How much of each task a forward pass reads: the table ROWS of zobench/estimate.py, printed.

    ZOBENCH_DATA=... python scripts/measure_rows.py

Each task is built on a nano model, whose tokenizer is the bundled one, and 32 batches of 16 rows are laid out as a run does.
"""

from __future__ import annotations

from zobench import estimate, registry
from zobench.spec import ZobenchError

OPTIONS = ("form=head",)  # what changes the rows of a task


def main() -> None:
    for entry in registry.entries("task").values():
        if not entry.info.get("hub"):
            continue
        for text in ("", *OPTIONS):
            options = registry.parse(f"{entry.name}[{text}]")[1] if text else {}
            if set(options) <= set(entry.options):
                options |= {"k": 512} if "k" in entry.options else {}
                masked = "kshot" in entry.name or entry.name == "squad_extractive"
                try:
                    rows = estimate.measure_rows(entry, registry.resolve(entry, options), masked)
                except ZobenchError as error:
                    print(f"    # {entry.name} {options}: {error}")
                    continue
                print(f'    "{entry.name}{"[form=head]" if "form" in options else ""}": {rows},')


if __name__ == "__main__":
    main()
