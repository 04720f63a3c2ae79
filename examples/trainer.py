"""A zeroth-order optimizer in the Trainer of transformers: two forwards a step, no backward, the memory of inference.

    python examples/trainer.py

The Trainer's schedule, logging and checkpoints work as ever. Use one process and gradient_accumulation_steps=1. Runs offline
on a small random model; needs `pip install accelerate`, as the Trainer does.
"""

import tempfile

import torch
from transformers import OPTConfig, OPTForCausalLM, Trainer, TrainingArguments

from zobench.optimizers import MeZO

STEPS = 200


class MeZOInTrainer(MeZO):
    """The Trainer calls `step()` after `training_step`, which has made the step by then: without a closure nothing is left."""

    def step(self, closure=None):
        return None if closure is None else super().step(closure)


class ZerothOrderTrainer(Trainer):
    """Hands each batch to the optimizer as a closure."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.eval()  # probes must see one function: no dropout
        inputs = self._prepare_inputs(inputs)
        optimizer = getattr(self.optimizer, "optimizer", self.optimizer)  # accelerate has wrapped it
        loss = optimizer.step(lambda: self.compute_loss(model, inputs))
        return torch.tensor(loss, device=self.args.device)


class Rows(torch.utils.data.Dataset):
    """Sequences that repeat two tokens, which a model must learn to continue."""

    def __init__(self, count: int = 64, length: int = 16):
        generator = torch.Generator().manual_seed(0)
        self.rows = torch.randint(4, 12, (count, 2), generator=generator).repeat(1, length // 2)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[i], "labels": self.rows[i]}


def main() -> list[float]:
    """Train; returns the losses that the Trainer logged."""
    torch.manual_seed(0)
    model = OPTForCausalLM(
        OPTConfig(vocab_size=16, hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2,
                  num_attention_heads=2, max_position_embeddings=32)
    )  # fmt: skip
    optimizer = MeZOInTrainer(model, lr=4e-3, eps=1e-3, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=STEPS, per_device_train_batch_size=16, logging_steps=STEPS // 5,
            save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = ZerothOrderTrainer(model, arguments, train_dataset=Rows(), optimizers=(optimizer, None))
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f} in {optimizer.steps} steps, no backward")
    return losses


if __name__ == "__main__":
    main()
