"""Comparisons of the judge: of bits, and of errors against bounds. NaN never passes by accident."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refdeq_validation.judge import bounds, fourier
from refdeq_validation.judge.arithmetic import same_bits
from refdeq_validation.judge.nodes import LinearNode
from refdeq_validation.judge.verdicts import Failure, Findings, show

__all__ = ["Comparer"]

Array = np.ndarray


class Comparer:
    """Compares, counts, and records what fails."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings

    def equal(self, kind: str, tensor: str, expected: Any, actual: Any) -> bool:
        """Compare two plain values."""
        self.findings.values += 1
        if expected == actual:
            return True
        self.findings.add(Failure(kind, -1, tensor, (), str(expected), str(actual)))
        return False

    def bits(self, kind: str, t: int, tensor: str, expected: Array, actual: Array) -> bool:
        """Compare bits; shapes and dtypes included."""
        expected, actual = np.asarray(expected), np.asarray(actual)
        if expected.shape != actual.shape or expected.dtype.kind != actual.dtype.kind:
            wanted, got = (expected.shape, expected.dtype), (actual.shape, actual.dtype)
            return self.equal("structure", tensor, wanted, got)
        self.findings.values += expected.size
        good = same_bits(expected, actual)
        if good.all():
            return True
        self._first(kind, t, tensor, good, expected, actual)
        return False

    def within(self, kind: str, t: int, tensor: str, expected: Array, actual: Array, error: Array, limit: Array) -> bool:
        """Compare errors against bounds; where the exact value is not finite, its class (NaN, +Inf, -Inf) must match."""
        self.findings.values += actual.size
        finite = np.isfinite(expected)
        largest = float(np.finfo(actual.dtype).max)
        may_overflow = finite & (np.abs(expected) + limit >= largest)
        good = np.where(finite, (error <= limit) | (may_overflow & ~np.isnan(actual)), _same_class(expected, actual))
        measured = finite & np.isfinite(actual) & (limit > 0)
        if measured.any():
            self.findings.worst = max(self.findings.worst, float((error[measured] / limit[measured]).max()))
        if good.all():
            return True
        self._first(kind, t, tensor, good, expected, actual, error, limit)
        return False

    def accumulate(
        self, t: int, tensor: str, node: LinearNode, d: Array, sent: Array, base: Array, got: Array, order: str
    ) -> bool:
        """Compare an accumulator: bitwise under strict order (N-6), within the bound otherwise (N-7)."""
        if order == "strict":
            return self.bits("value", t, tensor, node.strict(d, sent, base), got)
        error, gauge, k, total = node.exact(d, sent, base, got)
        return self.within("value", t, tensor, total, got, np.abs(error), bounds.accumulate_bound(k, gauge, got.dtype))

    def dense(self, t: int, tensor: str, node: LinearNode, data: Array, got: Array, order: str) -> bool:
        """Compare the output of an ungated linear node: a dense sum from +0, then factors and bias."""
        everything = np.ones(data.shape, dtype=bool)
        base = np.zeros(got.shape, dtype=got.dtype)
        if order == "strict":
            return self.bits("value", t, tensor, node.output(node.strict(data, everything, base)), got)
        _, gauge, k, total = node.exact(data, everything, base, got)
        error = bounds.accumulate_bound(k, gauge, got.dtype)
        u = bounds.unit_roundoff(got.dtype)
        value = node.alpha * total
        error = abs(node.alpha) * error + (u * np.abs(value) if node.alpha != 1.0 else 0.0)
        if node.bias is not None:
            shift = node.beta * node.bias.astype(np.float64)
            value = value + shift
            error = error + (u * np.abs(shift) if node.beta != 1.0 else 0.0)
            error = error + u * (np.abs(value) + error)
        return self.within("value", t, tensor, value, got, np.abs(got - value), error * (1.0 + 2.0**-40))

    def summed(self, t: int, tensor: str, node: Mapping[str, Any], inputs: Sequence[Array], got: Array, order: str) -> bool:
        """Compare a MatMul or a ReduceMean: ascending order when strict, within the bound otherwise."""
        if node["op"] == "MatMul":
            terms = np.expand_dims(inputs[0], -1) * np.expand_dims(inputs[1], -3)
            terms = np.moveaxis(terms, -2, -1)
            divisor = 1
        else:
            axes = tuple(axis % inputs[0].ndim for axis in node["attributes"]["axes"])
            terms = np.moveaxis(inputs[0], sorted(axes), range(inputs[0].ndim - len(axes), inputs[0].ndim))
            terms = terms.reshape(*terms.shape[: terms.ndim - len(axes)], -1)
            divisor = terms.shape[-1]
        shape = got.shape
        if order == "strict":
            total = np.zeros(terms.shape[:-1], dtype=got.dtype)
            for j in range(terms.shape[-1]):
                total = total + terms[..., j]
            return self.bits("value", t, tensor, (total / got.dtype.type(divisor)).reshape(shape), got)
        wide = terms.astype(np.longdouble)
        k, gauge = terms.shape[-1], np.abs(wide).sum(axis=-1).astype(np.float64).reshape(shape) / divisor
        exact = (wide.sum(axis=-1) / divisor).astype(np.float64).reshape(shape)
        limit = bounds.accumulate_bound(np.full(shape, k + 1), gauge, got.dtype)
        return self.within("value", t, tensor, exact, got, np.abs(got - exact), limit)

    def transformed(self, t: int, tensor: str, node: Mapping[str, Any], x: Array, got: Array, order: str) -> bool:
        """Compare a DFT: the pinned transform when strict, the definition within its bound otherwise."""
        axis, inverse = node["attributes"]["axis"] % x.ndim, bool(node["attributes"].get("inverse", 0))
        if order == "strict":
            return self.bits("value", t, tensor, fourier.strict_dft(x, axis, inverse), got)
        exact = fourier.defined_dft(x, axis, inverse)
        limit = np.broadcast_to(fourier.dft_bound(x, axis, inverse), got.shape)
        return self.within("value", t, tensor, exact, got, np.abs(got - exact), limit)

    def norm(self, t: int, tensor: str, expected: Array, actual: Array, size: int, order: str) -> bool:
        """Compare residual norms: bitwise under strict order, within ``(n + 8) u`` otherwise (S-2)."""
        if order == "strict":
            return self.bits("stop_rule", t, tensor, expected, actual)
        limit = bounds.residual_bound(size) * np.abs(expected)
        return self.within("stop_rule", t, tensor, expected, actual, np.abs(actual - expected), limit)

    def _first(
        self,
        kind: str,
        t: int,
        tensor: str,
        good: Array,
        expected: Array,
        actual: Array,
        error: Array | None = None,
        limit: Array | None = None,
    ) -> None:
        bad = np.argwhere(~good)
        at = tuple(int(i) for i in bad[0])
        self.findings.add(
            Failure(
                kind,
                t,
                tensor,
                at,
                show(expected[at]),
                show(actual[at]),
                float("nan") if error is None else float(error[at]),
                float("nan") if limit is None else float(limit[at]),
                len(bad),
            )
        )


def _same_class(expected: Array, actual: Array) -> Array:
    """Whether both are NaN, or both the same infinity."""
    return np.asarray((np.isnan(expected) & np.isnan(actual)) | (np.isinf(expected) & (expected == actual)))
