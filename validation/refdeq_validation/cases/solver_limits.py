"""Solves at the ends of what is allowed: relaxation beyond 1 (S-6), and scales that overflow float64 (S-3)."""

from __future__ import annotations

from collections.abc import Iterator

from refdeq.types import StopRule
from refdeq_validation.cases.building import SHORT, Numbers
from refdeq_validation.cases.model import Case
from refdeq_validation.cases.solving import cell, convolution, rule_of, solved, solves
from refdeq_validation.protocol.problem import Problem

__all__ = ["cases"]

BEYOND = {"quarter-beyond": 1.25, "twice": 2.0}
"""Relaxations above 1, where the old point counts negatively."""


def cases(dtype: str) -> Iterator[Case]:
    """Relaxation beyond 1; norms beyond float64, which only its own numbers reach."""
    for name in BEYOND:
        for preset in ("dense", "refdeq", "paper"):
            yield relaxed(dtype, name, preset)
    yield relaxed_convolution(dtype)
    if dtype == "float64":
        for rule in ("rtol", "atol", "linf"):
            for preset in ("dense", "refdeq"):
                yield overflowing(dtype, rule, preset)


def relaxed(dtype: str, name: str, preset: str) -> Case:
    """``z <- (1 - alpha) z + alpha f`` with alpha > 1 on a contraction of about 1/4."""
    slug = f"relaxed-{name}-{preset}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    solver = {"name": "krasnoselskii-mann", "alpha": BEYOND[name]}
    stop = StopRule(rtol=2.0**-6, max_eval=9)
    problem = cell(number, 5, rule_of(preset), scale=0.25, solver=solver, stop=stop)
    x, z0 = number.full("x", (3, 5)), number.full("z0", (3, 5)) * number.array(0.25)
    x[2] = x[2] * number.array(0.0625)
    title = f"Krasnoselskii-Mann with alpha = {BEYOND[name]:g}, rule {preset}: it goes beyond f."
    return solved("L2", "solver", slug, title, ("SOLVER_STEP", "STOP_RULE"), problem, solves(x, z0, twin=True))


def relaxed_convolution(dtype: str) -> Case:
    """The same for a convolution."""
    slug = f"relaxed-convolution-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = convolution(number, rule_of("refdeq"), solver={"name": "krasnoselskii-mann", "alpha": 1.25})
    x, z0 = number.full("x", (2, 2, 4, 5)), number.full("z0", (2, 2, 4, 5)) * number.array(0.25)
    title = "A convolution solved by Krasnoselskii-Mann with alpha = 1.25."
    return solved("L2", "solver", slug, title, ("SOLVER_STEP",), problem, solves(x, z0, twin=True))


def overflowing(dtype: str, rule: str, preset: str) -> Case:
    """``||f||^2`` overflows while ``||f - z||`` does not: x / Inf = 0 is no convergence, NONFINITE is decided first (S-3)."""
    slug = f"scale-overflows-{rule}-{preset}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    stop = {
        "rtol": StopRule(rtol=2.0**-8, max_eval=7),
        "atol": StopRule(atol=2.0**-8, max_eval=9),
        "linf": StopRule(rtol=2.0**-8, norm="linf", max_eval=7),
    }[rule]
    weight = number.array([[0.25, 0.0], [0.125, 0.25]])
    problem = Problem("Gemm", dtype, (2,), weight, None, rule_of(preset, 0.0), stop=stop)
    large = 2.0**520
    x, z0 = number.array([[0.75 * large, 1.0], [0.5, 1.0], [1.0, 0.25]]), number.array([[large, 0.0], [0.0, 0.0], [0.5, 0.5]])
    z0[0, 1] = -0.125 * large / 0.75
    x[0, 1] = z0[0, 1] * 0.75 - 0.125 * large
    title = f"The scale of one sample overflows beside small ones, judged by {rule}."
    return solved("L2", "solver", slug, title, ("STOP_RULE", "SPECIAL_VALUES"), problem, solves(x, z0, twin=True))
