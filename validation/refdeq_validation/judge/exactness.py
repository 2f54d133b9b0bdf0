"""Proof that the sums of a case are exact in every order (c): every partial sum is a representable multiple of one unit.

If all of ``a``, ``A_ij d_j`` (and the bias where it takes part) are multiples of ``2^-q`` whose magnitudes add up to less than
``2^(p - q)``, then every partial sum of every tree, fused or not, is such a multiple and smaller: a number of a format with `p`
significant bits. No operation rounds, and all orders give the same value (docs/bounds.md, section 9).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError
from refdeq_validation.cases.model import Case
from refdeq_validation.judge.accumulating import Linear
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.gating import Gate
from refdeq_validation.judge.models import Arithmetic, plain
from refdeq_validation.judge.verdicts import Findings

__all__ = ["Proof", "covers", "lowest_bit", "prove"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Proof:
    """What was proven of all steps of a case.

    Attributes
    ----------
    q : int
        Every summand is a multiple of ``2^-q``.
    gauge : float
        Largest sum of magnitudes of one output.
    operand_bits : int
        Significant bits that hold every weight and every gated difference.
    largest_operand, least_operand : float
        Extremes of the magnitudes of operands other than zero.
    """

    q: int
    gauge: float
    operand_bits: int
    largest_operand: float
    least_operand: float

    def covers(self, model: Arithmetic) -> bool:
        """Whether the proof holds for a model of arithmetic: its additions, and the operands it multiplies.

        >>> Proof(3, 2.0**20, 8, 4.0, 0.5).covers(plain("float32"))
        True
        """
        adds = self.gauge < 2.0 ** min(model.adds.precision - self.q, 1023) and self.gauge <= model.adds.largest
        # Multiples of 2^-q that are normal numbers: nothing is there to be flushed.
        adds = adds and 2.0**-self.q >= max(model.adds.tiny, model.carrier.tiny)
        form = model.operands
        if form is None:
            return adds
        fits = self.operand_bits <= form.precision and self.largest_operand <= form.largest and self.least_operand >= form.tiny
        return adds and fits


def lowest_bit(values: Array) -> int:
    """Exponent of the lowest bit that is set in any of the numbers; 1023 where all are zero.

    >>> lowest_bit(np.array([0.75, 8.0]))
    -2
    """
    whole, exponent = _integers(values)
    if not whole.size:
        return 1023
    _, trailing = np.frexp((whole & -whole).astype(np.float64))
    return int((exponent - 53 + trailing - 1).min())


def significant_bits(values: Array) -> int:
    """Significant bits of the number that needs most.

    >>> significant_bits(np.array([5.0, 0.25]))
    3
    """
    whole, _ = _integers(values)
    if not whole.size:
        return 0
    low = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    return int((53 - low).max())


def _integers(values: Array) -> tuple[Array, Array]:
    """Numbers other than zero as ``whole 2^(exponent - 53)``, with whole of 53 bits."""
    mantissa, exponent = np.frexp(np.ravel(values).astype(np.float64))
    used = mantissa != 0
    return (mantissa[used] * 2.0**53).astype(np.int64), exponent[used]


def prove(case: Case) -> Proof:
    """Prove that every accumulate of a case of unit steps is exact in every order (section 3.3 c).

    Parameters
    ----------
    case : Case
        Of a problem whose dtype is the format of the sums.

    Returns
    -------
    Proof
        That covers plain sums in the dtype of the case; :meth:`Proof.covers` tells about other models.

    Raises
    ------
    ArgumentError
        Where a summand is not finite, or a sum needs more bits than the format has.
    """
    problem = case.problem
    with np.errstate(all="ignore"):
        proof = _walk(case)
    if not proof.covers(plain(problem.dtype)):
        raise ArgumentError(
            f"case {case.slug!r}",
            expected=f"multiples of 2^-q whose magnitudes add up to less than 2^(p - q) in {problem.dtype}",
            got=f"q = {proof.q}, gauge {proof.gauge.hex()}",
            hint="use fewer bits or fewer terms",
        )
    return proof


@lru_cache(maxsize=1024)
def covers(case: Case, model: Arithmetic) -> bool:
    """Whether a case is exact under a declared model of arithmetic other than the plain one; answers are kept, by identity."""
    try:
        return prove(case).covers(model)
    except ArgumentError:
        return False


class _Walk:
    """Steps of a case in strict order, with what the proof needs of each."""

    def __init__(self, case: Case) -> None:
        problem, rule = case.problem, case.problem.rule
        self.problem = problem
        self.rule = None if rule is None or "linear" in rule.dense else rule
        self.gate = None if self.rule is None else Gate(problem, self.rule)
        self.linear = Linear(problem, self.rule, plain(problem.dtype), True, Comparer(Findings()), None)
        self.lowest, self.gauge = 1023, 0.0
        self.operands: list[Array] = [problem.weight]

    def step(self, u: Array, r: Array, a: Array, count: Array) -> tuple[Array, Array]:
        """Next reference and accumulator."""
        if self.gate is None or self.rule is None:
            self.sum(u, np.ones(u.shape, bool), np.ones(len(u), bool), np.zeros((len(u), *self.problem.out_shape), a.dtype))
            return r, a
        start = (count == 0) & (self.rule.start == "dense")
        due = (count > 0) & (count % self.rule.refresh == 0) if self.rule.refresh else np.zeros(len(u), bool)
        done = self.gate.advance(u, r, start)
        values = np.where(_lift(due, u), done.r, done.d)
        return done.r, self.sum(values, done.sent | _lift(start | due, u), start | due, a)

    def sum(self, values: Array, sent: Array, dense: Array, before: Array) -> Array:
        """One accumulate: its summands are looked at, and its value is returned."""
        shift = np.zeros(1) if self.problem.bias is None else self.linear.bias.astype(np.float64)
        lift = _lift(dense, before)
        size = np.where(lift, 0.0, np.abs(before.astype(np.float64)))
        if self.problem.bias is not None and (self.linear.folded or self.rule is None):
            size = size + np.where(lift, 1.0, 2.0) * np.abs(shift)
            self.look(shift)
        zero = np.zeros(before.shape)
        _, products, _, _ = self.linear.node.exact(values, sent, zero, zero)
        self.look(before)
        used = np.where(sent, values, 0)
        self.operands.append(used)
        self.lowest = min(self.lowest, lowest_bit(self.problem.weight) + lowest_bit(used))
        gauge = size + products
        if not np.isfinite(gauge).all():
            raise ArgumentError("summands", expected="finite numbers", got="NaN or infinities")
        self.gauge = max(self.gauge, float(gauge.max(initial=0.0)))
        return self.linear.strict(values, sent, dense, before)

    def look(self, values: Array) -> None:
        """Take in numbers that are added as they are."""
        if not np.isfinite(values).all():
            raise ArgumentError("summands", expected="finite numbers", got="NaN or infinities")
        self.lowest = min(self.lowest, lowest_bit(values))


def _walk(case: Case) -> Proof:
    problem, walk = case.problem, _Walk(case)
    states: dict[int, tuple[Array, Array, Array]] = {}
    for call in case.calls:
        number = int(call.options.get("session", 0))
        if call.refused:
            continue
        if call.name == "reset":
            batch = int(call.options["batch"])
            a = np.zeros((batch, *problem.out_shape), problem.dtype)
            if walk.linear.folded:
                a = a + walk.linear.bias
            states[number] = np.zeros((batch, *problem.shape), problem.dtype), a, np.zeros(batch, np.int64)
        elif call.name == "set_state":
            states[number] = call.arrays["r"], call.arrays["a"], call.arrays["count"]
        else:
            r, a, count = states[number]
            states[number] = *walk.step(call.arrays["u"], r, a, count), count + 1
    operands = np.concatenate([np.ravel(part).astype(np.float64) for part in walk.operands])
    used = np.abs(operands[operands != 0])
    return Proof(
        q=-walk.lowest if walk.gauge else 0,
        gauge=walk.gauge,
        operand_bits=significant_bits(operands),
        largest_operand=float(used.max(initial=0.0)),
        least_operand=float(used.min(initial=np.inf)),
    )


def _lift(rows: Array, like: Array) -> Array:
    """A per-sample flag, shaped to broadcast against a batched array."""
    return rows.reshape(-1, *(1,) * (like.ndim - 1))
