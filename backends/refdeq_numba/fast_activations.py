"""The activations of fast order: native (N-8), within the error that the backend declares, computed in their argument's dtype.

Tanh, sigmoid, sine, cosine and exponential with fused multiply-adds, for float32 wholly in float32: twice as many arguments per
register as the strict formulas take, which work in float64. Like :mod:`refdeq_numba.activations` they have selections and no
branches, so that a plain loop becomes vector code. Every multiply-add is written as one, and the compiler contracts nothing (no
``fastmath``): vector body and scalar tail of a loop agree, and a result depends on its argument alone.

Arguments are reduced by a constant in parts (Cody and Waite). With a fused multiply-add the first step is exact: the argument
and ``n * part`` are multiples of the part's last place, and so few of those are left that a number of the dtype holds them.
Polynomials are minimax fits, each coefficient rounded to the dtype before the next was fitted.

The functions serve both dtypes; the type of the argument decides what a constant is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import llvmlite.ir as ir

from refdeq_numba.compilation import inlined
from refdeq_numba.machine import fused_multiply_add, intrinsic

__all__ = ["cos", "exp", "sigmoid", "sin", "tanh", "trig_limit"]


# what depends on the dtype ------------------------------------------------------------------------------------------------


def _polynomial(single: Sequence[float], double: Sequence[float]) -> Any:
    """Polynomial by Horner's rule in fused multiply-adds, coefficients in ascending order; of one coefficient, a constant."""

    @intrinsic
    def polynomial(_typing, x):
        def generate(_context, builder, _signature, arguments):
            [value] = arguments
            coefficients = double if value.type == ir.DoubleType() else single
            total, *others = (ir.Constant(value.type, c) for c in reversed(coefficients))
            for coefficient in others:
                total = builder.fma(total, value, coefficient)
            return total

        return x(x), generate

    return polynomial


def _constant(single: float, double: float) -> Any:
    """A number of the type of the argument: ``c = _constant(1.0, 1.0)``, then ``c(x)``."""
    return _polynomial((single,), (double,))


def _both(value: float) -> Any:
    return _constant(value, value)


_ZERO, _HALF, _ONE, _TWO = (_both(value) for value in (0.0, 0.5, 1.0, 2.0))

# Adding these to a number rounds it to a whole n, which the low bits of the sum then hold, plus the bias of an exponent.
_TO_INTEGER = _constant(1.5 * 2.0**23, 1.5 * 2.0**52)
_TO_EXPONENT = _constant(1.5 * 2.0**23 + 127, 1.5 * 2.0**52 + 1023)

_ONE_OVER_PI = _constant(float.fromhex("0x1.45f306p-2"), 1.0 / math.pi)
_PI_1, _PI_2, _PI_3 = (
    _constant(float.fromhex(single), float.fromhex(double))
    for single, double in (
        ("0x1.921fb4p+1", "0x1.921fb54442d18p+1"),
        ("0x1.4442dp-23", "0x1.1a62633145c06p-53"),
        ("0x1.846988p-47", "0x1.c1cd129024e08p-106"),
    )
)

_LOG2_E = _constant(float.fromhex("0x1.715476p+0"), float.fromhex("0x1.71547652b82fep+0"))
_LN2_1, _LN2_2 = (
    _constant(float.fromhex(single), float.fromhex(double))
    for single, double in (("0x1.62e42ep-1", "0x1.62e42fefa39efp-1"), ("0x1.efa39ep-25", "0x1.abc9e3b39803fp-56"))
)

trig_limit = _constant(2.0**17, 2.0**30)
"""Largest argument of :func:`sin` and :func:`cos`: up to it n counts half turns without error."""

_SINE = _polynomial(
    (-0.16666659712791443, 0.00833306834101677, -0.00019809654622804374, 2.60572824117844e-06),
    (
        -0.16666666666666666,
        0.008333333333333207,
        -0.0001984126984121248,
        2.7557319211569482e-06,
        -2.5052106904423313e-08,
        1.6058941002196296e-10,
        -7.643019327276389e-13,
        2.7214178805467906e-15,
    ),
)
"""``(sin(t) / t - 1) / t^2`` as a function of t^2, for |t| up to pi/2: relative error of the sine 2^-27 and 2^-61."""

_EXPONENTIAL = _polynomial(
    (0.4999999403953552, 0.16666516661643982, 0.04166810214519501, 0.008369166404008865, 0.0013838342856615782),
    (
        0.5,
        0.16666666666666685,
        0.04166666666666667,
        0.00833333333331576,
        0.0013888888888881719,
        0.00019841269899382324,
        2.4801587333164283e-05,
        2.7557232052069987e-06,
        2.755726284047741e-07,
        2.511288257359702e-08,
        2.0917590059721538e-09,
    ),
)
"""``(exp(t) - 1 - t) / t^2`` for |t| up to ln(2)/2: relative error of the exponential 2^-28 and 2^-59."""


# bits ---------------------------------------------------------------------------------------------------------------------


@intrinsic
def _power_of_two(_typing, biased):
    """``2**n`` from a number whose low bits hold n plus the bias of an exponent: they are moved to where exponents are."""

    def generate(_context, builder, _signature, arguments):
        [value] = arguments
        integer, fraction = (ir.IntType(64), 52) if value.type == ir.DoubleType() else (ir.IntType(32), 23)
        moved = builder.shl(builder.bitcast(value, integer), ir.Constant(integer, fraction))
        return builder.bitcast(moved, value.type)

    return biased(biased), generate


