"""A valid RunRecord for tests: `record(seed=1, value=0.9)`; the cell follows from what makes it."""

from __future__ import annotations

from typing import Any

from zobench.record import RunRecord, json_text
from zobench.spec import Budget, Job

ENVIRONMENT = dict(python="3.11.7", torch="2.9.0", device="cpu", hardware="2-core test", started="2026-01-01T00:00:00Z")


def record(
    *,
    task: str = "sst2",
    task_options: dict[str, Any] | None = None,
    optimizer: str = "mezo",
    optimizer_options: dict[str, Any] | None = None,
    seed: int = 0,
    value: float | None = 0.9,
    **overrides: Any,
) -> RunRecord:
    """A finished run; overrides are columns, applied last. Names of the Job among them also make its cell."""
    names = dict(
        task=task,
        task_version=1,
        task_options=task_options or {},
        optimizer=optimizer,
        optimizer_options=optimizer_options or {"eps": 1e-3, "lr": 1e-6},
        model="random:tiny",
        revision=None,
        adapter="none",
        dtype="float32",
        seed=seed,
        data_seed=0,
        budget="forwards=4000",
        batch_size=16,
        schedule="constant",
        score="test",
        data="sha256:" + "ab" * 32,
    )
    names |= {name: overrides.pop(name) for name in list(overrides) if name in names}
    job = Job(**names | {"budget": Budget.parse(names["budget"])}, evaluations=10)
    values = names | dict(
        cell=job.cell,
        lineage=job.lineage,
        provenance="c0de" * 16,
        status="ok",
        job=job.to_json(),
        task_options=json_text(job.task_options),
        optimizer_options=json_text(job.optimizer_options),
        parameters=json_text(job.optimizer_options),
        lr_source="given",
        suite="opt",
        kind="choice",
        order="zeroth",
        family="two-point",
        replay_class="exact",
        partial_data=False,
        mode="eval",
        metric="accuracy",
        better="higher",
        scale="linear",
        value=value,
        validation=value,
        metrics=json_text({"accuracy": value}),
        kept_step=2000,
        test_looks=1,
        steps=2000,
        forwards=4000,
        backwards=0,
        step_seconds=19.9,
        timed_steps=1990,
        warmup_seconds=0.4,
        total_seconds=30.0,
        peak_bytes=11 * 2**20,
        inference_bytes=10 * 2**20,
        state_bytes=0,
        probe_mode="stream",
        environment=json_text(ENVIRONMENT),
    )
    return RunRecord(**values | overrides)
