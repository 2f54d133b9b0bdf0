"""Whole solves at op level: every bit of the trace, statuses, counts and costs are those of the reference."""

import itertools
from dataclasses import fields

import numpy as np
import pytest

import refdeq as rd
from refdeq.types import PRESETS

DTYPES = ["float32", "float64"]
STOP = rd.StopRule(rtol=1e-4, max_eval=30)


def rnn(dtype):
    rng = np.random.default_rng(0)
    w, u, b = 0.17 * rng.standard_normal((21, 21)), rng.standard_normal((21, 2)), rng.standard_normal(21)
    return rd.models.rnn(*(array.astype(dtype) for array in (w, u, b)))


def siren(dtype):
    rng = np.random.default_rng(1)
    arrays = [0.2 * rng.standard_normal((19, 19)), *(rng.standard_normal(s) for s in [(19, 2), (19,), (19, 2), (19,)])]
    return rd.models.siren(*(array.astype(dtype) for array in arrays))


def fourier(dtype):
    rng = np.random.default_rng(2)
    shapes = [(19,), (19, 2), (19,), (19, 2), (19,)]
    arrays = [0.2 * rng.standard_normal((19, 19)), *(rng.standard_normal(s) for s in shapes)]
    return rd.models.fourier(*(array.astype(dtype) for array in arrays))


def conv(dtype):
    """Two states, grouped and strided-by-one convolutions that share a gate, a Gemm, and an ungated product."""
    rng = np.random.default_rng(3)
    b = rd.GraphBuilder(dtype)

    def parameter(name, *shape):
        return b.parameter(name, (0.3 * rng.standard_normal(shape)).astype(dtype))

    z, h, x = b.state("z", (4, 5, 6)), b.state("h", (4,)), b.injection("x", (4, 5, 6))
    pads = {"pads": (1, 1, 1, 1)}
    one = b.node("Conv", z, parameter("W1", 4, 2, 3, 3), parameter("b1", 4), group=2, name="one", **pads)
    two = b.node("Conv", z, parameter("W2", 4, 4, 1, 3), parameter("b2", 4), pads=(0, 1, 0, 1), name="two")
    mixed = b.node("Add", b.node("Relu", one), b.node("LeakyRelu", two, alpha=0.2))
    b.output(z, b.node("Tanh", b.node("Add", mixed, x), name="fz"))
    pooled = b.node("ReduceMean", z, axes=(2, 3), keepdims=0, name="pooled")
    linear = b.node("Gemm", h, parameter("W3", 4, 4), parameter("b3", 4), transB=1, name="linear")
    b.output(h, b.node("Sigmoid", b.node("Add", linear, b.node("MatMul", pooled, parameter("W4", 4, 4))), name="fh"))
    return b.build()


CELLS = {"rnn": rnn, "siren": siren, "fourier": fourier, "conv": conv}

GEMM_RULES = {
    **{name: rd.DeltaRule.preset(name, threshold=0.01) for name in PRESETS},
    "folded with refresh": rd.DeltaRule(threshold=0.02, bias="folded", refresh=3),
    "always with refresh": rd.DeltaRule(threshold=0.02, memory="always", refresh=4, start="zero"),
    "feedback float16": rd.DeltaRule(threshold=0.01, memory="feedback", feedback_format="float16"),
    "feedback bfloat16": rd.DeltaRule(threshold=0.0, memory="feedback", feedback_format="bfloat16", compare="ge", start="zero"),
    "narrow difference": rd.DeltaRule(threshold=0.01, delta_dtype="float16"),
    "whole samples": rd.DeltaRule(threshold=0.05, granularity="sample"),
}
CONV_RULES = {
    **GEMM_RULES,
    "pixel": rd.DeltaRule(threshold=0.02, gates={"z": rd.GateOverride(granularity="pixel")}),
    "tile": rd.DeltaRule(threshold=0.05, gates={"z": rd.GateOverride(granularity="tile", tile=(2, 4, 3))}, bias="folded"),
    "channel": rd.DeltaRule(threshold=0.05, granularity="channel", memory="always"),
    "per channel": rd.DeltaRule(threshold=(0.0, 0.01, 0.1, np.inf), compare="ge"),
    "one node dense": rd.DeltaRule(threshold=0.01, dense=("two",)),
}
PAIRS = [(cell, rule) for cell in CELLS for rule in (CONV_RULES if cell == "conv" else GEMM_RULES)]


def injected(cell, batch, seed=5):
    (shape,) = cell.graph.injections.values()
    return np.random.default_rng(seed).standard_normal((batch, *shape)).astype(cell.dtype)


