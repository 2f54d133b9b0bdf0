"""What may not change a result: threads, the split of a batch, SIMD on or off. And what fast order may change: N-7 says it."""

import numpy as np
import pytest
from refdeq_numba import plan as plans

import refdeq as rd

FIELDS = ("status", "n_eval", "residual", "scale", "z")


def siren(rng, n, dtype):
    w = rng.standard_normal((n, n))
    w = (w * (0.9 / np.linalg.norm(w, 2))).astype(dtype)
    return rd.models.siren(w, *(rng.standard_normal(s).astype(dtype) for s in ((n, 2), n) * 2))


@pytest.fixture
def solve(rng):
    """Solve one siren cell with the fused plan; keyword arguments override."""
    cells = {dtype: siren(np.random.default_rng(3), 37, dtype) for dtype in ("float32", "float64")}

    def run(x, **options):
        chosen = {
            "delta": rd.DeltaRule(threshold=0.02),
            "stop": rd.StopRule(rtol=1e-3, max_eval=25),
            "backend": "numba",
            "executor": "fused",
        }
        return rd.solve(cells[str(x.dtype)], x, **{**chosen, **options})

    return run


def same(same_bits, left, right):
    for name in FIELDS:
        same_bits(getattr(left, name), getattr(right, name))
    same_bits(left.cost.macs_per_sample, right.cost.macs_per_sample)
    for part in ("r", "mask", "a"):
        for name, array in getattr(right.memory, part).items():
            same_bits(getattr(left.memory, part)[name], array)


@pytest.mark.parametrize("order", ["strict", "fast"])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads(solve, same_bits, rng, monkeypatch, order, threads):
    monkeypatch.setattr(plans, "_SERIAL_MACS", 1)
    x = rng.uniform(-1, 1, (700, 2)).astype("float32")
    same(same_bits, solve(x, order=order, threads=threads), solve(x, order=order))


@pytest.mark.parametrize("order", ["strict", "fast"])
def test_batch_split(solve, same_bits, rng, order):
    x = rng.uniform(-1, 1, (150, 2)).astype("float32")
    whole = solve(x, order=order)
    cuts = np.sort(rng.choice(np.arange(1, 150), 5, replace=False))
    parts = [solve(part, order=order) for part in np.split(x, cuts)]
    for name in FIELDS:
        same_bits(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))
    for kind in ("r", "mask", "a"):
        for name, array in getattr(whole.memory, kind).items():
            same_bits(np.concatenate([getattr(part.memory, kind)[name] for part in parts]), array)


@pytest.mark.parametrize("order", ["strict", "fast"])
def test_position_in_the_batch(solve, same_bits, rng, order):
    x = rng.uniform(-1, 1, (90, 2)).astype("float32")
    shuffled = rng.permutation(90)
    straight, mixed = solve(x, order=order), solve(x[shuffled], order=order)
    same_bits(mixed.z, straight.z[shuffled])
    same_bits(mixed.n_eval, straight.n_eval[shuffled])


def test_fast_order_repeats_itself(solve, same_bits, rng):
    x = rng.uniform(-1, 1, (150, 2)).astype("float32")
    same(same_bits, solve(x, order="fast"), solve(x, order="fast"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_plain_loops_have_the_bits_of_simd_in_strict_order(solve, same_bits, rng, monkeypatch, dtype):
    x = rng.uniform(-1, 1, (50, 2)).astype(dtype)
    simd = solve(x)
    monkeypatch.setenv("REFDEQ_NUMBA_SIMD", "off")
    same(same_bits, solve(x), simd)


def test_an_unknown_simd_setting_is_refused(solve, rng, monkeypatch):
    monkeypatch.setenv("REFDEQ_NUMBA_SIMD", "maybe")
    with pytest.raises(rd.errors.ArgumentError, match="REFDEQ_NUMBA_SIMD"):
        solve(rng.uniform(-1, 1, (2, 2)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("start", ["dense", "zero"])
def test_fast_order_is_within_the_bound(solve, rng, dtype, start):
    """N-7, replayed from the trace's own bits: decisions and differences exactly, sums against longer arithmetic."""
    x = rng.uniform(-1, 1, (20, 2)).astype(dtype)
    rule = rd.DeltaRule(threshold=0.02, start=start)
    trace = solve(x, order="fast", delta=rule, stop=rd.StopRule(max_eval=12), trace=True).trace
    [r], [mask], [a] = trace.r.values(), trace.mask.values(), trace.a.values()
    w = siren(np.random.default_rng(3), 37, dtype).parameters["W"].astype(np.longdouble)
    half_ulp, least = np.longdouble(np.finfo(dtype).eps) / 2, np.longdouble(np.finfo(dtype).smallest_subnormal)
    r_before, a_before = np.zeros_like(r[0]), np.zeros_like(a[0])
    for k in range(len(trace)):
        u = trace.z["z"][k] + trace.hoisted["entry"]
        d = u - r_before
        is_start = start == "dense" and k == 0
        np.testing.assert_array_equal(mask[k], np.ones_like(mask[k]) if is_start else np.abs(d) > u.dtype.type(0.02))
        sent = np.where(mask[k], d, 0).astype(np.longdouble)
        exact = a_before + sent @ w.T
        gauge = np.abs(a_before) + np.abs(sent) @ np.abs(w.T)
        terms = mask[k].sum(axis=1, keepdims=True) + 1
        inflation = 1 + np.longdouble(2.0) ** -40
        assert (np.abs(a[k] - exact) <= terms * (half_ulp * gauge * inflation + least)).all()
        r_before, a_before = r[k], a[k]


def test_fast_order_differs_from_strict(solve, rng):
    """Otherwise the tests of fast order would test nothing; needs a machine with fused multiply-add."""
    from refdeq_numba.machine import has_fused_multiply_add

    x = rng.uniform(-1, 1, (20, 2)).astype("float32")
    differs = not np.array_equal(solve(x, order="fast").z, solve(x).z)
    assert differs == has_fused_multiply_add()
