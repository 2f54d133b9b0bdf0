"""Generating vector instructions (LLVM IR) inside Numba: width of the host, loads, sums in registers, loops.

The width is that of the machine that compiles: 64 bytes (AVX-512), 32 (AVX) or 16 (SSE, NEON). What is made of these parts
is in :mod:`refdeq_numba.sums`, :mod:`refdeq_numba.fused_residual` and :mod:`refdeq_numba.fused_columns`. The option
``REFDEQ_NUMBA_SIMD=off`` selects plain loops instead, which have the same bits in strict order; the tests compare the two.
"""

from __future__ import annotations

import functools
import os

import llvmlite.binding as llvm
import llvmlite.ir as ir
from numba import types
from numba.core.errors import TypingError

from refdeq.errors import ArgumentError
from refdeq_numba.machine import has_fused_multiply_add, intrinsic

__all__ = [
    "ONCE",
    "Emitter",
    "add_product",
    "bits_of",
    "count_ones",
    "count_trailing_zeros",
    "description",
    "is_enabled",
    "pointer",
    "prefetch",
    "rounds_once",
    "vector_bytes",
]

_INDEX = ir.IntType(64)


@functools.cache
def vector_bytes() -> int:
    """Bytes of one vector register: 64 (AVX-512), 32 (AVX) or 16, those of this machine or fewer.

    ``REFDEQ_NUMBA_VECTOR_BYTES`` asks for narrower vectors, to compare widths on one machine; it is read once per process.

    Raises
    ------
    ArgumentError
        It is no width of this machine.

    Examples
    --------
    >>> vector_bytes() in (16, 32, 64)
    True
    """
    features = llvm.get_host_cpu_features()
    widest = 64 if features.get("avx512f") else 32 if features.get("avx") else 16
    possible = [str(width) for width in (16, 32, 64) if width <= widest]
    chosen = os.environ.get("REFDEQ_NUMBA_VECTOR_BYTES", str(widest))
    if chosen not in possible:
        raise ArgumentError("REFDEQ_NUMBA_VECTOR_BYTES", expected=f"one of {', '.join(possible)} here", got=repr(chosen))
    return int(chosen)


def is_enabled() -> bool:
    """Whether the SIMD kernels are to be used: ``REFDEQ_NUMBA_SIMD`` is ``on`` (default) or ``off``; read at every call."""
    setting = os.environ.get("REFDEQ_NUMBA_SIMD", "on")
    if setting not in ("on", "off"):
        raise ArgumentError("REFDEQ_NUMBA_SIMD", expected="'on' or 'off'", got=repr(setting))
    return setting == "on"


def description() -> str:
    """What vectors the kernels use here, for people.

    >>> "bytes" in description()
    True
    """
    features = llvm.get_host_cpu_features()
    names = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX"), ("neon", "NEON"), ("sse2", "SSE2"))
    name = next((text for feature, text in names if features.get(feature)), "vectors")
    use = "on" if is_enabled() else "off: plain loops"
    return f"{name}, {vector_bytes()} bytes; REFDEQ_NUMBA_SIMD {use}"


