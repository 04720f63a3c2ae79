"""`zobench replay`: a run's weights from its trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    pass

from zobench.cli.common import json_option


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--store", metavar="DIR", help="Where to look for RUN. Default: $ZOBENCH_STORE or ./zobench-runs.")
@click.option("--evaluate", is_flag=True, help="Measure the metric again and compare it with the stored one.")
@click.option("-o", "--output", metavar="DIR", help="Save the rebuilt weights where from_pretrained opens them.")
@click.option(
    "--data",
    "data_dir",
    metavar="DIR",
    help="Local rows, for --evaluate and for a probed head. Default: where the run found them.",
)
@click.option("--device", default="cpu", show_default=True, metavar="D", help="cpu, cuda, cuda:N.")
@json_option
def replay(
    run: str, store: str | None, evaluate: bool, output: str | None, data_dir: str | None, device: str, as_json: bool
) -> None:
    """Rebuild a run's final weights from its trace, without a forward pass of training, and check their digest.

    RUN is a file, a file name, or the beginning of a cell as `zobench list runs` shows it.
    """
    import time

    from zobench import plan, record
    from zobench import replay as replaying
    from zobench.build import resolve_device
    from zobench.spec import MismatchError

    row = record.read(record.find(Path(store) if store else plan.default_store(), run))
    if data_dir:
        row.job = json.dumps(json.loads(row.job) | {"data_dir": data_dir})
    began = time.perf_counter()
    problem = replaying.rebuild(row, resolve_device(device))
    answer: dict[str, Any] = {
        "run": f"{row.cell[:16]}-{row.attempt}",
        "steps": row.kept_step,
        "digest": row.final_digest,
        "seconds": round(time.perf_counter() - began, 3),
    }
    if output:
        Path(output).mkdir(parents=True, exist_ok=True)
        problem.save(Path(output))
        answer["saved"] = output
    if evaluate:
        answer["metrics"], answer["difference"] = replaying.check_metrics(row, problem)
    needs = json.loads(row.facts or "{}").get("replay_needs")
    free = f"with {needs}" if needs else "no forward pass"
    if as_json:
        click.echo(json.dumps(record.plain(answer), indent=2))
    else:
        click.echo(
            f"{answer['run']}: {row.kept_step} steps replayed in {answer['seconds']} s, {free}; "
            f"the weights are the run's (digest {(row.final_digest or '')[:16]})"
        )
        if output:
            click.echo(f"saved to {output}")
        if evaluate:
            shown = ", ".join(f"{k} {v:.6g}" for k, v in answer["metrics"].items())
            click.echo(f"measured again: {shown} (largest difference to the stored values {answer['difference']:.3g})")
    if evaluate and answer["difference"] > 1e-6:
        raise MismatchError(f"the metrics differ from the stored ones by {answer['difference']:.3g}")
