"""Models that come with the package. Standard library only: `zobench list models` reads it."""

from pathlib import Path
from typing import Any

# Pretrained on the small world of problems/world.py; the model card lies beside the weights.
TINY = Path(__file__).parent / "tiny"

# The model types that read in both directions and fill in masks; the others read from left to right.
MASKED = ("bert", "distilbert", "roberta")


def _opt(hidden: int, layers: int, heads: int, **other: Any) -> dict[str, Any]:
    shape = dict(hidden_size=hidden, ffn_dim=4 * hidden, num_hidden_layers=layers, num_attention_heads=heads)
    return dict(model_type="opt", **shape | other)


def _llama(model_type: str, **other: Any) -> dict[str, Any]:
    shape = dict(hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4)
    sizes = dict(num_key_value_heads=2, vocab_size=2048, max_position_embeddings=2048)
    return dict(model_type=model_type, tie_word_embeddings=True, **shape, **sizes, **other)


def _bert(model_type: str, hidden: int, layers: int, vocab_size: int, **other: Any) -> dict[str, Any]:
    shape = dict(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=max(4, hidden // 64))
    return dict(model_type=model_type, intermediate_size=4 * hidden, vocab_size=vocab_size, **shape, **other)


_ROBERTA = dict(max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)

# Random weights (`random:NAME`): arguments of the configuration of `model_type`. Shapes of the released checkpoints, with
# their dropout; the nano ones are ours.
RANDOM: dict[str, dict[str, Any]] = {
    "opt-nano": _opt(128, 3, 4, vocab_size=2048),
    "opt-125m": _opt(768, 12, 12),
    "opt-350m": _opt(1024, 24, 16, word_embed_proj_dim=512, do_layer_norm_before=False),
    "opt-1.3b": _opt(2048, 24, 32),
    "opt-2.7b": _opt(2560, 32, 32),
    "opt-6.7b": _opt(4096, 32, 32),
    "opt-13b": _opt(5120, 40, 40),
    "opt-30b": _opt(7168, 48, 56),
    "opt-66b": _opt(9216, 64, 72),
    "gpt2-nano": dict(model_type="gpt2", n_embd=128, n_layer=3, n_head=4, n_positions=2048, vocab_size=2048),
    "llama-nano": _llama("llama"),
    "mistral-nano": _llama("mistral", sliding_window=None, head_dim=32),
    "qwen-nano": _llama("qwen2"),
    "roberta-nano": _bert("roberta", 128, 3, 2112, **_ROBERTA),
    "roberta-base": _bert("roberta", 768, 12, 50265, **_ROBERTA),
    "roberta-large": _bert("roberta", 1024, 24, 50265, **_ROBERTA),
    "bert-nano": _bert("bert", 128, 3, 2112),
    "bert-base": _bert("bert", 768, 12, 30522),
    "distilbert-nano": dict(model_type="distilbert", dim=128, hidden_dim=512, n_layers=3, n_heads=4, vocab_size=2112),
    "distilbert": dict(model_type="distilbert", vocab_size=28996),
}

ABOUT = {
    "tiny": "1.1 M parameters, pretrained on a small world; for the toy tasks",
    "random:opt-nano": "1.1 M parameters, for tests and for trying things out",
    "random:opt-125m": "125 M parameters, the shape of facebook/opt-125m",
    "random:opt-350m": "331 M parameters, the shape of facebook/opt-350m",
    "random:opt-1.3b": "1.3 G parameters, the shape of facebook/opt-1.3b",
    "random:opt-2.7b": "2.7 G parameters, the shape of facebook/opt-2.7b",
    "random:opt-6.7b": "6.7 G parameters, the shape of facebook/opt-6.7b",
    "random:opt-13b": "12.9 G parameters, the shape of facebook/opt-13b",
    "random:opt-30b": "30.0 G parameters, the shape of facebook/opt-30b",
    "random:opt-66b": "65.7 G parameters, the shape of facebook/opt-66b",
    "random:gpt2-nano": "a small GPT-2, for tests",
    "random:llama-nano": "a small Llama, for tests",
    "random:mistral-nano": "a small Mistral, for tests",
    "random:qwen-nano": "a small Qwen 2, for tests",
    "random:roberta-nano": "1.0 M parameters, masked; for tests and for trying things out",
    "random:roberta-base": "125 M parameters, masked, the shape of roberta-base",
    "random:roberta-large": "355 M parameters, masked, the shape of roberta-large",
    "random:bert-nano": "1.0 M parameters, masked, for tests",
    "random:bert-base": "110 M parameters, masked, the shape of bert-base-uncased",
    "random:distilbert-nano": "1.0 M parameters, masked, for tests",
    "random:distilbert": "66 M parameters, masked, the shape of distilbert-base-cased",
}

# Shapes of released checkpoints of other families, by the last part of their ids in small letters: what an estimate can know
# of a model that is not here.
_LLAMA = dict(model_type="llama", vocab_size=32000, tie_word_embeddings=False)
_LLAMA3 = _LLAMA | dict(vocab_size=128256)
_QWEN3 = dict(model_type="qwen3", vocab_size=151936, head_dim=128)


def _wide(hidden: int, inner: int, layers: int, heads: int, groups: int, **other: Any) -> dict[str, Any]:
    shape = dict(hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads)
    return dict(**shape, num_key_value_heads=groups, **other)


RELEASED: dict[str, dict[str, Any]] = {
    "bert-base-uncased": RANDOM["bert-base"],
    "distilbert-base-cased": RANDOM["distilbert"],
    "gpt2-xl": dict(model_type="gpt2", n_embd=1600, n_layer=48, n_head=25),
    "llama-2-7b-hf": _wide(4096, 11008, 32, 32, 32, **_LLAMA),
    "llama-2-13b-hf": _wide(5120, 13824, 40, 40, 40, **_LLAMA),
    "vicuna-7b-v1.5": _wide(4096, 11008, 32, 32, 32, **_LLAMA),
    "mistral-7b-v0.1": _wide(4096, 14336, 32, 32, 8, **_LLAMA | dict(model_type="mistral")),
    "meta-llama-3-8b": _wide(4096, 14336, 32, 32, 8, **_LLAMA3),
    "llama-3.1-8b": _wide(4096, 14336, 32, 32, 8, **_LLAMA3),
    "qwen3-0.6b-base": _wide(1024, 3072, 28, 16, 8, tie_word_embeddings=True, **_QWEN3),
    "qwen3-8b-base": _wide(4096, 12288, 36, 32, 8, tie_word_embeddings=False, **_QWEN3),
}
PUBLISHERS = (
    "facebook",
    "facebookai",
    "google-bert",
    "distilbert",
    "openai-community",
    "meta-llama",
    "lmsys",
    "mistralai",
    "qwen",
)


def known(model: str) -> dict[str, Any] | None:
    """The shape of a checkpoint of the hub, `facebook/opt-1.3b`, where it is written here."""
    publisher, _, name = model.lower().rpartition("/")
    if (publisher and publisher not in PUBLISHERS) or ":" in name:
        return None
    return RELEASED.get(name) or (RANDOM.get(name) if "nano" not in name else None)
