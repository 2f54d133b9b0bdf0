"""Whole fully connected solves (K1, K1b) on the simulated devices: bits in strict order, bounds in fast order, any grid."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from refdeq_cupy import loader
from refdeq_cupy.simulated import ShimDevice
from refdeq_gpu.plans import fc, fc_layout, make_plan

import refdeq as rd
from refdeq.registry import PlanRequest, Refusal

sys.path.insert(0, str(Path(__file__).parent))
from fc_solving import OnePlan, solved
from fused_cells import MODELS, PRESETS, chain, compare, rnn, siren

if loader.compiler() is None:
    pytest.skip("the simulated device needs g++", allow_module_level=True)

WAYS = [
    ({"blocks": 1, "threads": 64}, 0),
    ({"blocks": 3, "threads": 96}, 1),
    ({"blocks": 5, "threads": 64, "by_pairs": True}, 5),
    ({"blocks": 2, "threads": 256}, 9),
    ({"blocks": 40, "threads": 64, "by_pairs": True}, 0),
]
"""Grids, blocks and both kinds of launches, with orders of threads; no bit may depend on any of it."""


@pytest.fixture
def check(same_bits):
    """Solve through the plan and with the reference; everything must be equal. Which way is taken changes from call to call."""
    calls = iter(range(10**6))

    def run(cell, x, **options):
        shape, seed = WAYS[next(calls) % len(WAYS)]
        expected = rd.solve(cell, x, **options)
        got = solved(ShimDevice(seed=seed), cell, x, shape, **options)
        compare(same_bits, got, expected)
        return got, expected

    return run


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_models_presets_and_traces(check, rng, dtype, preset):
    rule = None if preset is None else rd.DeltaRule.preset(preset, threshold=1e-2)
    for model, n in (("rnn", 1), ("siren", 67), ("fourier", 30)):
        x = rng.uniform(-1, 1, (2, 2)).astype(dtype)
        got, _ = check(MODELS[model](rng, n, dtype), x, delta=rule, stop=rd.StopRule(rtol=1e-3, max_eval=9), trace=True)
        assert got.executor.startswith("fused: fc ")


RULES = [
    {"threshold": 0.05},
    {"threshold": 0.0, "compare": "ge"},
    {"threshold": 0.05, "refresh": 3},
    {"threshold": 0.05, "granularity": "sample", "refresh": 2},
    {"threshold": np.inf, "granularity": "sample", "refresh": 2},
    {"threshold": np.inf, "granularity": "channel", "compare": "ge"},
]


@pytest.mark.parametrize("memory", ["always", "sent"])
@pytest.mark.parametrize("start", ["dense", "zero"])
@pytest.mark.parametrize("bias", ["separate", "folded"])
def test_every_choice_of_the_rule(check, rng, memory, start, bias):
    cell, x = chain(rng, 37, "float32", "Tanh"), rng.standard_normal((2, 37)).astype("float32")
    for choices in RULES:
        rule = rd.DeltaRule(memory=memory, start=start, bias=bias, **choices)
        check(cell, x, delta=rule, stop=rd.StopRule(max_eval=5), trace=True)


@pytest.mark.parametrize(
    ("activation", "attributes"),
    [("Identity", {}), ("Relu", {}), ("LeakyRelu", {"alpha": 0.1}), ("Tanh", {}), ("Sigmoid", {}), ("Sin", {}), ("Cos", {})],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_and_solvers(check, rng, activation, attributes, dtype):
    cell, x = chain(rng, 21, dtype, activation, **attributes), (3 * rng.standard_normal((2, 21))).astype(dtype)
    stop = rd.StopRule(max_eval=4)
    check(cell, x, delta=rd.DeltaRule(threshold=0.05), stop=stop, trace=True)
    check(cell, x, solver=rd.KrasnoselskiiMann(alpha=0.7), stop=stop, trace=True)
    check(cell, x, solver=rd.KrasnoselskiiMann(alpha=1.0), delta=rd.DeltaRule(threshold=0.05), stop=stop)


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        (rd.StopRule(rtol=1e-2), "CONVERGED"),
        (rd.StopRule(atol=1e-2), "CONVERGED"),
        (rd.StopRule(rtol=1e-3, norm="linf"), "CONVERGED"),
        (rd.StopRule(rtol=1e-2, eps=5.0), "CONVERGED"),
        (rd.StopRule(rtol=1e-6, max_eval=1), "MAX_EVAL"),
        (rd.StopRule(max_eval=20, divergence=0.5), "DIVERGED"),
        (rd.StopRule(max_eval=60, stagnation=(3, 0.9)), "STAGNATED"),
        (rd.StopRule(max_eval=60, stagnation=(1, 0.7), divergence=1.5), "STAGNATED"),
        (rd.StopRule(max_eval=4, stagnation=(10, 0.9)), "MAX_EVAL"),
    ],
    ids=str,
)
def test_stop_rules(check, rng, stop, status):
    cell, x = siren(rng, 17, "float32"), rng.uniform(-1, 1, (3, 2)).astype("float32")
    for rule in (None, rd.DeltaRule(threshold=1e-4)):
        got, _ = check(cell, x, delta=rule, stop=stop, trace=True)
        assert rd.Status[status] in got.status


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_special_values_beside_good_samples(check, rng, norm):
    cell, x = chain(rng, 11, "float32", "Relu"), rng.standard_normal((9, 11)).astype("float32")
    x[1, 3], x[2, 5], x[4, 0], x[6] = np.nan, np.inf, -np.inf, 3e38
    z0 = rng.standard_normal((9, 11)).astype("float32")
    z0[7, 2], z0[8, 1], z0[5] = np.nan, np.inf, 1e-42
    for preset in PRESETS:
        rule = None if preset is None else rd.DeltaRule.preset(preset, threshold=1e-2)
        got, _ = check(cell, x, z0=z0, delta=rule, stop=rd.StopRule(max_eval=9, norm=norm), trace=True)
        assert {int(s) for s in got.status} == {rd.Status.NONFINITE, rd.Status.MAX_EVAL}


def test_columns_not_sent_are_not_read(check, rng):
    cell = chain(rng, 11, "float32", "Tanh")
    poisoned = np.array(cell.parameters["B"])
    poisoned[4] = np.nan
    rule = rd.DeltaRule(threshold=tuple(np.inf if j == 4 else 1e-3 for j in range(11)), start="zero")
    x = rng.standard_normal((5, 11)).astype("float32")
    got, _ = check(rd.Cell(cell.graph, {**cell.parameters, "B": poisoned}), x, delta=rule, stop=rd.StopRule(max_eval=9))
    assert np.isfinite(got.z).all()


@pytest.mark.parametrize("preset", PRESETS[1:])
def test_warm_start_with_memory(check, rng, preset):
    cell, x = MODELS["fourier"](rng, 17, "float32"), rng.uniform(-1, 1, (4, 2)).astype("float32")
    rule, stop = rd.DeltaRule.preset(preset, threshold=1e-2), rd.StopRule(rtol=1e-2, max_eval=6)
    _, first = check(cell, x, delta=rule, stop=stop)
    again, _ = check(cell, x + np.float32(0.01), warm=first, delta=rule, stop=stop, reuse="state+memory", trace=True)
    assert (again.memory.count > first.memory.count).all()


def test_more_columns_than_are_staged_at_a_time_and_no_sample(check, rng):
    n = fc_layout.CHUNK + 77
    shapes = ((n, n), 0.4 / np.sqrt(n)), ((n, 2), 1.0), ((n,), 1.0)
    cell = rd.models.rnn(*((scale * rng.standard_normal(shape)).astype("float32") for shape, scale in shapes))
    x = rng.uniform(-1, 1, (1, 2)).astype("float32")
    for rule in (None, rd.DeltaRule(threshold=1e-3)):
        check(cell, x, delta=rule, stop=rd.StopRule(max_eval=3), trace=True)
        check(cell, x[:0], delta=rule)


# fast order ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [33, 132])  # 132 outputs are taken by fours
def test_fast_order_depends_on_no_grid(same_bits, rng, dtype, n):
    cell, x = siren(rng, n, dtype), rng.uniform(-1, 1, (2, 2)).astype(dtype)
    for rule in (None, rd.DeltaRule(threshold=1e-2)):
        options = {"delta": rule, "stop": rd.StopRule(max_eval=6), "order": "fast", "trace": True}
        results = [solved(ShimDevice(seed=seed), cell, x, shape, **options) for shape, seed in WAYS]
        for other in results[1:]:
            compare(same_bits, other, results[0])
        assert not np.array_equal(results[0].z, rd.solve(cell, x, **{**options, "order": "strict"}).z)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("start", ["dense", "zero"])
def test_fast_order_is_within_the_bound(rng, dtype, start):
    """N-7, replayed from the trace: decisions exactly, every sum against longer arithmetic."""
    cell, x = rnn(rng, 132, dtype), rng.uniform(-1, 1, (2, 2)).astype(dtype)
    options = {"delta": rd.DeltaRule(threshold=0.02, start=start), "stop": rd.StopRule(max_eval=8), "trace": True}
    trace = solved(ShimDevice(), cell, x, {}, order="fast", **options).trace
    [r], [mask], [a] = trace.r.values(), trace.mask.values(), trace.a.values()
    w = cell.parameters["W"].astype(np.longdouble)
    half_ulp, least = np.longdouble(np.finfo(dtype).eps) / 2, np.longdouble(np.finfo(dtype).smallest_subnormal)
    r_before, a_before = np.zeros_like(r[0]), np.zeros_like(a[0])
    for k in range(len(trace)):
        u = trace.z["z"][k]
        d = u - r_before
        is_start = start == "dense" and k == 0
        np.testing.assert_array_equal(mask[k], np.ones_like(mask[k]) if is_start else np.abs(d) > u.dtype.type(0.02))
        sent = np.where(mask[k], d, 0).astype(np.longdouble)
        gauge = np.abs(a_before) + np.abs(sent) @ np.abs(w.T)
        terms = mask[k].sum(axis=1, keepdims=True) + 1
        beyond = 1 + np.longdouble(2.0) ** -40  # of the longer arithmetic
        assert (np.abs(a[k] - (a_before + sent @ w.T)) <= terms * (half_ulp * gauge * beyond + least)).all()
        r_before, a_before = r[k], a[k]


@pytest.mark.parametrize("order", ["strict", "fast"])
def test_a_rule_that_recomputes_everything_is_the_dense_solve(same_bits, rng, order):
    """Every column listed: the kernels without a rule, and with one that is refreshed at every evaluation, add the same."""
    cell, x = rnn(rng, 150, "float32"), rng.uniform(-1, 1, (2, 2)).astype("float32")
    options = {"stop": rd.StopRule(max_eval=6), "order": order}
    dense = solved(ShimDevice(), cell, x, {}, **options)
    again = solved(ShimDevice(), cell, x, {}, delta=rd.DeltaRule(threshold=0.0, refresh=1), **options)
    for name in ("z", "residual", "scale", "status", "n_eval"):
        same_bits(getattr(again, name), getattr(dense, name))
    assert "100% whole" in again.executor


# what there is a plan for ----------------------------------------------------------------------------------------------------


def ask(rng, offer=fc.offer, gates=None, precision="float32", **changes):
    graph = chain(rng, 5, "float64", "Tanh").graph
    chosen = {"solver": rd.Picard(), "gates": gates or {}, "start": "dense", "bias": "separate", "refresh": 0}
    request = PlanRequest(**{"graph": graph, "returned": "last", "order": "strict", **chosen, **changes})
    return offer(request, ShimDevice(), precision)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"solver": rd.Anderson()}, "not by Anderson"),
        ({"solver": rd.Broyden()}, "not by Broyden"),
        ({"returned": "lowest"}, "not the lowest"),
        ({"precision": "bfloat16x3"}, "not in bfloat16x3"),
    ],
)
@pytest.mark.parametrize("offer", [fc.offer, make_plan])
def test_refusals(rng, offer, changes, reason):
    refused = ask(rng, offer, **changes)
    if isinstance(refused, Refusal):
        assert reason in refused.reason
    else:  # another plan fits
        assert offer is make_plan
        assert "precision" in changes


@pytest.mark.parametrize(
    ("rule", "reason"),
    [({"memory": "feedback", "feedback_format": "float16"}, "not 'feedback'"), ({"delta_dtype": "float16"}, "not in float16")],
)
def test_rules_that_do_not_fit(rng, rule, reason):
    cell, x = chain(rng, 5, "float32", "Tanh"), rng.standard_normal((2, 5)).astype("float32")
    with pytest.raises(rd.errors.UnsupportedError, match=reason):
        rd.solve(cell, x, delta=rd.DeltaRule(threshold=0.1, **rule), backend=OnePlan(ShimDevice()), executor="fused")


def test_another_graph_is_refused(rng):
    builder = rd.GraphBuilder("float64")
    z = builder.state("z", (3,))
    builder.output(z, builder.node("Exp", builder.node("Gemm", z, builder.parameter("W", np.eye(3)))))
    assert "does not fit" in ask(rng, graph=builder.build().graph).reason


def test_both_languages_have_one_layout():
    text = re.sub(r"//.*", "", (loader.SOURCES / "fc_layout.cuh").read_text())
    listed = {name: [word.strip() for word in body.split(",")] for name, body in re.findall(r"enum (\w+) \{([^}]*)\}", text)}
    names = {"Choice": "CHOICES", "Limit": "LIMITS", "Phase": "PHASES", "Counter": "COUNTERS"}
    names |= {"Control": "CONTROLS", "Measure": "MEASURES"}
    for enum, name in names.items():
        counted = [] if enum in ("Phase", "Counter") else [name]  # their last word counts them
        assert listed[enum] == [*getattr(fc_layout, name), *counted]
    for name in ("WORK_ROWS", "LARGEST_GRID", "CHUNK"):
        assert f"{name} = {getattr(fc_layout, name)}" in text


# the other language -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None or importlib.util.find_spec("greenlet") is None, reason="no simulator here"
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_in_python_have_the_same_bits(same_bits, rng, dtype):
    """Strict order: those of the reference. Fast order: those of CUDA C++."""
    from refdeq_cuda.simulated_device import SimulatedDevice

    cell, x = MODELS["fourier"](rng, 37, dtype), rng.uniform(-1, 1, (2, 2)).astype(dtype)
    ways = iter([({"blocks": 2, "threads": 64}, 0), ({"blocks": 1, "threads": 64, "by_pairs": True}, 1)] * 4)
    for preset, refresh in ((None, 0), ("deltadeq-code", 2), ("refdeq", 0)):
        rule = None if preset is None else rd.DeltaRule.preset(preset, threshold=1e-2, refresh=refresh)
        options = {"delta": rule, "stop": rd.StopRule(rtol=1e-3, max_eval=4, stagnation=(2, 0.01)), "trace": True}
        for order in ("strict", "fast"):
            shape, seed = next(ways)
            got = solved(SimulatedDevice(seed=seed), cell, x, shape, order=order, **options)
            expected = rd.solve(cell, x, **options) if order == "strict" else None
            compare(same_bits, got, expected or solved(ShimDevice(), cell, x, {}, order=order, **options))
