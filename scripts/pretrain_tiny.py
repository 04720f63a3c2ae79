"""Pretrain the tiny model on the small world (zobench/problems/world.py) and write it to zobench/models/tiny.

    python scripts/pretrain_tiny.py                          # about ten minutes on two cores
    python scripts/pretrain_tiny.py --steps 200 --out DIR    # a short one

Two processes of one thread each, one on short documents and one on long ones, add their gradients through gloo. That is
faster than one process with two threads, where a barrier in every small operator costs more than it brings; and a sum of
two numbers does not depend on their order, so the same steps give the same bits on the same machine and versions.

A document is a row of its own and starts at position 0, padded on the right. Packed text at random offsets, which the
prototype tried first, taught neither sentiment nor copying in the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.functional import cross_entropy

from zobench.models.identity import directory_digest
from zobench.models.load import draw_weights
from zobench.models.shapes import TINY
from zobench.problems import world

TOOK = Path(__file__).resolve().parents[1] / "build" / "pretraining.json"  # read by measure_tiny.py for the card
SEED = 0
STEPS = 3600
ROWS = (40, 18)  # documents of a step, short and long: about as many tokens
PEAK, FLOOR, WARMUP = 2.5e-3, 0.02, 100  # of the learning rate; it falls linearly
VOCABULARY, TOKENIZER_DOCUMENTS = 1280, 20_000  # of each kind
SHAPE = dict(hidden_size=128, ffn_dim=640, num_hidden_layers=4, num_attention_heads=4, max_position_embeddings=128)
BOS, PAD, EOS = 0, 1, 2
SPECIAL = dict(bos_token="<s>", pad_token="<pad>", eos_token="</s>")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--every", type=int, default=1000, help="steps between zero-shot figures")
    parser.add_argument("--out", type=Path, default=TINY)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    write_tokenizer(asked.out)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(train, (asked.steps, asked.every, asked.out, f"{folder}/meet"), 2, start_method="spawn")
    minutes, digest = round((time.perf_counter() - start) / 60, 1), directory_digest(asked.out)
    print(f"{asked.steps} steps in {minutes} minutes")
    print(f"sha256:{digest}")
    if asked.out == TINY:
        TOOK.parent.mkdir(exist_ok=True)
        TOOK.write_text(json.dumps({"digest": digest, "minutes": minutes}), encoding="utf-8")


def write_tokenizer(out: Path) -> None:
    """A byte-level BPE of the corpus. Documents are read alone, so words with and without a space before both occur."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    texts = [text for kind in world.KINDS for text in islice(world.documents(kind, SEED), TOKENIZER_DOCUMENTS)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    settings = dict(model_max_length=SHAPE["max_position_embeddings"], padding_side="left", **SPECIAL)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings).save_pretrained(out)


def new_model() -> torch.nn.Module:
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        **SHAPE,
        vocab_size=VOCABULARY,
        word_embed_proj_dim=SHAPE["hidden_size"],
        dropout=0.0,
        init_std=0.04,
        bos_token_id=BOS,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    model = OPTForCausalLM(config)
    draw_weights(model, seed=SEED, std=config.init_std)
    return model


def batches(kind: str, rows: int, folder: Path) -> Iterator[torch.Tensor]:
    """(rows, T) int64 ids of documents, <s> before them, padding behind."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = world.documents(kind, SEED + 1)
    while True:
        ids = tokenizer(list(islice(texts, rows)), add_special_tokens=False)["input_ids"]
        width = 1 + max(map(len, ids))
        yield torch.tensor([[BOS, *row] + [PAD] * (width - 1 - len(row)) for row in ids])


def rate(step: int, steps: int) -> float:
    if step < WARMUP:
        return PEAK * (step + 1) / WARMUP
    return PEAK * (1 - (1 - FLOOR) * (step - WARMUP) / max(steps - WARMUP, 1))


def loss_of(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens of the batch, in nats. No mask: padding is on the right, and attention looks to the left."""
    hidden = model.model.decoder(input_ids=ids[:, :-1], attention_mask=torch.ones_like(ids[:, :-1])).last_hidden_state
    targets = ids[:, 1:]
    real = targets != PAD
    return cross_entropy(model.lm_head(hidden[real]), targets[real])


def train(rank: int, steps: int, every: int, out: Path, meet: str) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2)
    model = new_model().train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    stream = batches(world.KINDS[rank], ROWS[rank], out)
    shown, clock = 0.0, time.perf_counter()
    for step in range(steps):
        loss = loss_of(model, next(stream))
        loss.backward()
        gradients = [p.grad for p in parameters]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat.mul_(0.5)
        flat.mul_((1.0 / (flat.norm() + 1e-6)).clamp(max=1.0))
        for g, piece in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            g.copy_(piece.view_as(g))
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        optimizer.step()
        optimizer.zero_grad()
        shown = 0.98 * shown + 0.02 * float(loss.detach()) if step else float(loss.detach())
        if (step + 1) % 100 == 0 or step + 1 == steps:
            print(f"[{step + 1} {world.KINDS[rank]}] {shown:.3f} nats, {time.perf_counter() - clock:.0f} s", flush=True)
        if (step + 1) % every == 0 or step + 1 == steps:
            dist.barrier()
            if rank == 0:
                save(model, out)
                print(f"[{step + 1}] zero-shot: {zero_shot(out)}", flush=True)
            dist.barrier()
    dist.destroy_process_group()


def save(model: torch.nn.Module, out: Path) -> None:
    from copy import deepcopy

    deepcopy(model).half().save_pretrained(out)


def zero_shot(folder: Path) -> str:
    """Accuracies and F1 of the toy tasks, in per cent, by the tasks' own code."""
    from zobench import registry
    from zobench.spec import Setting

    found = []
    for name in world.TASKS:
        entry = registry.find("task", f"toy_{name}")
        problem = registry.load(entry).build(Setting(model=str(folder)), num_dev=1, num_eval=300)
        found.append(f"{name} {100 * problem.evaluate('test')[entry.info['metric']]:.1f}")
    return ", ".join(found)


if __name__ == "__main__":
    main()