def assert_same_solutions(got, expected, same):
    for name in ("status", "n_eval", "residual", "scale"):
        same(getattr(got, name), getattr(expected, name))
    pairs = [(got.states, expected.states)]
    assert (got.memory is None) == (expected.memory is None)
    if expected.memory is not None:
        pairs += [(getattr(got.memory, name), getattr(expected.memory, name)) for name in ("r", "mask", "a")]
    for mine, theirs in pairs:
        assert list(mine) == list(theirs)
        for name in mine:
            same(mine[name], theirs[name])
    for entry in fields(expected.cost):
        np.testing.assert_equal(getattr(got.cost, entry.name), getattr(expected.cost, entry.name))
    if expected.trace is None:
        return
    for entry in fields(expected.trace):
        mine, theirs = getattr(got.trace, entry.name), getattr(expected.trace, entry.name)
        if isinstance(theirs, dict):
            assert list(mine) == list(theirs)
            for name in theirs:
                same(mine[name], theirs[name])
        elif isinstance(theirs, np.ndarray):
            same(mine, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cell", "rule"), PAIRS)
def test_solves_have_the_bits_of_the_reference(cell, rule, dtype, assert_same_bits):
    built = CELLS[cell](dtype)
    x = injected(built, 5)
    x[1] *= np.asarray(3.0, dtype=built.dtype)
    options = {"stop": STOP, "delta": CONV_RULES[rule], "trace": True}
    expected = rd.solve(built, x, **options)
    got = rd.solve(built, x, **options, backend="numba", executor="op")
    assert_same_solutions(got, expected, assert_same_bits)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"solver": rd.KrasnoselskiiMann(alpha=0.7), "stop": rd.StopRule(atol=1e-3, norm="linf", max_eval=25)},
        {"returned": "lowest", "stop": rd.StopRule(max_eval=9), "delta": rd.DeltaRule(threshold=0.1)},
        {"polish": True, "verify": True, "delta": rd.DeltaRule(threshold=0.1)},
    ],
    ids=["dense", "damped", "lowest", "polished"],
)
def test_other_options_have_the_bits_of_the_reference(cell, options, assert_same_bits):
    built = CELLS[cell]("float32")
    x = injected(built, 3)
    expected = rd.solve(built, x, **{"stop": STOP, **options})
    got = rd.solve(built, x, **{"stop": STOP, **options}, backend="numba", executor="op")
    assert_same_solutions(got, expected, assert_same_bits)


@pytest.mark.parametrize("order", ["strict", "fast"])
@pytest.mark.parametrize("cell", CELLS)
def test_solves_do_not_depend_on_threads_batch_or_repetition(cell, order, assert_same_bits):
    built = CELLS[cell]("float32")
    x = injected(built, 260)
    options = {"stop": STOP, "delta": rd.DeltaRule(threshold=0.02), "backend": "numba", "executor": "op", "order": order}
    whole = rd.solve(built, x, **options)
    for threads in (1, 2, 3):
        assert_same_solutions(rd.solve(built, x, **options, threads=threads), whole, assert_same_bits)
    cuts = [0, *sorted(np.random.default_rng(7).integers(0, 260, 3).tolist()), 260]
    parts = [rd.solve(built, x[first:last], **options) for first, last in itertools.pairwise(cuts)]
    for name in whole.states:
        assert_same_bits(np.concatenate([part.states[name] for part in parts]), whole.states[name])
    assert_same_bits(np.concatenate([part.n_eval for part in parts]), whole.n_eval)


def test_bad_samples_end_alone(assert_same_bits):
    """N-2: NaN and infinite injections end their own sample; the others have the bits they have without them."""
    cell = siren("float64")
    x = injected(cell, 6)
    x[1], x[4, 0] = np.nan, np.inf
    options = {"stop": STOP, "delta": rd.DeltaRule(threshold=0.01), "trace": True}
    expected, got = rd.solve(cell, x, **options), rd.solve(cell, x, **options, backend="numba", executor="op")
    assert_same_solutions(got, expected, assert_same_bits)
    assert (got.status[[1, 4]] == rd.Status.NONFINITE).all()
    alone = rd.solve(cell, x[[0, 2, 3, 5]], **options, backend="numba", executor="op")
    assert_same_bits(alone.z, got.z[[0, 2, 3, 5]])


def test_empty_batches_and_warm_starts(assert_same_bits):
    cell = rnn("float64")
    empty = rd.solve(cell, injected(cell, 0), delta=rd.DeltaRule(threshold=0.1), backend="numba", executor="op")
    assert empty.z.shape == (0, 21)
    results = []
    for backend in ("reference", "numba"):
        options = {"delta": rd.DeltaRule(threshold=0.05), "backend": backend, "executor": "op"}
        first = rd.solve(cell, injected(cell, 4), stop=rd.StopRule(max_eval=3), **options)
        results.append(
            rd.solve(cell, injected(cell, 4, seed=6), stop=STOP, warm=first, reuse="state+memory", trace=True, **options)
        )
    assert_same_solutions(results[1], results[0], assert_same_bits)
