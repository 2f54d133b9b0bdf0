"""Every solver, with and without delta rules, ends on the Numba backend with the bits of the reference (S-6 to S-8, S-10)."""

from dataclasses import fields

import numpy as np
import pytest
from refdeq_numba import workers

import refdeq as rd
from refdeq.solvers.dialect_tables import TABLES

STOP = rd.StopRule(atol=3e-3, max_eval=16)

SOLVERS = {
    "picard": rd.Picard(),
    "km": rd.KrasnoselskiiMann(alpha=0.8),
    "anderson": rd.Anderson(window=4),
    "anderson, mixed": rd.Anderson(window=3, mixing=0.7, ridge=1e-8, safeguard=2.0),
    "anderson, weights": rd.Anderson(window=4, form="weights", ridge=1e-4, ridge_scale="absolute", restart=6),
    "anderson, coupled": rd.Anderson(window=3, coupled=True),
    "broyden": rd.Broyden(),
    "broyden, ring": rd.Broyden(window=2),
    "broyden, bad": rd.Broyden(window=4, update="bad"),
    "broyden, armijo": rd.Broyden(line_search="armijo"),
}
SPLITTINGS = {
    "forward-backward": rd.ForwardBackward(),
    "peaceman-rachford": rd.PeacemanRachford(),
}

RULES = {
    "dense": None,
    "always, ge": rd.DeltaRule(threshold=0.02, memory="always", compare="ge"),
    "sent, gt": rd.DeltaRule(threshold=0.02, memory="sent", compare="gt"),
    "sent, ge, zero start": rd.DeltaRule.preset("delta-network", threshold=0.02),
    "always, gt, folded": rd.DeltaRule.preset("deltadeq-code", threshold=0.02),
    "sent, refreshed": rd.DeltaRule(threshold=0.05, memory="sent", refresh=4),
}


def rnn(dtype):
    """One state, contractive on average; its width is no multiple of 32."""
    rng = np.random.default_rng(3)
    w, u, b = 0.11 * rng.standard_normal((37, 37)), rng.standard_normal((37, 3)), rng.standard_normal(37)
    return rd.models.rnn(*(array.astype(dtype) for array in (w, u, b)))


def two_states(dtype):
    """An image and a vector that reads it: rows of two parts, a Conv and a Gemm with gates of their own."""
    rng = np.random.default_rng(4)
    b = rd.GraphBuilder(dtype)

    def parameter(name, *shape):
        return b.parameter(name, (0.25 * rng.standard_normal(shape)).astype(dtype))

    z, h, x = b.state("z", (2, 3, 5)), b.state("h", (4,)), b.injection("x", (2, 3, 5))
    image = b.node("Conv", z, parameter("W1", 2, 2, 3, 3), parameter("b1", 2), pads=(1, 1, 1, 1), name="image")
    b.output(z, b.node("Tanh", b.node("Add", image, x), name="fz"))
    pooled = b.node("ReduceMean", z, axes=(2, 3), keepdims=0, name="pooled")
    vector = b.node("Gemm", h, parameter("W2", 4, 4), parameter("b2", 4), transB=1, name="vector")
    b.output(h, b.node("Tanh", b.node("Add", vector, b.node("MatMul", pooled, parameter("W3", 2, 4))), name="fh"))
    return b.build()


def monotone(dtype):
    rng = np.random.default_rng(5)
    shapes = [(33, 33), (33, 33), (33, 3), (33,)]
    return rd.models.monotone(*((0.06 * rng.standard_normal(shape)).astype(dtype) for shape in shapes))


CELLS = {"rnn": rnn, "two states": two_states, "monotone": monotone}
ON_CELLS = [(solver, cell) for solver in SOLVERS for cell in ("rnn", "two states")] + [(s, "monotone") for s in SPLITTINGS]
VARIANTS = [name for name in SOLVERS if "," in name]
CASES = [
    (solver, cell, rule)
    for solver, cell in ON_CELLS
    for rule in RULES
    if rule == "sent, gt" or (cell != "two states" and (solver not in VARIANTS or rule in ("dense", "always, gt, folded")))
]


def injected(cell):
    """Samples of very different size, which end at different times, and one that is not finite among them."""
    (shape,) = cell.graph.injections.values()
    x = np.random.default_rng(6).standard_normal((7, *shape))
    x *= np.array([1e-3, 1.0, 3.0, 0.1, 1.0, 30.0, 1.0]).reshape(-1, *(1,) * len(shape))
    x[4] = np.nan
    return x.astype(cell.dtype)


def solve(cell, solver, **options):
    return rd.solve(cell, injected(cell), solver=solver, **{"stop": STOP, "trace": True, "executor": "op", **options})


@pytest.fixture(autouse=True)
def small_shares(monkeypatch):
    """Share out every call among the threads, however small."""
    monkeypatch.setattr(workers, "_ELEMENTS_PER_THREAD", 1)


