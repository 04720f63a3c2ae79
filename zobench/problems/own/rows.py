"""Where a user's own rows lie, and which of them are train, dev and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zobench.problems.data import Source, checked, digest
from zobench.problems.options import SIZES
from zobench.problems.row_files import FORMATS
from zobench.problems.sampling import Sample, permutation
from zobench.spec import EnvironmentUnmet, UsageError

FIELDS = ("prompt", "candidates", "label", "answers")  # those that make two rows the same
LEAST = 5  # rows in a file: a fifth of them is one


def source(place: str, fingerprint: str = "generated") -> Source:
    """One file for every split, or the files `train` and `validation` of a directory.

    Raises:
        MismatchError: they are not those of the fingerprint.
    """
    path = Path(place)
    files = {split: _file(path, split) for split in ("train", "validation")}
    found = digest({file.name: file for file in files.values()})
    return Source(checked(found, fingerprint, path), files=files)


def _file(place: Path, split: str) -> Path:
    if place.is_file():
        return place
    found = (place / f"{split}.{ending}" for ending in FORMATS)
    path = next((p for p in found if p.is_file()), None)
    if path is None:
        raise UsageError(f"{place}: there is no {split}.jsonl any more")
    return path


class Draw:
    """MeZO's draw: the start of a seeded permutation trains, its end is dev (`sampling.sample`).

    Of one file, the first rows of the same permutation are test; of a directory, test is drawn from the validation file.
    Where the rows are fewer than the sizes together, dev and test get at most a fifth of them each, and train the rest,
    as far as these sizes are the defaults; others are kept or refused.
    """

    def __init__(self, one: bool, num_train: int, num_dev: int, num_eval: int) -> None:
        self.one = one
        self.sizes = dict(num_train=num_train, num_dev=num_dev, num_eval=num_eval)
        self.facts: dict[str, Any] = {}  # of the problem, once it has some: the draw adds what it finds

    def __call__(self, source: Source, sizes: Mapping[str, int], seed: int, sealed: bool) -> Sample:
        """`sizes` is unused: the rows are all there are. `sealed`: no test rows."""
        rows = source.rows("train")
        n = len(rows)
        if n < LEAST:
            few = f"{n} row{'s' * (n > 1)}"
            raise EnvironmentUnmet(
                f"{source.name('train')}: {few}; write at least {LEAST}, so that some can be set aside"
            )
        num_train, num_dev, num_test = self._fitting(n, source)
        order = permutation(seed, n, n)
        inside, order = order[:num_test], order[num_test:]
        drawn = order[: num_train + num_dev]
        test = inside
        if not self.one and not sealed:
            test = self._apart(source, seed)
        if self.one and (again := repeated(rows)):
            self.facts["duplicates"] = again
            self.facts["note"] = f"{again} of {n} rows repeat another one, so that what is trained on may be tested on"
        return Sample(drawn[:num_train], drawn[num_train:], test[:0] if sealed else test, partial=False, inside=inside)

    def _fitting(self, n: int, source: Source) -> tuple[int, int, int]:
        """How many of the n rows train, are dev, and are test."""
        train, aside = self.sizes["num_train"], ["num_dev", *(["num_eval"] if self.one else [])]
        wanted = {size: self.sizes[size] for size in aside}
        if n < train + sum(wanted.values()):
            wanted = {size: k if self._given(size) else min(k, n // LEAST) for size, k in wanted.items()}
            left = n - sum(wanted.values())
            if left < (train if self._given("num_train") else 1):
                asked = ", ".join(f"{size}={k}" for size, k in wanted.items())
                more = f"num_train={train}" if self._given("num_train") else "a row to train on"
                raise UsageError(f"{source.name('train')}: {n} rows are too few for {asked} and {more}; ask for fewer")
            train = min(train, left)
        return train, wanted["num_dev"], wanted.get("num_eval", 0)

    def _given(self, size: str) -> bool:
        return self.sizes[size] != SIZES[size]

    def _apart(self, source: Source, seed: int) -> Any:
        """The test rows of a directory."""
        n, wanted = len(source.rows("validation")), self.sizes["num_eval"]
        if wanted > n and self._given("num_eval"):
            raise UsageError(f"{source.name('validation')}: {n} rows are too few for num_eval={wanted}; ask for fewer")
        return permutation(seed, n, wanted)


def repeated(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many rows say the same as an earlier one."""
    return len(rows) - len({repr([row.get(name) for name in FIELDS]) for row in rows})
