"""What choice and generation tasks share: a causal language model, rows read when first needed, batch order."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zobench.models.adapters import add_adapter
from zobench.models.load import load_causal_lm
from zobench.problems.data import Source, locate, sample
from zobench.problems.scoring import Scorer, evaluating
from zobench.problems.text import CONTEXT, Encoder, bos_id
from zobench.spec import EnvironmentUnmet, Setting, UsageError

SPLITS = ("train", "validation", "test")
HALVES = ("long", "short")


class LanguageProblem:
    """A task on a causal language model. Building it loads the model; rows are read by the first batch or evaluation.

    Subclasses give `encode(example)`, `length(encoded)`, `collate(list of encoded)`, `loss(batch)` and `measure(examples)`.

    Args:
        example: row -> what the prompt function of the task returns.
        num_train, num_dev, num_eval: rows of the train split to train and to validate on, of the validation split to
            test on.
        bos_mode: `text.bos_id`.
        loss_dtype: `scoring.Scorer`.
        reserve: tokens of the context kept free for a generated answer.
    """

    def __init__(
        self,
        setting: Setting,
        info: Mapping[str, Any],
        example: Callable[[Mapping[str, Any]], Any],
        *,
        num_train: int = 1000,
        num_dev: int = 500,
        num_eval: int = 1000,
        bos_mode: str = "mezo",
        loss_dtype: str = "float32",
        reserve: int = 0,
    ) -> None:
        if setting.model is None:
            raise UsageError("this task needs a model; give one with -m, for example random:opt-nano")
        self.setting, self.info, self.example = setting, info, example
        self.sizes = dict(num_train=num_train, num_dev=num_dev, num_eval=num_eval)
        model, self.tokenizer = load_causal_lm(
            setting.model, revision=setting.revision, dtype=setting.dtype, device=setting.device, seed=setting.seed
        )
        config = model.config
        self.context = min(CONTEXT, getattr(config, "max_position_embeddings", None) or CONTEXT)
        self.model = add_adapter(model, setting.adapter, seed=setting.seed)
        bos = bos_id(self.tokenizer, config.model_type, bos_mode)
        self.encoder = Encoder(self.tokenizer, bos, self.context - reserve)
        pad = self.tokenizer.pad_token_id
        self.scorer = Scorer(self.model, 0 if pad is None else pad, loss_dtype)
        self.rates: dict[str, float] = dict(info.get("step_rates", {}))
        self.facts: dict[str, Any] = dict(
            template=info.get("template", "mezo"),
            bos_mode=bos_mode,
            loss_dtype=loss_dtype,
            max_length=self.encoder.max_length,
            precision=setting.dtype,
        )
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

    def examples(self, split: str) -> list[Any]:
        """Prompted examples of `train`, `validation` or `test`, in the order they were drawn."""
        if split not in SPLITS:
            raise UsageError(f"split {split!r}: choose from {', '.join(SPLITS)}")
        if split == "test" and self.setting.score != "test":
            raise UsageError("this problem was built for validation only; the test rows are not read")
        if not self._examples:
            self._read()
        return self._examples[split]

    def _read(self) -> None:
        source = locate(self.info, self.setting.data_dir, self.setting.data)
        full = self.info["sizes"]
        n_train = len(source.rows("train"))
        n_val = len(source.rows("validation")) if self.setting.score == "test" else 0
        drawn = sample(self.setting.data_seed, n_train, n_val, full_train=full["train"], **self.sizes)
        if len(drawn.train) == 0:
            raise EnvironmentUnmet(f"{source.name('train')}: {n_train} rows leave none to train on")
        for split, rows, option in (("dev", drawn.dev, "num_dev"), ("test", drawn.test, "num_eval")):
            if len(rows) == 0 and (split == "dev" or self.setting.score == "test"):
                origin, have = ("train", n_train) if split == "dev" else ("validation", n_val)
                asked = f"{option}={self.sizes[option]}"
                raise EnvironmentUnmet(f"{source.name(origin)}: {have} rows leave no {split} row ({asked})")
        chosen = {"train": drawn.train, "validation": drawn.dev, "test": drawn.test}
        self._examples = {split: self._prompt(source, split, rows) for split, rows in chosen.items() if len(rows)}
        for split in ("validation", "test"):
            self._examples.setdefault(split, [])
        source.forget("train")
        source.forget("validation")
        # A slice may hold enough rows and still is not the data that published numbers rest on.
        sliced = n_train != full["train"] or (self.setting.score == "test" and n_val != full["validation"])
        counts = dict(num_train=len(drawn.train), num_dev=len(drawn.dev), num_test=len(drawn.test))
        self.facts.update(counts, partial_data=drawn.partial or sliced)

    def _prompt(self, source: Source, split: str, chosen: np.ndarray) -> list[Any]:
        origin = "validation" if split == "test" else "train"
        rows, found = source.rows(origin), []
        for i in map(int, chosen):
            try:
                found.append(self.example(rows[i]))
                self.check(found[-1])
            except (KeyError, IndexError, TypeError, AttributeError) as error:
                what = f"no field {error}" if isinstance(error, KeyError) else f"a field is not as on the hub ({error})"
                raise EnvironmentUnmet(f"{source.name(origin)}, row {i + 1}: {what}") from error
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
            self._encoded[index] = self.encode(self.examples("train")[index])
        return self._encoded[index]

    def evaluate(self, split: str) -> dict[str, float]:
        """Metrics of `validation` (rows set aside from the train split) or `test` (rows of the validation split)."""
        examples = self.examples(split)
        if not examples:
            raise UsageError(f"no {split} rows: num_dev and num_eval must be positive to evaluate")
        with evaluating(self.model):
            return self.measure(examples)

    def save(self, directory: Path) -> None:
        """Write a directory that from_pretrained opens; an adapter is merged into a copy of the weights first."""
        model = self.model
        if hasattr(model, "merge_and_unload"):
            model = copy.deepcopy(model).merge_and_unload()
        model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
