"""What the generator of vector instructions emits: right results here, and full vectors for other processors."""

import ctypes
import re

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np
import pytest
from numba import types
from refdeq_numba import simd

DTYPES = {"float32": types.float32, "float64": types.float64}
TARGETS = {
    "AVX-512": ("x86_64-unknown-linux-gnu", "+avx512f,+avx512vl,+avx2,+fma", 64, r"\bv{}{}\b.*%zmm"),
    "AVX2": ("x86_64-unknown-linux-gnu", "+avx2,+fma", 32, r"\bv{}{}\b.*%ymm"),
    "NEON": ("aarch64-unknown-linux-gnu", "+neon", 16, r"\bf{}\tv\d+\.{}"),
}


@pytest.fixture(scope="module", autouse=True)
def every_target():
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def module_of(dtype, is_fused, is_short=False):
    """``a[0:2 vectors] += sum over p in [start, stop) of w[p * 2 vectors:] * d[p]``, for any number of p."""
    module = ir.Module()
    element = ir.FloatType() if dtype == "float32" else ir.DoubleType()
    i64, array = ir.IntType(64), element.as_pointer()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [array, array, array, i64, i64]), "add")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    a, w, d, start, stop = function.args
    e = simd.Emitter(builder, DTYPES[dtype], is_fused)

    def column(p, sums):
        begin, factor = builder.mul(p, e.const(2 * e.lanes)), e.spread(d, p)
        weights = [e.load(w, builder.add(begin, e.const(v * e.lanes))) for v in range(2)]
        return [e.accumulate(total, weight, factor) for total, weight in zip(sums, weights, strict=True)]

    places = [e.const(v * e.lanes) for v in range(2)]
    sums = e.loop(start, stop, [e.load(a, place) for place in places], column, is_short=is_short)
    for total, place in zip(sums, places, strict=True):
        e.store(total, a, place)
    builder.ret_void()
    return module, e


def optimised(module, triple, features="", cpu=""):
    target = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=3)
    parsed = llvm.parse_assembly(str(module))
    parsed.triple, parsed.data_layout = triple, str(target.target_data)
    parsed.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    llvm.create_pass_builder(target, tuning).getModulePassManager().run(parsed, llvm.create_pass_builder(target, tuning))
    return parsed, target


@pytest.mark.parametrize("is_short", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [(0, 0), (0, 1), (2, 7), (0, 16), (5, 3)])
def test_sums_are_right(same_bits, rng, columns, dtype, is_short):
    """Executed, from addresses that are no multiple of a vector; an empty range adds nothing."""
    module, e = module_of(dtype, False, is_short)
    host = llvm.get_process_triple(), llvm.get_host_cpu_features().flatten(), llvm.get_host_cpu_name()
    parsed, target = optimised(module, *host)
    width, (start, stop) = 2 * e.lanes, columns
    w, a, d = (rng.standard_normal(size).astype(dtype) for size in (1 + 16 * width, 1 + width + 1, 16))
    expected = a.copy()
    for p in range(start, stop):
        expected[1 : 1 + width] += w[1 + p * width : 1 + (p + 1) * width] * d[p]
    with llvm.create_mcjit_compiler(parsed, target) as engine:
        engine.finalize_object()
        run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 2)(engine.get_function_address("add"))
        run(a[1:].ctypes.data, w[1:].ctypes.data, d.ctypes.data, start, stop)
    same_bits(a, expected)


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TARGETS)
def test_vectors_are_as_wide_as_those_of_the_processor(monkeypatch, name, dtype, is_fused):
    """Strict order multiplies and adds, fast order does both in one; no other arithmetic, no call."""
    triple, features, size, pattern = TARGETS[name]
    monkeypatch.setattr(simd, "vector_bytes", lambda: size)
    monkeypatch.setattr(simd, "has_fused_multiply_add", lambda: True)
    module, e = module_of(dtype, is_fused)
    assert e.lanes * np.dtype(dtype).itemsize == size
    parsed, target = optimised(module, triple, features)
    text = target.emit_assembly(parsed)
    is_arm = name == "NEON"
    kind = {"float32": "4s" if is_arm else "ps", "float64": "2d" if is_arm else "pd"}[dtype]
    once, twice = ["mla" if is_arm else r"fmadd\d+"], ["mul", "add"]
    for instruction in once if is_fused else twice:
        assert re.search(pattern.format(instruction, kind), text), text
    for instruction in twice[1:] if is_fused else once:
        assert not re.search(pattern.format(instruction, kind), text), text
    assert not re.search(r"\b(call|bl)\b", text)


def test_without_the_instruction_nothing_is_fused(monkeypatch):
    """The library call that would stand for it is slow."""
    monkeypatch.setattr(simd, "has_fused_multiply_add", lambda: False)
    assert "llvm.fma" not in str(module_of("float32", True)[0])
    monkeypatch.setattr(simd, "has_fused_multiply_add", lambda: True)
    assert "llvm.fma" in str(module_of("float32", True)[0])
    assert "llvm.fma" not in str(module_of("float32", False)[0])


def test_only_short_loops_are_kept_from_unrolling():
    assert "llvm.loop.unroll.disable" in str(module_of("float32", False, is_short=True)[0])
    assert "llvm.loop" not in str(module_of("float32", False)[0])


def test_setting_is_read_at_every_call(monkeypatch):
    for setting in ("on", "off", "on"):
        monkeypatch.setenv("REFDEQ_NUMBA_SIMD", setting)
        assert simd.is_enabled() == (setting == "on")
        assert setting in simd.description()
    monkeypatch.setenv("REFDEQ_NUMBA_SIMD", "yes")
    with pytest.raises(ValueError, match=r"REFDEQ_NUMBA_SIMD.*'on' or 'off'"):
        simd.is_enabled()
    monkeypatch.delenv("REFDEQ_NUMBA_SIMD")
    assert simd.is_enabled()
