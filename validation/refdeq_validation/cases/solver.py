"""Family ``solver``: whole solves at the levels of replay, lockstep and free running."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from refdeq.types import StopRule
from refdeq_validation.cases.building import SHORT, Numbers, ruled
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.cases.solving import PRESETS, SOLVERS, STRAIGHT, cell, convolution, rule_of, solved, solves
from refdeq_validation.protocol.problem import Problem

__all__ = ["cases"]

Array = np.ndarray[Any, Any]


def cases(dtype: str) -> Iterator[Case]:
    """Solvers, statuses, ties of the stop rule, returned points, batches, cells; then lockstep and free running."""
    for make in (replayed, statuses, ties, lowest, batches, activations, granularities, lockstep, lockstep_ties, free):
        yield from make(dtype)


def _inputs(number: Numbers, batch: int, size: int) -> tuple[Array, Array]:
    """Injections of different sizes, so that samples stop at different evaluations, and first arguments."""
    sizes = number.array([2.0 ** (1 - 2 * (b % 4)) for b in range(batch)])
    return number.full("x", (batch, size)) * sizes[:, None], number.full("z0", (batch, size)) * number.array(0.25)


def replayed(dtype: str) -> Iterator[Case]:
    """Every solver under every rule, with its trace, and once more without."""
    for (name, solver), preset in product(SOLVERS.items(), PRESETS):
        if name not in STRAIGHT and preset in ("paper", "deltadeq-code"):
            continue  # rules reach a solver with a window through f alone
        slug = f"{name}-{preset}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = cell(number, 6, rule_of(preset), solver=solver, scale=0.375, stop=StopRule(rtol=2.0**-8, max_eval=7))
        title = f"Solver {name}, rule {preset}: every step from the run's own bits, and the same bits without a trace."
        bugs = ("SOLVER_STEP", "FREEZING", "STOP_RULE", "RETURNED")
        yield solved("L2", "solver", slug, title, bugs, problem, solves(*_inputs(number, 3, 6), twin=True))


def statuses(dtype: str) -> Iterator[Case]:
    """Samples that end in every way there is, beside others that go on."""
    ways: dict[str, tuple[float, StopRule]] = {
        "diverged": (1.5, StopRule(rtol=2.0**-6, divergence=3.0, max_eval=8)),
        "stagnated": (0.25, StopRule(rtol=2.0**-30, stagnation=(2, 0.5), max_eval=12)),
        "budget": (0.25, StopRule(max_eval=3)),
        "one-evaluation": (0.25, StopRule(rtol=2.0**-1, max_eval=1)),
        "linf": (0.25, StopRule(atol=2.0**-6, norm="linf", max_eval=9)),
        "either-tolerance": (0.25, StopRule(atol=2.0**-4, rtol=2.0**-9, max_eval=9)),
        "large-eps": (0.25, StopRule(rtol=2.0**-5, eps=0.75, max_eval=9)),
        "not-a-number": (0.25, StopRule(rtol=2.0**-6, max_eval=8)),
    }
    for (way, (scale, stop)), preset in product(ways.items(), ("refdeq", "delta-network")):
        slug = f"ends-{way}-{preset}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        activation = "Identity" if way == "diverged" else "Tanh"
        solver = STRAIGHT["damped"] if way == "stagnated" else None
        problem = cell(number, 5, rule_of(preset), scale=scale, stop=stop, activation=activation, solver=solver)
        x, z0 = _inputs(number, 4, 5)
        if way == "not-a-number":
            x[1, 2], x[2, 0] = np.nan, np.inf
        title = f"Samples end {way.replace('-', ' ')} beside samples that end otherwise."
        yield solved("L2", "solver", slug, title, ("STOP_RULE", "FREEZING", "RETURNED"), problem, solves(x, z0, twin=True))
    yield breakdown(dtype)


def breakdown(dtype: str) -> Case:
    """A sample whose second step has a zero denominator, beside one that goes on: f moves with z, so g does not change."""
    slug = f"breakdown-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    weight = number.array([[1.0, 0.0], [0.0, 0.5]])
    stop = StopRule(atol=2.0**-20, max_eval=6)
    problem = Problem("Gemm", dtype, (2,), weight, None, None, solver=SOLVERS["broyden"], stop=stop)
    x, z0 = number.array([[1.0, 0.0], [0.0, 1.0]]), number.array([[0.5, 0.0], [0.0, 0.25]])
    title = "Broyden meets a zero denominator in one sample; the other is solved."
    return solved("L2", "solver", slug, title, ("STOP_RULE", "SOLVER_STEP"), problem, solves(x, z0, twin=True))


def _halving(dtype: str, weight: float, stop: StopRule, returned: str = "last") -> Problem:
    """The cell ``z <- weight z + x`` of one number: from 0 its residuals are ``|x| |weight|^t`` exactly."""
    array = np.array([[weight]], dtype)
    return Problem("Gemm", dtype, (1,), array, None, ruled(0.0), stop=stop, returned=returned)


def ties(dtype: str) -> Iterator[Case]:
    """Residuals that equal a limit exactly, or miss it by one unit in the last place (S-3: ``<=``)."""
    below, above = (float(np.nextafter(0.25, end)) for end in (0.0, 1.0))
    rules: dict[str, tuple[float, StopRule]] = {
        "atol": (-0.5, StopRule(atol=0.25, max_eval=6)),
        "atol-just-below": (-0.5, StopRule(atol=below, max_eval=6)),
        "atol-just-above": (-0.5, StopRule(atol=above, max_eval=6)),
        "rtol": (-0.5, StopRule(rtol=0.5, eps=0.5, max_eval=6)),
        "linf": (-0.5, StopRule(atol=0.25, norm="linf", max_eval=6)),
        "order": (-0.5, StopRule(atol=0.25, divergence=0.1, stagnation=(1, 0.1), max_eval=3)),
        "divergence": (-2.0, StopRule(divergence=4.0, max_eval=6)),
        "divergence-first": (-2.0, StopRule(divergence=1.5, stagnation=(1, 0.5), max_eval=2)),
        "stagnation": (-0.5, StopRule(stagnation=(1, 0.5), max_eval=6)),
        "stagnation-window": (-0.5, StopRule(stagnation=(3, 0.125), max_eval=6)),
        "last-evaluation": (-0.5, StopRule(atol=2.0**-5, max_eval=6)),
    }
    for title, (weight, stop) in rules.items():
        slug = f"tie-{title}-{SHORT[dtype]}"
        x = np.array([[1.0], [0.25], [-3.0], [np.inf]], dtype)
        words = f"Residuals that meet the limit of {title.replace('-', ' ')} exactly."
        calls = solves(x, np.zeros_like(x), twin=True)
        yield solved("L2", "solver", slug, words, ("STOP_RULE", "FREEZING"), _halving(dtype, weight, stop), calls)


def lowest(dtype: str) -> Iterator[Case]:
    """``returned = "lowest"``: a best point in the middle, equal residuals at two points, nothing but NaN."""
    x = np.array([[1.0], [0.25], [-3.0], [np.nan]], dtype)
    z0 = np.array([[0.125], [0.5], [0.25], [1.0]], dtype)
    for title, weight in (("expanding", -2.0), ("flat", -1.0), ("shrinking", -0.5)):
        slug = f"lowest-{title}-{SHORT[dtype]}"
        problem = _halving(dtype, weight, StopRule(max_eval=4), "lowest")
        words = f"The argument of the lowest residual, {title}; ties keep the earlier, NaN never wins."
        yield solved("L2", "solver", slug, words, ("RETURNED", "SPECIAL_VALUES"), problem, solves(x, z0, twin=True))
    for name in ("picard", "anderson", "broyden"):
        slug = f"lowest-of-{name}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        stop = StopRule(rtol=2.0**-9, atol=2.0**-12, max_eval=6)
        problem = cell(number, 5, rule_of("refdeq"), scale=0.75, stop=stop, solver=SOLVERS[name], returned="lowest")
        words = f"The argument of the lowest residual of {name}; with both tolerances the absolute one is meant."
        yield solved("L2", "solver", slug, words, ("RETURNED",), problem, solves(*_inputs(number, 3, 5), twin=True))


def batches(dtype: str) -> Iterator[Case]:
    """One sample, two, many; one element, odd sizes, a convolution."""
    for batch, size in ((1, 1), (1, 7), (2, 3), (7, 4), (17, 2)):
        slug = f"batch-{batch}-of-{size}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = cell(number, size, rule_of("refdeq"), scale=0.5 / size**0.5)
        words = f"{batch} samples of {size} elements that end at different evaluations."
        bugs = ("FREEZING", "TAIL", "INDEXING")
        yield solved("L2", "solver", slug, words, bugs, problem, solves(*_inputs(number, batch, size), twin=True))
    for preset in PRESETS:
        slug = f"convolution-{preset}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = convolution(number, rule_of(preset))
        x, z0 = number.full("x", (2, 2, 4, 5)), number.full("z0", (2, 2, 4, 5)) * number.array(0.25)
        bugs = ("SOLVER_STEP", "CONV_GEOMETRY", "FREEZING")
        words = f"A convolution solved under {preset}."
        yield solved("L2", "solver", slug, words, bugs, problem, solves(x, z0, twin=True))


def activations(dtype: str) -> Iterator[Case]:
    """Every activation, from its own bits (N-8)."""
    for activation in ("Relu", "LeakyRelu", "Sigmoid", "Sin", "Cos", "Identity", "Exp"):
        slug = f"activation-{activation.lower()}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        stop = StopRule(rtol=2.0**-8, max_eval=6)
        problem = cell(number, 5, rule_of("refdeq"), activation=activation, scale=0.125, stop=stop)
        words = f"A cell with {activation}."
        yield solved("L2", "solver", slug, words, ("SOLVER_STEP", "BIAS"), problem, solves(*_inputs(number, 3, 5), twin=True))


def granularities(dtype: str) -> Iterator[Case]:
    """Refresh, shared decisions, thresholds per channel, feedback: inside a solve the gate works as in unit steps."""
    changes: dict[str, dict[str, Any]] = {
        "refresh": {"memory": "always", "refresh": 2},
        "refresh-folded": {"bias": "folded", "refresh": 3},
        "sample": {"granularity": "sample"},
        "feedback": {"memory": "feedback", "feedback_format": "bfloat16"},
        "zero-folded": {"start": "zero", "bias": "folded"},
        "narrow-difference": {"delta_dtype": "float16"},
    }
    for title, change in changes.items():
        slug = f"gate-{title}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = cell(number, 6, ruled(0.03125, **change))
        words = f"The gate of a solve with {title.replace('-', ' ')}."
        bugs = ("REFRESH", "GRANULARITY", "MEMORY_RULE", "BIAS")
        yield solved("L2", "solver", slug, words, bugs, problem, solves(*_inputs(number, 3, 6), twin=True))
    slug = f"gate-per-channel-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = cell(number, 4, ruled((0.0, 0.0625, 0.25, 1.0)))
    words = "A threshold for each channel."
    yield solved("L2", "solver", slug, words, ("THRESHOLD",), problem, solves(*_inputs(number, 3, 4), twin=True))


def lockstep(dtype: str) -> Iterator[Case]:
    """One and two evaluations from given states: for kernels that export nothing (level L3)."""
    for preset, budget, (name, solver) in product(PRESETS[1:], (1, 2, 3), STRAIGHT.items()):
        if budget == 1 and name != "picard":
            continue
        slug = f"lockstep-{budget}-{name}-{preset}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = cell(number, 9, rule_of(preset, 0.0625), solver=solver, stop=StopRule(max_eval=budget))
        r = number.full("r", (3, 9))
        change = number.full("change", (3, 9)) * number.array(0.125)
        call = Call("set_state", {"r": r, "a": number.full("a", (3, 9)), "count": np.array([1, 4, 2], dtype=np.int64)})
        solve = Call("solve", {"x": number.full("x", (3, 9)), "z0": r + change}, {"keep": True, "trace": False})
        words = f"{budget} evaluations from a given state, {name}, rule {preset}."
        bugs = ("MEMORY_RULE", "SOLVER_STEP", "MASK", "WARM_START")
        yield solved("L3", "solver", slug, words, bugs, problem, (call, solve))


def lockstep_ties(dtype: str) -> Iterator[Case]:
    """Two evaluations in eighths, the second with differences of exactly the threshold: open by the margin rule, yet known."""
    for preset in PRESETS[1:]:
        slug = f"lockstep-tie-{preset}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        weight, bias = number.integers("weight", (8, 8), -3, 3, 0.125), number.integers("bias", (8,), -3, 3, 0.125)
        rule, stop = rule_of(preset, 0.25), StopRule(max_eval=2)
        problem = Problem("Gemm", dtype, (8,), weight, bias, rule, stop=stop)
        z0, a = number.integers("z0", (3, 8), -4, 4, 0.125), number.integers("a", (3, 8), -9, 9, 0.125)
        r = z0 + number.integers("change", (3, 8), -1, 1, 0.5)
        x = number.integers("x", (3, 8), -4, 4, 0.125)
        # what the first evaluation gives, all of it exact: the references it leaves are then a threshold away
        sent = np.abs(z0 - r) >= 0.25
        first = (a + np.where(sent, z0 - r, 0) @ weight.T) + (0 if preset == "deltadeq-code" else bias) + x
        off = number.integers("off", (3, 8), -1, 1, 0.25)
        r = np.where(sent, r, z0 + number.array(0.125)).astype(dtype)
        x = np.where(sent, z0 - (first - x) + off, x).astype(dtype)
        state = {"r": r, "a": a, "count": np.array([1, 4, 2], dtype=np.int64)}
        solve = Call("solve", {"x": x, "z0": z0}, {"keep": True, "trace": False})
        words = f"The second of two evaluations meets differences of exactly the threshold, rule {preset}."
        yield solved("L3", "solver", slug, words, ("TIE_RULE", "MASK"), problem, (Call("set_state", state), solve))


def free(dtype: str) -> Iterator[Case]:
    """Solves of which only the end is seen (level L4)."""
    for (name, solver), preset in product(SOLVERS.items(), PRESETS):
        if name in ("anderson-mixed", "anderson-diagonal", "anderson-restart", "broyden-window", "broyden-search"):
            continue
        if name not in STRAIGHT and preset != "refdeq":
            continue
        slug = f"free-{name}-{preset}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = cell(number, 8, rule_of(preset, 0.03125), solver=solver, stop=StopRule(rtol=2.0**-7, max_eval=10))
        words = f"Only the end of a solve by {name} under {preset} is seen."
        bugs = ("MEMORY_RULE", "STOP_RULE", "RETURNED", "FREEZING")
        yield solved("L4", "solver", slug, words, bugs, problem, solves(*_inputs(number, 4, 8), trace=False))