@intrinsic
def _signed(_typing, size, like, counted):
    """`size` (not negative) with the sign of `like`, the other one where the lowest bit of `counted` is set."""

    def generate(_context, builder, _signature, arguments):
        integer = ir.IntType(64 if arguments[0].type == ir.DoubleType() else 32)
        bits, sign, number = (builder.bitcast(value, integer) for value in arguments)
        turned = builder.xor(sign, builder.shl(number, ir.Constant(integer, integer.width - 1)))
        turned = builder.and_(turned, ir.Constant(integer, 1 << (integer.width - 1)))
        return builder.bitcast(builder.or_(bits, turned), arguments[0].type)

    return size(size, like, counted), generate


# functions ----------------------------------------------------------------------------------------------------------------


@inlined
def _exp_reduced(t):
    """``exp(t)`` for |t| up to ln(2)/2."""
    return fused_multiply_add(t * t, _EXPONENTIAL(t), t) + _ONE(t)


_LOWEST = _constant(-104.5, -745.5)
_HIGHEST = _constant(89.0, 710.0)


@inlined
def exp(x):
    """Exponential; arguments are cut to where the result is +0 and infinite. The scale has two factors, for subnormals."""
    x = _LOWEST(x) if x < _LOWEST(x) else x
    x = _HIGHEST(x) if x > _HIGHEST(x) else x
    n = fused_multiply_add(x, _LOG2_E(x), _TO_INTEGER(x)) - _TO_INTEGER(x)
    t = fused_multiply_add(-n, _LN2_1(x), x)
    t = fused_multiply_add(-n, _LN2_2(x), t)
    half = fused_multiply_add(n, _HALF(x), _TO_EXPONENT(x))
    rest = (n - (half - _TO_EXPONENT(x))) + _TO_EXPONENT(x)
    return _exp_reduced(t) * _power_of_two(half) * _power_of_two(rest)


_SHIFTED = _constant(1.5 * 2.0**23 + 127 + 64, 1.5 * 2.0**52 + 1023 + 512)
_SHIFT_BACK = _constant(2.0**-64, 2.0**-512)


@inlined
def sigmoid(x):
    """Logistic function: with ``e = exp(-|x|)``, ``e - e^2/(1 + e)`` below 0 and ``1 - e/(1 + e)`` above.

    The rounding of ``1 + e`` then counts for little. The scale of e is formed 2^64 (2^512) too large, hence never subnormal.
    """
    size = -abs(x)
    size = _LOWEST(x) if size < _LOWEST(x) else size
    shifted = fused_multiply_add(size, _LOG2_E(x), _SHIFTED(x))
    n = shifted - _SHIFTED(x)
    t = fused_multiply_add(-n, _LN2_1(x), size)
    t = fused_multiply_add(-n, _LN2_2(x), t)
    e = _exp_reduced(t) * _power_of_two(shifted) * _SHIFT_BACK(x)
    base = e if x < _ZERO(x) else _ONE(x)
    return base - (base * e) / (_ONE(x) + e)


_SATURATED = _constant(10.0, 20.0)


@inlined
def tanh(x):
    """Hyperbolic tangent: with ``h = (exp(2|x|) - 1)/2``, ``h - h^2/(h + 1)`` up to 1 and ``1 - 1/(h + 1)`` above.

    Both are h/(h + 1), written so that the rounding of ``h + 1`` counts for little. ``exp(2t) - 1`` is twice
    ``t + 2 t^2 q(2t)``: nothing cancels near 0.
    """
    size = abs(x)
    size = _SATURATED(x) if size > _SATURATED(x) else size
    twice = _TWO(x) * size
    biased = fused_multiply_add(twice, _LOG2_E(x), _TO_EXPONENT(x))
    n = biased - _TO_EXPONENT(x)
    t = fused_multiply_add(-n, _LN2_1(x), twice)
    t = fused_multiply_add(-n, _LN2_2(x), t)
    p = fused_multiply_add(t * t, _EXPONENTIAL(t), t)
    scale = _HALF(x) * _power_of_two(biased)
    h = fused_multiply_add(scale, p, scale - _HALF(x))
    base = _ONE(x) if h > _ONE(x) else h
    return _signed(base - (base * base) / (h + _ONE(x)), x, _ZERO(x))


@inlined
def _sine_of_turn(t, counted):
    """``sin(t)`` for |t| up to pi/2, negated where the lowest bit of `counted` is set; never beyond 1, keeps the sign of 0."""
    size = abs(t)
    s = size * size
    y = fused_multiply_add(size * s, _SINE(s), size)
    y = _ONE(t) if y > _ONE(t) else y
    return _signed(y, t, counted)


@inlined
def sin(x):
    """Sine for |x| up to :func:`trig_limit`; beyond, any number at all (NaN for what is not finite)."""
    counted = fused_multiply_add(x, _ONE_OVER_PI(x), _TO_INTEGER(x))
    n = counted - _TO_INTEGER(x)
    t = fused_multiply_add(-n, _PI_1(x), x)
    t = fused_multiply_add(-n, _PI_2(x), t)
    return _sine_of_turn(fused_multiply_add(-n, _PI_3(x), t), counted)


@inlined
def cos(x):
    """Cosine for |x| up to :func:`trig_limit`, as :func:`sin`: ``cos(x) = (-1)^m sin(x - (m - 1/2) pi)``."""
    size = abs(x)
    counted = fused_multiply_add(size, _ONE_OVER_PI(x), _HALF(x)) + _TO_INTEGER(x)
    n = (counted - _TO_INTEGER(x)) - _HALF(x)
    t = fused_multiply_add(-n, _PI_1(x), size)
    t = fused_multiply_add(-n, _PI_2(x), t)
    return _sine_of_turn(fused_multiply_add(-n, _PI_3(x), t), counted)
