"""DiZO: MeZO with tensors projected by their distance from the start (Tan et al., 2025, arXiv 2502.03304)."""

import math

from zobench.core import philox
from zobench.core.estimators import spsa
from zobench.core.info import state_bytes
from zobench.core.perturb import materialise, weights
from zobench.core.zeroth_order import Diverged, ZerothOrder

INFO = dict(
    title="DiZO",
    year=2025,
    paper="2502.03304",
    order="zeroth",
    family="two-point",
    forwards="2 + guided + (0 if (t + 1) % interval else 2 * inner)",
    state="numel * itemsize if 'lora_' in name or matrix and ('k_proj' in name or 'v_proj' in name or 'key' in name"
    " or 'value' in name) else 0",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7), interval=(50, 100, 200, 400), tau=(0.1, 0.2, 0.3)),
    limits=dict(lr=">=0", eps=">0", interval=">=1", inner=">=1", tau=">=0", radius=">0", step_size=">=0"),
    brief=dict(interval=3, inner=2),
    aliases=(),
    notes="MeZO's step and the projection after it are one write; the inner probes are shifted by both. Projected: K "
    "and V matrices by name (LoRA: its tensors). Our reading for a model without such names: all matrices, else "
    "all tensors. A tensor that has not moved, or has lr = 0, is left alone. interval > T is mezo in equal bits.",
)

__all__ = ["DiZO"]

NAMES = ("k_proj", "v_proj", "key", "value")


class DiZO(ZerothOrder):
    """MeZO; every `interval` steps theta_j = theta0_j + gamma_j / n_j (theta_j - theta0_j), n_j = |theta_j - theta0_j|.

    The gamma_j start at n_j and take `inner` two-point steps: z_j normal, clipped to tau n_j / radius; slope g from
    gamma +- radius z; gamma_j = clip(gamma_j - step_size n_j g z_j, (1 - tau) n_j, (1 + tau) n_j). lr, eps as in MeZO.
    """

    def __init__(
        self, params, lr=1e-6, *, eps=1e-3, interval=50, inner=10, radius=0.1, step_size=2.0, tau=0.2, **common
    ):
        projection = dict(interval=interval, inner=inner, radius=radius, step_size=step_size, tau=tau)
        super().__init__(params, dict(lr=lr), eps=eps, **projection, **common)

    def chosen(self):
        """Numbers of the tensors that are projected."""
        matrices = self.matrices()
        for found in (
            [i for i, (name, _) in enumerate(self.named()) if "lora_" in name],
            [i for i in matrices if any(part in self.named()[i][0] for part in NAMES)],
            matrices,
        ):
            if found:
                return found
        return list(range(len(self.tensors)))

    def state_bytes(self, shapes=None):
        if shapes is None:
            own = [self.tensors[i] for i in self.chosen()]
            return sum(p.numel() * p.element_size() for p in own)
        return state_bytes(self.info, self._given(), shapes)

    def placed(self, step, ratios):
        """The move to theta0_j + ratio_j (theta_j + step_j - theta0_j) where there is a ratio, else by the step."""
        factors = [ratios.get(i, 1.0) for i in range(len(self.tensors))]
        away = weights(self.memory["start"]).scaled([factor - 1.0 for factor in factors])
        return step.scaled(factors) + away.only(self.chosen())

    def project(self, step):
        """The ratios gamma_j / n_j that the inner steps find, after MeZO's step."""
        away = step + weights(self.memory["start"])
        lengths = {i: float(materialise(away, self.tensors[i].data, i).double().norm()) for i in self.chosen()}
        rates = self._per_tensor(lambda group: group["lr"])
        lengths = {i: n for i, n in lengths.items() if n > 0 and rates[i]}  # what has lr = 0 stays
        gamma = dict(lengths)
        for _ in range(self.inner):
            self.draws += 1
            drawn = {i: float(self.numbers(i, (1,), self.draws, philox.DIRECTION)) for i in lengths}
            most = {i: self.tau * n / self.radius for i, n in lengths.items()}
            z = {i: max(min(drawn[i], most[i]), -most[i]) for i in lengths}
            there = [{i: (gamma[i] + side * z[i]) / lengths[i] for i in z} for side in (self.radius, -self.radius)]
            plus, minus = yield [self.at(self.placed(step, ratios)) for ratios in there]
            slope = (plus - minus) / (2 * self.radius)
            if not math.isfinite(slope):
                raise Diverged(f"step {self.steps + 1}: the slope of the projection is {slope}")
            for i, n in lengths.items():
                wanted = gamma[i] - self.step_size * n * slope * z[i]
                gamma[i] = max(min(wanted, (1 + self.tau) * n), (1 - self.tau) * n)
        return {i: gamma[i] / n for i, n in lengths.items()}

    def update(self):
        if self.steps == 0:
            kept = frozenset(self.chosen())
            self.memory["start"] = [p.detach().clone() if i in kept else None for i, p in enumerate(self.tensors)]
        (z,), (slope,), loss = yield from spsa(self)
        if (self.steps + 1) % self.interval:
            self.descend(slope * z)
            return loss
        step = (slope * z + self.decay()).scaled(self._per_tensor(lambda group: -group["lr"]))
        ratios = yield from self.project(step)
        self.apply(self.placed(step, ratios))
        return loss
