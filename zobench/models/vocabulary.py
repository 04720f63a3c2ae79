"""The tokenizers of the random models: the bundled one (`bpe/`), and the same with a mask and the label words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BUNDLED = Path(__file__).parent / "bpe"

# Label words of the k-shot suite (LM-BFF, arXiv:2012.15723), each one token with the space before it.
LABEL_WORDS = (
    *("terrible", "bad", "okay", "good", "great", "incorrect", "correct", "No", "Yes", "Maybe"),
    *("Description", "Entity", "Expression", "Human", "Location", "Number", "subjective", "objective"),
)
MASK = "<mask>"


def bundled_tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer of the random causal models: 2,048 entries, <s> 0, <pad> 1, </s> 2, <unk> 3."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BUNDLED)


def masked_tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer of the random masked models: the bundled one, <mask> as entry 2048, the label words behind it.

    A word has the ids of the bundled one unless it begins as a label word does. Special tokens are RoBERTa's: `<s> a </s>`, and
    `<s> a </s></s> b </s>` for a pair; padding is on the right.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(_with_labels())),
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token=MASK,
        model_max_length=512,
        padding_side="right",
        truncation_side="right",
        clean_up_tokenization_spaces=False,
    )


def _with_labels() -> dict:
    """`tokenizer.json` with a mask, and with merges that come after all others: they join what is left of a label word."""
    from tokenizers import Tokenizer

    table = json.loads((BUNDLED / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary, merges = table["model"]["vocab"], table["model"]["merges"]
    vocabulary[MASK] = len(vocabulary)
    mask = dict(table["added_tokens"][0], id=vocabulary[MASK], content=MASK, lstrip=True)  # as RoBERTa's
    table["added_tokens"].append(mask)
    for word in LABEL_WORDS:
        left, *rest = Tokenizer.from_str(json.dumps(table)).encode(" " + word, add_special_tokens=False).tokens
        for piece in rest:
            merges.append([left, piece])
            left += piece
            vocabulary.setdefault(left, len(vocabulary))
    table["post_processor"] = {
        "type": "RobertaProcessing",
        "sep": ["</s>", 2],
        "cls": ["<s>", 0],
        "trim_offsets": True,
        "add_prefix_space": False,
    }
    return table
