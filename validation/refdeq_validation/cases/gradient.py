"""Family ``gradient``: implicit gradients of dense cells and with frozen masks (level L6)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from refdeq.types import StopRule
from refdeq_validation.cases.building import SHORT, Numbers
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.cases.solving import cell, convolution, rule_of, solved

__all__ = ["cases"]


def cases(dtype: str) -> Iterator[Case]:
    """Every activation with the dense Jacobian, every rule with its masks frozen, strong coupling, convolutions."""
    for activation, bias in product(("Tanh", "Sigmoid", "Identity", "Relu", "LeakyRelu", "Sin", "Cos", "Exp"), (True, False)):
        slug = f"dense-{activation.lower()}-{'bias' if bias else 'plain'}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = cell(number, 6, None, activation=activation, bias=bias, scale=0.375)
        title = f"The gradient of a {activation} cell at a given point."
        calls = [_gradient(number, (3, 6))]
        yield solved("L6", "gradient", slug, title, ("GRADIENT", "BIAS"), problem, calls)
    for preset, compare in product(("refdeq", "paper", "deltadeq-code", "delta-network"), ("gt", "ge")):
        slug = f"frozen-{preset}-{compare}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        stop = StopRule(max_eval=3)
        problem = cell(number, 7, rule_of(preset, 0.0625, compare=compare), scale=0.375, stop=stop)
        pair = _gradient(number, (3, 7), "frozen-mask"), _gradient(number, (3, 7))
        title = f"The gradient with the final masks of a solve frozen ({preset}, {compare}), and the dense one."
        calls = [*_frozen(number, (3, 7)), *pair]
        yield solved("L6", "gradient", slug, title, ("GRADIENT", "MASK"), problem, calls)
    for size in (1, 2, 12):
        slug = f"size-{size}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = cell(number, size, None, scale=0.5 / size**0.5, bias=True)
        calls = [_gradient(number, (4, size))]
        yield solved("L6", "gradient", slug, f"A cell of {size} elements.", ("GRADIENT", "INDEXING"), problem, calls)
    for preset in ("dense", "refdeq"):
        slug = f"convolution-{preset}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = convolution(number, rule_of(preset, 0.0625), stop=StopRule(max_eval=3))
        shape = (2, 2, 4, 5)
        calls = [] if preset == "dense" else [*_frozen(number, shape), _gradient(number, shape, "frozen-mask")]
        calls.append(_gradient(number, shape))
        title = f"The gradient of a convolution, {preset}."
        yield solved("L6", "gradient", slug, title, ("GRADIENT", "CONV_GEOMETRY", "INDEXING"), problem, calls)


def _gradient(number: Numbers, shape: tuple[int, ...], jacobian: str = "dense") -> Call:
    arrays = {name: number.full(f"{name}-{jacobian}", shape) for name in ("x", "z", "cotangent")}
    return Call("gradient", arrays, {"jacobian": jacobian})


def _frozen(number: Numbers, shape: tuple[int, ...]) -> tuple[Call, Call]:
    """A traced solve of three evaluations, whose last masks are neither empty nor full."""
    arrays = {"x": number.full("x", shape), "z0": number.full("z0", shape)}
    return Call("reset", options={"batch": shape[0]}), Call("solve", arrays, {"trace": True})
