"""Fixed-point problems that tell solvers apart: each is a cell with a batch of injections, reproducible from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import refdeq as rd

__all__ = ["HARD_SET", "Problem", "problem"]

BATCH, SIZE, INPUTS = 8, 40, 5


@dataclass(frozen=True)
class Problem:
    """One cell, its injections, and why it is hard.

    Attributes
    ----------
    name, why : str
    cell : Cell
    x : (B, d) ndarray
    is_monotone : bool
        Whether forward-backward and Peaceman-Rachford apply.
    """

    name: str
    why: str
    cell: rd.Cell
    x: np.ndarray
    is_monotone: bool = False


def affine(w: np.ndarray) -> rd.Cell:
    """``z <- W z + U x`` with a fixed random U."""
    builder = rd.GraphBuilder()
    z, x = builder.state("z", (len(w),)), builder.injection("x", (INPUTS,))
    inward = np.random.default_rng(7).standard_normal((len(w), INPUTS))
    injected = builder.node("Gemm", x, builder.parameter("U", inward), transB=1, name="injected")
    recurrent = builder.node("Gemm", z, builder.parameter("W", w), transB=1, name="recurrent")
    builder.output(z, builder.node("Add", recurrent, injected, name="f"))
    return builder.build()


def tanh(w: np.ndarray) -> rd.Cell:
    """``z <- tanh(W z + U x + b)``."""
    rng = np.random.default_rng(7)
    return rd.models.rnn(w, rng.standard_normal((len(w), INPUTS)), 0.1 * rng.standard_normal(len(w)))


def orthogonal(rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0]


def contractive(rng: np.random.Generator) -> rd.Cell:
    w = rng.standard_normal((SIZE, SIZE))
    return tanh(0.9 * w / np.linalg.norm(w, 2))


def nearly_singular(rng: np.random.Generator) -> rd.Cell:
    q, eigenvalues = orthogonal(rng), 1 - np.geomspace(1e-3, 1.0, SIZE)
    return affine(q @ np.diag(eigenvalues) @ q.T)


def rotation(rng: np.random.Generator) -> rd.Cell:
    w, q = np.zeros((SIZE, SIZE)), orthogonal(rng)
    for i, angle in enumerate(np.linspace(0.3, np.pi - 0.1, SIZE // 2)):
        c, s = 0.99 * np.cos(angle), 0.99 * np.sin(angle)
        w[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[c, -s], [s, c]]
    return tanh(q @ w @ q.T)


def non_normal(rng: np.random.Generator) -> rd.Cell:
    return tanh(0.6 * np.eye(SIZE) + 1.1 * np.eye(SIZE, k=1) + 0.02 * np.triu(rng.standard_normal((SIZE, SIZE)), 2))


def stiff(rng: np.random.Generator) -> rd.Cell:
    q = orthogonal(rng)
    return affine(q @ np.diag(np.concatenate([np.linspace(-3.0, -0.5, SIZE // 2), np.linspace(0, 0.95, SIZE // 2)])) @ q.T)


def monotone(rng: np.random.Generator) -> rd.Cell:
    scale = 1.5 / np.sqrt(SIZE)
    a, b = (scale * rng.standard_normal((SIZE, SIZE)) for _ in range(2))
    return rd.models.monotone(a, b, rng.standard_normal((SIZE, INPUTS)), 0.1 * rng.standard_normal(SIZE), m=0.5)


_PROBLEMS: dict[str, tuple[str, Callable[[np.random.Generator], rd.Cell], bool]] = {
    "contractive": ("tanh, |W| = 0.9", contractive, False),
    "nearly singular": ("affine and symmetric, smallest eigenvalue of I - W is 1e-3", nearly_singular, False),
    "rotation": ("tanh, eigenvalues of W on the circle of radius 0.99", rotation, False),
    "non-normal": ("tanh, triangular W: radius 0.6, norm 1.7", non_normal, False),
    "expansive": ("affine and symmetric, eigenvalues of W from -3 to 0.95: Picard diverges", stiff, False),
    "monotone": ("ReLU, I - W strongly monotone with m = 0.5, |W| > 1: Picard diverges", monotone, True),
}


def problem(name: str, dtype: str) -> Problem:
    """Build one problem in float64 and round it to `dtype`."""
    why, build, is_monotone = _PROBLEMS[name]
    rng = np.random.default_rng(20)
    cell = build(rng).astype(dtype)
    x = rng.standard_normal((BATCH, INPUTS)).astype(dtype)
    return Problem(name, why, cell, x, is_monotone)


HARD_SET = tuple(_PROBLEMS)
"""Names of the problems, for :func:`problem`."""
