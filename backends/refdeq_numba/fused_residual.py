"""Residual and scale of one sample, ``||f - z||`` and ``||f||``, by the pinned tree of S-2 in float64.

The 32 lanes of the tree are 32 independent sums, so they fill vector registers without changing a bit.
"""

from __future__ import annotations

import math

import llvmlite.ir as ir
import numpy as np
from numba import types

from refdeq_numba.compilation import uncounted
from refdeq_numba.machine import intrinsic
from refdeq_numba.simd import Emitter, pointer

__all__ = ["LANES", "euclidean", "largest"]

LANES = 32
"""Lanes of the pinned summation tree (S-2)."""


def _square_kernel(is_difference):
    """``lanes[at + l] = sum over blocks of square(f - z)`` for the 32 lanes of S-2, in float64; without z, of ``square(f)``."""

    @intrinsic
    def kernel(_typing, f, f_at, z, z_at, blocks, lanes, at):
        def generate(context, builder, signature, arguments):
            f_base, z_base, lanes_base = (pointer(context, builder, signature, arguments, i) for i in (0, 2, 5))
            f_at, z_at, blocks, at = (arguments[i] for i in (1, 3, 4, 6))
            e = Emitter(builder, types.float64, False)
            narrow = ir.VectorType(ir.FloatType() if signature.args[0].dtype is types.float32 else ir.DoubleType(), e.lanes)

            def widened(base, index):
                value = builder.load(builder.bitcast(builder.gep(base, [index]), narrow.as_pointer()), typ=narrow)
                value.align = 4
                return value if narrow == e.vector else builder.fpext(value, e.vector)

            def block(p, sums):
                first = builder.mul(p, e.const(LANES))
                results = []
                for i, total in enumerate(sums):
                    place = builder.add(first, e.const(i * e.lanes))
                    value = widened(f_base, builder.add(f_at, place))
                    if is_difference:
                        value = builder.fsub(value, widened(z_base, builder.add(z_at, place)))
                    results.append(builder.fadd(total, builder.fmul(value, value)))
                return results

            vectors = LANES // e.lanes
            zero = ir.Constant(e.vector, [0.0] * e.lanes)
            for i, total in enumerate(e.loop(e.const(0), blocks, [zero] * vectors, block)):
                e.store(total, lanes_base, builder.add(at, e.const(i * e.lanes)))
            return context.get_dummy_value()

        i8 = types.int64
        return types.void(f, i8, z, i8, i8, lanes, i8), generate

    return kernel


_square_differences, _square_values = (_square_kernel(is_difference) for is_difference in (True, False))


@uncounted
def square_lanes(f, z, at, blocks, lanes):
    """First stage of S-2 over whole blocks of 32: squares of ``f - z`` into lanes 0 to 31, of f into lanes 32 to 63.

    `f` and `z` are arrays of one dtype, read from element `at` on; the sums are those of plain loops, bit for bit.
    """
    _square_differences(f, at, z, at, blocks, lanes, 0)
    _square_values(f, at, z, at, blocks, lanes, LANES)


@uncounted
def largest(n, f, z, i):
    """``||f - z||`` and ``||f||`` in the maximum norm (S-2): NaN wins, because every comparison with it is false."""
    distance = scale = 0.0
    for j in range(n):
        value = np.float64(f[i, j])
        error = abs(value - np.float64(z[i, j]))
        size = abs(value)
        distance = distance if error <= distance or distance != distance else error
        scale = scale if size <= scale or scale != scale else size
    return distance, scale


@uncounted
def euclidean(is_simd, n, f, z, lanes, i):
    """``||f - z||`` and ``||f||`` in the Euclidean norm by the pinned tree of 32 lanes, in float64 (S-2)."""
    whole = n - n % LANES
    if is_simd:
        square_lanes(f, z, i * f.shape[1], whole // LANES, lanes)
    else:
        _square_lanes_plain(whole, f, z, lanes, i)
    for lane in range(n - whole):
        value = np.float64(f[i, whole + lane])
        error = value - np.float64(z[i, whole + lane])
        lanes[lane] += error * error
        lanes[LANES + lane] += value * value
    distance = scale = 0.0
    for lane in range(LANES):
        distance += lanes[lane]
        scale += lanes[LANES + lane]
    return math.sqrt(distance), math.sqrt(scale)


@uncounted
def _square_lanes_plain(whole, f, z, lanes, i):
    """The twin of :func:`refdeq_numba.simd.square_lanes`."""
    for lane in range(2 * LANES):
        lanes[lane] = 0.0
    for first in range(0, whole, LANES):
        for lane in range(LANES):
            error = np.float64(f[i, first + lane]) - np.float64(z[i, first + lane])
            lanes[lane] += error * error
        for lane in range(LANES):
            value = np.float64(f[i, first + lane])
            lanes[LANES + lane] += value * value
