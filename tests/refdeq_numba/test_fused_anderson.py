"""Anderson in the fused solve against the reference: every array it returns and every entry of its trace, bit by bit (S-7)."""

import dataclasses

import numpy as np
import pytest
from fused_cells import MODELS, PRESETS, chain, compare, fourier, rnn, siren, weights
from refdeq_numba import plan as plans

import refdeq as rd
from refdeq.reference import ReferenceKernels
from refdeq.solvers.anderson import Anderson

OPTIONS = {
    "one column": {"window": 1},
    "three": {"window": 3},
    "twenty": {"window": 20},
    "more than there are evaluations": {"window": 60},
    "trace": {"window": 4, "ridge": 1e-3},
    "diagonal": {"window": 4, "ridge": 1e-3, "ridge_scale": "diagonal"},
    "absolute": {"window": 4, "ridge": 1e-3, "ridge_scale": "absolute"},
    "restart": {"window": 3, "restart": 5},
    "restart at once": {"window": 3, "restart": 1},
    "restart within the window": {"window": 9, "restart": 4, "warmup": 2},
    "no safeguard": {"window": 2, "safeguard": None},
    "tight safeguard": {"window": 2, "safeguard": 1.0},
    "warmup": {"window": 4, "warmup": 3},
    "warmup without end": {"window": 4, "warmup": 2**70, "restart": 2**70},
    "less": {"window": 4, "mixing": 0.4},
    "more": {"window": 4, "mixing": 1.6, "ridge": 1e-4},
}
TAUS = [None, 0.02]


@pytest.fixture
def check(same_bits):
    """Solve with both, insist on the fused plan, compare everything."""

    def run(cell, x, solver=None, **options):
        options["solver"] = Anderson(window=5) if solver is None else solver
        expected = rd.solve(cell, x, **options)
        got = rd.solve(cell, x, backend="numba", executor="fused", **options)
        compare(same_bits, got, expected)
        assert (got.solver_state, got.iterate) == (None, {})
        return got

    return run


def rule_of(tau, **choices):
    return None if tau is None else rd.DeltaRule(threshold=tau, **choices)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("model", MODELS)
def test_models_presets_and_traces(check, rng, model, dtype, preset):
    cell = MODELS[model](rng, 33, dtype)
    x = rng.uniform(-1, 1, (5, 2)).astype(dtype)
    rule = None if preset is None else rd.DeltaRule.preset(preset, threshold=1e-2)
    check(cell, x, delta=rule, stop=rd.StopRule(rtol=1e-5, max_eval=25), trace=True)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tau", TAUS)
def test_every_option(check, rng, options, dtype, tau):
    cell = siren(rng, 37, dtype, norm=8.0)  # residuals rise and fall: safeguards act
    x = rng.uniform(-1, 1, (7, 2)).astype(dtype)
    stop = rd.StopRule(max_eval=28)
    got = check(cell, x, Anderson(**options), delta=rule_of(tau), stop=stop, trace=True)
    assert got.status.tolist() == [rd.Status.MAX_EVAL] * 7


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "warmup without end"])
def test_every_option_matters(rng, name):
    """Else the test above would pass without it: on this cell each gives other points than the same window without options."""
    cell = siren(rng, 37, "float64", norm=8.0)
    x = rng.uniform(-1, 1, (7, 2))
    options, stop = OPTIONS[name], rd.StopRule(max_eval=28)
    plain = Anderson(window=options["window"]) if len(options) > 1 else rd.Picard()
    fused, other = (
        rd.solve(cell, x, solver=s, stop=stop, backend="numba", executor="fused") for s in (Anderson(**options), plain)
    )
    assert (fused.z != other.z).any()


@pytest.mark.parametrize("n", [1, 2, 3, 7, 17, 31, 32, 64, 65, 130])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_odd_sizes(check, rng, n, dtype):
    x = rng.uniform(-1, 1, (6, 2)).astype(dtype)
    check(siren(rng, n, dtype), x, delta=rule_of(1e-2), stop=rd.StopRule(max_eval=12), trace=True)


