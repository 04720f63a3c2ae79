"""MeZO in a plain PyTorch loop: a closure, no backward, and a state_dict from which a run goes on to the same bits.

python examples/plain_loop.py
"""

import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from zobench.optimizers import MeZO

STEPS, BATCH = 400, 32


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """256 points in three classes, which a plane separates."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=generator)
    return x, (x @ torch.randn(8, 3, generator=generator)).argmax(1)


def start() -> tuple[nn.Module, MeZO]:
    """A small network and its optimizer: lr and eps as options, the directions named by the seed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
    return model, MeZO(model, lr=1e-2, eps=1e-3, seed=0)


def train(model: nn.Module, opt: MeZO, steps: range) -> list[float]:
    """One `opt.step(closure)` a minibatch; MeZO calls the closure twice, with gradients off."""
    x, y = data()
    losses = []
    for step in steps:
        rows = torch.arange(step * BATCH, (step + 1) * BATCH) % len(x)
        losses.append(opt.step(lambda rows=rows: cross_entropy(model(x[rows]), y[rows])))
    return losses


def main() -> list[float]:
    """Train half the way, save, load into a fresh model and optimizer, go on; returns the losses."""
    model, opt = start()
    losses = train(model, opt, range(STEPS // 2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        torch.save({"model": model.state_dict(), "optimizer": opt.state_dict()}, path)
        model, opt = start()
        saved = torch.load(path)
    model.load_state_dict(saved["model"])
    opt.load_state_dict(saved["optimizer"])
    losses += train(model, opt, range(STEPS // 2, STEPS))
    print(f"loss {sum(losses[:20]) / 20:.3f} -> {sum(losses[-20:]) / 20:.3f} in {STEPS} steps, {2 * STEPS} forwards")
    return losses


if __name__ == "__main__":
    main()
