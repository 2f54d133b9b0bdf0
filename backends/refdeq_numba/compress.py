"""Taking the sent columns of a block out of a sample, eight at a time (D-7): a table of shuffles instead of a loop over bits.

A loop that takes bit after bit off a mask ends at a place the processor cannot foresee, once per block of 64 columns. Here the
decisions of eight columns (four for float64) pick a shuffle from a table; it moves the sent ones to the front, all eight are
stored, and the position advances by as many as were sent: the same time at any density, and nothing to guess.
"""

from __future__ import annotations

import functools

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np
from numba import types

from refdeq_numba.machine import intrinsic
from refdeq_numba.simd import pointer

__all__ = ["SHUFFLES_4", "SHUFFLES_8", "SLACK", "compress", "has_shuffles"]

SLACK = 8
"""Elements that may be written beyond the end of a list."""


@functools.cache
def has_shuffles() -> bool:
    """Whether the host shuffles eight numbers by a register (AVX2).

    >>> has_shuffles() in (True, False)
    True
    """
    return bool(llvm.get_host_cpu_features().get("avx2", False))


def _shuffles(width):
    """For every pattern of `width` decisions the positions of those that are set, in ascending order, then zeros."""
    table = np.zeros((2**width, width), dtype=np.int32)
    for pattern in range(2**width):
        chosen = [place for place in range(width) if pattern >> place & 1]
        table[pattern, : len(chosen)] = chosen
    return table


SHUFFLES_8 = _shuffles(8).reshape(-1)
SHUFFLES_4 = _shuffles(4).reshape(-1)


@intrinsic
def compress(_typing, d, d_at, pattern, table, first, columns, values, at):
    """Write the chosen of eight columns (of four, for float64) and their differences to a list, from position `at` on.

    The differences are read from element `d_at` of `d` on; `pattern` has a bit per column, `first` is the number of the first
    column; `table` is ``SHUFFLES_8`` or ``SHUFFLES_4``. As many elements as there are columns are written, the
    chosen ones first.
    """

    def generate(context, builder, signature, arguments):
        arrays = (pointer(context, builder, signature, arguments, i) for i in (0, 3, 5, 6))
        d_base, table_base, columns_base, values_base = arrays
        d_at, pattern, first, at = (arguments[i] for i in (1, 2, 4, 7))
        is_single = signature.args[0].dtype is types.float32
        count, number, integer = (8, ir.FloatType(), ir.IntType(32)) if is_single else (4, ir.DoubleType(), ir.IntType(32))
        numbers, integers = ir.VectorType(number, count), ir.VectorType(integer, count)

        def place(base, index, kind):
            return builder.bitcast(builder.gep(base, [index]), kind.as_pointer())

        row = builder.mul(pattern, ir.Constant(ir.IntType(64), count))
        chosen = builder.load(place(table_base, row, integers), typ=integers)
        chosen.align = 4
        taken = builder.load(place(d_base, d_at, numbers), typ=numbers)
        taken.align = 4 if is_single else 8
        eight, singles = ir.VectorType(integer, 8), ir.VectorType(ir.FloatType(), 8)
        halves = chosen if is_single else _pairs(builder, chosen)
        name = "llvm.x86.avx2.permps"
        shuffle = builder.module.globals.get(name)
        if shuffle is None:
            shuffle = ir.Function(builder.module, ir.FunctionType(singles, [singles, eight]), name)
        moved = builder.bitcast(builder.call(shuffle, [builder.bitcast(taken, singles), halves]), numbers)
        builder.store(moved, place(values_base, at, numbers)).align = 4 if is_single else 8
        begin = builder.insert_element(ir.Constant(integers, ir.Undefined), builder.trunc(first, integer), _zero())
        begins = builder.shuffle_vector(begin, ir.Constant(integers, ir.Undefined), ir.Constant(integers, [0] * count))
        builder.store(builder.add(chosen, begins), place(columns_base, at, integers)).align = 4
        return context.get_dummy_value()

    i8 = types.int64
    return types.void(d, i8, i8, table, i8, columns, values, i8), generate


def _zero():
    return ir.Constant(ir.IntType(32), 0)


def _pairs(builder, chosen):
    """Positions of four float64 as those of their halves: 2 i and 2 i + 1."""
    kind = ir.VectorType(ir.IntType(32), 4)
    low = builder.mul(chosen, ir.Constant(kind, [2] * 4))
    high = builder.add(low, ir.Constant(kind, [1] * 4))
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    return builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(ir.IntType(32), 8), order))
