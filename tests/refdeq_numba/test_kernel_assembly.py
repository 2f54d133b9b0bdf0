"""The sums of every kernel are vector code at the width of this machine: two roundings in strict order, one in fast order."""

import re

import numpy as np
import pytest
from assembly import LIBM, assembly_of, hot_loops, on_vectors, only_x86
from refdeq_numba import column_sums, conv, fused, gate, gemm, simd, sums
from refdeq_numba.fused_residual import euclidean
from refdeq_numba.kernels import NumbaKernels
from refdeq_numba.machine import has_fused_multiply_add
from refdeq_numba.workers import Workers

import refdeq as rd
from refdeq.ops import OPS

pytestmark = only_x86

ORDERS = {"strict": None, "fast": simd.ONCE}
DTYPES = ["float32", "float64"]


def is_fused(order):
    return order == "fast" and has_fused_multiply_add()


def assert_sums(text, order, dtype):
    """Loops with packed products and sums, or with packed fused ones; never the other kind, and no call for a number."""
    fma, multiply, add = (on_vectors(name, dtype) for name in (r"fn?m(?:add|sub)\d+", "mul", "add"))
    loops = hot_loops(text)
    if is_fused(order):
        assert any(fma.search(loop) for loop in loops), text
        assert not any(multiply.search(loop) and add.search(loop) for loop in loops), text
    else:
        assert any(multiply.search(loop) and add.search(loop) for loop in loops), text
        assert not re.search(r"\bvfn?m(add|sub)", text), text
    assert not any(re.search(r"\bcall", loop) for loop in loops), text
    assert not LIBM.search(text), text


