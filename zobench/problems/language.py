"""What tasks on a language model share: the model, rows read when first needed, the order of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zobench.models.adapters import add_adapter, save_adapted
from zobench.models.load import load_model
from zobench.problems.data import Source, check_row, locate
from zobench.problems.sampling import Drawn, First, Sample
from zobench.problems.scoring import evaluating
from zobench.spec import EnvironmentUnmet, Setting, UsageError

SPLITS = ("train", "validation", "test")
HALVES = ("long", "short")
SAMPLINGS = dict(drawn=Drawn, first=First)


class LanguageProblem:
    """A task on a language model. Building it loads the model; rows are read by the first batch or evaluation.

    Subclasses give `encode(example)`, `length(encoded)`, `collate(list of encoded)`, `loss(batch)` and `measure(examples)`.

    Args:
        example: row -> what the prompt function of the task returns.
        num_train, num_dev, num_eval: rows of the train split to train and to validate on, of the validation split to
            test on.
        rows: how they are chosen: "drawn" (`sampling.Drawn`) or "first" (`sampling.First`).
        sampling: another choice of rows, in the place of these four.
        objective: what `loss` returns: "loss" is the likelihood; others are metrics with the sign turned, without gradient.
        template: the name of the prompt, for the record.
        head: how a new head starts (`models.load.load_model`).
    """

    kind = "causal"  # of the model: models.load.KINDS
    labels = 0  # outputs of a classification head
    more = "num_train"  # the option that gives more training rows

    def __init__(
        self,
        setting: Setting,
        info: Mapping[str, Any],
        example: Callable[[Mapping[str, Any]], Any],
        *,
        num_train: int = 1000,
        num_dev: int = 500,
        num_eval: int = 1000,
        rows: str = "drawn",
        sampling: Callable[..., Sample] | None = None,
        objective: str = "loss",
        template: str = "mezo",
        head: str = "random",
    ) -> None:
        if setting.model is None:
            raise UsageError("this task needs a model; give one with -m, for example random:opt-nano")
        self.setting, self.info, self.example, self.objective = setting, info, example, objective
        self.sampling = sampling or SAMPLINGS[rows](num_train, num_dev, num_eval)
        model, self.tokenizer = load_model(
            setting.model,
            kind=self.kind,
            labels=self.labels,
            head=head,
            revision=setting.revision,
            dtype=setting.dtype,
            device=setting.device,
            seed=setting.seed,
            quantised=setting.quantised,
        )
        self.config = model.config
        self.model = add_adapter(model, setting.adapter, seed=setting.seed)
        new = getattr(model, "zobench_new", [])  # what the checkpoint did not have
        self.rates: dict[str, float] = dict(info.get("step_rates", {}))
        self.facts: dict[str, Any] = dict(template=template, objective=objective, precision=setting.dtype)
        self.facts |= {"drawn_parameters": new} if new else {}
        self.drawn: Sample | None = None  # which rows of the splits are train, dev and test
        self._examples: dict[str, list[Any]] = {}
        self._encoded: dict[int, Any] = {}
        self._orders: dict[str | None, tuple[int, np.ndarray]] = {}  # part -> its epoch, and the rows in its order
        self._halves: dict[str, np.ndarray] | None = None

    def encode(self, example: Any) -> Any:
        """Token ids of a training example."""
        raise NotImplementedError

    def check(self, example: Any) -> None:
        """Raise IndexError where an example cannot be one of this task."""

    def collate(self, encoded: list[Any]) -> Any:
        """A batch on the device."""
        raise NotImplementedError

    def measure(self, examples: list[Any]) -> dict[str, float]:
        """Metrics over examples."""
        raise NotImplementedError

    def loss(self, batch: Any) -> Tensor:
        """() float32 (float64 for a float64 model): the objective, without a gradient where it is a metric."""
        if self.objective == "loss":
            return self.likelihood(batch)
        with torch.no_grad():
            value = -self.score(batch)
        return torch.tensor(value, dtype=torch.float32, device=self.setting.device)

    def likelihood(self, batch: Any) -> Tensor:
        """() the differentiable loss of a batch, in nats."""
        raise NotImplementedError

    def score(self, batch: Any) -> float:
        """The task's metric on a batch, a fraction: minus it is the objective "accuracy" or "f1"."""
        raise NotImplementedError

    def examples(self, split: str) -> list[Any]:
        """Prompted examples of `train`, `validation` or `test`, in the order they were drawn."""
        if split not in SPLITS:
            raise UsageError(f"split {split!r}: choose from {', '.join(SPLITS)}")
        if split == "test" and self.setting.score != "test":
            raise UsageError("this problem was built for validation only; the test rows are not read")
        if not self._examples:
            self._read()
        return self._examples[split]

    def source(self) -> Source:
        """Where the rows come from."""
        return locate(self.info, self.setting.data_dir, self.setting.data)

    def _read(self) -> None:
        source, full = self.source(), self.info.get("sizes")
        sealed = self.setting.score != "test"
        n_train = len(source.rows("train"))
        n_val = 0 if sealed else len(source.rows("validation"))
        full = full or dict(train=n_train, validation=n_val)  # a user's own rows are all there are
        self.drawn = drawn = self.sampling(source, full, self.setting.data_seed, sealed)
        if len(drawn.train) == 0:
            raise EnvironmentUnmet(f"{source.name('train')}: {n_train} rows leave none to train on")
        for split, rows, option in (("dev", drawn.dev, "num_dev"), ("test", drawn.test, "num_eval")):
            if len(rows) == 0 and (split == "dev" or not sealed):
                origin, have = ("train", n_train) if split == "dev" else ("validation", n_val)
                raise EnvironmentUnmet(
                    f"{source.name(origin)}: {have} rows leave no {split} row ({option} is too small)"
                )
        chosen = {"train": drawn.train, "validation": drawn.dev, "test": drawn.test}
        self._examples = {split: self._prompt(source, split, rows) for split, rows in chosen.items() if len(rows)}
        for split in ("validation", "test"):
            self._examples.setdefault(split, [])
        source.forget("train")
        source.forget("validation")
        # A slice may hold enough rows and still is not the data that published numbers rest on.
        sliced = n_train != full["train"] or (not sealed and n_val != full["validation"])
        counts = dict(num_train=len(drawn.train), num_dev=len(drawn.dev), num_test=len(drawn.test))
        self.facts.update(counts, partial_data=drawn.partial or sliced)
        if source.note:
            self.facts["not_comparable"] = source.note

    def _prompt(self, source: Source, split: str, chosen: np.ndarray) -> list[Any]:
        origin = "validation" if split == "test" else "train"
        rows, found = source.rows(origin), []
        for i in map(int, chosen):
            wrong = check_row(rows[i], self.info.get("fields", {}))
            if wrong:
                raise EnvironmentUnmet(f"{source.where(origin, i)}: {wrong}")
            try:
                found.append(self.example(rows[i]))
                self.check(found[-1])
            except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
                what = f"no field {error}" if isinstance(error, KeyError) else f"a field is not as expected ({error})"
                raise EnvironmentUnmet(f"{source.where(origin, i)}: {what}") from error
        return found

    def batch(self, step: int, part: int | str | None = None) -> Any:
        """The batch of this step, counted from 0: an epoch is a permutation, cut into batches, the last one short.

        part: k > 0 is the step's k-th further minibatch, drawn from all rows without replacement; "long" and "short" go in epochs
        of their own through the rows above and at most the median length (`halves`).
        """
        rows, size = np.arange(len(self.examples("train"))), self.setting.batch_size
        if isinstance(part, int):
            if isinstance(part, bool) or part < 1:
                raise UsageError(f"batch={part!r}: further minibatches of a step are numbered from 1")
            drawn = np.random.RandomState([self.setting.seed, step, part]).permutation(rows)[:size]
            return self.collate([self._tokens(int(i)) for i in drawn])
        if part is not None:
            rows = self.halves().get(part, rows[:0])
            if len(rows) == 0:
                reason = "all rows have one length" if part in HALVES else "take long, short or a number from 1"
                raise UsageError(f"batch={part!r}: there is no such minibatch; {reason}")
        epoch, place = divmod(step, -(-len(rows) // size))
        if part not in self._orders or self._orders[part][0] != epoch:
            name = [epoch] if part is None else [epoch, 0, 1 + HALVES.index(part)]
            self._orders[part] = (epoch, np.random.RandomState([self.setting.seed, *name]).permutation(rows))
        return self.collate([self._tokens(int(i)) for i in self._orders[part][1][place * size : (place + 1) * size]])

    def halves(self) -> dict[str, np.ndarray]:
        """The train rows above the median length in tokens, and the others; a row is as long as its longest sequence."""
        if self._halves is None:
            lengths = np.array([self.length(self._tokens(i)) for i in range(len(self.examples("train")))])
            above = lengths > np.median(lengths)
            self._halves = {"long": np.flatnonzero(above), "short": np.flatnonzero(~above)}
        return self._halves

    def length(self, encoded: Any) -> int:
        """Tokens of an encoded example."""
        raise NotImplementedError

    def _tokens(self, index: int) -> Any:
        if index not in self._encoded:
            with self.blaming("train"):
                self._encoded[index] = self.encode(self.examples("train")[index])
        return self._encoded[index]

    def evaluate(self, split: str) -> dict[str, float]:
        """Metrics of `validation` (rows set aside from the train split) or `test` (rows of the validation split)."""
        examples = self.evaluated(split)
        with evaluating(self.model), self.blaming(split):
            return self.measure(examples)

    @contextmanager
    def blaming(self, split: str) -> Iterator[None]:
        """Where tokens cannot be made of an example, the error says which row it came from."""
        try:
            yield
        except EnvironmentUnmet as error:
            for index, example in enumerate(self._examples.get(split, ())):
                try:
                    self.encode(example)
                except EnvironmentUnmet as found:
                    raise EnvironmentUnmet(f"{self._place(split, index)}: {found}") from error
            raise

    def _place(self, split: str, index: int) -> str:
        """The file and line of an example."""
        assert self.drawn is not None
        rows = {"train": self.drawn.train, "validation": self.drawn.dev, "test": self.drawn.test}[split]
        return self.source().where("validation" if split == "test" else "train", int(rows[index]))

    def evaluated(self, split: str) -> list[Any]:
        """The examples of a split that is measured; there must be some."""
        examples = self.examples(split)
        if not examples:
            raise UsageError(f"no {split} rows: num_dev and num_eval must be positive to evaluate")
        return examples

    def save(self, directory: Path) -> None:
        """Write a directory that from_pretrained opens: `models.adapters.save_adapted`."""
        save_adapted(self.model, self.tokenizer, directory)
