"""The native activations of fast order: within the declared error, N-8 at special values, functions of the argument alone."""

import numpy as np
import pytest
from refdeq_numba.activation_rows import FAST, row_function
from refdeq_numba.kernels import NumbaKernels
from refdeq_numba.machine import has_fused_multiply_add
from refdeq_validation.judge.bounds_solver import activation_error, exact_activation

from refdeq.registry import load_backend

pytestmark = pytest.mark.skipif(
    not has_fused_multiply_add(), reason="no fused multiply-add: fast order has the strict formulas"
)

STRIDE = 40_009
"""A prime: about a hundred thousand of all 2^32 float32 numbers. All of them: benchmarks/activation_accuracy.py."""

TRIG_LIMIT = 2.0**30

NEAR_TURNS = [505.7964172363281, 105032.8671875, 642615.9188844458, 28922353.34055676, 925515306.8978163]
"""Close to a multiple of pi: what is left of them after the reduction has few right digits if a part of pi is missing."""


def fast(name, x):
    """Values by the loop that solves call."""
    out = np.array(x)
    row_function("fast", name, str(out.dtype)).ctypes(np.ctypeslib.as_ctypes(out), out.size)
    return out


def check(name, x):
    """Every value within the declared error of the exact one; where that is not finite or too large, of its class."""
    got, declared = fast(name, x), load_backend("numba").info.activation_ulp
    with np.errstate(all="ignore"):
        exact = exact_activation(name, x)
        if name in ("Sin", "Cos"):
            exact = np.where(np.abs(x) <= TRIG_LIMIT, exact, np.nan)
        rounded = exact.astype(x.dtype)
        limit = activation_error(name, np.where(np.isfinite(exact), exact, 0), x.dtype, declared)
        good = np.where(np.isfinite(rounded), np.abs(got - exact) <= limit, got == rounded) | (np.isnan(got) & np.isnan(exact))
        good &= (np.signbit(got) == np.signbit(rounded)) | np.isnan(got)
    assert good.all(), f"{name}({x[~good][0]!r}) = {got[~good][0]!r}, not {exact[~good][0]!r}"


@pytest.mark.parametrize("name", FAST)
def test_a_stride_through_all_float32(name):
    check(name, np.arange(0, 2**32, STRIDE, dtype=np.uint32).view(np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FAST)
def test_where_functions_bend_end_and_reduce(name, dtype, rng):
    limits = np.finfo(dtype)
    halves = np.log(2.0) / 4.0 * np.arange(-4300.0, 4100.0)
    turns = [np.pi / 2.0 * k for k in (1, 2, 3, 5, 100, 113, 41_721, 41_722, 1e6)]
    ends = [
        2.0**17,
        TRIG_LIMIT,
        88.72284,
        103.97208,
        709.782712893384,
        745.1332191019412,
        9.010913,
        19.06154,
        limits.max,
        limits.tiny,
    ]
    beside = np.array([*turns, *ends, *NEAR_TURNS, 0.0, limits.smallest_subnormal, np.inf], dtype)
    beside = np.concatenate([beside, np.nextafter(beside, np.array(0, dtype))])
    spread = [rng.uniform(-r, r, 4000) for r in (0.7, 3.0, 25.0, 2.0**17, TRIG_LIMIT)]
    with np.errstate(over="ignore", under="ignore"):
        sizes = np.exp(rng.uniform(-700.0, 700.0, 4000)).astype(dtype)
    x = np.concatenate([beside, -beside, *(part.astype(dtype) for part in [halves, *spread]), sizes, -sizes, [np.nan]])
    check(name, x.astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_symmetry_and_range(dtype, rng):
    x = np.concatenate([rng.uniform(0, 40, 20_000), np.pi / 2 * np.arange(200), rng.uniform(0, 1e-3, 500)]).astype(dtype)
    for name, sign in (("Tanh", -1), ("Sin", -1), ("Cos", 1)):
        y = fast(name, x)
        np.testing.assert_array_equal(fast(name, -x), sign * y)
        assert (np.abs(y) <= 1).all()
    s = fast("Sigmoid", np.concatenate([x, -x]))
    assert ((s >= 0) & (s <= 1)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FAST)
def test_a_value_does_not_depend_on_its_row(name, dtype, rng, assert_same_bits):
    """Vector body, scalar tail, neighbours beyond the reduction: the bits are those of the argument alone."""
    x = rng.uniform(-30, 30, 67).astype(dtype)
    alone = np.array([fast(name, x[k : k + 1])[0] for k in range(len(x))])
    assert_same_bits(fast(name, x), alone)
    mixed = np.concatenate([x, np.array([2.0**20, -(2.0**29), 2.0**40, np.nan, np.inf], dtype)])
    assert_same_bits(fast(name, mixed)[: len(x)], alone)
    assert_same_bits(fast(name, mixed)[len(x) :], np.array([fast(name, v)[0] for v in mixed[len(x) :, None]]))


@pytest.mark.parametrize("name", FAST)
def test_operators_use_them_in_fast_order_alone(name, rng, assert_same_bits, monkeypatch):
    x = (3.0 * rng.standard_normal((5, 9000))).astype("float32")  # more than two pieces of a row
    one = np.ones(5, dtype=bool)
    results = {}
    for order, simd in (("strict", "on"), ("fast", "on"), ("fast", "off")):
        monkeypatch.setenv("REFDEQ_NUMBA_SIMD", simd)
        for threads in (1, 2):
            out = np.empty_like(x)
            NumbaKernels(order, threads).ops[name]([x], [True], {}, one, out)
            results[order, simd, threads] = out
    for key, out in results.items():
        assert_same_bits(out, results[(key[0], "on", 1)])
    assert_same_bits(results["fast", "on", 1].ravel(), fast(name, x.ravel()))
    assert (results["fast", "on", 1] != results["strict", "on", 1]).any()
