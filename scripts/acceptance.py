"""Measure what gradient descent and Newton reach on the nonconvex synthetic instances: zobench/problems/acceptance.toml.

    .venv/bin/python scripts/acceptance.py                       # tiny, instances 0-19
    .venv/bin/python scripts/acceptance.py --scale standard --instances 3
    .venv/bin/python scripts/acceptance.py bigram cosh           # only these; the others keep their lines

Each instance at its default knobs, in float64, from x0: 3,000 steps of gradient descent with Armijo's rule, and damped
saddle-free Newton where a Hessian can be written out. Both stop once the relative gap is 1e-10. Nothing is random.
"""

from __future__ import annotations

import argparse
import math
import time
import tomllib
from pathlib import Path

import torch
from torch import Tensor

from zobench import registry
from zobench.problems.regression import Regression
from zobench.spec import Setting

TABLE = Path(__file__).parents[1] / "zobench" / "problems" / "acceptance.toml"
NONCONVEX = (
    "attention bigram conv cosh exp leverage leverage_grad matfac relu_softmax rescaled_exp resnet_softmax rosenbrock "
    "rows_l2 sinh softmax_l2 softmax_relu"
).split()
GD_STEPS, NEWTON_STEPS = 3000, 200
NEWTON_DIMENSION = 1000
SOLVED = 1e-10
LONGEST = 1e12  # step of Armijo's rule, which a run that has converged would double for ever


class Descent:
    """One instance as the two methods see it."""

    def __init__(self, name: str, scale: str, instance: int) -> None:
        entry = registry.find("task", name)
        problem = registry.load(entry).build(Setting(), **registry.resolve(entry, dict(scale=scale, instance=instance)))
        assert isinstance(problem, Regression)
        self.problem, self.oracle = problem, problem.oracle
        self.whole = 1.0
        self.whole = self.gap(self.oracle.start())

    def value(self, x: Tensor) -> float:
        return float(self.oracle.value(x))

    def value_and_gradient(self, x: Tensor) -> tuple[float, Tensor]:
        x = x.requires_grad_()
        value = self.problem.exact.value(self.oracle.named(x))  # autograd alone: a third of torch.func's time
        (gradient,) = torch.autograd.grad(value, x)
        return float(value.detach()), gradient

    @torch.no_grad()
    def gap(self, x: Tensor) -> float:
        problem = self.problem
        return float(problem.exact.gap(self.oracle.named(x), problem.optimum, problem.instance.f_star)) / self.whole

    def gradient_descent(self) -> float:
        x, t, gap = self.oracle.start(), 1.0, 1.0
        for _ in range(GD_STEPS):
            value, gradient = self.value_and_gradient(x)
            x, square = x.detach(), float(gradient @ gradient)
            t = min(2 * t, LONGEST)
            while t > 1e-300 and not self.value(x - t * gradient) <= value - 0.5 * t * square:
                t /= 2
            if square == 0 or t <= 1e-300:
                break
            x = x - t * gradient
            gap = self.gap(x)
            if gap <= SOLVED:
                break
        return gap

    def newton(self) -> float:
        """Saddle-free: the Hessian's eigenvalues by their size; damped by Armijo's rule."""
        if self.oracle.dimension > NEWTON_DIMENSION:
            return math.inf
        x, gap = self.oracle.start(), 1.0
        for _ in range(NEWTON_STEPS):
            value, gradient = self.value_and_gradient(x)
            x = x.detach()
            values, vectors = torch.linalg.eigh(self.oracle.hessian(x))
            size = values.abs().clamp(min=1e-10 * float(values.abs().max()))
            step, t = vectors @ ((vectors.T @ gradient) / size), 1.0
            while t > 1e-12 and not self.value(x - t * step) <= value - 1e-4 * t * float(gradient @ step):
                t /= 2
            if t <= 1e-12:
                break
            x = x - t * step
            gap = self.gap(x)
            if gap <= SOLVED:
                break
        return gap


def write(table: dict[str, dict[str, dict[str, list[float]]]]) -> None:
    lines = [
        "# Relative gaps that gradient descent (gd) and saddle-free Newton reach, by instance, at default knobs.",
        "# Written by scripts/acceptance.py. 1e-10: or less; inf: not run.",
    ]
    for name in sorted(table):
        for scale, methods in table[name].items():
            lines += ["", f"[{name}.{scale}]"]
            for method, gaps in methods.items():
                lines.append(f"{method} = [{', '.join(f'{max(gap, SOLVED):.1e}' for gap in gaps)}]")
    TABLE.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NONCONVEX)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--instances", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names:
        began, found = time.perf_counter(), {"gd": [], "newton": []}
        for instance in range(arguments.instances):
            descent = Descent(name, arguments.scale, instance)
            found["gd"].append(descent.gradient_descent())
            found["newton"].append(descent.newton())
        table = tomllib.loads(TABLE.read_text()) if TABLE.exists() else {}
        table.setdefault(name, {})[arguments.scale] = found
        write(table)
        stuck = [i for i, gap in enumerate(found["gd"]) if not gap <= 1e-2]
        print(f"{name:16} {time.perf_counter() - began:6.1f} s; gd above 1e-2 on {stuck}", flush=True)


if __name__ == "__main__":
    main()
