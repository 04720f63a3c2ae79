"""Models that come with the package. Standard library only: `zobench list models` reads it."""

from pathlib import Path

# Pretrained on the small world of problems/world.py; the model card lies beside the weights.
TINY = Path(__file__).parent / "tiny"

# Random weights (`random:NAME`). Shapes of the released checkpoints; the nano one is ours. Dropout 0.1 on hidden states,
# none on attention: OPTConfig.
RANDOM = {
    "opt-nano": dict(hidden_size=128, ffn_dim=512, num_hidden_layers=3, num_attention_heads=4, vocab_size=2048),
    "opt-125m": dict(hidden_size=768, ffn_dim=3072, num_hidden_layers=12, num_attention_heads=12),
    "opt-350m": dict(
        hidden_size=1024,
        ffn_dim=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        word_embed_proj_dim=512,
        do_layer_norm_before=False,
    ),
    "opt-1.3b": dict(hidden_size=2048, ffn_dim=8192, num_hidden_layers=24, num_attention_heads=32),
}

ABOUT = {
    "tiny": "1.1 M parameters, pretrained on a small world; for the toy tasks",
    "random:opt-nano": "1.1 M parameters, for tests and for trying things out",
    "random:opt-125m": "125 M parameters, the shape of facebook/opt-125m",
    "random:opt-350m": "331 M parameters, the shape of facebook/opt-350m",
    "random:opt-1.3b": "1.3 G parameters, the shape of facebook/opt-1.3b",
}
