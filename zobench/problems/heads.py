"""Sequence classification with a head of its own: no prompt, the head starts at random, from a probe or from a checkpoint.

The protocol is that of transformers' run_glue.py; MeZO-SVRG (Gautam et al., arXiv:2404.08080) trains such heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from zobench.problems import probing
from zobench.problems.language import LanguageProblem
from zobench.problems.masked import Example, lengths
from zobench.problems.metrics import of_labels, of_scores
from zobench.problems.scoring import batches, evaluating, forward_parameters
from zobench.problems.text import Padded, pad_rows
from zobench.spec import EnvironmentUnmet, MismatchError, Setting, UsageError


class Encoded(NamedTuple):
    """An example in tokens."""

    ids: list[int]
    types: list[int]  # token types; empty where the tokenizer makes none
    gold: float


class Batch(NamedTuple):
    """B examples, padded on the right."""

    inputs: Padded
    types: Tensor | None  # (B, T) int64
    gold: Tensor  # (B,) int64 labels, or float32 scores
    tokens: int  # without padding


def output_order(config: Any, names: Sequence[str], model: str) -> list[int]:
    """The output of a model's own head for each label of a task, by name as transformers' run_glue finds it.

    Args:
        config: has `id2label` and `label2id`; an output that is a mere number, or LABEL_ and a number, is of that label.
        names: the task's labels, in their order.

    Raises:
        UsageError: the head's labels have other names.
    """
    named = {i: str(name).lower() for i, name in (config.id2label or {}).items()}
    numbers = [f"label_{i}" for i in range(len(named))]
    if sorted(named.values()) == sorted(numbers) and len(config.label2id or {}) == len(named):
        named = {int(i): str(name).lower() for name, i in config.label2id.items()}
    for wanted in ([name.lower() for name in names], numbers, list(map(str, range(len(named))))):
        if sorted(named.values()) == sorted(wanted):
            return sorted(named, key=lambda i: wanted.index(named[i]))
    theirs, ours = (", ".join(map(str, n)) for n in ((config.id2label or {}).values(), names or numbers))
    raise UsageError(
        f"head=checkpoint: the labels of model {model} are {theirs}, not the task's ({ours}); take head=random, or name them "
        "so in id2label and label2id of its config.json"
    )


class HeadProblem(LanguageProblem):
    """Classification (cross-entropy, nats) or, with one output, regression (mean squared error) on a sentence or a pair.

    The objective "accuracy" is minus the batch's accuracy, "pearson" minus its correlation.

    Args:
        example: row -> (sentences, label or score).
        labels: outputs of the head; 1 for a regression.
        max_length: of the sequence, special tokens included; the longer sentence loses its tail first.
        head: "random"; "checkpoint", the model's own, its outputs by the labels' names (`output_order`); "probe": random but
            for the last linear layer (`probe`).
        loss_dtype: "float32" computes the loss in at least float32 whatever the model's dtype; "model" in the model's.
    """

    kind = "classification"

    def __init__(
        self,
        setting: Setting,
        info: Mapping[str, Any],
        example: Callable[[Mapping[str, Any]], Example],
        *,
        labels: int = 2,
        max_length: int = 128,
        head: str = "random",
        loss_dtype: str = "float32",
        **options: Any,
    ) -> None:
        self.labels, self.loss_dtype = labels, loss_dtype
        self.max_length, self.room = lengths(setting, max_length)
        super().__init__(setting, info, example, head=head, **{"template": "none", **options})
        self.pad = self.tokenizer.pad_token_id or 0
        self.accepted = forward_parameters(self.model)
        self.facts.update(head=head, max_length=self.max_length, loss_dtype=loss_dtype)
        self.outputs: list[int] | None = None  # of each label, where the head has them in another order
        if head == "checkpoint" and labels > 1:
            self._follow(info.get("names", ()))
        if head == "probe":
            self.facts["replay_needs"] = "training rows"  # they fit the start; a trace holds the steps alone
            self.probe()

    def _follow(self, names: Sequence[str]) -> None:
        """Take the head's outputs in the order of the task's labels."""
        order = output_order(self.config, names, str(self.setting.model))
        if order != sorted(order):
            self.outputs = order
        named = self.config.id2label or {}
        self.facts["outputs"] = [named[i] for i in order]

    def check(self, example: Example) -> None:
        if self.labels > 1 and not 0 <= example[1] < self.labels:
            raise IndexError(f"label {example[1]} of {self.labels}")

    def encode(self, example: Example) -> Encoded:
        sentences, gold = example
        found = self.tokenizer(*sentences, truncation=True, max_length=self.max_length, verbose=False)
        return Encoded(found["input_ids"], found.get("token_type_ids", []), gold)

    def length(self, encoded: Encoded) -> int:
        return len(encoded.ids)

    def collate(self, encoded: list[Encoded]) -> Batch:
        device = self.setting.device
        inputs = pad_rows([e.ids for e in encoded], self.pad, device, side="right", most=self.room)
        types = None
        if all(e.types for e in encoded) and "token_type_ids" in self.accepted:
            types = pad_rows([e.types for e in encoded], 0, device, side="right", most=self.room).input_ids
        gold = torch.tensor([float(e.gold) if self.labels == 1 else int(e.gold) for e in encoded])
        return Batch(inputs, types, gold.to(device, non_blocking=True), tokens=sum(len(e.ids) for e in encoded))

    def logits(self, batch: Batch) -> Tensor:
        """(B, labels). One forward of the model."""
        arguments: dict[str, Any] = dict(attention_mask=batch.inputs.attention_mask)
        arguments |= {} if batch.types is None else {"token_type_ids": batch.types}
        arguments |= {"use_cache": False} if "use_cache" in self.accepted else {}
        logits = self.model(input_ids=batch.inputs.input_ids, **arguments).logits
        logits = logits if self.outputs is None else logits[:, self.outputs]
        wide = torch.promote_types(logits.dtype, torch.float32)
        return logits.to(wide) if self.loss_dtype == "float32" else logits

    def likelihood(self, batch: Batch) -> Tensor:
        """() float32 (float64 for a float64 model): nats, or squared units of the score. One forward of the model."""
        value = self._loss(self.logits(batch), batch.gold)
        return value.to(torch.promote_types(value.dtype, torch.float32))

    def _loss(self, logits: Tensor, gold: Tensor) -> Tensor:
        return mse_loss(logits[:, 0], gold.to(logits.dtype)) if self.labels == 1 else cross_entropy(logits, gold)

    def score(self, batch: Batch) -> float:
        """Accuracy, or Pearson's correlation of a regression; nan where the loss is not finite. One forward of the model."""
        found = self._outcome(self.logits(batch), batch.gold)
        return found["pearson" if self.labels == 1 else "accuracy"] if math.isfinite(found["loss"]) else math.nan

    def measure(self, examples: list[Example]) -> dict[str, float]:
        """Metrics of `metrics.of_labels` or `metrics.of_scores`, and loss (as in training)."""
        gold = torch.tensor([e[1] for e in examples], dtype=torch.float64 if self.labels == 1 else torch.int64)
        return self._outcome(self._all(examples, self.logits, self.labels), gold)

    def _all(self, examples: Sequence[Example], of_batch: Callable[[Batch], Tensor], width: int) -> Tensor:
        """(N, width) float64 on the CPU: what a function gives for each example, in batches by length."""
        encoded = [self.encode(example) for example in examples]
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids), reverse=True)
        found = torch.empty(len(encoded), width, dtype=torch.float64)
        for part in batches([len(encoded[i].ids) for i in order]):
            found[order[part]] = of_batch(self.collate([encoded[i] for i in order[part]])).double().cpu()
        return found

    def _outcome(self, logits: Tensor, gold: Tensor) -> dict[str, float]:
        values, gold = logits.detach().double().cpu(), gold.cpu()
        loss = {"loss": float(self._loss(values, gold))}
        if self.labels == 1:
            return of_scores(values[:, 0].numpy(), gold.double().numpy()) | loss
        return of_labels(values.numpy().argmax(1), gold.numpy(), self.info["metric"]) | loss

    def output_layer(self) -> nn.Linear:
        """The last linear layer, which makes the logits."""
        found = [
            module
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear) and module.out_features == self.labels and ".original_module" not in name
        ]
        if not found:
            raise EnvironmentUnmet(
                f"{type(self.model).__name__} has no linear layer with {self.labels} outputs to probe"
            )
        return found[-1]

    def classes(self, examples: Sequence[Example]) -> np.ndarray:
        """(N,) rows of the output layer: the right labels, or the outputs that stand for them."""
        rows = self.outputs or range(self.labels)
        return np.array([rows[int(example[1])] for example in examples])

    def features(self, examples: Sequence[Example]) -> np.ndarray:
        """(N, H) float64: what the last linear layer reads; of a causal model, at the last token."""

        def of_batch(batch: Batch) -> Tensor:
            self.logits(batch)
            read = seen.pop()
            if read.ndim == 2:
                return read
            last = batch.inputs.attention_mask.sum(1) - 1
            return read[torch.arange(len(last), device=last.device), last]

        layer = self.output_layer()
        with evaluating(self.model), probing.inputs_of(layer) as seen:
            return self._all(examples, of_batch, layer.in_features).numpy()

    @torch.no_grad()
    def probe(self) -> None:
        """Make the last linear layer a linear probe of the train rows' features: `probing.fit`, or for a regression
        scikit-learn's RidgeCV with its strength from 1e-3 to 1e3. A run that starts so is replayed from its training rows
        too: the trace holds its steps, not its start.

        Raises:
            UsageError: a label has no train row, or there are too few rows.
            EnvironmentUnmet: the rows are not there.
            MismatchError: they are not those that the run was planned with.
        """
        layer = self.output_layer()
        try:
            examples = self.examples("train")
        except (EnvironmentUnmet, MismatchError) as error:
            raise type(error)(
                f"{error}; a probe is fitted on the training rows, in a replay too: give their folder with --data DIR"
            ) from error
        features = self.features(examples)
        if self.labels == 1:
            from sklearn.linear_model import RidgeCV

            ridge = RidgeCV(alphas=np.logspace(-3, 3, 7), fit_intercept=layer.bias is not None)
            ridge.fit(features, [example[1] for example in examples])
            layer.weight.copy_(torch.from_numpy(np.reshape(ridge.coef_, (1, -1))))
            if layer.bias is not None:
                layer.bias.fill_(float(ridge.intercept_))
            self.facts.update(probe_alpha=float(ridge.alpha_), probe_features=len(features))
            return
        gold = self.classes(examples)
        absent = sorted(set(range(self.labels)) - set(gold.tolist()))
        if absent:
            raise UsageError(
                f"head=probe: no train row has label {absent[0]}; take more rows ({self.more}) or head=random"
            )
        found = probing.fit(features, gold, bias=layer.bias is not None, more=self.more)
        if self.labels == 2:  # MeZO's -w/2 and w/2 halve the log-odds of the regression; a start shall have them whole
            found = found._replace(weight=2 * found.weight, bias=None if found.bias is None else 2 * found.bias)
        probing.write(layer, found)
        self.facts.update(found.facts)
