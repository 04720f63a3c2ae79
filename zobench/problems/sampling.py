"""Which rows of a dataset are train, dev and test: the draws of the papers' code, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from zobench.problems.data import Source
from zobench.spec import UsageError


@dataclass(frozen=True)
class Sample:
    """Indices into the hub's train split (train, dev) and validation split (test)."""

    train: np.ndarray
    dev: np.ndarray
    test: np.ndarray
    partial: bool  # a slice of the data too small for the sizes asked for; never ranked with full ones
    # Rows of the train split that are test, sealed or not: there are some where one file holds every split.
    inside: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def hidden(self, split: str) -> np.ndarray:
        """Rows of the train split that no example of this split may be shown.

        The papers show test examples any of them, and validation examples all but dev. Where test rows are among them,
        dev and test are hidden from both.
        """
        if len(self.inside):
            return np.concatenate([self.dev, self.inside])
        return self.dev if split == "validation" else self.dev[:0]


def permutation(seed: int, n: int, k: int) -> np.ndarray:
    """The first k of a permutation of range(n): MeZO's draw, from NumPy's frozen legacy stream."""
    return np.random.RandomState(seed).permutation(n)[:k]


def sample(seed: int, n_train: int, n_val: int, num_train: int, num_dev: int, num_eval: int, full_train: int) -> Sample:
    """Which rows are train, dev and test, exactly as in MeZO's code (Malladi et al., arXiv:2305.17333).

    Dev is the end of the draw from the train split, and keeps its size when that split is full but small (WSC trains
    on 54 rows and validates on 500). Where only a slice of the `full_train` rows is at hand and it is too small, dev
    gets at most a third of it.
    """
    partial = n_train < num_train + num_dev and n_train != full_train
    num_dev = min(num_dev, n_train // 3) if partial else num_dev
    drawn = permutation(seed, n_train, num_train + num_dev)
    cut = max(len(drawn) - num_dev, 0)
    return Sample(drawn[:cut], drawn[cut:], permutation(seed, n_val, num_eval), partial)


class Drawn:
    """A seeded draw from the train split for train and dev, and from the validation split for test (`sample`)."""

    def __init__(self, num_train: int = 1000, num_dev: int = 500, num_eval: int = 1000) -> None:
        self.sizes = dict(num_train=num_train, num_dev=num_dev, num_eval=num_eval)

    def __call__(self, source: Source, sizes: Mapping[str, int], seed: int, sealed: bool) -> Sample:
        """`sizes`: rows of the full splits. `sealed`: the validation split must not be read."""
        n_val = 0 if sealed else len(source.rows("validation"))
        return sample(seed, len(source.rows("train")), n_val, full_train=sizes["train"], **self.sizes)


class First(Drawn):
    """The first rows in their order, dev behind train: the head-form protocol of MeZO-SVRG (Gautam et al., 2404.08080)."""

    def __call__(self, source: Source, sizes: Mapping[str, int], seed: int, sealed: bool) -> Sample:
        """As `Drawn`; UsageError where there is a seed, for nothing is drawn."""
        if seed:
            raise UsageError(f"rows=first takes the same rows whatever the data seed; leave out data seed {seed}")
        drawn = super().__call__(source, sizes, seed, sealed)
        n_train, n_dev = len(drawn.train), len(drawn.dev)
        return Sample(
            np.arange(n_train), np.arange(n_train, n_train + n_dev), np.arange(len(drawn.test)), drawn.partial
        )
