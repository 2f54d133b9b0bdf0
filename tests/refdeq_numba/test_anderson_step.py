"""The compiled Anderson step by itself: any arguments and values, as no cell makes them, against the step of the reference."""

import ctypes

import numpy as np
import pytest
from refdeq_numba.fused_anderson import compiled_step, memory_of

from refdeq.reference import ReferenceKernels
from refdeq.solvers.anderson import Anderson

STEPS = 14
OTHERS = [
    {},
    {"ridge": 1e-15},
    {"ridge": 1e-3, "ridge_scale": "diagonal", "mixing": 0.7},
    {"ridge": 1e-3, "ridge_scale": "absolute"},
    {"restart": 6, "safeguard": None},
    {"warmup": 3, "mixing": 1.5},
]


def address(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def pairs(rng, batch, n, dtype):
    """Arguments and values, step by step: some repeat those before, some differ by what nearly depends on the last columns."""
    z, f = np.zeros((2, STEPS, batch, n), dtype=dtype)
    for k in range(STEPS):
        z[k], f[k] = rng.standard_normal((2, batch, n))
        if k < 2:
            continue
        kind = rng.integers(0, 4, (batch, 1))
        z[k] = np.where(kind == 0, z[k], z[k - 1])
        nearly = 1 + np.finfo(dtype).eps * rng.integers(0, 3, (batch, n))
        step = (f[k - 1] - f[k - 2]) * rng.choice([-0.5, 1.0, 2.0], (batch, 1)) * nearly
        f[k] = np.where(kind == 1, f[k - 1], np.where(kind == 2, f[k - 1] + step.astype(dtype), f[k]))
    double = dtype == np.float64  # squares that vanish, squares that overflow, and differences that do
    sizes = [1.0, 1.0, 1e-160, 3e153, 1e154, 1e307] if double else [1.0, 1e-30, 1e38]
    scale = rng.choice(sizes, (batch, 1)) * rng.choice([1.0, 1.0, 1.0, 10.0], (STEPS, batch, 1))
    largest = np.finfo(dtype).max
    with np.errstate(over="ignore"):
        return tuple(np.clip(values * scale, -largest, largest).astype(dtype) for values in (z, f))


def check(same_bits, solver, z, f, live):
    """Both take a step at every pair; samples that are not live keep what they are."""
    steps, batch, n = z.shape
    length, kernels = n + 5, ReferenceKernels()
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, *[ctypes.c_int64] * 2)(compiled_step(z.dtype.name).address)
    memory = memory_of(solver, batch, n, length, z.dtype, steps + 1)
    state = solver.init(kernels, {"z": z[0].copy()})
    ours, values = np.full((2, batch, length), np.nan, dtype=z.dtype)
    for k in range(steps):
        expected = {"z": z[k].copy()}
        with np.errstate(all="ignore"):
            state, _ = solver.step(kernels, expected, {"z": f[k].copy()}, state, live[k])
        ours[:, :n], values[:, :n] = z[k], f[k]
        function(address(ours), address(values), address(live[k]), address(memory.table), batch, k)
        same_bits(ours[:, :n], expected["z"])
        assert np.isnan(ours[:, n:]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("others", OTHERS, ids=str)
@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_steps_at_any_pairs(same_bits, dtype, others, n):
    """With windows of one to twelve columns that repeat, vanish, and nearly depend on each other."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        z, f = pairs(rng, 16, n, np.dtype(dtype))
        live = np.cumprod(rng.random((STEPS, 16)) < 0.97, axis=0).astype(bool)
        live[0] = True
        check(same_bits, Anderson(window=int(rng.integers(1, 13)), **others), z, f, live)
