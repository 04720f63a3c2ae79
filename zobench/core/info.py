"""What an optimizer's INFO says of itself: the cost of a step and the size of its state as formulas, and limits of options.

No torch: `zobench list` shows both without importing an optimizer. A formula is an expression in the optimizer's options:

    forwards="2 * n"                                 n is an option
    forwards="2 if t % interval else 2 * anchor"     t: the number of the step, from 0
    forwards="blocks * 2"                            blocks: of the model, by the option `level` (layer where there is none)
    state="numel * wide"                             bytes for one tensor, summed over the trained tensors

`guided` is the number of forwards that a guide of the direction takes (0 without one). In `state` there are, of each tensor,
`numel`, `ndim`, `rows` and `cols` (as a matrix: the first dimension and the rest), `matrix` (1 if ndim >= 2), `name`, `itemsize`
(bytes of an element), `wide` (bytes of an element where numbers are kept for computing: 4, or 8 for float64), and `block` and
`blocks`: the number of its layer, from 0, and how many there are.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from zobench.core.blocks import blocks as blocks_of

# Options that every zeroth-order optimizer takes through `**common`; in a cell only where they are not these defaults.
# INFO `late=dict(option=default)` treats options of one file like that: what it has learnt since its results were stored.
COMMON: dict[str, Any] = dict(weight_decay=0.0, law="gaussian", guide="none", candidates=2, alpha=0.5)
COMMON_LIMITS = dict(weight_decay=">=0", candidates=">=2", alpha=">0")
COMMON_CHOICES = dict(law=("gaussian", "rademacher", "sphere"), guide=("none", "gv", "greedy"))


@cache
def side(numel: int) -> int:
    """The shorter side of the most square matrix of so many elements: the largest divisor not above the root."""
    return next((k for k in range(math.isqrt(numel), 0, -1) if numel % k == 0), 0)


FUNCTIONS = dict(min=min, max=max, ceil=math.ceil, floor=math.floor, sqrt=math.sqrt, int=int, abs=abs, side=side)
NODES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call, ast.Name, ast.Constant, ast.Load,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.Tuple,
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What one step asks of the model. A jvp is one call of the model that also carries a tangent."""

    forwards: int
    backwards: int = 0
    jvps: int = 0

    @property
    def equivalents(self) -> int:
        """In forwards: a backward, and the tangent of a jvp, cost two (of three matrix products, they make two)."""
        return self.forwards + 2 * (self.backwards + self.jvps)


@dataclass(frozen=True)
class Shape:
    """A trained tensor, as far as the size of an optimizer's state depends on it."""

    name: str
    dims: tuple[int, ...]
    itemsize: int = 4


def of_class(cls: type) -> Mapping[str, Any]:
    """INFO of the file of an optimizer's class; a class of one's own made from it has it too."""
    modules = [sys.modules.get(base.__module__) for base in cls.__mro__]
    return next((module.INFO for module in modules if hasattr(module, "INFO")), {})  # type: ignore[union-attr]


def evaluate(formula: Any, names: Mapping[str, Any]) -> float:
    """The value of an arithmetic expression; a ValueError names what it cannot be made of."""
    if not isinstance(formula, str):
        return formula
    code, used = _compiled(formula)
    for name in used:
        if name not in names:
            raise ValueError(f"the formula {formula!r} uses {name!r}; known are {', '.join(sorted(names))}")
    return eval(code, {"__builtins__": {}}, {**FUNCTIONS, **names})


@cache
def _compiled(formula: str) -> tuple[Any, tuple[str, ...]]:
    """The code of a formula and the names that it uses; it is evaluated for many steps and tensors."""
    try:
        tree = ast.parse(formula.strip(), mode="eval")
    except SyntaxError:
        raise ValueError(f"the formula {formula!r} is no expression") from None
    for node in ast.walk(tree):
        if not isinstance(node, NODES) or (
            isinstance(node, ast.Call) and getattr(node.func, "id", "") not in FUNCTIONS
        ):
            raise ValueError(f"the formula {formula!r} may only use numbers, options and {', '.join(FUNCTIONS)}")
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - set(FUNCTIONS)
    return compile(tree, "<formula>", "eval"), tuple(sorted(used))


def cost(info: Mapping[str, Any], options: Mapping[str, Any], step: int = 0, blocks: int = 1) -> Cost:
    """The cost of step number `step` (from 0). blocks: into how many the model falls (core/blocks.py)."""
    options = COMMON | info.get("late", {}) | dict(options)
    names = {
        **options,
        "t": step,
        "blocks": blocks,
        "guided": options["candidates"] if options["guide"] != "none" else 0,
    }
    return Cost(*(int(evaluate(info.get(key, "0"), names)) for key in ("forwards", "backwards", "jvps")))


