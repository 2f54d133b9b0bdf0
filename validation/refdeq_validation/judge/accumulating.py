"""Accumulators and outputs of a unit problem, judged by the declared model of arithmetic (D-6, D-7, D-12, N-1, N-6, N-7)."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq.types import DeltaRule
from refdeq_validation.judge import bounds
from refdeq_validation.judge.arithmetic import same_bits
from refdeq_validation.judge.bounds import Bound
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.formats import FORMATS
from refdeq_validation.judge.gating import flush, stored
from refdeq_validation.judge.models import Arithmetic
from refdeq_validation.judge.nodes import LinearNode, linear_node
from refdeq_validation.judge.statistic import Statistic
from refdeq_validation.protocol.problem import Problem

__all__ = ["Linear"]

Array = np.ndarray[Any, Any]


class Linear:
    """The linear node of a problem behind its gate.

    Parameters
    ----------
    problem : Problem
    rule : DeltaRule or None
        None where the node is not gated.
    model : Arithmetic
    exact : bool
        Whether every sum of the case is proven to be representable in every order (docs/bounds.md, section 9).
    compare : Comparer
    statistic : Statistic or None
        Collects errors where the case allows it.
    """

    def __init__(
        self,
        problem: Problem,
        rule: DeltaRule | None,
        model: Arithmetic,
        exact: bool,
        compare: Comparer,
        statistic: Statistic | None,
    ) -> None:
        self.problem, self.model, self.exact, self.compare, self.statistic = problem, model, exact, compare, statistic
        self.storage = problem.storage
        self.least = model.carrier.tiny if model.flushes else 0.0
        self.daz = model.carrier.tiny if model.subnormals == "daz" else 0.0
        weight = flush(problem.weight, self.daz)
        bias = {} if problem.bias is None else {"b": problem.bias}
        self.node = linear_node(problem.graph()["nodes"][0], {"W": weight} | bias)
        self.folded = rule is not None and rule.bias == "folded" and problem.bias is not None
        self.finite_bias = problem.bias is None or bool(np.isfinite(problem.bias).all())
        self.infinite = model.reads and not bool(np.isfinite(weight).all())

    @property
    def bias(self) -> Array:
        """The bias, shaped against the output."""
        assert self.problem.bias is not None
        return self.problem.bias.reshape(-1, *(1,) * (len(self.problem.out_shape) - 1))

    @property
    def knows_bits(self) -> bool:
        """Whether the accumulator's bits follow; not where zeros may meet infinite weights, or may be left out."""
        return self.model.strict or (self.exact and not self.infinite)

    # ------------------------------------------------------------------------------------------------------ bits and bounds

    def strict(self, values: Array, sent: Array, dense: Array, before: Array) -> Array:
        """Next accumulator in strict order (N-6, D-6)."""
        if self.model.reads:
            values, sent = np.where(sent, values, values.dtype.type(0)), np.ones_like(sent)
        lift = _lift(dense, before)
        zero = before.dtype.type(0)
        if not self.folded:
            base = np.where(lift, zero, before) if dense.any() else before
            return self.node.strict(values, sent, base, self.least, self.daz)
        s = self._plus(self.node.strict(values, sent, np.zeros_like(before), self.least, self.daz), self.bias)
        later = self._plus(self._plus(s, before), -self.bias)
        return np.where(lift, s, later)

    def _plus(self, left: Array, right: Array) -> Array:
        """One addition, flushed where the outcome is."""
        return flush(flush(left, self.daz) + flush(right, self.daz), self.least)

    def _sum(self, values: Array, sent: Array, first: Array, got: Array) -> tuple[Array, Array, Array, Array, Array | None]:
        """Error against the exact sum from `first`, total, ``P``, terms, and sizes of operands where they are re-rounded."""
        values, first = flush(values, self.daz), flush(first, self.daz)
        error, gauge, k, total = self.node.exact(values, sent, first, got)
        sizes = None if self.model.operands is None else self.node.sizes(values, sent, got)
        return np.abs(error), total, np.maximum(gauge - np.abs(first.astype(np.float64)), 0.0), k, sizes

    def _bound(
        self, k: Array, products: Array, a: Array, dense: Array, sizes: Array | None, values: Array, sent: Array
    ) -> Bound:
        """Bound of one accumulate; `a` is the size of the stored accumulator."""
        lift = _lift(dense, a)
        if self.folded:
            bound = bounds.folded(
                self.model, k, products, a, np.broadcast_to(self.bias.astype(np.float64), a.shape), lift, sizes
            )
        else:
            bound = bounds.accumulate(self.model, k, np.where(lift, 0.0, a), products, sizes)
        over = self._overflowing(values, sent, a)
        return (
            bound
            if over is None
            else bound._replace(limit=np.where(over, np.inf, bound.limit), unclaimed=bound.unclaimed | over)
        )

    def _with_bias(self, total: Array, dense: Array) -> Array:
        """The sum with ``b - b`` of a folded bias, which is NaN where the bias is not finite (D-6)."""
        if not self.folded or self.finite_bias:
            return total
        return np.where(_lift(dense, total), total, total + (self.bias - self.bias))

    def _overflowing(self, values: Array, sent: Array, like: Array) -> Array | None:
        """Where an operand leaves the format it is re-rounded to: of such sums nothing is claimed."""
        form = self.model.operands
        if form is None:
            return None
        heavy, large = _finite_beyond(self.problem.weight, form.largest), _finite_beyond(values, form.largest) & sent
        if not heavy.any() and not large.any():
            return None
        zero = np.zeros(like.shape)
        by_weight = self._other(heavy).exact(np.ones_like(values), sent, zero, zero)[3]
        by_value = self._other(np.ones_like(heavy)).exact(large.astype(values.dtype), sent, zero, zero)[3]
        return np.asarray((by_weight > 0) | (by_value > 0))

    def _vanishing(self, values: Array, sent: Array, like: Array) -> Array:
        """Where an operand that its format rounds to zero, or to infinity, may meet an infinite or a zero one."""
        form, zero = self.model.operands, np.zeros(like.shape)
        if form is None:
            return np.zeros(like.shape, bool)
        small, still = _within(self.problem.weight, form.tiny), _within(values, form.tiny) & sent
        by_weight = self._other(small).exact(np.isinf(values).astype(values.dtype), sent, zero, zero)[3]
        by_value = self._other(np.isinf(self.problem.weight)).exact(still.astype(values.dtype), sent, zero, zero)[3]
        over = self._overflowing(values, sent, like)
        return np.asarray((by_weight > 0) | (by_value > 0) | (False if over is None else over))

    def _other(self, weight: Array) -> LinearNode:
        """The node with other weights, in float64 and without bias."""
        data = {**self.problem.graph()["nodes"][0], "inputs": ["z", "W"]}
        return linear_node(data, {"W": weight.astype(np.float64)})

    # ------------------------------------------------------------------------------------------------------------- judgements

    def judge_shown(self, t: int, values: Array, sent: Array, dense: Array, before: Array, a: Array, y: Array) -> None:
        """Accumulator from its previous bits, output from its own (D-6)."""
        if self.knows_bits:
            self.compare.bits("value", t, "a", self.strict(values, sent, dense, before), a, zeros=self.model.strict)
        else:
            start = self.bias if self.folded else before.dtype.type(0)
            first = np.where(_lift(dense, before), start, before) if dense.any() else before
            error, total, products, k, sizes = self._sum(values, sent, first, a)
            total = self._with_bias(total, dense)
            bound = self._bound(k, products, np.abs(before.astype(np.float64)), dense, sizes, values, sent)
            excused = self._excused(self._read(values, sent, first), values, sent, first, total, a)
            self.compare.within("value", t, "a", total, a, error, bound.limit, bound, self.model.adds.largest, excused)
            if self.statistic is not None:
                self.statistic.add(error, bound, self._squares(values, sent, a))
        self.compare.bits("value", t, "y", self._output_like(a, y), y)

    def judge_hidden(
        self, t: int, values: Array, sent: Array, dense: Array, before: Array, before_error: Array, y: Array
    ) -> tuple[Array, Array]:
        """Output from the judge's own accumulator; returns the next one and its error.

        Where bits are known the accumulator is of the carrier dtype and exact; otherwise it is float64, and the error of each
        accumulate is added to those before it. Where it may have stopped being finite the error is infinite, and nothing is
        claimed until a dense evaluation.
        """
        if self.knows_bits:
            a = self.strict(values, sent, dense, before)
            self.compare.bits("value", t, "y", self.output(a), y, zeros=self.model.strict)
            return a, before_error
        wide, lift = before.astype(np.float64), _lift(dense, before)
        start = self.bias.astype(np.float64) if self.folded else 0.0
        first = np.where(lift, start, wide)
        _, total, products, k, sizes = self._sum(values, sent, first, first)
        total = self._with_bias(total, dense)
        inherited = np.where(lift, 0.0, before_error)
        bound = self._bound(k, products, np.abs(wide) + inherited, dense, sizes, values, sent)
        # The judge keeps a float64 sum: what that rounds is added where the carrier is float64 too.
        own = 2.0**-53 * np.abs(total) if self.model.carrier.precision == 53 else 0.0
        error = inherited + bound.limit + own
        bound = bound._replace(unclaimed=bound.unclaimed | np.isinf(inherited))
        excused = self._judge_output(t, values, sent, first, total, error, bound, y)
        leaves = bound.gauge + bound.limit >= self.model.adds.largest
        lost = bound.unclaimed | (leaves & np.isfinite(total))
        lost = lost if excused is None else lost | excused
        return total, np.where(lost, np.inf, np.where(np.isfinite(total), error, 0.0))

    def _judge_output(
        self, t: int, values: Array, sent: Array, first: Array, total: Array, error: Array, bound: Bound, y: Array
    ) -> Array | None:
        """Compare an output with the one that follows from an accumulator known to within `error`; where it may be NaN."""
        adds = self.problem.bias is not None and not self.folded
        target = total + self.bias.astype(np.float64) if adds else total
        storage = None if self.storage is None else FORMATS[self.storage]
        limit = bounds.output_error(self.model, total, error, target, adds, storage)
        if adds and self.model.carrier.precision == 53:
            limit = limit + 2.0**-53 * np.abs(target)
        gauge = bound.gauge + (np.abs(self.bias.astype(np.float64)) if adds else 0.0)
        bound = bound._replace(limit=limit, gauge=np.broadcast_to(gauge, y.shape))
        largest = min(self.model.adds.largest, self.model.carrier.largest if storage is None else storage.largest)
        read = self._read(values, sent, first)
        excused = self._excused(read, values, sent, first, target, y)
        self.compare.within("value", t, "y", target, y, np.abs(y - target), limit, bound, largest, excused)
        self._judge_store(t, y)
        return read if excused is None else excused | (False if read is None else read)

    def judge_dense(self, t: int, u: Array, y: Array) -> None:
        """A node without a gate: ``fl(A u + b)`` from +0 (N-6), or a sum of products and bias in any order (N-7)."""
        sent, dense = np.ones(u.shape, bool), np.ones(len(u), bool)
        zero = np.zeros(y.shape, y.dtype)
        if self.knows_bits:
            self.compare.bits("value", t, "y", self.output(self.strict(u, sent, dense, zero)), y, zeros=self.model.strict)
            return
        first = zero if self.problem.bias is None else np.broadcast_to(self.bias, y.shape)
        error, total, products, k, sizes = self._sum(u, sent, first, y)
        bound = bounds.accumulate(self.model, k, np.abs(first.astype(np.float64)), products, sizes)
        over = self._overflowing(u, sent, y)
        if over is not None:
            bound = bound._replace(limit=np.where(over, np.inf, bound.limit), unclaimed=bound.unclaimed | over)
        largest = self.model.adds.largest
        if self.storage is not None:
            limit = bounds.output_error(self.model, total, bound.limit, total, False, FORMATS[self.storage])
            bound, largest = bound._replace(limit=limit), min(largest, FORMATS[self.storage].largest)
        excused = self._excused(None, u, sent, first, total, y)
        self.compare.within("value", t, "y", total, y, error, bound.limit, bound, largest, excused)
        self._judge_store(t, y)
        if self.statistic is not None and self.storage is None:
            self.statistic.add(error, bound, self._squares(u, sent, y))

    def output(self, a: Array) -> Array:
        """Output from the accumulator (D-6): one addition, one store (N-1)."""
        y = a if self.folded or self.problem.bias is None else self._plus(a, self.bias)
        return stored(y, self.storage)

    def _judge_store(self, t: int, y: Array) -> None:
        """A stored output is a number of the storage format (N-1)."""
        if self.storage is not None:
            self.compare.bits("value", t, "y", stored(y, self.storage), y)

    def _output_like(self, a: Array, y: Array) -> Array:
        """The output; where it is a copy of the accumulator, an operation that flushes on the way is legal too (N-5)."""
        expected = self.output(a)
        if not self.least or not (self.folded or self.problem.bias is None):
            return expected
        other = stored(flush(a, self.least), self.storage)
        return np.where(same_bits(other, y), other, expected)

    def _read(self, values: Array, sent: Array, first: Array) -> Array | None:
        """Where a column that was not sent is multiplied by zero and makes NaN (D-7, declared "read")."""
        if not self.infinite:
            return None
        gated = np.where(sent, values, values.dtype.type(0))
        return np.isnan(self.node.exact(gated, np.ones_like(sent), first, first)[3])

    def _excused(self, read: Array | None, values: Array, sent: Array, first: Array, total: Array, got: Array) -> Array | None:
        """NaN that is legal: of columns read, or because finite summands can overflow against an infinite one."""
        met = np.isinf(total) & np.isnan(got)
        if met.any():
            finite = self._other(np.where(np.isfinite(self.problem.weight), self.problem.weight, 0.0))
            base = np.where(np.isfinite(first), first, 0.0)
            _, gauge, _, rest = finite.exact(np.where(np.isfinite(values), values, 0.0), sent, base, base)
            against = gauge / 2.0 - np.where(total > 0, rest, -rest) / 2.0
            met = met & ((against * (1.0 + 2.0**-7) >= self.model.adds.largest) | self._vanishing(values, sent, got))
        if read is not None:
            met = met | (read & np.isnan(got))
        return met if met.any() else None

    def _squares(self, values: Array, sent: Array, like: Array) -> Array:
        """``sum (A_ij d_j)^2``: the variance of errors of re-rounded operands is a multiple of it."""
        zero = np.zeros(like.shape)
        node = self._other(self.problem.weight.astype(np.float64) ** 2)
        return node.exact(values.astype(np.float64) ** 2, sent, zero, zero)[3]


def _within(values: Array, limit: float) -> Array:
    """Numbers that are not zero and below a limit."""
    return np.asarray((values != 0) & (np.abs(values) < limit))


def _finite_beyond(values: Array, largest: float) -> Array:
    return np.isfinite(values) & (np.abs(values) >= largest)


def _lift(rows: Array, like: Array) -> Array:
    """A per-sample flag, shaped to broadcast against a batched array."""
    return rows.reshape(-1, *(1,) * (like.ndim - 1))