@intrinsic
def count_trailing_zeros(_typing, bits):
    """Position of the lowest bit that is set, of a uint64 other than 0."""

    def generate(_context, builder, _signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def bits_of(_typing, mask, index):
    """Decisions of 64 consecutive elements of a 1-D array of bool, from `index` on, as the bits of a uint64."""

    def generate(context, builder, signature, arguments):
        base = builder.gep(pointer(context, builder, signature, arguments, 0), [arguments[1]])
        kind = ir.VectorType(ir.IntType(8), 64)
        decisions = builder.load(builder.bitcast(base, kind.as_pointer()), typ=kind)
        decisions.align = 1
        is_sent = builder.icmp_unsigned("!=", decisions, ir.Constant(kind, [0] * 64))
        return builder.bitcast(is_sent, ir.IntType(64))

    return types.uint64(mask, types.int64), generate


@intrinsic
def count_ones(_typing, bits):
    """How many bits of a uint64 are set."""

    def generate(_context, builder, _signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@intrinsic
def prefetch(_typing, array, index):
    """Ask for the cache line of one element of a 1-D array; any index at all is harmless."""

    def generate(context, builder, signature, arguments):
        place = builder.gep(pointer(context, builder, signature, arguments, 0), [arguments[1]])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        for_reading, all_levels, data = (ir.Constant(number, value) for value in (0, 3, 1))
        builder.call(function, [builder.bitcast(place, byte), for_reading, all_levels, data])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


ONCE = ()
"""Argument `rounding` of a kernel that rounds product and sum once (N-7); ``None`` stands for two roundings (N-6).

They differ in type, so that compiled code holds one of the two and not a choice.
"""


def rounds_once(rounding):
    """Whether a kernel is compiled for one rounding, from the type of its argument `rounding`."""
    if not isinstance(rounding, types.NoneType | types.BaseTuple):
        raise TypingError(f"rounding: None or ONCE expected, got {rounding}")
    return not isinstance(rounding, types.NoneType)


@intrinsic
def add_product(_typing, rounding, total, x, y):
    """``fl(total + fl(x y))``, or one rounding."""
    is_fused = rounds_once(rounding) and has_fused_multiply_add()

    def generate(_context, builder, _signature, arguments):
        _, total, x, y = arguments
        return builder.fma(x, y, total) if is_fused else builder.fadd(total, builder.fmul(x, y))

    return total(rounding, total, x, y), generate


class Emitter:
    """Vector instructions for one element type."""

    def __init__(self, builder, dtype, is_fused):
        self.b = builder
        self.element = ir.FloatType() if dtype is types.float32 else ir.DoubleType()
        self.bytes = 4 if dtype is types.float32 else 8
        self.lanes = vector_bytes() // self.bytes
        self.vector = ir.VectorType(self.element, self.lanes)
        self._is_fused = is_fused and has_fused_multiply_add()

    def const(self, value):
        """An index."""
        return ir.Constant(_INDEX, value)

    def _vector_at(self, base, index):
        return self.b.bitcast(self.b.gep(base, [index]), self.vector.as_pointer())

    def load(self, base, index):
        """One vector from element `index` on."""
        value = self.b.load(self._vector_at(base, index), typ=self.vector)
        value.align = self.bytes
        return value

    def store(self, value, base, index):
        """Write one vector from element `index` on."""
        self.b.store(value, self._vector_at(base, index)).align = self.bytes

    def spread(self, base, index):
        """One element in every lane."""
        one = self.b.load(self.b.gep(base, [index]), typ=self.element)
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.b.insert_element(undefined, one, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.b.shuffle_vector(first, undefined, zeros)

    def accumulate(self, a, weight, d):
        """``fl(a + fl(weight d))`` (N-6), or one rounding when fused (N-7)."""
        if not self._is_fused:
            return self.b.fadd(a, self.b.fmul(weight, d))
        name = f"llvm.fma.v{self.lanes}f{8 * self.bytes}"
        fma = self.b.module.globals.get(name)
        if fma is None:
            fma = ir.Function(self.b.module, ir.FunctionType(self.vector, [self.vector] * 3), name)
        return self.b.call(fma, [weight, d, a])

    def loop(self, start, stop, sums, body, is_short=False):
        """``for p in range(start, stop): sums = body(p, sums)`` with the sums in registers.

        A loop that `is_short` is not unrolled: with a remainder to go through as well it would leave the processor two exits to
        guess wrong instead of one.
        """
        before = self.b.block
        head, inside, after = (self.b.append_basic_block(name) for name in ("sum.head", "sum.body", "sum.end"))
        self.b.branch(head)
        self.b.position_at_end(head)
        p = self.b.phi(_INDEX)
        carried = [self.b.phi(self.vector) for _ in sums]
        self.b.cbranch(self.b.icmp_signed("<", p, stop), inside, after)
        self.b.position_at_end(inside)
        results = body(p, carried)
        following = self.b.add(p, self.const(1))
        end = self.b.block
        again = self.b.branch(head)
        if is_short:
            again.set_metadata("llvm.loop", _not_unrolled(self.b.module))
        for phi, first, next_ in zip([p, *carried], [start, *sums], [following, *results], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(next_, end)
        self.b.position_at_end(after)
        return carried


def pointer(context, builder, signature, arguments, which):
    """Address of the first element of the array that is argument number `which`."""
    array = context.make_array(signature.args[which])(context, builder, arguments[which])
    return array.data


def _not_unrolled(module):
    """What marks one loop as not to be unrolled: a node that refers to itself first, which makes it one of its kind."""
    setting = module.add_metadata(["llvm.loop.unroll.disable"])
    node = ir.values.MDValue(module, [setting], name=str(len(module.metadata)))
    node.operands = (node, setting)
    return node
