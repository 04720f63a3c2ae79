"""QuZO: weights that stay quantised, by stochastic rounding of probes and steps (Zhou et al., 2025, arXiv 2502.12346)."""

import torch

from zobench.core import philox, quantise
from zobench.core.estimators import mean, two_sided
from zobench.core.perturb import dense, elements
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="QuZO",
    year=2025,
    paper="2502.12346",
    order="zeroth",
    family="two-point",
    rate="two_point / 4",
    forwards="n * (2 + guided)",
    state="(rows if matrix and scales == 'row' else 1) * wide",
    replay="local",
    mode="eval",
    quantised=True,
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", n=">=1", bits=">=2 <=8", span=">0"),
    choices=dict(scales=("tensor", "row")),
    aliases=(),
    notes="From a secondary source. Our reading: every trained tensor is rounded to its grid when the optimizer is made; "
    "u1 is eps u rounded to whole steps of that grid, over eps, so that probes are on it too (they may pass its "
    "end, weights may not); one last rounding serves the sum over the queries. The model keeps its floating-point "
    "weights: this shows what the method learns, not the memory that a quantised model saves. eps (ours) should be "
    "a step of the grid or more (8 bits on rows of a language model: about 1e-3): below it the noise of rounding "
    "grows as step / eps and asks for a smaller lr.",
)

__all__ = ["QuZO"]


class QuZO(ZerothOrder):
    """theta = scale * code, codes of `bits` bits. u1, u2: independent stochastic roundings of one gaussian u to the grid;
    g = (L(theta + eps u1) - L(theta - eps u1)) / (2 eps); theta -= Q(lr * (mean_i g_i u2_i + weight_decay theta)).

    Q rounds to whole steps of the grid, up or down with the probabilities that keep the mean. n: directions. scales:
    one per tensor or row (of matrices), set at the start. span: reach of the grid of a tensor that starts at zero.
    """

    def __init__(self, params, lr=1e-6, *, eps=1e-2, n=1, bits=8, scales="row", span=1.0, **common):
        super().__init__(params, dict(lr=lr), eps=eps, n=n, bits=bits, scales=scales, span=span, **common)
        for p in self.tensors:
            self.state[p]["scale"] = quantise.fit(p, bits, scales, span)
        self.given = [p.detach().clone() for p in self.tensors]  # until the first step; see load_state_dict
        self.write([self.on_grid(p, w) for p, w in zip(self.tensors, self.given, strict=True)])

    def on_grid(self, p, w):
        scale = self.state[p]["scale"]
        return quantise.write(w.clone(), quantise.codes(w, scale, self.bits), scale)

    @torch.no_grad()
    def write(self, values):
        for p, value in zip(self.tensors, values, strict=True):
            p.data.copy_(value)

    def load_state_dict(self, state_dict):
        """Weights that were loaded before this optimizer was made, which rounded them to another grid, are put back."""
        pairs = list(zip(self.tensors, self.given or (), strict=False))
        untouched = bool(pairs) and all(torch.equal(p, self.on_grid(p, w)) for p, w in pairs)
        super().load_state_dict(state_dict)
        if untouched:
            self.write([self.on_grid(p, w) for p, w in pairs])

    def made_of(self, values):
        """A direction whose elements are values(w, i, part)."""
        return dense([p.new_ones(()).expand(p.shape) for p in self.tensors]).scaled(values)

    def uniform(self):
        self.draws += 1
        draw = self.draws
        return lambda w, i, part: philox.uniform(
            self.seed, draw, i, philox.ROUNDING, part.stop - part.start, part.start, w.device
        ).to(w.dtype)

    def rounded(self, z):
        """eps z rounded to whole steps of the grid, over eps."""
        uniform = self.uniform()

        def values(w, i, part):
            p = self.tensors[i]
            step = quantise.spread_part(self.state[p]["scale"], p, part) / self.eps
            return torch.floor(elements(z, w, i, part) / step + uniform(w, i, part)) * step

        return self.made_of(values)

    def propose(self):
        return self.draw() if self.guide == "none" else self.rounded(self.draw())

    def update(self):
        self.given = None
        probed, u, limit = [], [], quantise.largest(self.bits)
        for _ in range(self.n):
            u.append((yield from self.direction()))
            probed.append(self.rounded(u[-1]))
        values = yield [self.at(radius * z) for z in probed for radius in (self.eps, -self.eps)]
        slopes = two_sided(self, values)
        estimate = mean([self.rounded(z) for z in u], slopes) + self.decay()

        def rule(p, g, noise, state, group):
            scale = state["scale"]
            steps = torch.floor(group["lr"] * g / quantise.spread(scale, p) + noise)
            quantise.write(p, (quantise.codes(p, scale, self.bits) - steps).clamp(-limit, limit), scale)

        self.each(rule, estimate, self.made_of(self.uniform()))
        return sum(values) / len(values)
