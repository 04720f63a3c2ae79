"""The k-shot suite of LM-BFF (Gao et al., arXiv:2012.15723) as MeZO runs it (Malladi et al., arXiv:2305.17333)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from zobench.models.load import is_masked
from zobench.problems.data import Source
from zobench.problems.glue import refuse
from zobench.problems.heads import Encoded, HeadProblem
from zobench.problems.language import LanguageProblem
from zobench.problems.masked import Example, MaskedProblem
from zobench.problems.sampling import Sample, permutation
from zobench.spec import EnvironmentUnmet, Setting, UsageError

TEST_SEED = 42  # of the draw that caps the test rows, whatever the split


class KShot:
    """k rows of each label to train on and the next k to validate on, as `generate_k_shot_data.py --mode k-shot-1k-test`
    of MeZO's code draws them.

    A label with fewer than 2k rows gives what it has, train first (TREC has 86 abbreviations: at k = 512 they all train).
    Where only a slice of the data is at hand, train and dev share such a label's rows evenly, and the sample is partial.

    Args:
        split: seeds the shuffle of the train rows; the paper's are 13, 21, 42, 87 and 100.
        num_eval: the most test rows; fewer are kept whole and in their order.
        label: the field with the label.
        group: label -> the class it counts as (STS-B: 0 below 2.5, else 1).
    """

    def __init__(
        self,
        k: int = 16,
        split: int = 13,
        num_eval: int = 1000,
        *,
        label: str = "label",
        group: Callable[[Any], Hashable] = lambda value: value,
    ) -> None:
        self.k, self.split, self.num_eval, self.label, self.group = k, split, num_eval, label, group

    def __call__(self, source: Source, sizes: Mapping[str, int], seed: int, sealed: bool) -> Sample:
        """`sizes`: rows of the full splits. `sealed`: the validation split must not be read. `seed` plays no part."""
        labels = source.column("train", self.label)
        classes: dict[Hashable, list[int]] = {}
        for i in map(int, permutation(self.split, len(labels), len(labels))):  # as shuffling the list of rows
            try:
                classes.setdefault(self.group(labels[i]), []).append(i)
            except (TypeError, ValueError):
                raise EnvironmentUnmet(f"{source.where('train', i)}: {labels[i]!r} is no label") from None
        sliced = len(labels) != sizes["train"]
        train, dev, partial = [], [], False
        for rows in classes.values():
            short = sliced and len(rows) < 2 * self.k
            cut = (len(rows) + 1) // 2 if short else self.k
            train += rows[:cut]
            dev += rows[cut : cut + self.k]
            partial |= short
        n_test = 0 if sealed else len(source.rows("validation"))
        capped = n_test > self.num_eval  # NumPy's shuffle and pandas' DataFrame.sample draw the same rows
        test = permutation(TEST_SEED, n_test, self.num_eval) if capped else np.arange(n_test)
        return Sample(np.array(train, dtype=np.int64), np.array(dev, dtype=np.int64), test, partial)


class PlainProblem(HeadProblem):
    """The ablation without a prompt (MeZO, table 5): a new head on LM-BFF's plain input, `<s> S0 </s> S1 </s>`."""

    def encode(self, example: Example) -> Encoded:
        opening, closing = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        if opening is None or closing is None:  # a causal model's
            return super().encode(example)
        ids, types = [opening], [0]
        for number, sentence in enumerate(example[0]):
            piece = [*self.tokenizer(sentence, add_special_tokens=False, verbose=False)["input_ids"], closing]
            ids, types = ids + piece, types + [number] * len(piece)
        if "token_type_ids" not in self.tokenizer.model_input_names:
            types = []
        return Encoded(ids[: self.max_length], types[: self.max_length], example[1])


def kshot_problem(
    setting: Setting,
    info: Mapping[str, Any],
    example: Callable[[Mapping[str, Any]], Example],
    *,
    prompt: str,
    words: Sequence[str],
    caps: tuple[int | None, int | None] = (None, None),
    max_length: int = 128,
    label: str = "label",
    k: int = 16,
    split: int = 13,
    num_eval: int = 1000,
    template: str = "prompt",
    bos_mode: str = "mezo",
    loss_dtype: str = "float32",
    objective: str = "loss",
) -> LanguageProblem:
    """A task of the suite. `template`: "prompt" is LM-BFF's, "none" the ablation with a head and no prompt.

    Raises:
        UsageError: the setting has a data seed, where the rows follow `split` alone; or a `bos_mode`, where the tokenizer
            opens the sequences.
    """
    if setting.data_seed:
        raise UsageError(
            f"k-shot rows follow the task's split, not a data seed; write split={setting.data_seed} instead"
        )
    sampling = KShot(k, split, num_eval, label=label)
    common: dict[str, Any] = dict(
        sampling=sampling, template=template, max_length=max_length, loss_dtype=loss_dtype, objective=objective
    )
    if setting.model and (template == "none" or is_masked(setting.model, setting.revision)):
        where = "a head" if template == "none" else "a masked model"
        refuse(f"{where} opens its sequences as its tokenizer does; leave it out", bos_mode=(bos_mode, "mezo"))
    if template == "none":
        problem = PlainProblem(setting, info, example, labels=len(words), **common)
    else:
        common |= dict(prompt=prompt, words=words, caps=caps, bos_mode=bos_mode)
        problem = MaskedProblem(setting, info, example, **common)
    problem.more = "k"
    return problem
