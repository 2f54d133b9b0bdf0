"""The linear node behind its gate: reference, accumulator and count of every sample (D-5 to D-12)."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq_validation.lab.formats import store
from refdeq_validation.lab.gate import gate
from refdeq_validation.lab.kernels import accumulate
from refdeq_validation.lab.roundings import flushed
from refdeq_validation.lab.style import STRICT, Style
from refdeq_validation.protocol.problem import Problem

__all__ = ["Node"]

Array = np.ndarray[Any, Any]


class Node:
    """Gate state of a batch.

    Attributes
    ----------
    r, a : (B, *shape), (B, *out_shape)
        Reference and accumulator.
    count : (B,) int64
        Evaluations since the reset.
    sent : (B, *shape) bool
        Mask of each sample's last evaluation.
    """

    def __init__(self, problem: Problem, batch: int, style: Style = STRICT) -> None:
        self.problem, self.style = problem, style
        self.r = np.zeros((batch, *problem.shape), problem.dtype)
        self.a = np.zeros((batch, *problem.out_shape), problem.dtype)
        if self.folded:
            self.a = self.a + self.bias
        self.count = np.zeros(batch, np.int64)
        self.sent = np.zeros((batch, *problem.shape), bool)
        self.spare = np.zeros_like(self.r)
        self.captured = np.zeros_like(self.r)

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

    def evaluate(self, u: Array, rows: Array) -> tuple[Array, Array]:
        """One evaluation of the samples in `rows`: mask and output; the others are not touched (S-1)."""
        u = self.fetch(u)
        if self.problem.rule is None:
            return self.dense(u, rows)
        mask, d, start = self.advance(u, rows)
        self.propagate(d, mask, start, self.due(rows), rows)
        self.count[rows] = self.count[rows] + 1
        self.sent[rows] = mask
        return mask, self.output(self.a[rows])

    def advance(self, u: Array, rows: Array) -> tuple[Array, Array, Array]:
        """Advance the gate (D-1 to D-5): mask, gated difference, and which samples start densely."""
        rule = self.problem.rule
        assert rule is not None
        mask, d, r = gate(u, self.r[rows], rule, self.problem, self.style)
        start = (self.count[rows] == 0) & (rule.start == "dense")
        for b in np.flatnonzero(start):
            mask[b], d[b], r[b] = True, u[b], u[b]
        self.keep(r, rows)
        return mask, d, start

    def fetch(self, u: Array) -> Array:
        """The input, where a recorded graph reads it."""
        if self.style.launch == "direct":
            return u
        if self.captured.shape != u.shape:
            self.captured = np.zeros_like(u)
        self.captured[...] = u
        return self.captured

    def keep(self, r: Array, rows: Array) -> None:
        """Store the next reference; of two buffers the other one becomes the current."""
        if self.style.state == "double":
            self.spare[...] = self.r
            self.spare[rows] = r
            self.r, self.spare = self.spare, self.r
        else:
            self.r[rows] = r

    def due(self, rows: Array) -> Array:
        """Samples whose accumulator is refreshed (D-12)."""
        rule = self.problem.rule
        assert rule is not None
        if not rule.refresh:
            return np.zeros(len(rows), bool)
        return np.asarray((self.count[rows] > 0) & (self.count[rows] % rule.refresh == 0))

    def propagate(self, d: Array, mask: Array, start: Array, due: Array, rows: Array) -> None:
        """Change the accumulator by what was sent; start and refresh compute it anew (D-6, N-6)."""
        dense = start | due
        values, sent, before = d.copy(), mask.copy(), self.a[rows]
        values[due], sent[dense] = self.r[rows][due], True
        a = np.zeros_like(before) if self.folded else before.copy()
        a[dense] = 0.0
        accumulate(self.problem, self.style, values, sent, a)
        if self.folded:
            total = a + self.bias
            lift = dense.reshape(-1, *(1,) * (a.ndim - 1))
            a = np.where(lift, total, (total + before) - self.bias)
        self.a[rows] = a

    def dense(self, u: Array, rows: Array) -> tuple[Array, Array]:
        """One evaluation without a rule: all elements from +0 (N-6)."""
        mask, a = np.ones(u.shape, bool), np.zeros((len(rows), *self.problem.out_shape), u.dtype)
        accumulate(self.problem, self.style, u, mask, a)
        return mask, self.output(a)

    def output(self, a: Array) -> Array:
        """Output from the accumulator (D-6); narrow storage rounds here, once (N-1)."""
        total = a if self.folded or self.problem.bias is None else a + self.bias
        return store(self.problem, flushed(self.style, total))
