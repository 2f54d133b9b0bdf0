"""Family ``certificate``: solves whose returned point must be close to a fixed point that can be proved to exist (level L5)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from refdeq.types import StopRule
from refdeq_validation.cases.building import SHORT, Numbers
from refdeq_validation.cases.model import Case
from refdeq_validation.cases.solving import SOLVERS, cell, convolution, rule_of, solved, solves

__all__ = ["cases"]

TIGHT = {"float32": 2.0**-16, "float64": 2.0**-30}
"""Tolerances that every solver reaches in its dtype, and that leave room for Krawczyk's test."""


def cases(dtype: str) -> Iterator[Case]:
    """Smooth cells under every kind of solver, and rules whose thresholds the tolerance allows."""
    stop = StopRule(rtol=TIGHT[dtype], max_eval=60)
    kinds = ("picard", "damped", "anderson", "anderson-weights", "broyden")
    for activation, name in product(("Tanh", "Sigmoid", "Identity"), kinds):
        slug = f"{activation.lower()}-{name}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = cell(number, 8, None, activation=activation, solver=SOLVERS[name], stop=stop, scale=0.25)
        x, z0 = number.full("x", (3, 8)), number.full("z0", (3, 8))
        title = f"A {activation} cell solved by {name}: the returned point is within its tolerance of a proved fixed point."
        yield solved(
            "L5", "certificate", slug, title, ("STOP_RULE", "RETURNED", "SOLVER_STEP"), problem, solves(x, z0, trace=False)
        )
    for preset, name in product(("refdeq", "delta-network"), ("picard", "damped")):
        slug = f"gated-{preset}-{name}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        rule = rule_of(preset, TIGHT[dtype] / 64.0)
        problem = cell(number, 8, rule, solver=SOLVERS[name], stop=stop)
        x, z0 = number.full("x", (3, 8)), number.full("z0", (3, 8))
        title = f"A gated cell, rule {preset}: what the threshold holds back is in the enclosure."
        wrong = ("STOP_RULE", "RETURNED", "MEMORY_RULE", "THRESHOLD")
        yield solved("L5", "certificate", slug, title, wrong, problem, solves(x, z0, trace=False))
    slug = f"convolution-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = convolution(number, None, stop=stop)
    x, z0 = number.full("x", (2, 2, 4, 5)), number.full("z0", (2, 2, 4, 5))
    title = "A convolution: forty unknowns."
    bugs = ("STOP_RULE", "RETURNED", "CONV_GEOMETRY")
    yield solved("L5", "certificate", slug, title, bugs, problem, solves(x, z0, trace=False))
