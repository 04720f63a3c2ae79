"""The scripts of examples/ run as they stand, offline, in seconds, and what they train learns."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> dict:
    return runpy.run_path(str(EXAMPLES / name))


def test_every_example_is_run_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"plain_loop.py", "trainer.py"}


def test_the_plain_loop_learns_and_goes_on_from_its_checkpoint_to_the_same_bits(capsys):
    space = example("plain_loop.py")
    losses = space["main"]()
    assert sum(losses[-20:]) < 0.7 * sum(losses[:20]) and "800 forwards" in capsys.readouterr().out
    model, opt = space["start"]()
    assert space["train"](model, opt, range(len(losses))) == losses


def test_the_trainer_learns_without_a_backward(monkeypatch, capsys):
    pytest.importorskip("accelerate", reason="the Trainer of transformers needs it")
    import torch

    def refuse(*_, **__):
        raise AssertionError("a backward pass")

    monkeypatch.setattr(torch.Tensor, "backward", refuse)
    losses = example("trainer.py")["main"]()
    assert losses[-1] < 0.9 * losses[0] and "no backward" in capsys.readouterr().out


def test_a_class_of_ones_own_knows_what_it_costs():
    cls = example("trainer.py")["MeZOInTrainer"]
    import torch

    opt = cls(torch.nn.Linear(2, 1), lr=1e-3)
    assert opt.cost().forwards == 2 and opt.state_bytes() == 0
    with pytest.raises(ValueError, match="eps must be"):
        cls(torch.nn.Linear(2, 1), eps=-1.0)
