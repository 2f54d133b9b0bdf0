"""Bounds of the judge for one evaluation of a linear node; there is no other tolerance in the harness.

Derivations: ``docs/bounds.md``, whose sections the functions name. Bounds of whole solves (activations, damped steps, solvers,
certificates, gradients) are in :mod:`refdeq_validation.judge.bounds_solver`.

Notation: ``u`` unit roundoff of the additions (2^-24 for float32, 2^-53 for float64), ``eta`` half the least subnormal, ``k``
the number of terms summed, ``a`` the stored accumulator, ``P = sum |A_ij| |d_j|`` over the sent terms, gauge ``G = |a| + P``.
Comparisons are written ``error <= bound`` so that NaN fails.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refdeq_validation.judge.formats import FORMATS, Format
from refdeq_validation.judge.models import Arithmetic, plain

__all__ = [
    "INFLATION",
    "Bound",
    "accumulate",
    "accumulate_bound",
    "folded",
    "operand_unit",
    "output_error",
    "residual_bound",
    "underflow",
    "unit_roundoff",
]

Array = np.ndarray[Any, Any]

INFLATION = 1.0 + 2.0**-40
"""Covers the rounding of the bound itself, which is evaluated in float64, and second-order terms of the judge's own error."""

_DOUBLE = 2.0**-53

_LARGEST = float(np.finfo(np.float64).max)


def unit_roundoff(dtype: np.dtype[Any]) -> float:
    """Unit roundoff of a dtype for round to nearest."""
    return FORMATS[np.dtype(dtype).name].unit


def underflow(dtype: np.dtype[Any]) -> float:
    """Half the least subnormal: the most that one operation loses to gradual underflow (the whole one in float64)."""
    return FORMATS[np.dtype(dtype).name].eta


class Bound(NamedTuple):
    """A bound on the error of every element of a sum, and what a report says about it.

    Attributes
    ----------
    limit : array
        The bound.
    gauge : array
        ``G``.
    k : array
        Terms.
    terms : dict of str to array or float
        Summands of the bound, before inflation; all that are not zero.
    unclaimed : array of bool
        Where the model is too coarse for a claim (``bound_vacuous``): there the limit is infinite.
    """

    limit: Array
    gauge: Array
    k: Array
    terms: dict[str, Any]
    unclaimed: Array


def accumulate(model: Arithmetic, k: Array, base: Array, products: Array, sizes: Array | None = None, extra: int = 0) -> Bound:
    """Bound for one accumulate in any order, fused or not (N-7; docs/bounds.md, sections 2 to 5).

    Parameters
    ----------
    model : Arithmetic
    k : array
        Number of products.
    base : array
        Sum of the magnitudes of what is added without being multiplied: ``|a|``, or with a folded bias ``|a| + 2 |b|``.
    products : array
        ``P``.
    sizes : array, optional
        ``sum |A_ij| + |d_j|`` over the sent terms: what underflow of re-rounded operands is multiplied by. Required when
        operands are re-rounded.
    extra : int
        Summands beyond `a` and the products.

    Returns
    -------
    Bound
        Zero where the gauge is zero: a sum of zeros is zero in every order. Zero as well where there is nothing to add and
        nothing that would convert `a`.
    """
    gauge = base + products
    # Finite sums have finite partial sums: where the gauge leaves float64, no rounding exceeds u times the largest number.
    reach, products = np.minimum(gauge, _LARGEST), np.minimum(products, _LARGEST)
    leaves = (k + (1 + extra)) * (3.0 if model.parts > 1 else 1.0)
    theta = operand_unit(model)
    if model.adds != model.carrier:
        theta = theta + model.carrier.unit * (1.0 + theta)
    growth = leaves * model.adds.unit * (2.0 if model.chopped else 1.0)
    if model.chopped:
        unclaimed = growth >= 0.5
        rate = growth / (1.0 - np.minimum(growth, 0.5))
    else:
        unclaimed, rate = growth >= 1.0, growth
    terms: dict[str, Any] = {"sum": rate * (reach + theta * products) if theta else rate * reach}
    if theta:
        terms["operands"] = theta * products
    if model.operands is not None:
        assert sizes is not None
        eta = _lost(model.operands, model)
        terms["operand underflow"] = eta * ((1.0 + theta) * sizes + k * eta)
    terms["underflow"] = _underflows(model, k, extra) * (1.0 + rate)
    # Float32 products are exact in the judge's float64 sum; float64 ones may lose what is below the least subnormal.
    terms["judge"] = k * _DOUBLE * reach if model.carrier.precision == 24 else k * model.carrier.eta
    limit = sum(terms.values()) * INFLATION
    exact = gauge == 0.0
    if model.adds == model.carrier and not extra and not model.flushes:
        exact = exact | (k == 0)
    limit = np.where(exact, 0.0, np.where(unclaimed, np.inf, limit))
    return Bound(limit, gauge, k, terms, np.asarray(unclaimed & ~exact))


