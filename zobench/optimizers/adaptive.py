"""Adaptive: Adam with clipping, its rate decayed late and on plateaus (our reading of a 2024 paper, arXiv 2412.04718)."""

import math

import torch

from zobench.core import info as about
from zobench.core.first_order import FirstOrder, adam_step, is_half

INFO = dict(
    title="Adaptive (our reading)",
    year=2024,
    paper="2412.04718",
    order="first",
    family="adaptive",
    forwards="1",
    backwards="1",
    state="2 * numel * wide + 4",
    replay="none",
    mode="train",
    grid=dict(lr=(1e-5, 5e-5, 8e-5)),
    limits=dict(
        lr=">=0", beta1=">=0 <1", beta2=">=0 <1", eps=">0", weight_decay=">=0", clip=">=0", decay=">=0",
        start=">=0 <1", warmup=">=0", patience=">=0", factor=">0", tol=">=0", total_steps=">=0",
    ),
    aliases=(),
    notes="zobench's reading of 2412.04718, not the published algorithm: no source that we could reach prints its update rule. "
    "Known are Adam's moments, clipping by the global norm, exponential decay late in training and an adjustment by "
    "performance metrics; every number here is ours. clip=0, decay=0 and patience=0 switch a part off; without all "
    "three it is adam, bit for bit; but moments of half-precision weights are float32. The metric is the validation loss.",
)  # fmt: skip

__all__ = ["Adaptive"]


class Adaptive(FirstOrder, torch.optim.Adam):
    """g *= min(1, clip / |g|), |g| over all tensors; an Adam step at the rate

        lr_t = lr * kappa * min(1, t / warmup) * exp(-decay * max(0, t - t0) / (T - t0)),    t0 = start * T, t from 1.

    total_steps: T; 0 takes it from the run's budget. decay: the last rate is exp(-decay) of lr (3: 5 %). After `patience`
    validations in a row whose loss is not below the best by more than `tol`, kappa *= factor. weight_decay is decoupled.
    """

    def __init__(
        self, params, lr=1e-5, *, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, clip=1.0, decay=3.0, start=0.5, warmup=0,
        patience=2, factor=0.5, tol=0.0, total_steps=0,
    ):  # fmt: skip
        plateau = dict(patience=patience, factor=factor, tol=tol)
        run = dict(clip=clip, decay=decay, start=start, warmup=warmup, total_steps=total_steps) | plateau
        about.check(INFO, run)
        if decay and not total_steps:
            raise ValueError("the decay ends with the run: give total_steps, its length in steps, or decay=0")
        super().__init__(
            params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, decoupled_weight_decay=True
        )
        # in the first group, where state_dict, checkpoints and deep copies find them
        self.param_groups[0].update(run, taken=0, kappa=1.0, best=math.inf, bad=0)

    def schedule(self, t):
        """lr_t / lr at step t, from 1."""
        run = self.param_groups[0]
        warm = min(1.0, t / run["warmup"]) if run["warmup"] else 1.0
        t0 = run["start"] * run["total_steps"]
        late = max(0.0, t - t0) / (run["total_steps"] - t0) if run["decay"] else 0.0
        return run["kappa"] * warm * math.exp(-run["decay"] * late)

    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        run = self.param_groups[0]
        if run["clip"]:
            self._clip(run["clip"])
        run["taken"] += 1
        rates, factor = [group["lr"] for group in self.param_groups], self.schedule(run["taken"])
        gradients = {p: p.grad for p in self._tensors() if is_half(p)}
        try:
            for group in self.param_groups:
                group["lr"] *= factor
            for p in gradients:
                p.grad = None  # not for torch, whose moments would be in half precision too
            super().step()
            for group in self.param_groups:
                for p in group["params"]:
                    if p in gradients:
                        self._move(p, gradients[p].float(), group)
        finally:
            for group, rate in zip(self.param_groups, rates, strict=True):
                group["lr"] = rate
            for p, g in gradients.items():
                p.grad = g
        return loss

    @torch.no_grad()
    def _move(self, p, g, group):
        state = self.state[p]
        if not state:
            state.update(step=torch.tensor(0.0), exp_avg=torch.zeros_like(g), exp_avg_sq=torch.zeros_like(g))
        state["step"] += 1
        step = adam_step(state["exp_avg"], state["exp_avg_sq"], g, int(state["step"]), group)
        p.copy_(p.float() * (1 - group["lr"] * group["weight_decay"]) - group["lr"] * step)

    def _tensors(self):
        return [p for group in self.param_groups for p in group["params"] if p.grad is not None]

    def _clip(self, limit):
        gradients = [p.grad for p in self._tensors()]
        if not gradients:
            return
        # in float64: squares of a half-precision gradient overflow
        norms = [torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients]
        norm = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms]))
        for g in gradients:
            g.mul_((limit / norm).clamp(max=1.0).to(g.device))

    def observe(self, metrics):
        run = self.param_groups[0]
        if not run["patience"] or "loss" not in metrics:
            return
        if metrics["loss"] < run["best"] - run["tol"]:
            run.update(best=float(metrics["loss"]), bad=0)
        elif run["bad"] + 1 >= run["patience"]:
            run.update(kappa=run["kappa"] * run["factor"], bad=0)
        else:
            run["bad"] += 1
