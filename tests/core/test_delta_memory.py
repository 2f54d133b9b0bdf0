"""Delta memory over several solves, gates by name, and what the memory rules promise (D-4, D-8, D-9, D-11, D-12)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import refdeq as rd
from refdeq.delta import DeltaMemory
from refdeq.errors import ArgumentError, MemoryMismatchError, ShapeError

ONE = rd.StopRule(max_eval=1)


@pytest.fixture
def x(rng):
    return rng.standard_normal((3, 2))


def joined(first, second):
    """Two traces of the same samples, one after the other."""
    return {
        part: {name: np.concatenate([getattr(first, part)[name], getattr(second, part)[name]]) for name in getattr(first, part)}
        for part in ("z", "f", "r", "mask", "a")
    }


# ------------------------------------------------------------------------------------------------------ reuse and reset


@pytest.mark.parametrize("memory", ["sent", "always"])
@pytest.mark.parametrize("start", ["dense", "zero"])
@pytest.mark.parametrize("refresh", [0, 4])
def test_going_on_equals_not_having_stopped(memory, start, refresh, tanh_cell, x, same_bits):
    """A solve of 3 + 4 evaluations, warm-started with memory at f(z), is one solve of 7."""
    cell, rule = tanh_cell(), rd.DeltaRule(threshold=0.05, memory=memory, start=start, refresh=refresh)
    whole = rd.solve(cell, x, delta=rule, stop=rd.StopRule(max_eval=7), trace=True)
    first = rd.solve(cell, x, delta=rule, stop=rd.StopRule(max_eval=3), trace=True)
    moved = dataclasses.replace(first, states={"z": first.trace.f["z"][-1]})  # Picard's next argument
    second = rd.solve(cell, x, delta=rule, stop=rd.StopRule(max_eval=4), warm=moved, reuse="state+memory", trace=True)
    for part, arrays in joined(first.trace, second.trace).items():
        for name, array in arrays.items():
            same_bits(array, getattr(whole.trace, part)[name])
    np.testing.assert_array_equal(second.memory.count, whole.memory.count)


def test_reusing_the_state_alone_is_a_reset(tanh_cell, x, same_bits):
    cell, rule = tanh_cell(), rd.DeltaRule(threshold=0.05)
    first = rd.solve(cell, x, delta=rule, stop=rd.StopRule(max_eval=3))
    again = rd.solve(cell, x, delta=rule, stop=ONE, warm=first, trace=True)
    fresh = rd.solve(cell, x, delta=rule, stop=ONE, z0=first.z, trace=True)
    same_bits(again.trace.a["recurrent"], fresh.trace.a["recurrent"])
    assert again.trace.mask["z"].all()
    assert list(again.memory.count) == [1, 1, 1]


def test_a_solve_leaves_the_memory_it_went_on_from(tanh_cell, x, same_bits):
    cell, rule = tanh_cell(), rd.DeltaRule(threshold=0.05)
    first = rd.solve(cell, x, delta=rule, stop=rd.StopRule(max_eval=3))
    r, a, count = first.memory.r["z"].copy(), first.memory.a["recurrent"].copy(), first.memory.count.copy()
    rd.solve(cell, 2 * x, delta=rule, stop=rd.StopRule(max_eval=5), warm=first, reuse="state+memory")
    same_bits(first.memory.r["z"], r)
    same_bits(first.memory.a["recurrent"], a)
    np.testing.assert_array_equal(first.memory.count, count)


def test_the_threshold_may_change_between_frames(tanh_cell, x):
    first = rd.solve(tanh_cell(), x, delta=rd.DeltaRule(threshold=0.05))
    rule = rd.DeltaRule(threshold=0.01, gates={"z": rd.GateOverride(threshold=0.02)})
    rd.solve(tanh_cell(), x, delta=rule, warm=first, reuse="state+memory")


@pytest.mark.parametrize(
    "change",
    [{"memory": "always"}, {"compare": "ge"}, {"bias": "folded"}, {"granularity": "sample"}, {"refresh": 2}, {"start": "zero"}],
    ids=str,
)
def test_memory_of_another_rule(change, tanh_cell, x):
    first = rd.solve(tanh_cell(), x, delta=rd.DeltaRule(threshold=0.05))
    with pytest.raises(MemoryMismatchError, match="another rule"):
        rd.solve(tanh_cell(), x, delta=rd.DeltaRule(threshold=0.05, **change), warm=first, reuse="state+memory")


def test_memory_of_another_granularity_at_one_gate(tanh_cell, x):
    first = rd.solve(tanh_cell(), x, delta=rd.DeltaRule(threshold=0.05))
    rule = rd.DeltaRule(threshold=0.05, gates={"z": rd.GateOverride(granularity="sample")})
    with pytest.raises(MemoryMismatchError, match="another rule"):
        rd.solve(tanh_cell(), x, delta=rule, warm=first, reuse="state+memory")


def test_memory_of_other_weights_or_dtype_or_batch(tanh_cell, x):
    rule = rd.DeltaRule(threshold=0.05)
    first = rd.solve(tanh_cell(), x, delta=rule)
    with pytest.raises(MemoryMismatchError, match="other weights"):
        rd.solve(tanh_cell(seed=5), x, delta=rule, warm=first, reuse="state+memory")
    narrow = dataclasses.replace(first, states={"z": first.z.astype(np.float32)})
    with pytest.raises(MemoryMismatchError, match="other weights or dtype"):
        rd.solve(tanh_cell().astype("float32"), x.astype(np.float32), delta=rule, warm=narrow, reuse="state+memory")
    with pytest.raises(ShapeError):
        rd.solve(tanh_cell(), x[:2], delta=rule, warm=first, reuse="state+memory")
    fewer = dataclasses.replace(first, states={"z": first.z[:2]})
    with pytest.raises(MemoryMismatchError, match="batch 2"):
        rd.solve(tanh_cell(), x[:2], delta=rule, warm=fewer, reuse="state+memory")
    bent = dataclasses.replace(first.memory, r={"z": first.memory.r["z"][:, :1]})
    with pytest.raises(MemoryMismatchError, match="references"):
        rd.solve(tanh_cell(), x, delta=rule, warm=dataclasses.replace(first, memory=bent), reuse="state+memory")


def test_memory_must_be_asked_for_with_all_it_needs(tanh_cell, x):
    cell, rule = tanh_cell(), rd.DeltaRule(threshold=0.05)
    dense = rd.solve(cell, x)
    assert dense.memory is None
    for options in ({"delta": rule}, {"warm": dense}, {"warm": dense, "delta": rule}):
        with pytest.raises(ArgumentError):
            rd.solve(cell, x, reuse="state+memory", **options)
    empty = dataclasses.replace(dense, memory=DeltaMemory(count=np.zeros(3, dtype=np.int64)))
    with pytest.raises(MemoryMismatchError, match="no delta rule"):
        rd.solve(cell, x, delta=rule, warm=empty, reuse="state+memory")


# --------------------------------------------------------------------------------------- what the memory rules promise


def identity_gemm(n=4):
    """A cell whose accumulator can be compared with its exact value: ``z <- W z`` once per solve."""
    rng = np.random.default_rng(9)
    w = rng.standard_normal((n, n)) / n
    builder = rd.GraphBuilder()
    z = builder.state("z", (n,))
    builder.output(z, builder.node("Gemm", z, builder.parameter("W", w), transB=1, name="linear"))
    return builder.build()


def ramp(rule, steps, slope):
    """Warm-started frames whose state moves by `slope` each; return the largest |u - r| and the final error of a."""
    cell = identity_gemm()
    weight, warm, widest = cell.parameters["W"], None, 0.0
    direction = np.array([[1.0, -1.0, 0.5, 0.25]])
    for step in range(steps):
        u = slope * step * direction
        if warm is not None:
            warm = dataclasses.replace(warm, states={"z": u})
        reuse = {"z0": u} if warm is None else {"warm": warm, "reuse": "state+memory"}
        warm = rd.solve(cell, delta=rule, stop=ONE, **reuse)
        widest = max(widest, float(np.abs(u - warm.memory.r["z"]).max()))
    return widest, float(np.abs(warm.memory.a["linear"] - u @ weight.T).max()), weight


def rounding(weight, u_max, steps):
    """N-7 over all steps: (k + 1) u (|a| + sum |A| |d|), with |a| and the sums at most sum |A| |u| each."""
    gauge = np.abs(weight).sum(axis=1).max() * u_max
    return steps * (len(weight) + 1) * 2.0**-53 * 2 * gauge


@pytest.mark.parametrize("steps", [50, 200])
def test_a_slow_ramp_is_lost_by_always_and_followed_by_sent(steps):
    tau, slope = 0.01, 0.004
    widest, error, weight = ramp(rd.DeltaRule(threshold=tau, memory="sent"), steps, slope)
    norm = np.abs(weight).sum(axis=1).max()
    assert widest <= tau
    assert error <= tau * norm + rounding(weight, slope * steps, steps)
    widest, error, _ = ramp(rd.DeltaRule(threshold=tau, memory="always"), steps, slope)
    assert widest == 0.0  # r follows u, whether sent or not
    lost = np.abs(weight @ (slope * (steps - 1) * np.array([1.0, -1.0, 0.5, 0.25]))).max()
    assert abs(error - lost) <= rounding(weight, slope * steps, steps)  # nothing was ever sent: all of it is lost
    assert lost > 5 * tau * norm or steps == 50


def test_refresh_restores_what_always_dropped():
    tau, slope, steps = 0.01, 0.004, 41
    _, error, weight = ramp(rd.DeltaRule(threshold=tau, memory="always", refresh=20), steps, slope)
    assert error <= rounding(weight, slope * steps, steps)  # index 40 is a multiple of 20
    _, error, _ = ramp(rd.DeltaRule(threshold=tau, memory="always", refresh=19), steps, slope)
    assert error > tau * slope  # two steps have been dropped since index 38


def test_feedback_keeps_the_difference_small():
    """|u - r| <= tau + half an ulp of the narrow format of the last difference, plus one rounding of r."""
    rng = np.random.default_rng(11)
    rule = rd.DeltaRule(threshold=0.01, memory="feedback", feedback_format="float16")
    cell, warm, u = identity_gemm(), None, np.zeros((1, 4))
    for _ in range(60):
        u = u + rng.normal(0.0, 0.02, (1, 4))
        reference = np.zeros((1, 4)) if warm is None else warm.memory.r["z"]
        if warm is not None:
            warm = dataclasses.replace(warm, states={"z": u})
        warm = rd.solve(cell, delta=rule, stop=ONE, **({"z0": u} if warm is None else {"warm": warm, "reuse": "state+memory"}))
        half_ulp = np.spacing(np.abs(u - reference).astype(np.float16)).astype(float) / 2
        assert np.all(np.abs(u - warm.memory.r["z"]) <= 0.01 + half_ulp + np.spacing(np.abs(u)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sent_bounds_the_accumulator_error_within_one_solve(dtype, tanh_cell, rng):
    tau, cell = 0.03, tanh_cell(n=12, dtype=dtype)
    rule = rd.DeltaRule(threshold=tau, memory="sent")
    x = rng.standard_normal((5, 2)).astype(dtype)
    trace = rd.solve(cell, x, delta=rule, stop=rd.StopRule(max_eval=25), trace=True).trace
    z, r, a = (trace.z["z"], trace.r["z"], trace.a["recurrent"])
    tau = float(np.dtype(dtype).type(tau))
    weight, unit = np.abs(cell.parameters["W"]).astype(float), np.finfo(dtype).eps / 2
    assert np.all(np.abs(z.astype(float) - r) <= tau + unit * np.abs(z))  # one rounding of the difference
    exact = z.astype(float) @ cell.parameters["W"].T.astype(float)
    # |z|, |r| <= 1 and |d| <= 2: each evaluation adds at most (k + 1) u (|a| + 2 sum|A|), and |a| <= 2 sum|A|
    drift = len(trace) * (12 + 1) * unit * 4 * weight.sum(axis=1)
    assert np.all(np.abs(a - exact) <= (tau + 2 * unit) * weight.sum(axis=1) + drift)
    assert not trace.mask["z"][1:].all()


# ------------------------------------------------------------------------------------------------------- gates (D-11)


def test_nodes_that_read_one_value_share_its_gate(conv_cell, rng, same_bits):
    x = rng.standard_normal((2, 3, 4, 5))
    sol = rd.solve(conv_cell(), x, delta=rd.DeltaRule(threshold=0.05), stop=rd.StopRule(max_eval=6), trace=True)
    assert set(sol.memory.r) == {"z"}
    assert set(sol.memory.a) == {"c1", "c2"}
    assert sol.cost.by_gate["z"] == int(sol.trace.mask["z"].sum())
    np.testing.assert_array_equal(sol.memory.count, [6, 6])


def test_a_node_listed_dense_is_not_gated(conv_cell, rng, same_bits):
    cell, x = conv_cell(), rng.standard_normal((2, 3, 4, 5))
    stop = rd.StopRule(max_eval=6)
    part = rd.solve(cell, x, delta=rd.DeltaRule(threshold=0.2, dense=("c2",)), stop=stop, trace=True)
    assert set(part.memory.a) == {"c1"}
    assert set(part.trace.values) == {"c2"}
    for k in range(6):  # its output is the dense one at every argument
        dense = rd.solve(cell, x, z0=part.trace.z["z"][k], stop=ONE, trace=True).trace
        same_bits(part.trace.values["c2"][k], dense.values["c2"][0])
    both = rd.solve(cell, x, delta=rd.DeltaRule(threshold=0.2, dense=["c1", "c2"]), stop=stop)
    same_bits(both.z, rd.solve(cell, x, stop=stop).z)
    assert both.memory.r == {}


@pytest.mark.parametrize("granularity", ["sample", "channel", "pixel", "tile"])
def test_an_override_changes_one_gate(granularity, conv_cell, rng, same_bits):
    tile = (2, 2, 2) if granularity == "tile" else None
    x, stop = rng.standard_normal((2, 3, 4, 5)), rd.StopRule(max_eval=5)
    over = rd.DeltaRule(threshold=9.0, gates={"z": rd.GateOverride(threshold=0.1, granularity=granularity, tile=tile)})
    plain = rd.DeltaRule(threshold=0.1, granularity=granularity, tile=tile)
    first, second = (rd.solve(conv_cell(), x, delta=rule, stop=stop, trace=True) for rule in (over, plain))
    np.testing.assert_array_equal(first.trace.mask["z"], second.trace.mask["z"])
    same_bits(first.z, second.z)


def test_per_channel_thresholds_of_a_convolution(conv_cell, rng):
    rule = rd.DeltaRule(threshold=(0.0, 1e9, 0.1), memory="sent")
    sol = rd.solve(conv_cell(), rng.standard_normal((2, 3, 4, 5)), delta=rule, stop=rd.StopRule(max_eval=5), trace=True)
    mask = sol.trace.mask["z"][1:]
    assert mask[:, :, 0].all()  # every component moves
    assert not mask[:, :, 1].any()
    assert mask[:, :, 2].any()
    assert not mask[:, :, 2].all()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"gates": {"q": rd.GateOverride(threshold=1.0)}}, "watched values \\(z\\)"),
        ({"dense": ("f",)}, "linear nodes \\(c1, c2\\)"),
        ({"dense": ("c1", "c2"), "gates": {"z": rd.GateOverride(threshold=1.0)}}, "watched values"),
    ],
)
def test_unknown_gates_and_nodes(rule, message, conv_cell, rng):
    with pytest.raises(ArgumentError, match=message):
        rd.solve(conv_cell(), rng.standard_normal((2, 3, 4, 5)), delta=rd.DeltaRule(threshold=0.1, **rule))


def test_nodes_of_the_injection_alone_are_never_gated(tanh_cell, x):
    sol = rd.solve(tanh_cell(), x, delta=rd.DeltaRule(threshold=0.05))
    assert set(sol.memory.a) == {"recurrent"}  # not the Gemm of x


def test_threshold_zero_with_ge_is_dense_up_to_accumulation(tanh_cell, x):
    """Everything is sent; the accumulator then only carries its rounding history (bound of N-7 per evaluation)."""
    cell, stop = tanh_cell(), rd.StopRule(max_eval=12)
    rule = rd.DeltaRule(threshold=0.0, compare="ge")
    trace = rd.solve(cell, x, delta=rule, stop=stop, trace=True).trace
    assert trace.mask["z"].all()
    exact = trace.z["z"] @ cell.parameters["W"].T
    weight = np.abs(cell.parameters["W"]).sum(axis=1)
    assert np.all(np.abs(trace.a["recurrent"] - exact) <= len(trace) * (6 + 1) * 2.0**-53 * 4 * weight)


def test_every_watched_value_has_its_own_gate(rng):
    """``z <- W2 tanh(W1 z + x)``: under "always" r is the watched value itself, so both masks follow from r alone."""
    builder = rd.GraphBuilder()
    z, x = builder.state("z", (4,)), builder.injection("x", (5,))
    w1, w2 = (builder.parameter(n, rng.standard_normal(s) / 3) for n, s in (("W1", (5, 4)), ("W2", (4, 5))))
    hidden = builder.node("Tanh", builder.node("Add", builder.node("Gemm", z, w1, transB=1, name="first"), x), name="h")
    builder.output(z, builder.node("Gemm", hidden, w2, transB=1, name="second"))
    rule = rd.DeltaRule(threshold=0.05, memory="always", gates={"h": rd.GateOverride(threshold=0.005)})
    trace = rd.solve(builder.build(), rng.standard_normal((3, 5)), delta=rule, stop=rd.StopRule(max_eval=9), trace=True).trace
    assert trace.a.keys() == {"first", "second"}
    for value, tau in (("z", 0.05), ("h", 0.005)):
        r, mask = trace.r[value], trace.mask[value]
        np.testing.assert_array_equal(mask[1:], np.abs(r[1:] - r[:-1]) > tau)
        assert mask[1:].any()
        assert not mask[1:].all()
