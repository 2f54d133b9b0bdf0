"""A plain implementation of the protocol: what mutants, canaries and legal variants are made of.

It is written from ``docs/semantics.md``, apart from the reference and from the judge: a mistake in one of the three shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq_validation.lab.accumulate import accumulate
from refdeq_validation.lab.gate import gate
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.problem import Problem

__all__ = ["Lab", "LabSession"]

Array = np.ndarray[Any, Any]


class LabSession:
    """One opened problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.batch: int | None = None

    def reset(self, batch: int) -> None:
        """Forget r and a (D-9)."""
        problem = self.problem
        if batch < 0:
            raise ValueError(f"batch: expected an integer >= 0, got {batch}")
        self.batch = batch
        self.r = np.zeros((batch, *problem.shape), problem.dtype)
        self.a = np.zeros((batch, *problem.out_shape), problem.dtype)
        if self.folded:
            self.a = self.a + self.bias
        self.count = np.zeros(batch, np.int64)

    @property
    def folded(self) -> bool:
        """Whether the accumulator carries the bias (D-6)."""
        rule = self.problem.rule
        return rule is not None and rule.bias == "folded" and self.problem.bias is not None

    @property
    def bias(self) -> Array:
        """Bias, shaped against a sample of the output."""
        assert self.problem.bias is not None
        return self.problem.bias.reshape(-1, *(1,) * (len(self.problem.out_shape) - 1))

    def step(self, u: Array, mask: Array, y: Array) -> None:
        """One evaluation."""
        self.check("u", u, self.problem.shape)
        mask[...], y[...] = self.evaluate(u)

    def evaluate(self, u: Array) -> tuple[Array, Array]:
        """Advance the gate (D-1 to D-5), accumulate (D-6, N-6), refresh (D-12); mask and output."""
        rule = self.problem.rule
        assert rule is not None
        mask, d, r = gate(u, self.r, rule)
        start = (self.count == 0) & (rule.start == "dense")
        due = (self.count > 0) & (self.count % rule.refresh == 0) if rule.refresh else np.zeros(len(u), bool)
        for b in np.flatnonzero(start):
            mask[b], d[b], r[b] = True, u[b], u[b]
        self.r = r
        self.propagate(d, mask, start, due)
        self.count = self.count + 1
        return mask, self.output()

    def propagate(self, d: Array, mask: Array, start: Array, due: Array) -> None:
        """Change the accumulator by what was sent; start and refresh compute it anew."""
        dense = start | due
        values, sent = d.copy(), mask.copy()
        values[due], sent[dense] = self.r[due], True
        a = np.zeros_like(self.a) if self.folded else self.a.copy()
        a[dense] = 0.0
        accumulate(self.problem, values, sent, a)
        if self.folded:
            total = a + self.bias
            lift = dense.reshape(-1, *(1,) * (a.ndim - 1))
            a = np.where(lift, total, (total + self.a) - self.bias)
        self.a = a

    def output(self) -> Array:
        """Output from the accumulator (D-6)."""
        return self.a.copy() if self.folded or self.problem.bias is None else self.a + self.bias

    def set_state(self, r: Array, a: Array, count: Array) -> None:
        """Continue from a given state."""
        batch = len(count)
        self.check("r", r, self.problem.shape, batch)
        self.check("a", a, self.problem.out_shape, batch)
        self.batch, self.r, self.a, self.count = batch, r.copy(), a.copy(), count.copy()

    def get_state(self, r: Array, a: Array) -> None:
        """Write the state."""
        r[...], a[...] = self.r, self.a

    def check(self, name: str, array: Array, shape: tuple[int, ...], batch: int | None = None) -> None:
        """Refuse wrong shapes and dtypes."""
        batch = self.batch if batch is None else batch
        if batch is None:
            raise ValueError("call reset or set_state first")
        if not isinstance(array, np.ndarray) or array.shape != (batch, *shape):
            raise ValueError(f"{name}: expected shape {(batch, *shape)}, got {getattr(array, 'shape', array)}")
        if array.dtype != np.dtype(self.problem.dtype):
            raise TypeError(f"{name}: expected {self.problem.dtype}, got {array.dtype}")

    def close(self) -> None:
        """Nothing to free."""


class Lab:
    """The implementation."""

    def __init__(self, claims: Claims | None = None) -> None:
        self.claims = CLAIMS if claims is None else claims

    def manifest(self) -> Mapping[str, Any]:
        """What it claims: everything the protocol has."""
        return self.claims.manifest()

    def open(self, problem: Problem) -> LabSession:
        """Open a problem."""
        return LabSession(problem)


CLAIMS = Claims(
    name="lab",
    version="1",
    offers=("state",),
    ops=("Gemm", "Conv"),
    dtypes=("float32", "float64"),
    compare=("gt", "ge"),
    memory=("sent", "always", "feedback"),
    start=("dense", "zero"),
    bias=("separate", "folded"),
    granularity=("element", "sample", "channel", "pixel", "tile"),
    determinism="R4",
)
