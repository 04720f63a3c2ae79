"""Where a user's own rows lie, and which of them are train, dev and test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zobench.problems.data import Source, checked, digest
from zobench.problems.row_files import FORMATS
from zobench.problems.sampling import Sample, permutation
from zobench.spec import UsageError

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
    Where the rows are fewer than the sizes asked for together, dev and test get at most a fifth of them each.
    """

    def __init__(self, one: bool, num_train: int, num_dev: int, num_eval: int) -> None:
        self.one, self.num_train, self.num_dev, self.num_eval = one, num_train, num_dev, num_eval

    def __call__(self, source: Source, sizes: Mapping[str, int], seed: int, sealed: bool) -> Sample:
        """`sizes` is unused: the rows are all there are. `sealed`: no test rows."""
        n = len(source.rows("train"))
        if n < LEAST:
            raise UsageError(f"{source.name('train')}: {n} rows; write at least {LEAST}, so that some can be set aside")
        fits = n >= self.num_train + self.num_dev + (self.num_eval if self.one else 0)
        most = n if fits else n // LEAST
        order = permutation(seed, n, n)
        test = order[: min(self.num_eval, most)] if self.one else order[:0]
        order, num_dev = order[len(test) :], min(self.num_dev, most)
        drawn = order[: self.num_train + num_dev]
        if sealed:
            test = test[:0]
        elif not self.one:
            test = permutation(seed, len(source.rows("validation")), self.num_eval)
        return Sample(drawn[:-num_dev], drawn[-num_dev:], test, partial=False)
