"""Write the table of results/bench/*.json into README.md, between the markers `bench:begin` and `bench:end`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
ORDER = ("pass", "step", "memory", "many", "language_step_sst2", "language_step_boolq", "language_step_copa")
ORDER += ("language_evaluation_copa", "language_evaluation_sst2", "language_forwards", "report", "page")


def table(results: list[dict]) -> str:
    """Markdown: one row per line of each result, the machine below."""
    rows = ["| what | median | lowest to highest | goal |", "|---|--:|--:|--:|"]
    for result in results:
        for line in result["lines"]:
            spread = "" if line["lowest"] == line["highest"] else f"{line['lowest']:.2f} to {line['highest']:.2f}"
            target = (
                ""
                if line["goal"] is None
                else f"{line['goal'].replace('>=', '≥').replace('<=', '≤')}" + ("" if line["met"] else ", missed")
            )
            rows.append(f"| {line['name']} ({line['what']}) | **{line['median']:.2f}** | {spread} | {target} |")
    machine = results[0]["machine"]
    named = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    rows += [
        "",
        f"{machine['cores']} CPU cores ({machine['processor']}), {named}, {machine['date']}. "
        "Ratios within interleaved rounds, seconds where it says so.",
    ]
    return "\n".join(rows)


def main() -> None:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "results" / "bench").glob("*.json")]
    if not found:
        sys.exit("nothing in results/bench: run `make bench`")
    found.sort(
        key=lambda result: (ORDER.index(result["name"]) if result["name"] in ORDER else len(ORDER), result["name"])
    )
    text = table(found)
    print(text)
    readme = ROOT / "README.md"
    before = readme.read_text(encoding="utf-8") if readme.exists() else ""
    if BEGIN not in before or END not in before:
        sys.exit(f"README.md has no {BEGIN} ... {END}; the table is above")
    head, _, rest = before.partition(BEGIN)
    readme.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
