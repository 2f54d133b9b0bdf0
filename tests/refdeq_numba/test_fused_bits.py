"""The fused solve against the reference: every array it returns and every entry of its trace, bit by bit (strict order)."""

import numpy as np
import pytest
from fused_cells import MODELS, PRESETS, chain, compare, fourier, rnn, siren, weights

import refdeq as rd

SOLVERS = [rd.Picard(), rd.KrasnoselskiiMann(alpha=0.7), rd.KrasnoselskiiMann(alpha=1.0)]


@pytest.fixture
def check(same_bits):
    """Solve with both, insist on the fused plan, compare everything."""

    def run(cell, x, **options):
        expected = rd.solve(cell, x, **options)
        got = rd.solve(cell, x, backend="numba", executor="fused", **options)
        compare(same_bits, got, expected)
        return got, expected

    return run


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("model", MODELS)
def test_models_presets_and_traces(check, rng, model, dtype, preset):
    cell = MODELS[model](rng, 33, dtype)
    x = rng.uniform(-1, 1, (5, 2)).astype(dtype)
    rule = None if preset is None else rd.DeltaRule.preset(preset, threshold=1e-2)
    got, _ = check(cell, x, delta=rule, stop=rd.StopRule(rtol=1e-3, max_eval=25), trace=True)
    assert got.executor.startswith("fused")


@pytest.mark.parametrize("n", [1, 2, 3, 7, 17, 65, 130])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_odd_sizes(check, rng, n, dtype):
    cell = siren(rng, n, dtype)
    x = rng.uniform(-1, 1, (6, 2)).astype(dtype)
    rule = rd.DeltaRule.preset("refdeq", threshold=1e-2)
    check(cell, x, delta=rule, stop=rd.StopRule(max_eval=12), trace=True)


@pytest.mark.parametrize("batch", [0, 1, 5, 130])
@pytest.mark.parametrize("preset", [None, "refdeq"])
def test_batches(check, rng, batch, preset):
    cell = rnn(rng, 17, "float32")
    x = rng.uniform(-1, 1, (batch, 2)).astype("float32")
    rule = None if preset is None else rd.DeltaRule.preset(preset, threshold=1e-2)
    check(cell, x, delta=rule, stop=rd.StopRule(rtol=1e-4, max_eval=20), trace=batch > 0)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: s.name)
@pytest.mark.parametrize("preset", PRESETS)
def test_solvers(check, rng, solver, preset):
    cell = fourier(rng, 19, "float32")
    x = rng.uniform(-1, 1, (9, 2)).astype("float32")
    rule = None if preset is None else rd.DeltaRule.preset(preset, threshold=3e-2)
    check(cell, x, delta=rule, solver=solver, stop=rd.StopRule(max_eval=30), trace=True)


