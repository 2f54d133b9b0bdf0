"""Products and sums as other hardware makes them: narrower operands, narrower or truncating sums, flushed subnormals."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq_validation.lab.formats import narrowed, rounded_to_bits
from refdeq_validation.lab.style import Style

__all__ = ["add", "flushed", "fused", "operand", "pieces", "product"]

Array = np.ndarray[Any, Any]

LARGEST_TF32 = 3.4011621342146535e38


def operand(values: Array, name: str) -> Array:
    """Values as a multiplier reads them."""
    if name == "same":
        return values
    return rounded_to_bits(values, 11, -126, LARGEST_TF32) if name == "tf32" else narrowed(values, name)


def product(style: Style, weight: Array, values: Array) -> Array:
    """One product per pair, rounded to the dtype of the operands."""
    return flushed(style, operand(weight, style.multiply) * operand(values, style.multiply))


def add(style: Style, total: Array, term: Array) -> Array:
    """One addition into the accumulator."""
    if style.rounding == "truncate":
        return truncated(total, term)
    result = total + term
    return flushed(style, result if style.accumulate == "same" else narrowed(result, style.accumulate))


def flushed(style: Style, values: Array) -> Array:
    """Subnormal numbers as zeros of the same sign, where the style flushes (N-5)."""
    if not style.flush:
        return values
    return np.where(np.abs(values) < np.finfo(values.dtype).tiny, np.copysign(values.dtype.type(0), values), values)


def truncated(left: Array, right: Array) -> Array:
    """Sum rounded towards zero: the nearest, moved one step back where it is too long."""
    total = left + right
    rest = remainder(left, right, total)
    longer = (rest != 0) & (np.signbit(rest) != np.signbit(total)) & np.isfinite(rest)
    return np.where(longer, np.nextafter(total, total.dtype.type(0)), total)


def remainder(left: Array, right: Array, total: Array) -> Array:
    """What a rounded sum lacks, exactly (TwoSum; Knuth)."""
    virtual = total - left
    return np.asarray((left - (total - virtual)) + (right - virtual))


def pieces(values: Array, name: str, count: int) -> list[Array]:
    """Values as a sum of `count` narrow numbers, the largest first."""
    found, rest = [], values
    for _ in range(count):
        head = operand(rest, name)
        found.append(head)
        rest = rest - head
    return found


def fused(a: Array, weight: Array, values: Array) -> Array:
    """``a + weight * values`` with one rounding; plain where a number is not finite or too large to split.

    float32: the product is exact in float64, the sum is rounded to odd there. float64: the error of the product is exact too
    (Dekker), and the three parts are added with an odd intermediate (Boldo and Melquiond, IEEE Trans. Comput. 57(4), 2008).

    >>> one = np.array([1.0 + 2.0**-52])
    >>> fused(-one * one, one, one).item() == 2.0**-104
    True
    """
    plain = np.asarray(a + weight * values)
    if plain.dtype == np.float32:
        wide = weight.astype(np.float64) * values.astype(np.float64)
        result = odd_sum(a.astype(np.float64), wide).astype(np.float32)
    else:
        weight, values = np.broadcast_arrays(weight, values)
        upper = weight * values
        lower = product_error(weight, values, upper)
        first = a + lower
        first_rest = remainder(a, lower, first)
        second = upper + first
        second_rest = remainder(upper, first, second)
        result = second + odd_sum(first_rest, second_rest)
    return np.where(np.isfinite(plain) & np.isfinite(result), result, plain)


def odd_sum(left: Array, right: Array) -> Array:
    """Sum rounded to odd: of the two neighbours of an inexact sum the one whose last bit is set."""
    total = np.asarray(left + right)
    rest = remainder(left, right, total)
    even = (np.ascontiguousarray(total).view(np.int64) & 1) == 0
    other = np.nextafter(total, np.where(rest > 0, np.inf, -np.inf))
    return np.where((rest != 0) & np.isfinite(rest) & even, other, total)


def product_error(left: Array, right: Array, upper: Array) -> Array:
    """What a rounded product lacks, exactly (Dekker)."""
    left_head, left_tail = halves(left)
    right_head, right_tail = halves(right)
    rest = ((left_head * right_head - upper) + left_head * right_tail) + left_tail * right_head
    return np.asarray(rest + left_tail * right_tail)


def halves(values: Array) -> tuple[Array, Array]:
    """A float64 as two numbers of 26 bits (Veltkamp)."""
    scaled = values * 134217729.0
    head = scaled - (scaled - values)
    return head, values - head
