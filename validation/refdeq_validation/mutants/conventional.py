"""The criteria that other projects use, on the inputs that they use: what would have been noticed without this suite.

Natural random data, judged end to end against a correct implementation: a Gemm of 64 by 64 with batch 4 from five seeds, and
one Conv; four evaluations of slowly changing inputs, a solve and a gradient. Criteria: ``numpy.allclose`` with the tolerances
of ONNX' backend tests (1e-3, 1e-7) and of KernelBench (1e-2, 1e-2), the normalised mean square error of ggml's matrix products
(5e-4), and the correlation coefficient that accelerator projects ask for (0.99). These numbers are theirs, not tolerances of
the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from refdeq.types import DeltaRule, StopRule
from refdeq_validation.cases.draw import uniform
from refdeq_validation.lab.session import Lab
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.session import Implementation

__all__ = ["CRITERIA", "noticed"]

Array = np.ndarray[Any, Any]

SEEDS = (1, 2, 3, 4, 5)

BATCH, WIDTH = 4, 64


def _close(rtol: float, atol: float) -> Callable[[Array, Array], bool]:
    return lambda found, wanted: bool(np.allclose(found, wanted, rtol=rtol, atol=atol, equal_nan=True))


def _nmse(found: Array, wanted: Array) -> bool:
    error = np.mean((found.astype(np.float64) - wanted) ** 2)
    return bool(error <= 5e-4 * np.mean(wanted.astype(np.float64) ** 2))


def _correlated(found: Array, wanted: Array) -> bool:
    one, other = (values.astype(np.float64).ravel() - values.astype(np.float64).mean() for values in (found, wanted))
    return bool(one @ other >= 0.99 * np.sqrt((one @ one) * (other @ other)))


CRITERIA: Mapping[str, Callable[[Array, Array], bool]] = {
    "allclose 1e-3, 1e-7": _close(1e-3, 1e-7),
    "allclose 1e-2, 1e-2": _close(1e-2, 1e-2),
    "NMSE 5e-4": _nmse,
    "PCC 0.99": _correlated,
}
"""Each says whether an output is accepted."""


def noticed(implementation: Implementation) -> tuple[str, ...]:
    """Criteria that refuse an implementation on natural data.

    Parameters
    ----------
    implementation : Implementation

    Returns
    -------
    tuple of str
        Names of :data:`CRITERIA`; all of them for one that raises.

    Examples
    --------
    >>> noticed(Lab())
    ()
    """
    found: set[str] = set()
    for number, problem in enumerate(_problems()):
        with np.errstate(all="ignore"):
            try:
                answers = _run(implementation, problem, number)
            except Exception:  # an implementation may break in any way; every criterion sees that
                return tuple(CRITERIA)
            for answer, wanted in zip(answers, _expected(number), strict=True):
                found |= {name for name, accepts in CRITERIA.items() if not accepts(answer, wanted)}
        if len(found) == len(CRITERIA):
            break
    return tuple(name for name in CRITERIA if name in found)


@cache
def _problems() -> tuple[Problem, ...]:
    """Natural problems: normal weights scaled to a contraction, a threshold that sends about half."""
    rule, stop = DeltaRule(threshold=0.05), StopRule(rtol=1e-4, max_eval=30)
    made = []
    for seed in SEEDS:
        weight = _normal(seed, "weight", (WIDTH, WIDTH)) * np.float32(0.5 / WIDTH**0.5)
        bias = _normal(seed, "bias", (WIDTH,)) * np.float32(0.1)
        made.append(Problem("Gemm", "float32", (WIDTH,), weight, bias, rule, activation="Tanh", stop=stop))
    kernel = _normal(1, "kernel", (8, 8, 3, 3)) * np.float32(0.5 / 72**0.5)
    attributes = {"pads": (1, 1, 1, 1)}
    bias = _normal(1, "bias", (8,)) * np.float32(0.1)
    made.append(Problem("Conv", "float32", (8, 8, 8), kernel, bias, rule, attributes, activation="Tanh", stop=stop))
    return tuple(made)


def _normal(seed: int, name: str, shape: tuple[int, ...]) -> Array:
    """Normal numbers by the sum of twelve uniform ones: natural enough, and the same everywhere."""
    draws = uniform(seed, f"natural/{name}", (12, *shape), "float64")
    return np.asarray((draws.sum(axis=0) / 2.0).astype(np.float32))


def _inputs(problem: Problem, number: int) -> Iterator[Array]:
    """Inputs that move a little from one evaluation to the next."""
    u = _normal(number, "u", (BATCH, *problem.shape))
    for t in range(4):
        yield u
        u = u + np.float32(0.1) * _normal(number, f"move {t}", u.shape)


def _run(implementation: Implementation, problem: Problem, number: int) -> list[Array]:
    """Outputs of the steps, of a solve and of a gradient."""
    session = implementation.open(problem)
    session.reset(BATCH)
    answers = []
    for u in _inputs(problem, number):
        mask, y = np.zeros(u.shape, bool), np.zeros((BATCH, *problem.out_shape), np.float32)
        session.step(u, mask, y)
        answers.append(y)
    x = _normal(number, "x", (BATCH, *problem.shape))
    z = session.solve(x, np.zeros_like(x), keep=False, trace=False)["z"]
    answers.append(z.copy())
    if problem.op == "Gemm":
        gradient = session.gradient(x, z, _normal(number, "g", x.shape), jacobian="dense")
        answers += [gradient["weight"], gradient["x"]]
    return answers


@cache
def _expected(number: int) -> list[Array]:
    return _run(Lab(), _problems()[number], number)
