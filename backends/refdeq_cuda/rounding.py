"""Narrow formats on single numbers, as device functions: float16 and bfloat16 by arithmetic of float64 (D-1, D-4).

Adding ``1.5 * 2**(52 + grid)`` and taking it away again rounds a smaller number to a multiple of ``2**grid``, to the nearest,
ties to even. No conversion of the hardware is used: those from float64 to bfloat16 are missing or round twice.
"""

from __future__ import annotations

import math

from numba import cuda, float32, float64

from refdeq_cuda.arithmetic import plus

__all__ = ["difference_in", "narrow", "to_bfloat16", "to_float16"]

_LARGEST_FLOAT16 = 65520.0  # from here on numbers round to infinity
_LARGEST_BFLOAT16 = 3.3961775292304601e38  # 2**128 - 2**119


@cuda.jit(device=True)
def _on_grid(x, digits, smallest, largest):
    """`x`, a float64, with so many significant bits and no bit below ``2**smallest``."""
    size = abs(x)
    if size != size:
        return x
    if size >= largest:
        return math.copysign(float64(math.inf), x)
    _, exponent = math.frexp(size)
    shift = math.ldexp(float64(1.5), 52 + max(exponent - digits, smallest))
    return math.copysign(plus(plus(size, shift), -shift), x)


@cuda.jit(device=True)
def to_float16(x):
    """A float64, rounded once to float16."""
    return _on_grid(x, 11, -24, float64(_LARGEST_FLOAT16))


@cuda.jit(device=True)
def to_bfloat16(x):
    """A float64, rounded once to bfloat16."""
    return _on_grid(x, 8, -133, float64(_LARGEST_BFLOAT16))


@cuda.jit(device=True)
def narrow(x, feedback_format):
    """A float64 in the format of feedback (:data:`refdeq_gpu.choices.FEEDBACK_FORMAT`)."""
    return to_bfloat16(x) if feedback_format == 1 else to_float16(x)


@cuda.jit(device=True)
def difference_in(u, r, at, delta_dtype):
    """Difference of two arrays at one place (D-1), formed in a dtype of :data:`refdeq_gpu.choices.DELTA_DTYPE`.

    A difference of float16 fits in float64 without rounding, so that it is rounded once.
    """
    if delta_dtype == 0:
        return plus(u[at], -r[at])
    if delta_dtype == 1:
        return u.dtype.type(plus(float32(u[at]), -float32(r[at])))
    return u.dtype.type(to_float16(plus(to_float16(float64(u[at])), -to_float16(float64(r[at])))))