def state_bytes(info: Mapping[str, Any], options: Mapping[str, Any], shapes: Iterable[Shape]) -> int:
    """Bytes that the optimizer keeps between steps once every part of its cycle has passed; gradients not included."""
    shapes = list(shapes)
    layers = blocks_of([(shape.name, None) for shape in shapes])
    block = {i: number for number, layer in enumerate(layers) for i in layer}
    place = [dict(block=block[i], blocks=len(layers)) for i in range(len(shapes))]
    options = COMMON | info.get("late", {}) | dict(options)
    names = [{**options, **_of(shape), **at} for shape, at in zip(shapes, place, strict=True)]
    return sum(int(evaluate(info.get("state", "0"), known)) for known in names)


def rate(info: Mapping[str, Any], options: Mapping[str, Any], rates: Mapping[str, float], d: int = 1) -> float:
    """The step rate on a task that publishes rates by family: its family's, or by the formula `rate` of INFO.

    The formula may use gradient, two_point, adaptive, the options, and d, the number of trained elements. For the mean of n
    two-point directions (INFO names that option in `directions`): one direction may step 1/(l (r + 2)), n of them
    1/(l (1 + (r + 1)/n)) (the second moment of the mean of n estimates), which lies between the two-point rate t and the
    gradient's g: g / (1 + (g/t - 1)/n).
    """
    if "rate" in info:
        known = {name.replace("-", "_"): float(value) for name, value in rates.items()}
        return float(evaluate(info["rate"], {**COMMON, **info.get("late", {}), **options, **known, "d": d}))
    found = float(rates[info["family"]])
    n = options.get(info.get("directions", ""), 1)
    if info["family"] != "two-point" or n == 1 or "gradient" not in rates:
        return found
    gradient = float(rates["gradient"])
    mean = gradient / (1 + (gradient / found - 1) / n)
    return mean if options.get("average", True) else mean / n


def _of(shape: Shape) -> dict[str, Any]:
    numel = math.prod(shape.dims)
    rows = shape.dims[0] if shape.dims else 1
    return dict(
        name=shape.name,
        numel=numel,
        ndim=len(shape.dims),
        rows=rows,
        cols=numel // max(rows, 1),
        matrix=int(len(shape.dims) >= 2),
        itemsize=shape.itemsize,
        wide=8 if shape.itemsize == 8 else 4,
    )


def opt_125m() -> list[Shape]:
    """The trained tensors of OPT-125M in float32, the example for which `list` shows an optimizer's state."""
    d = 768

    def linear(name: str, rows: int, cols: int) -> list[tuple[str, tuple[int, ...]]]:
        return [(f"{name}.weight", (rows, cols)), (f"{name}.bias", (rows,))]

    def norm(name: str) -> list[tuple[str, tuple[int, ...]]]:
        return [(f"{name}.weight", (d,)), (f"{name}.bias", (d,))]

    block = [pair for p in ("k_proj", "v_proj", "q_proj", "out_proj") for pair in linear(f"self_attn.{p}", d, d)]
    block += norm("self_attn_layer_norm") + linear("fc1", 4 * d, d) + linear("fc2", d, 4 * d) + norm("final_layer_norm")
    shapes = [("embed_tokens.weight", (50272, d)), ("embed_positions.weight", (2050, d)), *norm("final_layer_norm")]
    shapes += [(f"layers.{i}.{name}", dims) for i in range(12) for name, dims in block]
    return [Shape(name, dims) for name, dims in shapes]


def multiple(info: Mapping[str, Any], options: Mapping[str, Any]) -> float:
    """Its state on OPT-125M in float32, in copies of the trained weights."""
    shapes = opt_125m()
    return state_bytes(info, options, shapes) / sum(math.prod(s.dims) * s.itemsize for s in shapes)


def bounds_of(limit: str) -> list[tuple[str, float]]:
    """(operator, bound) of each part of a limit such as ">=0" or ">=0 <1"; ValueError for another text."""
    parts = [re.fullmatch(r"(<=|>=|<|>)(\S+)", part) for part in limit.split()]
    if not parts or None in parts:
        raise ValueError(f"cannot read the limit {limit!r}: write '>=0', '<1' or both, '>=0 <1'")
    return [(part[1], float(part[2])) for part in parts if part]


def within(limit: str, value: float) -> bool:
    """Whether a finite number keeps a limit such as ">=0 <1"."""
    compare = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
    return abs(value) != math.inf and all(compare[sign](value, bound) for sign, bound in bounds_of(limit))


def spoken(limit: str) -> str:
    """The limit in a sentence: ">= 0 and < 1"."""
    return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds_of(limit))


def check(info: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise a ValueError for the first option outside its limit or choices."""
    limits, choices = COMMON_LIMITS | info.get("limits", {}), COMMON_CHOICES | info.get("choices", {})
    for name, value in options.items():
        if name in limits and isinstance(value, (int, float)) and not within(limits[name], value):
            raise ValueError(f"{name} must be {spoken(limits[name])}, not {value!r}")
        if name in choices and value not in choices[name]:
            raise ValueError(f"{name} must be one of {', '.join(map(str, choices[name]))}, not {value!r}")
