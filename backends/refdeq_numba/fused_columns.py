"""Vector code for the columns of one sample: pairs of inner products, a linear combination, one step of an elimination.

Written as instructions because the compiler cannot see that columns, lanes and matrices do not overlap. All arithmetic is in
float64, one rounding per step (S-7), so that the bits are those of plain loops in the same order.
"""

from __future__ import annotations

import llvmlite.ir as ir
from numba import types

from refdeq_numba.machine import intrinsic
from refdeq_numba.residual import LANES
from refdeq_numba.simd import Emitter, pointer

__all__ = ["add_columns", "add_product_pairs", "take_out"]

_TOGETHER = 4
"""Vectors of lanes per pass: with two products each, eight sums hide the latency of an addition and fit the registers."""


def _widener(e, builder, dtype):
    """What loads as many elements of `dtype` as a vector holds float64, as float64."""
    narrow = ir.VectorType(ir.FloatType(), e.lanes)

    def widened(base, index):
        if dtype is not types.float32:
            return e.load(base, index)
        value = builder.load(builder.bitcast(builder.gep(base, [index]), narrow.as_pointer()), typ=narrow)
        value.align = 4
        return builder.fpext(value, e.vector)

    return widened


@intrinsic
def add_product_pairs(_typing, columns, column_at, rows, first_at, second_at, blocks, lanes, lanes_at):
    """Inner products of a column with two rows of float64, up to the lanes of the pinned tree (S-2), from +0.

    The column begins at element `column_at` of `columns`, the rows at `first_at` and `second_at` of `rows`; all are `blocks`
    times 32 long. The lanes of the first product go to ``lanes[lanes_at:]``, those of the second behind them.
    """

    def generate(context, builder, signature, arguments):
        column, row, out = (pointer(context, builder, signature, arguments, i) for i in (0, 2, 6))
        column_at, first_at, second_at, blocks, out_at = (arguments[i] for i in (1, 3, 4, 5, 7))
        e = Emitter(builder, types.float64, False)
        widened = _widener(e, builder, signature.args[0].dtype)
        zero = ir.Constant(e.vector, [0.0] * e.lanes)
        places = [e.const(place) for place in range(0, LANES, e.lanes)]
        for start in range(0, len(places), _TOGETHER):
            some = places[start : start + _TOGETHER]

            def block(p, sums, some=some):
                shift = builder.mul(p, e.const(LANES))
                indices = [builder.add(shift, place) for place in some]
                factors = [widened(column, builder.add(column_at, index)) for index in indices]
                results = []
                for which, at in enumerate((first_at, second_at)):
                    for i, (factor, index) in enumerate(zip(factors, indices, strict=True)):
                        value = e.load(row, builder.add(at, index))
                        results.append(e.accumulate(sums[which * len(some) + i], factor, value))
                return results

            sums = e.loop(e.const(0), blocks, [zero] * (2 * len(some)), block)
            for i, total in enumerate(sums):
                shift = e.const(LANES * (i // len(some)))
                e.store(total, out, builder.add(builder.add(out_at, shift), some[i % len(some)]))
        return context.get_dummy_value()

    i8 = types.int64
    return types.void(columns, i8, rows, i8, i8, i8, lanes, i8), generate


@intrinsic
def add_columns(_typing, columns, places, weights, count, blocks, sums):
    """``sums = weights[0] * column 0 + ...`` from +0 in the order given, for `blocks` times 32 elements (S-7).

    Column i begins at element ``places[i]`` of `columns`; the sums of 32 elements stay in registers over all columns.
    """

    def generate(context, builder, signature, arguments):
        column, place_of, weight_of, out = (pointer(context, builder, signature, arguments, i) for i in (0, 1, 2, 5))
        count, blocks = arguments[3], arguments[4]
        e = Emitter(builder, types.float64, False)
        widened = _widener(e, builder, signature.args[0].dtype)
        zero = ir.Constant(e.vector, [0.0] * e.lanes)
        lanes = [e.const(place) for place in range(0, LANES, e.lanes)]

        def block(p, _):
            shift = builder.mul(p, e.const(LANES))

            def term(i, totals):
                begin = builder.add(builder.load(builder.gep(place_of, [i]), typ=ir.IntType(64)), shift)
                weight = e.spread(weight_of, i)
                values = [widened(column, builder.add(begin, lane)) for lane in lanes]
                return [e.accumulate(total, weight, value) for total, value in zip(totals, values, strict=True)]

            for total, lane in zip(e.loop(e.const(0), count, [zero] * len(lanes), term), lanes, strict=True):
                e.store(total, out, builder.add(shift, lane))
            return []

        e.loop(e.const(0), blocks, [], block)
        return context.get_dummy_value()

    i8 = types.int64
    return types.void(columns, places, weights, i8, i8, sums), generate


@intrinsic
def take_out(_typing, matrix, target, source, factor, first, last):
    """``row -= factor * other`` for two rows of `matrix`, which begin at `target` and `source`: vectors `first` to `last`."""

    def generate(context, builder, signature, arguments):
        base = pointer(context, builder, signature, arguments, 0)
        target, source, factor, first, last = arguments[1:]
        e = Emitter(builder, types.float64, False)
        undefined = ir.Constant(e.vector, ir.Undefined)
        one = builder.insert_element(undefined, factor, ir.Constant(ir.IntType(32), 0))
        spread = builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), e.lanes), [0] * e.lanes))

        def vector(p, _):
            shift = builder.mul(p, e.const(e.lanes))
            place = builder.add(target, shift)
            product = builder.fmul(spread, e.load(base, builder.add(source, shift)))
            e.store(builder.fsub(e.load(base, place), product), base, place)
            return []

        e.loop(first, last, [], vector)
        return context.get_dummy_value()

    i8 = types.int64
    return types.void(matrix, i8, i8, types.float64, i8, i8), generate