@pytest.mark.parametrize("batch", [0, 1, 5, 130])
@pytest.mark.parametrize("tau", TAUS)
def test_batches_and_samples_that_stop_at_different_times(check, rng, batch, tau):
    """130 samples are three blocks: a row of the workspace, its window included, serves several of them."""
    x = rng.uniform(-2, 2, (batch, 2)).astype("float32")
    stop = rd.StopRule(rtol=1e-4, max_eval=20)
    got = check(rnn(rng, 17, "float32"), x, Anderson(window=3, mixing=0.8), delta=rule_of(tau), stop=stop, trace=batch > 0)
    assert batch < 130 or len(set(got.n_eval)) > 3


@pytest.mark.parametrize(
    ("activation", "attributes"),
    [("Identity", {}), ("Relu", {}), ("LeakyRelu", {"alpha": 0.1}), ("Tanh", {}), ("Sigmoid", {}), ("Sin", {}), ("Cos", {})],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", ["separate", "folded"])
def test_activations_filters_and_untransposed_weights(check, rng, activation, attributes, dtype, bias):
    x = rng.standard_normal((7, 21)).astype(dtype)
    rule = rd.DeltaRule(threshold=0.05, bias=bias)
    check(chain(rng, 21, dtype, activation, **attributes), x, delta=rule, stop=rd.StopRule(max_eval=15), trace=True)


@pytest.mark.parametrize("compare_", ["gt", "ge"])
@pytest.mark.parametrize("memory", ["always", "sent"])
@pytest.mark.parametrize("start", ["dense", "zero"])
@pytest.mark.parametrize("bias", ["separate", "folded"])
@pytest.mark.parametrize("granularity", ["element", "sample"])
def test_every_choice_of_the_rule(check, rng, compare_, memory, start, bias, granularity):
    """With an infinite threshold nothing is sent, and f stands still while the arguments move: nothing may rest."""
    x = rng.uniform(-1, 1, (6, 2)).astype("float32")
    choices = {"compare": compare_, "memory": memory, "start": start, "bias": bias, "granularity": granularity}
    for tau, refresh in ((0.0, 0), (0.05, 0), (np.inf, 0), (0.5, 3)):
        rule = rd.DeltaRule(threshold=tau, refresh=refresh, **choices)
        solver = Anderson(window=3, mixing=0.9)
        check(fourier(rng, 18, "float32"), x, solver, delta=rule, stop=rd.StopRule(max_eval=10), trace=True)


@pytest.mark.parametrize(
    "stop",
    [
        rd.StopRule(rtol=1e-2),
        rd.StopRule(rtol=1e-6, norm="linf"),
        rd.StopRule(rtol=1e-6, max_eval=1),
        rd.StopRule(max_eval=20, divergence=0.5),
        rd.StopRule(max_eval=60, stagnation=(3, 0.9)),
    ],
    ids=str,
)
@pytest.mark.parametrize("tau", TAUS)
def test_stop_rules(check, rng, stop, tau):
    x = rng.uniform(-1, 1, (40, 2)).astype("float32")
    check(siren(rng, 17, "float32"), x, delta=rule_of(tau), stop=stop, trace=True)


# ------------------------------------------------------------------------------------------------------- windows that go wrong


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ridge", [0.0, 1e-12])
def test_singular_windows(check, rng, n, dtype, ridge):
    """More columns than dimensions, and, once the residual is zero, differences of zero: columns are left out."""
    cell = rnn(rng, n, dtype)
    x = rng.uniform(-1, 1, (8, 2)).astype(dtype)
    got = check(cell, x, Anderson(window=7, ridge=ridge), stop=rd.StopRule(max_eval=40), trace=True)
    repeated = (got.trace.z["z"][1:] == got.trace.z["z"][:-1]).all(axis=2)
    assert repeated.any()


def test_expansive_cells(check, rng):
    """Residuals grow, the safeguard empties windows, numbers overflow in the differences and in their products."""
    b = weights(rng, 9, "float32", norm=40.0)
    builder = rd.GraphBuilder("float32")
    z, x = builder.state("z", (9,)), builder.injection("x", (9,))
    value = builder.node("Relu", builder.node("Add", builder.node("Gemm", z, builder.parameter("B", b)), x))
    builder.output(z, value)
    cell, x = builder.build(), rng.standard_normal((20, 9)).astype("float32") * np.float32(1e18)
    for solver in (Anderson(window=2), Anderson(window=2, mixing=1.9, safeguard=None), Anderson(window=5, warmup=9)):
        for norm in ("l2", "linf"):
            got = check(cell, x, solver, stop=rd.StopRule(max_eval=60, norm=norm), trace=True)
    assert (got.status == rd.Status.NONFINITE).any()


def test_products_that_overflow(check, rng):
    """Finite float64 numbers whose squares are not: the columns are left out, and the safeguard sees infinity."""
    cell, x = chain(rng, 8, "float64", "Identity"), rng.standard_normal((6, 8)) * 1e160
    x[::2] *= 1e-30
    got = check(cell, x, Anderson(window=3), stop=rd.StopRule(max_eval=9, norm="linf"), trace=True)
    assert np.isfinite(got.residual).all()
    assert (got.residual > 1e155).any()


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("preset", PRESETS)
def test_special_values_beside_good_samples(check, rng, norm, preset):
    cell = chain(rng, 11, "float32", "Relu")
    x = rng.standard_normal((9, 11)).astype("float32")
    x[1, 3], x[2, 5], x[4, 0], x[6] = np.nan, np.inf, -np.inf, 3e38
    z0 = rng.standard_normal((9, 11)).astype("float32")
    z0[7, 2], z0[8, 1], z0[5], z0[0] = np.nan, np.inf, 1e-42, -0.0
    rule = None if preset is None else rd.DeltaRule.preset(preset, threshold=1e-2)
    got = check(cell, x, z0=z0, delta=rule, stop=rd.StopRule(max_eval=9, norm=norm), trace=True)
    assert {int(s) for s in got.status} == {rd.Status.NONFINITE, rd.Status.MAX_EVAL}


# ---------------------------------------------------------------------------------------------------- what may change no bit


@pytest.mark.parametrize("order", ["strict", "fast"])
def test_threads_and_plain_loops(same_bits, rng, monkeypatch, order):
    cell, x = siren(rng, 37, "float32"), rng.uniform(-1, 1, (300, 2)).astype("float32")
    options = {"solver": Anderson(window=4), "delta": rule_of(0.02), "stop": rd.StopRule(rtol=1e-4, max_eval=15)}
    options |= {"backend": "numba", "executor": "fused", "order": order}
    one = rd.solve(cell, x, **options)
    monkeypatch.setattr(plans, "_SERIAL_MACS", 1)
    compare(same_bits, rd.solve(cell, x, threads=3, **options), one)
    if order == "strict":
        monkeypatch.setenv("REFDEQ_NUMBA_SIMD", "off")
        compare(same_bits, rd.solve(cell, x, **options), one)


def test_trace_changes_no_bit(same_bits, rng):
    cell, x = siren(rng, 33, "float32"), rng.uniform(-1, 1, (70, 2)).astype("float32")
    options = {"solver": Anderson(window=4), "delta": rule_of(0.02), "stop": rd.StopRule(rtol=1e-3, max_eval=30)}
    plain, traced = (rd.solve(cell, x, backend="numba", executor="fused", trace=t, **options) for t in (False, True))
    traced.trace = None
    compare(same_bits, plain, traced)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_step_in_fast_order_is_the_strict_one(same_bits, rng, dtype):
    """Only f may be fast: the reference, given the values of f that a fast solve found, takes the same steps."""
    cell, x = siren(rng, 45, dtype), rng.uniform(-1, 1, (6, 2)).astype(dtype)
    solver = Anderson(window=3, mixing=0.9, ridge=1e-6)
    options = {"backend": "numba", "executor": "fused", "order": "fast", "stop": rd.StopRule(max_eval=12)}
    trace = rd.solve(cell, x, solver=solver, trace=True, **options).trace
    kernels, active = ReferenceKernels(), np.ones(6, dtype=bool)
    z = {"z": trace.z["z"][0].copy()}
    state = solver.init(kernels, z)
    for f, following in zip(trace.f["z"], trace.z["z"][1:], strict=False):
        state, _ = solver.step(kernels, z, {"z": f.copy()}, state, active)
        same_bits(z["z"], following)


# --------------------------------------------------------------------------------------------------- around the solve


@pytest.mark.parametrize("preset", PRESETS[1:])
def test_warm_start_with_memory(same_bits, rng, preset):
    cell, x = fourier(rng, 17, "float32"), rng.uniform(-1, 1, (8, 2)).astype("float32")
    options = {"solver": Anderson(window=3), "delta": rd.DeltaRule.preset(preset, threshold=1e-2)}
    options["stop"] = rd.StopRule(rtol=1e-3, max_eval=6)
    first = rd.solve(cell, x, backend="numba", executor="fused", **options)
    options |= {"reuse": "state+memory", "trace": True, "warm": first}
    nudged = x + np.float32(0.01)
    compare(same_bits, rd.solve(cell, nudged, backend="numba", executor="fused", **options), rd.solve(cell, nudged, **options))


def test_gradients_need_nothing_that_a_fused_solve_lacks(same_bits, rng):
    cell, x = rnn(rng, 9, "float64"), rng.uniform(-1, 1, (4, 2))
    g = rng.standard_normal((4, 9))
    for tau in TAUS:
        options = {"solver": Anderson(window=4), "stop": rd.StopRule(rtol=1e-8), "delta": rule_of(tau)}
        fused, op = (rd.solve(cell, x, backend="numba", executor=e, **options) for e in ("fused", "op"))
        for method in (rd.Ift(), rd.Neumann(3), rd.Phantom(2, 0.5), rd.Jfb()):
            one, two = (rd.gradient(cell, solution, g, method=method) for solution in (fused, op))
            for name, array in one.parameters.items():
                same_bits(array, two.parameters[name])
    with pytest.raises(rd.errors.ArgumentError, match="a solution made by Broyden"):
        rd.gradient(cell, fused, g, method=rd.Ift(reuse="forward"))


def test_the_plan_is_taken_by_itself(rng):
    cell, x = rnn(rng, 9, "float32"), rng.uniform(-1, 1, (4, 2)).astype("float32")
    assert rd.solve(cell, x, solver=Anderson(), backend="numba").executor == "fused: fc tanh"
    changed = dataclasses.replace(Anderson(), form="weights")
    assert rd.solve(cell, x, solver=changed, backend="numba").executor.startswith("op level (the fused solve has Anderson")


@pytest.mark.parametrize("seed", range(8))
def test_random_solves(check, seed):
    rng = np.random.default_rng(seed)
    n, batch, dtype = int(rng.integers(1, 70)), int(rng.integers(1, 60)), str(rng.choice(["float32", "float64"]))
    cell = MODELS[str(rng.choice(list(MODELS)))](rng, n, dtype)
    solver = Anderson(
        window=int(rng.integers(1, 12)),
        mixing=float(rng.choice([1.0, rng.uniform(0.2, 2.0)])),
        ridge=float(rng.choice([0.0, 10.0 ** rng.uniform(-12, -1)])),
        ridge_scale=str(rng.choice(["trace", "diagonal", "absolute"])),
        restart=None if rng.random() < 0.5 else int(rng.integers(1, 9)),
        safeguard=None if rng.random() < 0.3 else float(rng.uniform(1.0, 2.0)),
        warmup=int(rng.integers(0, 4)),
    )
    rule = rule_of(float(10.0 ** rng.uniform(-4, -0.5)), memory=str(rng.choice(["always", "sent"])))
    stop = rd.StopRule(rtol=float(10.0 ** rng.uniform(-7, -1)), max_eval=int(rng.integers(1, 40)))
    x = rng.uniform(-1, 1, (batch, 2)).astype(dtype)
    check(cell, x, solver, delta=rng.choice(np.array([None, rule])), stop=stop, trace=True)