def room(dtype):
    a, index = np.zeros(4096, dtype), np.zeros(8, dtype=np.int32)
    return a, a.copy(), index, np.zeros(8, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("panels", sums.PANELS)
def test_rows(panels, order, dtype):
    rounding = ORDERS[order]
    a, w, index, value = room(dtype)

    def add(a, w, index, value, start, stop):
        sums.row(rounding, panels, a, 0, w, 0, 64, index, value, start, stop)

    text = assembly_of(add, a, w, index, value, 0, 1)
    assert_sums(text, order, dtype)
    (loop,) = hot_loops(text)
    arithmetic = "add" if not is_fused(order) else r"fn?m(?:add|sub)\d+"
    assert len(re.findall(on_vectors(arithmetic, dtype), loop)) == 2 * panels  # not unrolled, nothing left over
    assert not re.search(r"\bv?mov[au]p[sd]\s+%[xyz]mm\d+, .*\(", loop)  # sums stay in registers


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rows", [6, 4])
def test_groups(rows, order, dtype):
    rounding, group = ORDERS[order], {6: sums.group_of_six, 4: sums.group_of_four}[rows]
    a, w, _, value = room(dtype)
    at = (0,) * rows

    def add(a, at, w, start, stop, d):
        group(rounding, a, at, w, 0, start, stop, d, at)

    text = assembly_of(add, a, at, w, 0, 1, value)
    assert_sums(text, order, dtype)
    # Twelve sums, two weights, a factor and a product fill sixteen registers to the last: there one more may go to memory.
    spills = 1 if rows == 6 and not is_fused(order) else 0
    for loop in hot_loops(text):
        assert len(re.findall(r"\bv?mov[au]p[sd]\s+%[xyz]mm\d+, .*\(", loop)) <= spills


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
def test_whole_columns(order, dtype):
    rounding, lanes = ORDERS[order], simd.vector_bytes() // np.dtype(dtype).itemsize
    a, w, index, value = room(dtype)

    def add(a, w, index, value, count, last):
        column_sums.add_columns_of(rounding, lanes, a, 0, w, 64, 0, last, index, value, count)

    assert_sums(assembly_of(add, a, w, index, value, 1, 8), order, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_residual(dtype):
    """In float64 whatever the dtype of the state (S-2), two roundings in both orders."""

    def measure(n, f, z, lanes):
        return euclidean(True, n, f, z, lanes, 0)

    f = np.zeros((1, 64), dtype)
    assert_sums(assembly_of(measure, 64, f, f.copy(), np.zeros(64)), "strict", "float64")


@pytest.mark.parametrize("dtype", DTYPES)
def test_gate(dtype):
    """Differences are subtracted, and compared without a branch, whole vectors at a time."""
    n = np.zeros((1, 64), dtype)
    rows, none = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64)
    mask = np.zeros((1, 64), dtype=bool)
    arguments = rows, 0, 1, n, n[0].copy(), none, 0, (0, 0, 0, 0), n.copy(), mask, n.copy()
    text = assembly_of(gate.gate.py_func, *arguments)
    assert on_vectors("sub", dtype).search(text), text
    assert on_vectors(r"cmp\w*", dtype).search(text), text
    assert not LIBM.search(text), text


# ----------------------------------------------------------------------------------------------------------- whole kernels


def calls_of(monkeypatch, kernel, run):
    """Arguments with which Python calls a kernel while `run` does something."""
    found, original = [], Workers.run

    def spy(self, called, rows, work, *arguments):
        if called is kernel:
            own = [value.of(0) if hasattr(value, "of") else value for value in arguments]
            found.append((rows, 0, len(rows), *own))
        original(self, called, rows, work, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Workers, "run", spy)
        run()
    return found[0]


def accumulate(kind, data, weight, out, order, dtype):
    kernels, attributes = NumbaKernels(order), OPS[kind.capitalize()].complete({})
    d, w, a = np.ones(data, dtype), kernels.constant(np.ones(weight, dtype)), np.zeros(out, dtype)
    getattr(kernels, f"accumulate_{kind}")(d, d > 0, w, attributes, np.ones(len(d), dtype=bool), a)


KERNELS = {
    "gemm_panels": (gemm.gemm_panels, ("gemm", (6, 9), (9, 20), (6, 20))),
    "gemm_columns": (gemm.gemm_columns, ("gemm", (2, 9), (9, 20), (2, 20))),
    "conv_samples": (conv.conv_samples, ("conv", (1, 9, 8), (8, 9, 3), (1, 8, 6))),
}


@pytest.mark.parametrize(("order", "dtype"), [("strict", "float32"), ("fast", "float64")])
@pytest.mark.parametrize("name", KERNELS)
def test_whole_kernel(monkeypatch, name, order, dtype):
    """All of its parts together: what is inlined into it stays as it was."""
    kernel, case = KERNELS[name]
    arguments = calls_of(monkeypatch, kernel, lambda: accumulate(*case, order, dtype))
    assert_sums(assembly_of(kernel.py_func, *arguments), order, dtype)


def test_whole_fused_solve(monkeypatch):
    """Both orders are in one routine: strict loops that multiply and add, fast ones that do both in one, and no other calls."""
    calls, n = [], 20
    builder = rd.GraphBuilder("float32")
    z, x = builder.state("z", (n,)), builder.injection("x", (n,))
    linear = builder.node("Gemm", z, builder.parameter("W", 0.1 * np.eye(n, dtype=np.float32)), transB=1, name="linear")
    builder.output(z, builder.node("Tanh", builder.node("Add", linear, x, name="total"), name="f"))
    original = fused.solve_samples
    monkeypatch.setattr(fused, "solve_samples", lambda *arguments: calls.append(arguments) or original(*arguments))
    inputs, rule = np.ones((2, n), dtype=np.float32), rd.DeltaRule(threshold=0.1)
    rd.solve(builder.build(), inputs, z0=np.zeros_like(inputs), delta=rule, backend="numba", executor="fused")
    text = assembly_of(original.py_func, *calls[0])
    loops = hot_loops(text)
    multiply, add, fma = (on_vectors(part, "float32") for part in ("mul", "add", r"fn?m(?:add|sub)\d+"))
    assert any(multiply.search(loop) and add.search(loop) for loop in loops)
    assert any(fma.search(loop) for loop in loops) == has_fused_multiply_add()
    assert not any(re.search(r"\bcall", loop) for loop in loops)
    assert not LIBM.search(text)


# ------------------------------------------------------------------------------------------------------- the check itself


def test_a_scalar_loop_and_a_call_are_noticed():
    """Sums that depend on each other cannot be vector code, and the sine of the C library is a call."""

    def chain(a, w):
        total = a[0]
        for i in range(len(a)):
            total = total + a[i] * w[i]
        return total

    def sines(a, w):
        for i in range(len(a)):
            a[i] = a[i] * w[i] + np.sin(w[i])

    a = np.zeros(64, dtype=np.float32)
    for function in (chain, sines):
        with pytest.raises(AssertionError):
            assert_sums(assembly_of(function, a, a.copy()), "strict", "float32")