def assert_same(got, expected, same):
    """Points, statuses, counts, delta memory, trace: every bit; the solver's own arrays are in the arguments of the trace."""
    for name in ("status", "n_eval", "residual", "scale"):
        same(getattr(got, name), getattr(expected, name))
    pairs = [(got.states, expected.states), (got.iterate, expected.iterate)]
    for whole, names in (("memory", ("r", "mask", "a")), ("trace", [entry.name for entry in fields(rd.Trace)])):
        mine, theirs = getattr(got, whole), getattr(expected, whole)
        assert (mine is None) == (theirs is None)
        pairs += [({name: getattr(mine, name)}, {name: getattr(theirs, name)}) for name in names if theirs is not None]
    for mine, theirs in pairs:
        assert_same_values(mine, theirs, same)


def assert_same_values(mine, theirs, same):
    if isinstance(theirs, dict):
        assert list(mine) == list(theirs)
        for name in theirs:
            assert_same_values(mine[name], theirs[name], same)
    elif isinstance(theirs, np.ndarray):
        same(mine, theirs)
    else:
        assert mine == theirs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("solver", "cell", "rule"), CASES)
def test_solves_have_the_bits_of_the_reference(solver, cell, rule, dtype, assert_same_bits):
    built, chosen = CELLS[cell](dtype), {**SOLVERS, **SPLITTINGS}[solver]
    for returned, counts in (("last", (1, 2)), ("lowest", (2,))):
        options = {"delta": RULES[rule], "returned": returned}
        expected = solve(built, chosen, **options)
        for threads in counts:
            assert_same(solve(built, chosen, **options, backend="numba", threads=threads), expected, assert_same_bits)


@pytest.mark.parametrize(("solver", "cell"), ON_CELLS)
def test_the_samples_of_these_solves_end_at_different_times(solver, cell):
    """Else the test above would say nothing about samples that are frozen while others go on."""
    solution = solve(CELLS[cell]("float64"), {**SOLVERS, **SPLITTINGS}[solver], backend="numba")
    assert solution.status[4] == rd.Status.NONFINITE
    assert solution.n_eval[4] == 1
    assert len(set(solution.n_eval)) >= 3


@pytest.mark.parametrize(("solver", "cell"), [pair for pair in ON_CELLS if "coupled" not in pair[0]])
def test_a_sample_has_the_bits_it_has_alone(solver, cell, assert_same_bits):
    built, chosen = CELLS[cell]("float32"), {**SOLVERS, **SPLITTINGS}[solver]
    options = {"solver": chosen, "stop": STOP, "delta": RULES["sent, gt"], "backend": "numba", "executor": "op"}
    x = injected(built)
    whole = rd.solve(built, x, **options)
    for b in (1, 5):
        alone = rd.solve(built, x[b : b + 1], **options)
        for name in whole.states:
            assert_same_bits(alone.states[name], whole.states[name][b : b + 1])
        assert_same_bits(alone.residual, whole.residual[b : b + 1])
        assert_same_bits(alone.n_eval, whole.n_eval[b : b + 1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "method"), [(name, method) for name, methods in TABLES.items() for method in methods])
def test_dialects_have_the_bits_of_the_reference(name, method, dtype, assert_same_bits):
    """Seven steps of each, on samples that are all finite: most peers stop the whole batch when one is not."""
    cell = CELLS["rnn"](dtype)
    x = injected(cell)[:4]
    options = {"dialect": rd.dialect(name, method, max_iter=7), "delta": RULES["sent, gt"], "trace": True, "executor": "op"}
    expected = rd.solve(cell, x, **options)
    for threads in (1, 2):
        got = rd.solve(cell, x, **options, backend="numba", threads=threads)
        assert_same(got, expected, assert_same_bits)
        assert_same_values(vars(got.dialect), vars(expected.dialect), assert_same_bits)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", ["dense", "sent, gt"])
def test_a_breakdown_ends_its_sample_alone_and_alike(rule, dtype, assert_same_bits):
    """``f = W z + x`` with an eigenvalue 1: along it g is constant, so dg = 0 and there is no secant."""
    builder = rd.GraphBuilder(dtype)
    z, x = builder.state("z", (2,)), builder.injection("x", (2,))
    weight = builder.parameter("W", np.diag([1.0, 0.5]).astype(dtype))
    builder.output(z, builder.node("Add", builder.node("Gemm", z, weight, name="linear"), x))
    data = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 3.0]], dtype=dtype)
    options = {"solver": rd.Broyden(), "stop": STOP, "delta": RULES[rule], "trace": True, "executor": "op"}
    expected, got = (rd.solve(builder.build(), data, **options, backend=name) for name in ("reference", "numba"))
    assert_same(got, expected, assert_same_bits)
    assert got.status.tolist() == [rd.Status.CONVERGED, rd.Status.BREAKDOWN, rd.Status.CONVERGED]


def test_the_line_search_of_these_solves_makes_steps_shorter():
    """Else its bits would say no more than those of plain Broyden."""
    cell, rule = CELLS["rnn"]("float64"), RULES["sent, gt"]
    state = solve(cell, SOLVERS["broyden, armijo"], delta=rule, backend="numba").solver_state
    assert (state.length < 1.0).any()