@pytest.mark.parametrize(
    ("activation", "attributes"),
    [("Identity", {}), ("Relu", {}), ("LeakyRelu", {"alpha": 0.1}), ("Tanh", {}), ("Sigmoid", {}), ("Sin", {}), ("Cos", {})],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", ["separate", "folded"])
def test_activations_filters_and_untransposed_weights(check, rng, activation, attributes, dtype, bias):
    cell = chain(rng, 21, dtype, activation, **attributes)
    x = rng.standard_normal((7, 21)).astype(dtype)
    rule = rd.DeltaRule(threshold=0.05, bias=bias)
    check(cell, x, delta=rule, stop=rd.StopRule(max_eval=15), trace=True)


@pytest.mark.parametrize("compare_", ["gt", "ge"])
@pytest.mark.parametrize("memory", ["always", "sent"])
@pytest.mark.parametrize("start", ["dense", "zero"])
@pytest.mark.parametrize("bias", ["separate", "folded"])
@pytest.mark.parametrize("granularity", ["element", "sample", "channel"])
def test_every_choice_of_the_rule(check, rng, compare_, memory, start, bias, granularity):
    cell = fourier(rng, 18, "float32")
    x = rng.uniform(-1, 1, (6, 2)).astype("float32")
    choices = {"compare": compare_, "memory": memory, "start": start, "bias": bias, "granularity": granularity}
    for tau in (0.0, 0.05, np.inf):
        check(cell, x, delta=rd.DeltaRule(threshold=tau, **choices), stop=rd.StopRule(max_eval=12), trace=True)


@pytest.mark.parametrize("memory", ["always", "sent"])
@pytest.mark.parametrize("bias", ["separate", "folded"])
@pytest.mark.parametrize("refresh", [1, 3])
def test_refresh(check, rng, memory, bias, refresh):
    cell = fourier(rng, 18, "float32")
    x = rng.uniform(-1, 1, (6, 2)).astype("float32")
    rule = rd.DeltaRule(threshold=0.05, memory=memory, bias=bias, refresh=refresh)
    check(cell, x, delta=rule, stop=rd.StopRule(max_eval=14), trace=True)


def test_threshold_per_channel(check, rng):
    cell = rnn(rng, 9, "float64")
    x = rng.uniform(-1, 1, (4, 2))
    taus = (0.0, 1e-3, 1e-2, 1e-1, np.inf, 0.0, 0.5, 1e-4, 1.0)
    for compare_ in ("gt", "ge"):
        check(cell, x, delta=rd.DeltaRule(threshold=taus, compare=compare_), stop=rd.StopRule(max_eval=12), trace=True)


def test_a_rule_that_gates_nothing(check, rng):
    check(rnn(rng, 9, "float64"), rng.uniform(-1, 1, (4, 2)), delta=rd.DeltaRule(threshold=0.1, dense=("recurrent",)))


@pytest.mark.parametrize(
    "stop",
    [
        rd.StopRule(rtol=1e-2),
        rd.StopRule(atol=1e-2),
        rd.StopRule(rtol=1e-3, norm="linf"),
        rd.StopRule(rtol=1e-9, eps=0.5),
        rd.StopRule(rtol=1e-6, max_eval=1),
        rd.StopRule(max_eval=20, divergence=0.5),
        rd.StopRule(max_eval=60, stagnation=(3, 0.9)),
        rd.StopRule(max_eval=60, stagnation=(1, 0.7), divergence=1.5),
        rd.StopRule(max_eval=4, stagnation=(10, 0.9)),
    ],
    ids=str,
)
@pytest.mark.parametrize("tau", [None, 0.03])
def test_stop_rules(check, rng, stop, tau):
    cell = siren(rng, 17, "float32")
    x = rng.uniform(-1, 1, (40, 2)).astype("float32")
    rule = None if tau is None else rd.DeltaRule(threshold=tau)
    check(cell, x, delta=rule, stop=stop, trace=True)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("preset", PRESETS)
def test_special_values_beside_good_samples(check, rng, norm, preset):
    cell = chain(rng, 11, "float32", "Relu")
    x = rng.standard_normal((9, 11)).astype("float32")
    x[1, 3], x[2, 5], x[4, 0], x[6] = np.nan, np.inf, -np.inf, 3e38
    z0 = rng.standard_normal((9, 11)).astype("float32")
    z0[7, 2], z0[8, 1], z0[5] = np.nan, np.inf, 1e-42
    rule = None if preset is None else rd.DeltaRule.preset(preset, threshold=1e-2)
    got, _ = check(cell, x, z0=z0, delta=rule, stop=rd.StopRule(max_eval=9, norm=norm), trace=True)
    assert {int(s) for s in got.status} == {rd.Status.NONFINITE, rd.Status.MAX_EVAL}


@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_columns_not_sent_are_not_read(check, rng, weight):
    cell = chain(rng, 11, "float32", "Tanh")
    parameters = dict(cell.parameters)
    parameters["B"] = np.array(parameters["B"])
    parameters["B"][4] = weight
    poisoned = rd.Cell(cell.graph, parameters)
    x = rng.standard_normal((5, 11)).astype("float32")
    taus = [np.inf if j == 4 else 1e-3 for j in range(11)]
    rule = rd.DeltaRule(threshold=tuple(taus), start="zero")
    got, _ = check(poisoned, x, delta=rule, stop=rd.StopRule(max_eval=9), trace=True)
    assert np.isfinite(got.z).all()


@pytest.mark.parametrize("preset", PRESETS[1:])
def test_warm_start_with_memory(check, same_bits, rng, preset):
    cell = fourier(rng, 17, "float32")
    x = rng.uniform(-1, 1, (8, 2)).astype("float32")
    rule, stop = rd.DeltaRule.preset(preset, threshold=1e-2), rd.StopRule(rtol=1e-2, max_eval=6)
    first, reference = check(cell, x, delta=rule, stop=stop)
    nudged = (x + np.float32(0.01)).astype("float32")
    options = {"delta": rule, "stop": stop, "reuse": "state+memory", "trace": True}
    again = rd.solve(cell, nudged, backend="numba", executor="fused", warm=first, **options)
    compare(same_bits, again, rd.solve(cell, nudged, warm=reference, **options))
    assert (again.memory.count > first.memory.count).all()


def test_memory_with_negative_zeros(same_bits, rng):
    """A sum that is -0 stays so while it is given zeros of its own sign, and the one column of the other sign is not sent."""
    w = weights(rng, 9, "float32")
    w[0] = -0.0
    w[0, 0] = 0.0
    cell = rd.models.rnn(w, rng.standard_normal((9, 2)).astype("float32"), np.zeros(9, dtype=np.float32))
    x = rng.uniform(-1, 1, (5, 2)).astype("float32")
    options = {"delta": rd.DeltaRule(threshold=(np.inf, *[0.1] * 8)), "stop": rd.StopRule(max_eval=1)}
    first = rd.solve(cell, x, **options)
    first.memory.a["recurrent"][...] = -0.0
    first.memory.r["z"][...] = first.z - 1
    options |= {"reuse": "state+memory", "warm": first, "trace": True}
    got, expected = rd.solve(cell, x, backend="numba", executor="fused", **options), rd.solve(cell, x, **options)
    compare(same_bits, got, expected)
    assert np.signbit(got.memory.a["recurrent"][:, 0]).all()


@pytest.mark.parametrize("share", [0.6, 0.68, 0.72, 0.8, 0.97])
@pytest.mark.parametrize("memory", ["always", "sent"])
def test_rows_that_send_nearly_everything(check, rng, share, memory):
    """On both sides of the share from which rows are filled with zeros."""
    cell = siren(rng, 64, "float32")
    x = rng.uniform(-1, 1, (11, 2)).astype("float32")
    taus = np.where(rng.random(64) < share, 1e-6, np.inf)
    for start in ("dense", "zero"):
        rule = rd.DeltaRule(threshold=tuple(taus), memory=memory, start=start)
        check(cell, x, delta=rule, stop=rd.StopRule(max_eval=5), trace=True)


def test_trace_changes_no_bit(same_bits, rng):
    cell = siren(rng, 33, "float32")
    x = rng.uniform(-1, 1, (70, 2)).astype("float32")
    options = {"delta": rd.DeltaRule(threshold=0.02), "stop": rd.StopRule(rtol=1e-3, max_eval=30)}
    plain, traced = (rd.solve(cell, x, backend="numba", executor="fused", trace=t, **options) for t in (False, True))
    traced.trace = None
    compare(same_bits, plain, traced)


@pytest.mark.parametrize("seed", range(6))
def test_random_solves(check, seed):
    rng = np.random.default_rng(seed)
    n, batch, dtype = int(rng.integers(1, 70)), int(rng.integers(1, 60)), str(rng.choice(["float32", "float64"]))
    cell = MODELS[str(rng.choice(list(MODELS)))](rng, n, dtype)
    rule = rd.DeltaRule(
        threshold=float(10.0 ** rng.uniform(-4, -0.5)),
        compare=str(rng.choice(["gt", "ge"])),
        memory=str(rng.choice(["always", "sent"])),
        start=str(rng.choice(["dense", "zero"])),
        bias=str(rng.choice(["separate", "folded"])),
        granularity=str(rng.choice(["element", "sample"])),
        refresh=int(rng.choice([0, 0, 4])),
    )
    solver = rd.Picard() if rng.random() < 0.5 else rd.KrasnoselskiiMann(alpha=float(rng.uniform(0.3, 1.2)))
    stop = rd.StopRule(rtol=float(10.0 ** rng.uniform(-6, -1)), max_eval=int(rng.integers(1, 30)))
    check(cell, rng.uniform(-1, 1, (batch, 2)).astype(dtype), delta=rule, solver=solver, stop=stop, trace=True)
