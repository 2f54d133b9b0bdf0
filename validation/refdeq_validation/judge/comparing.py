"""Comparisons of the judge: of bits, and of errors against bounds. NaN never passes by accident."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refdeq_validation.judge import bounds, fourier
from refdeq_validation.judge.arithmetic import same_bits
from refdeq_validation.judge.bounds import Bound
from refdeq_validation.judge.models import Arithmetic, plain
from refdeq_validation.judge.nodes import LinearNode
from refdeq_validation.judge.verdicts import PLACES, Failure, Findings, show

__all__ = ["Comparer"]

Array = np.ndarray


class Comparer:
    """Compares, counts, and records what fails.

    Parameters
    ----------
    findings : Findings
    model : Arithmetic, optional
        By which sums in fast order are judged; by default in the dtype of the arrays.
    """

    def __init__(self, findings: Findings, model: Arithmetic | None = None) -> None:
        self.findings, self.model = findings, model

    def equal(self, kind: str, tensor: str, expected: Any, actual: Any) -> bool:
        """Compare two plain values."""
        self.findings.values += 1
        if expected == actual:
            return True
        self.findings.add(Failure(kind, -1, tensor, (), str(expected), str(actual)))
        return False

    def bits(
        self, kind: str, t: int, tensor: str, expected: Array, actual: Array, margin: Array | None = None, zeros: bool = True
    ) -> bool:
        """Compare bits; shapes and dtypes included.

        Parameters
        ----------
        kind, t, tensor
            As a failure will name them.
        expected, actual : arrays
        margin : array, optional
            Of decisions, for the failure.
        zeros : bool
            False lets +0 and -0 pass for each other.
        """
        expected, actual = np.asarray(expected), np.asarray(actual)
        if expected.shape != actual.shape or expected.dtype.kind != actual.dtype.kind:
            wanted, got = (f"{array.dtype.name} of shape {array.shape}" for array in (expected, actual))
            return self.equal("structure", tensor, wanted, got)
        self.findings.values += expected.size
        good = same_bits(expected, actual)
        if not zeros:
            good = good | (expected == actual)
        if good.all():
            return True
        self._first(kind, t, tensor, good, expected, actual, margin=margin)
        return False

    def within(
        self,
        kind: str,
        t: int,
        tensor: str,
        expected: Array,
        actual: Array,
        error: Array,
        limit: Array,
        bound: Bound | None = None,
        largest: float | None = None,
        excused: Array | None = None,
    ) -> bool:
        """Compare errors against bounds; where the exact value is not finite, its class (NaN, +Inf, -Inf) must match.

        Parameters
        ----------
        kind, t, tensor
            As a failure will name them.
        expected, actual : arrays
        error, limit : float64 arrays
        bound : Bound, optional
            Where `limit` comes from; its gauge also says how far partial sums reach. What it leaves unclaimed is counted, and
            not compared.
        largest : float, optional
            Largest finite number of the format of partial sums; by default that of `actual`.
        excused : array of bool, optional
            Elements with another outcome that was declared.
        """
        finite = np.isfinite(expected)
        largest = float(np.finfo(actual.dtype).max) if largest is None else largest
        inside = error <= limit
        if not (inside.all() and finite.all()):
            inside = np.where(finite, inside, _same_class(expected, actual))
            inside = inside | (finite & _overflowed(expected, actual, limit, bound, largest))
            if excused is not None:
                inside = inside | excused
        claimed = limit > 0
        if bound is not None and bound.unclaimed.any():
            self.findings.unclaimed += int(bound.unclaimed.sum())
            claimed = claimed & ~bound.unclaimed
            inside = inside | bound.unclaimed
            self.findings.values += int((~bound.unclaimed).sum())
        else:
            self.findings.values += actual.size
        measured = claimed & finite & np.isfinite(actual)
        self.findings.ratios(error[measured] / limit[measured])
        if inside.all():
            return True
        self._first(kind, t, tensor, inside, expected, actual, error, limit, bound)
        return False

    def accumulate(
        self, t: int, tensor: str, node: LinearNode, d: Array, sent: Array, base: Array, got: Array, order: str
    ) -> bool:
        """Compare an accumulator: bitwise under strict order (N-6), within the bound otherwise (N-7)."""
        if order == "strict":
            return self.bits("value", t, tensor, node.strict(d, sent, base), got)
        error, gauge, k, total = node.exact(d, sent, base, got)
        start = np.abs(base.astype(np.float64))
        bound = self._bound(node, d, sent, got, k, start, gauge - start)
        return self.within("value", t, tensor, total, got, np.abs(error), bound.limit, bound)

    def dense(self, t: int, tensor: str, node: LinearNode, data: Array, got: Array, order: str) -> bool:
        """Compare the output of an ungated linear node: a dense sum from +0, then factors and bias."""
        everything = np.ones(data.shape, dtype=bool)
        base = np.zeros(got.shape, dtype=got.dtype)
        if order == "strict":
            return self.bits("value", t, tensor, node.output(node.strict(data, everything, base)), got)
        _, gauge, k, total = node.exact(data, everything, base, got)
        error = self._bound(node, data, everything, got, k, np.zeros_like(gauge), gauge).limit
        u = bounds.unit_roundoff(got.dtype)
        value = node.alpha * total
        error = abs(node.alpha) * error + (u * np.abs(value) if node.alpha != 1.0 else 0.0)
        if node.bias is not None:
            shift = node.beta * node.bias.astype(np.float64)
            value = value + shift
            error = error + (u * np.abs(shift) if node.beta != 1.0 else 0.0)
            error = error + u * (np.abs(value) + error)
        return self.within("value", t, tensor, value, got, np.abs(got - value), error * (1.0 + 2.0**-40))

    def _bound(self, node: LinearNode, d: Array, sent: Array, got: Array, k: Array, start: Array, products: Array) -> Bound:
        """Bound of one accumulate under the declared model."""
        model = plain(got.dtype.name) if self.model is None else self.model
        sizes = None if model.operands is None else node.sizes(d, sent, np.zeros(got.shape, got.dtype))
        return bounds.accumulate(model, k, start, products, sizes)

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
        bound: Bound | None = None,
        margin: Array | None = None,
    ) -> None:
        bad = np.argwhere(~good)
        at = tuple(int(i) for i in bad[0])
        more: dict[str, Any] = {}
        if bound is not None:
            terms = {name: float(np.broadcast_to(value, good.shape)[at]) for name, value in bound.terms.items()}
            more = {"gauge": float(bound.gauge[at]), "k": int(bound.k[at]), "terms": {n: v for n, v in terms.items() if v}}
        if margin is not None:
            more["margin"] = float(np.broadcast_to(margin, good.shape)[at])
        self.findings.add(
            Failure(
                kind,
                t,
                tensor,
                at,
                show(expected[at], tensor),
                show(actual[at], tensor),
                float("nan") if error is None else float(error[at]),
                float("nan") if limit is None else float(limit[at]),
                len(bad),
                places=tuple(np.flatnonzero(~good).tolist()) if len(bad) <= PLACES else (),
                shape=good.shape,
                **more,
            )
        )


def _overflowed(expected: Array, actual: Array, limit: Array, bound: Bound | None, largest: float) -> Array:
    """Whether an outcome that is not finite is one that some order of the sum may have.

    Partial sums lie between the sum of the negative terms and that of the positive ones, ``(S -+ G) / 2``, give or take the
    bound: +Inf is legal where the upper end can leave the format, -Inf where the lower one can, NaN (their difference) where
    both can.
    """
    if bound is None:
        up, down = expected, -expected
    else:
        up, down = bound.gauge / 2.0 + expected / 2.0, bound.gauge / 2.0 - expected / 2.0
    high, low = up + limit >= largest, down + limit >= largest
    return np.asarray((np.isposinf(actual) & high) | (np.isneginf(actual) & low) | (np.isnan(actual) & high & low))


def _same_class(expected: Array, actual: Array) -> Array:
    """Whether both are NaN, or both the same infinity."""
    return np.asarray((np.isnan(expected) & np.isnan(actual)) | (np.isinf(expected) & (expected == actual)))