def operand_unit(model: Arithmetic) -> float:
    """Relative error of one product from re-rounding its operands (docs/bounds.md, section 3): ``2 u_in + u_in^2``.

    Splitting into parts leaves what is dropped: of three bfloat16 parts ``mid lo + lo mid + lo lo``, of two tf32 parts
    ``lo lo`` and the two remainders; both in units of 2^-24, with a tenth for terms of higher order. Two bfloat16 parts leave
    ``lo lo`` and a remainder of each operand, 2^-16 each.
    """
    if model.operands is None:
        return 0.0
    if model.parts == 2:
        return 3.1 * 2.0**-16
    if model.parts == 3:
        rest = 0.0 if model.carrier.precision == 24 or model.operands.precision == 11 else 2.0
        return (8.1 if model.operands.precision == 11 else 2.1 + rest) * 2.0**-24
    u = model.operands.unit * (2.0 if model.chopped else 1.0)
    return 2.0 * u + u * u


def _lost(form: Format, model: Arithmetic) -> float:
    """Largest loss of one rounding to underflow."""
    if model.flushes:
        return form.tiny
    return form.eta * (2.0 if model.chopped else 1.0)


def _underflows(model: Arithmetic, k: Array, extra: int) -> Array:
    """Absolute losses of one accumulate to underflow (docs/bounds.md, section 5)."""
    if model.flushes:
        again = k + 1 + extra if model.adds != model.carrier else 0
        return np.asarray(_lost(model.carrier, model) * k + _lost(model.adds, model) * (k + extra + again))
    losses = np.asarray(_lost(model.carrier, model) * k)
    if model.adds != model.carrier:
        losses = losses + _lost(model.adds, model) * (k + 1 + extra)
    return losses


def accumulate_bound(k: Array, gauge: Array, dtype: np.dtype[Any]) -> Array:
    """Bound for one accumulate in the dtype of the arrays, in any order (N-7): ``(k + 1) u G + k eta``.

    Parameters
    ----------
    k, gauge : arrays
        Number of terms, and ``G``.
    dtype : dtype of the accumulator
    """
    return accumulate(plain(np.dtype(dtype).name), k, np.zeros_like(gauge), gauge).limit


def folded(
    model: Arithmetic, k: Array, products: Array, a: Array, bias: Array, dense: Array, sizes: Array | None = None
) -> Bound:
    """Bound for an accumulator that carries the bias (D-6; docs/bounds.md, section 6).

    A dense evaluation is a sum of `k` products and the bias; any other is one of `k` products, `a`, `b` and `-b`, in any order.

    Parameters
    ----------
    model : Arithmetic
    k, products : arrays
        Terms and ``P``.
    a, bias : arrays
        Stored accumulator and bias.
    dense : array of bool
        Where the evaluation is dense (a start or a refresh).
    """
    size = np.abs(bias)
    start = accumulate(model, k, size, products, sizes)
    later = accumulate(model, k, np.abs(a) + 2.0 * size, products, sizes, extra=2)
    terms = {name: np.where(dense, start.terms[name], value) for name, value in later.terms.items()}
    return Bound(
        np.where(dense, start.limit, later.limit),
        np.where(dense, start.gauge, later.gauge),
        k,
        terms,
        np.where(dense, start.unclaimed, later.unclaimed),
    )


def output_error(model: Arithmetic, a: Array, error: Array, total: Array, has_bias: bool, storage: Format | None) -> Array:
    """Error of an output whose accumulator is known to within `error` only (docs/bounds.md, section 7).

    ``fl(a + b)`` adds one rounding of ``|a + b| + error``; a narrower store one more, ``u_st`` of all that, and ``eta_st``.

    Parameters
    ----------
    a, error : arrays
        Accumulator as the judge knows it, and its error.
    total : array
        ``a + b``.
    has_bias : bool
        Without a bias the output is the accumulator, and no addition is made.
    storage : Format or None
    """
    if has_bias:
        error = error + model.carrier.unit * (np.abs(total) + error) + (model.carrier.tiny if model.flushes else 0.0)
    if storage is not None:
        error = error + storage.unit * (np.abs(total) + error) + storage.eta
    return np.asarray(error * INFLATION)


def residual_bound(size: int) -> float:
    """Relative bound for a residual norm of `size` elements in float64, any order of summation (S-2): ``(n + 8) u``.

    One rounding each for the difference, the square, the sum's height (at most n), and the root halves what it inherits.
    """
    return (size + 8) * _DOUBLE
