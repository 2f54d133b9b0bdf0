"""Kernels compiled without a device: strict ones have no fused multiply-add, the others have, and every one assembles."""

import pytest
from numba import cuda, types
from refdeq_cuda.arguments import kernel_function, kernel_record
from refdeq_cuda.static import argument_types, compile_all, compile_one, in_order, ptx_of
from refdeq_gpu.table import kernel_names

from refdeq.errors import UnsupportedError

STRICT = [
    *[(name, "float32") for name in ("relax", "gemm_listed", "conv", "gate")],
    *[(name, "float64") for name in ("gemm_dense", "tanh", "sin", "inner")],
]


@pytest.mark.parametrize(("name", "dtype"), STRICT)
def test_strict_kernels_never_fuse(name, dtype):
    ptx = ptx_of(kernel_function(name), argument_types(name, dtype))
    assert "fma.rn.f" not in ptx
    assert f"mul.f{dtype[-2:]}" not in ptx, "a product that does not say how it rounds may be fused by the assembler"
    assert ".approx" not in ptx
    assert ".ftz" not in ptx


@pytest.mark.parametrize(("name", "dtype"), [("gemm_listed_fma", "float32"), ("gemm_dense_fma", "float64")])
def test_fast_kernels_fuse_and_assemble(name, dtype):
    found = compile_one(name, dtype)
    assert found["fused"] > 0
    assert found["shared"] > 0
    assert found["registers"] > 0
    assert found["spill_stores"] == found["spill_loads"] == found["local"] == 0


def test_the_compiler_would_fuse_what_is_written_plainly():
    def plain(x, out):
        out[0] = x[0] * x[1] + x[2]

    array = types.Array(types.float32, 1, "C")
    assert "fma.rn.f32" in ptx_of(plain, (array, array))


def test_records_are_in_the_order_of_the_table():
    found = compile_all("sm_80", names=["fill_flags", "clear_words"], processes=1)
    expected = [(name, dtype) for name in ("fill_flags", "clear_words") for dtype in ("float32", "float64")]
    assert [(record["kernel"], record["dtype"]) for record in found] == expected
    assert {record["arch"] for record in found} == {"sm_80"}


def test_a_process_that_simulates_does_not_compile(monkeypatch):
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    with pytest.raises(UnsupportedError, match="without NUMBA_ENABLE_CUDASIM"):
        compile_one("fill", "float32")


def test_every_kernel_of_the_table_is_a_kernel():
    for name in kernel_names("cuda"):
        function = kernel_function(name)
        arguments = function.py_func.__code__.co_varnames[: function.py_func.__code__.co_argcount]
        assert arguments == tuple(argument.name for argument in kernel_record(name).arguments), name
        assert isinstance(function, type(cuda.jit(lambda: None)))


def test_the_order_in_which_a_module_was_linked_leaves_no_trace():
    shared = [f".visible .shared .align 8 .b8 _cudapy_smem_{number}[{8 * number}];" for number in (1, 2, 10)]
    rest = [
        ".common .global .align 8 .u64 environment;",
        ".visible .entry kernel()",
        "{",
        "\tld.shared.u64 %rd1, [_cudapy_smem_1];",
        "}",
    ]
    linked = "\n".join([".version 9.0", shared[2], shared[0], rest[0], shared[1], *rest[1:]])
    other = "\n".join([".version 9.0", rest[0], *shared, *rest[1:]])
    assert linked != other
    assert in_order(linked) == in_order(other)
    assert sorted(in_order(linked).splitlines()) == sorted(linked.splitlines())
    assert in_order(linked).splitlines()[-4:] == rest[1:]
