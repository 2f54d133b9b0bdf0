"""Evaluations of a cell that nobody traced: what they may give, as centres with radii, and which decisions that leaves open.

Under strict order and strict activations every radius is zero and the enclosure is the run itself, bit for bit. Otherwise radii
grow by what N-7 allows each sum, by the rounding of every operation behind it, and by the decisions that fall within them: a
decision is *certified* where the distance of the difference from the threshold exceeds the radius (section 3.4), *ambiguous*
elsewhere. What an ambiguous decision may change is added to the radii.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refdeq_validation.cases.model import Case
from refdeq_validation.judge import arithmetic, bounds
from refdeq_validation.judge.bounds_solver import damped_error, wide
from refdeq_validation.judge.calls import Memory
from refdeq_validation.judge.hidden import cell_value
from refdeq_validation.judge.nodes import LinearNode, linear_node
from refdeq_validation.judge.returned import arithmetic_of
from refdeq_validation.protocol.manifest import Claims

__all__ = ["Enclosure", "Evaluation", "Known"]

Array = np.ndarray[Any, Any]


@dataclass
class Known:
    """An array known to within a radius per element; in the dtype of the run where the radius is zero.

    >>> float(Known.exactly(np.ones(2)).error.sum())
    0.0
    """

    value: Array
    error: Array

    @classmethod
    def exactly(cls, value: Array) -> Known:
        """Known bits."""
        return cls(value, np.zeros(value.shape))

    def rows(self, rows: Array) -> Known:
        """Some samples."""
        return Known(self.value[rows], self.error[rows])


@dataclass
class Evaluation:
    """What one evaluation of all samples may have given.

    Attributes
    ----------
    z, f : Known
        Argument and value.
    sent, ambiguous : (B, *shape) bool
        Certified decisions to send, and open ones.
    delta : Known
        Differences.
    """

    z: Known
    f: Known
    sent: Array
    ambiguous: Array
    delta: Known


class Enclosure:
    """The state of a gate, a node and an argument, and how one evaluation changes them.

    Parameters
    ----------
    case : Case
        Whose problem has the solver Picard or Krasnoselskii-Mann where steps are asked for.
    claims : Claims
    memory : Memory
        State before.
    x, z0 : arrays
    """

    def __init__(self, case: Case, claims: Claims, memory: Memory, x: Array, z0: Array) -> None:
        problem = self.problem = case.problem
        self.dtype, self.x, self.rule = np.dtype(problem.dtype), x, problem.rule
        self.model = arithmetic_of(claims, problem.dtype)
        plain = self.model.strict and self.model.is_plain and not self.model.flushes
        self.exact = plain and claims.activation == "strict"
        self.native_ulp = claims.activation_ulp if claims.activation == "native" else None
        parameters = {"W": problem.weight} | ({} if problem.bias is None else {"b": problem.bias})
        self.node = linear_node(problem.graph()["nodes"][0], parameters)
        self.sizes: LinearNode = replace(self.node, weight=np.abs(self.node.weight).astype(np.float64))
        self.folded = self.rule is not None and self.rule.bias == "folded" and problem.bias is not None
        self.held = self.dtype if self.exact else np.dtype(np.float64)
        shape = (len(z0), *problem.out_shape)
        assert memory.r is not None or self.rule is None
        self.z = Known.exactly(z0.astype(self.held))
        self.r = Known.exactly((z0 if memory.r is None else memory.r).astype(self.held))
        self.a = Known.exactly((np.zeros(shape) if memory.a is None else memory.a).astype(self.held))
        self.count = memory.count.copy()

    # ------------------------------------------------------------------------------------------------------------ evaluation

    def evaluate(self) -> Evaluation:
        """One evaluation of every sample at the present argument."""
        if self.rule is None:
            everything = np.ones(self.z.value.shape, bool)
            delta = self.z
            self.a = self._dense(self.z)
            sent, ambiguous = everything, ~everything
        else:
            sent, ambiguous, delta = self._gated()
        self.count = self.count + 1
        return Evaluation(self.z, self.value(), sent, ambiguous, delta)

    def _gated(self) -> tuple[Array, Array, Known]:
        """Decide, remember, accumulate (D-1 to D-7, D-12)."""
        rule, u, r = self.rule, self.z, self.r
        assert rule is not None
        tau = np.asarray(rule.threshold, dtype=np.float64).astype(self.dtype)
        tau = tau.reshape(-1, *(1,) * (u.value.ndim - 2)) if tau.ndim else tau
        never = np.zeros(len(self.count), bool)
        start = self.count == 0 if rule.start == "dense" else never
        refresh = (self.count > 0) & (self.count % rule.refresh == 0) & ~start if rule.refresh else never
        fires, open_, delta = self._decide(u, r, tau)
        sent = arithmetic.or_over_groups(fires, rule.granularity, rule.tile)
        may = arithmetic.or_over_groups(fires | open_, rule.granularity, rule.tile)
        lift = start.reshape(-1, *(1,) * (u.value.ndim - 1))
        ambiguous = may & ~sent & ~lift
        d, following = arithmetic.next_reference(u.value, r.value, delta.value, sent, rule.memory, rule.feedback_format)
        r_error = np.where(sent, u.error, r.error) if rule.memory == "sent" else u.error
        if rule.memory == "sent":
            spread = np.abs(wide(u.value) - wide(r.value)).astype(np.float64) + u.error + r.error
            r_error = np.where(ambiguous, spread, r_error)
        self.r = Known(np.where(lift, u.value, following), np.where(lift, u.error, r_error))
        values = Known(np.where(lift, u.value, d), np.where(lift, u.error, np.where(sent, delta.error, 0.0)))
        again = refresh.reshape(lift.shape)
        values = Known(np.where(again, self.r.value, values.value), np.where(again, self.r.error, values.error))
        everything = sent | lift | again
        loose = np.where(ambiguous & ~again, np.abs(delta.value).astype(np.float64) + delta.error, 0.0)
        self.a = self._accumulated(values, everything, start | refresh, loose)
        return sent | lift, ambiguous, delta

    def _decide(self, u: Known, r: Known, tau: Array) -> tuple[Array, Array, Known]:
        """Certified and open decisions, and the differences (section 3.4)."""
        rule = self.rule
        assert rule is not None
        delta, fires = arithmetic.decide_all(
            u.value.astype(self.dtype), r.value.astype(self.dtype), tau, rule.compare, rule.delta_dtype
        )
        radius = u.error + r.error
        if not radius.any():
            return fires, np.zeros(fires.shape, bool), Known.exactly(delta.astype(self.held))
        unit = bounds.unit_roundoff(self.dtype)
        centre = (wide(u.value) - wide(r.value)).astype(np.float64)
        error = radius * (1.0 + unit) + unit * np.abs(centre)
        margin = np.abs(np.abs(centre) - tau.astype(np.float64))
        open_ = (radius > 0.0) & ~(margin > error)
        certain = np.where(radius > 0.0, np.abs(centre) > tau.astype(np.float64), fires)
        value = np.where(radius > 0.0, centre, delta.astype(np.float64))
        return certain & ~open_, open_, Known(value, np.where(radius > 0.0, error + unit * np.abs(centre), 0.0))

    # ---------------------------------------------------------------------------------------------------------- accumulators

    def reach(self, radius: Array) -> Array:
        """``|A| e``: what errors of the inputs give; nothing where there are none."""
        if not radius.any():
            return np.zeros((len(radius), *self.problem.out_shape))
        zero = np.zeros((len(radius), *self.problem.out_shape))
        return self.sizes.exact(radius, radius > 0.0, zero, zero)[3]

    def _dense(self, u: Known) -> Known:
        zero = np.zeros((len(u.value), *self.problem.out_shape), self.held)
        self.a = Known.exactly(zero)
        return self._accumulated(u, np.ones(u.value.shape, bool), np.ones(len(zero), bool), np.zeros(u.value.shape))

    def _accumulated(self, d: Known, sent: Array, dense: Array, loose: Array) -> Known:
        """The accumulator after one evaluation (D-6, N-6, N-7)."""
        before, node = self.a, self.node
        lift = dense.reshape(-1, *(1,) * (before.value.ndim - 1))
        base = np.where(lift, self.held.type(0), before.value)
        base_error = np.where(lift, 0.0, before.error)
        bias = np.broadcast_to(node.bias_array, base.shape) if self.folded else None
        if self.exact:
            if bias is None:
                return Known.exactly(node.strict(d.value, sent, base))
            s = node.strict(d.value, sent, np.zeros_like(base))
            return Known.exactly(np.where(lift, s + bias, ((s + bias) + before.value) - bias))
        zero = np.zeros_like(base)
        _, gauge, k, total = node.exact(d.value, sent, zero, zero)
        reach = self.reach(np.where(sent, d.error, 0.0))
        inherited = base_error + reach + self.reach(loose)
        size = np.abs(base.astype(np.float64)) + base_error
        sizes = None
        if self.model.operands is not None:
            sizes = self.reach(sent.astype(np.float64)) + np.abs(d.value).sum() + d.error.sum()
        if bias is None:
            limit = bounds.accumulate(self.model, k, size, gauge + reach, sizes).limit
            value = total + base.astype(np.float64)
        else:
            limit = bounds.folded(self.model, k, gauge + reach, size, bias.astype(np.float64), lift, sizes).limit
            value = total + np.where(lift, bias.astype(np.float64), base.astype(np.float64))
        error = (limit + inherited) * (1.0 + 2.0**-40) + 2.0**-52 * np.abs(value)
        return Known(value, error)

    def value(self) -> Known:
        """``phi(fl(fl(a + b) + x))``."""
        name = self.problem.activation
        if self.exact:
            total = self.a.value if self.folded else self.node.output(self.a.value)
            shifted = np.add(total, self.x)
            return Known.exactly(arithmetic.apply_exact(name, [shifted], {}))
        value, error = cell_value(
            self.node, wide(self.a.value), self.a.error, self.x, name, self.dtype, self.native_ulp, self.folded
        )
        return Known(value.astype(np.float64), error.astype(np.float64) + 2.0**-52 * np.abs(value).astype(np.float64))

    # ----------------------------------------------------------------------------------------------------------------- steps

    def step(self, done: Evaluation, going: Array) -> None:
        """Take the step of the solver for some samples (S-6); the state of the others is for the caller to keep."""
        alpha = float(self.problem.solver.get("alpha", 1.0))
        z, f = done.z, done.f
        if self.exact:
            following = f.value
            if alpha != 1.0:
                scalar = self.dtype.type
                kept = np.multiply(scalar(1.0 - alpha), z.value)
                following = np.add(kept, np.multiply(scalar(alpha), f.value))
            new = Known.exactly(following)
        else:
            centre = (1.0 - alpha) * z.value.astype(np.float64) + alpha * f.value if alpha != 1.0 else f.value
            error = damped_error(alpha, z.value.astype(np.float64), f.value, f.error, z.error, self.dtype)
            new = Known(centre, np.asarray(error) + (0.0 if alpha == 1.0 else 2.0**-52 * np.abs(centre)))
        lift = going.reshape(-1, *(1,) * (z.value.ndim - 1))
        self.z = Known(np.where(lift, new.value, z.value), np.where(lift, new.error, z.error))

    def residual(self, done: Evaluation) -> tuple[Known, Known]:
        """Residual and scale of each sample (S-2); radii by the triangle inequality, and ``(n + 8) u`` for the norm itself."""
        norm = self.problem.stop.norm
        argument, value = done.z, done.f
        residual, scale = arithmetic.norms([value.value], [argument.value], norm)
        if self.exact:
            return Known.exactly(residual), Known.exactly(scale)
        zeros = np.zeros_like(argument.error)
        spread = arithmetic.norms([value.error + argument.error], [zeros], norm)[1]
        own = bounds.residual_bound(int(np.prod(self.problem.shape)))
        lone = arithmetic.norms([value.error], [zeros], norm)[1]
        return Known(residual, spread + own * (residual + spread)), Known(scale, lone + own * (scale + lone))
