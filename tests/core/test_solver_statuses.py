"""Solvers with a memory, and what a batch can meet: statuses, neighbours, budgets, gates (S-1 to S-5, S-7, S-8, D-8)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import refdeq as rd
from refdeq import Anderson, Broyden, Status, StopRule

SOLVERS = [
    Anderson(window=4),
    Anderson(window=3, mixing=0.7, ridge=1e-6, safeguard=1.5),
    Anderson(window=4, form="weights", restart=5, warmup=1),
    Broyden(),
    Broyden(window=3),
    Broyden(update="bad", line_search="armijo"),
]
IDS = ["anderson", "anderson mixed", "anderson weights", "broyden", "broyden ring", "bad broyden armijo"]
each_solver = pytest.mark.parametrize("solver", SOLVERS, ids=IDS)


def picture(sol):
    return [(Status(int(s)).name, int(n)) for s, n in zip(sol.status, sol.n_eval, strict=True)]


@pytest.fixture
def rnn():
    """A cell on which every solver needs a dozen evaluations; its weights are the injection's, sample by sample."""
    rng = np.random.default_rng(8)
    w = rng.standard_normal((7, 7))
    return rd.models.rnn(0.9 * w / np.linalg.norm(w, 2), np.eye(7), np.zeros(7))


def polynomial(z, x):
    """Elementwise, so that no library can change a bit with the batch: samples with x = 1 explode, x = 2 is a constant."""
    slow = 0.5 * np.roll(z, 1, axis=1) - 0.3 * z + 0.1 * z * z
    return np.where(x == 0, slow, np.where(x == 1, 3.0 + z**3 + np.abs(z), 0.25))


KINDS = np.array([[0.0], [1.0], [0.0], [2.0], [0.0]])


def solve_kinds(solver, rows, z0, **options):
    stop = StopRule(atol=1e-7, max_eval=24, divergence=1e6)
    return rd.solve(polynomial, KINDS[rows], z0=z0[rows], solver=solver, stop=stop, **options)


@each_solver
@pytest.mark.parametrize("returned", ["last", "lowest"])
def test_a_sample_has_the_bits_it_has_alone(solver, returned, rng, same_bits):
    """Beside one that diverges, one that is solved at once, and one that begins at NaN."""
    z0 = 0.5 * rng.standard_normal((5, 4))
    z0[4, 2] = np.nan
    sol = solve_kinds(solver, [0, 1, 2, 3, 4], z0, returned=returned, trace=True)
    assert [name for name, _ in picture(sol)][::2] == ["CONVERGED", "CONVERGED", "NONFINITE"]
    assert sol.status[1] in (Status.DIVERGED, Status.NONFINITE, Status.MAX_EVAL, Status.STAGNATED)
    assert picture(sol)[3:] == [("CONVERGED", 3 if "mixing=0.7" in str(solver) else 2), ("NONFINITE", 1)]
    for b in range(5):
        alone = solve_kinds(solver, [b], z0, returned=returned, trace=True)
        assert picture(alone) == [picture(sol)[b]]
        same_bits(alone.z[0], sol.z[b])
        same_bits(alone.residual[0], sol.residual[b])
        same_bits(alone.trace.z["z"][:, 0], sol.trace.z["z"][: len(alone.trace), b])


@each_solver
def test_order_in_the_batch_changes_nothing(solver, rng, same_bits):
    z0 = 0.5 * rng.standard_normal((5, 4))
    order = np.array([3, 1, 4, 0, 2])
    one, two = solve_kinds(solver, np.arange(5), z0), solve_kinds(solver, order, z0)
    same_bits(two.z, one.z[order])
    np.testing.assert_array_equal(two.n_eval, one.n_eval[order])


@each_solver
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_start_that_is_not_finite_ends_at_once(solver, bad, rnn, rng, same_bits):
    x, z0 = rng.standard_normal((3, 7)), rng.standard_normal((3, 7))
    z0[1, 5] = bad
    stop = StopRule(rtol=1e-8, max_eval=60)
    sol = rd.solve(rnn, x, z0=z0, solver=solver, stop=stop)
    assert picture(sol)[1] == ("NONFINITE", 1)
    same_bits(sol.z[1], z0[1])
    good = rd.solve(rnn, x[[0, 2]], z0=z0[[0, 2]], solver=solver, stop=stop)
    assert good.converged
    same_bits(good.z, sol.z[[0, 2]])


@each_solver
def test_a_budget_of_one_makes_no_step(solver, rnn, rng, same_bits):
    x, z0 = rng.standard_normal((2, 7)), rng.standard_normal((2, 7))
    sol = rd.solve(rnn, x, z0=z0, solver=solver, stop=StopRule(atol=1e-9, max_eval=1))
    assert picture(sol) == [("MAX_EVAL", 1)] * 2
    same_bits(sol.z, z0)


@each_solver
@pytest.mark.parametrize("budget", [2, 3, 7])
def test_a_budget_cuts_a_longer_solve_short(solver, budget, rnn, rng, same_bits):
    x = rng.standard_normal((3, 7))
    short, long = (rd.solve(rnn, x, solver=solver, stop=StopRule(max_eval=n), trace=True) for n in (budget, 9))
    same_bits(short.trace.z["z"], long.trace.z["z"][:budget])
    same_bits(short.z, long.trace.z["z"][budget - 1])


@each_solver
@pytest.mark.parametrize("rule", [None, rd.DeltaRule(threshold=0.01), rd.DeltaRule.preset("paper", threshold=0.01)])
def test_a_trace_changes_nothing(solver, rule, rnn, rng, same_bits):
    x, stop = rng.standard_normal((3, 7)), StopRule(rtol=1e-5, max_eval=12)
    plain, traced = (rd.solve(rnn, x, solver=solver, stop=stop, delta=rule, trace=t) for t in (False, True))
    same_bits(plain.z, traced.z)
    same_bits(plain.residual, traced.residual)
    np.testing.assert_array_equal(plain.n_eval, traced.n_eval)


@each_solver
def test_gates_follow_every_evaluation(solver, rnn, rng, same_bits):
    """D-8: whatever the solver asks for, the gate sees it; with threshold 0 the references are the arguments."""
    x = rng.standard_normal((3, 7))
    sol = rd.solve(rnn, x, solver=solver, stop=StopRule(max_eval=9), delta=rd.DeltaRule(threshold=0.0), trace=True)
    same_bits(sol.trace.r["z"], sol.trace.z["z"])
    np.testing.assert_array_equal(sol.memory.count, 9)
    same_bits(sol.memory.r["z"], sol.z)


@each_solver
def test_with_a_threshold_the_residual_is_that_of_what_was_evaluated(solver, rnn, rng):
    x = rng.standard_normal((3, 7))
    sol = rd.solve(
        rnn, x, solver=solver, stop=StopRule(atol=1e-3, max_eval=60), delta=rd.DeltaRule(threshold=1e-4), verify=True
    )
    assert sol.converged
    # |dense f - delta f| <= |W|_2 |u - r|, with |u - r| <= threshold in each of 7 elements; 1e-12 is far above rounding
    assert np.all(np.abs(sol.residual_dense - sol.residual) <= 0.9 * np.sqrt(7) * 1e-4 + 1e-12)


@each_solver
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_several_states_are_one_vector(solver, dtype, rng, same_bits):
    """Two states of 3 and 2 x 2 elements step as one of 7."""

    def cell(parts):
        builder, w = rd.GraphBuilder(dtype), np.linspace(-0.6, 0.7, 7).astype(dtype)
        first = 0
        for name, shape in parts:
            size = int(np.prod(shape))
            z = builder.state(name, shape)
            x = builder.injection(f"x{name}", shape)
            scale = builder.parameter(f"w{name}", w[first : first + size].reshape(shape))
            builder.output(z, builder.node("Add", builder.node("Mul", builder.node("Tanh", z), scale), x))
            first += size
        return builder.build()

    x = (0.3 * rng.standard_normal((3, 7))).astype(dtype)
    stop = StopRule(rtol=1e-4, max_eval=20)
    one = rd.solve(cell([("z", (7,))]), x, solver=solver, stop=stop)
    split = {"xa": x[:, :3], "xb": x[:, 3:].reshape(3, 2, 2)}
    two = rd.solve(cell([("a", (3,)), ("b", (2, 2))]), split, solver=solver, stop=stop)
    assert one.converged
    same_bits(np.concatenate([two.states["a"], two.states["b"].reshape(3, 4)], axis=1), one.z)
    assert one.z.dtype == dtype
    np.testing.assert_array_equal(one.n_eval, two.n_eval)


@each_solver
def test_float32_reaches_what_float32_allows(solver, rng):
    w, x = rng.standard_normal((9, 9)), rng.standard_normal((4, 9)).astype("float32")
    w = (0.9 * w / np.linalg.norm(w, 2)).astype("float32")
    sol = rd.solve(
        lambda z, x: np.tanh(z @ w.T + x), x, z0=np.zeros_like(x), solver=solver, stop=StopRule(rtol=1e-6, max_eval=60)
    )
    assert sol.converged
    assert sol.z.dtype == np.float32


@each_solver
@pytest.mark.parametrize("trace", [False, True])
def test_an_empty_batch(solver, trace, rnn):
    sol = rd.solve(rnn, np.zeros((0, 7)), solver=solver, trace=trace)
    assert (sol.z.shape, sol.converged, len(sol.status)) == ((0, 7), True, 0)


@each_solver
def test_the_lowest_residual_is_returned(solver, rng):
    """On a map without a fixed point the residual wanders; the trace says where it was lowest."""
    z0 = rng.standard_normal((4, 3))
    stop = StopRule(max_eval=15)
    sol = rd.solve(lambda z, x: z + np.cos(z) + 1.5, z0=z0, solver=solver, stop=stop, returned="lowest", trace=True)
    for b in range(4):
        lowest = np.nanargmin(sol.trace.residual[:, b])
        np.testing.assert_array_equal(sol.z[b], sol.trace.z["z"][lowest, b])
        assert sol.residual[b] == sol.trace.residual[lowest, b]


@each_solver
def test_nothing_is_kept_between_solves(solver, rnn, rng, same_bits):
    """One object, called for other batches and other cells in between, gives the same bits again."""
    x, stop = rng.standard_normal((3, 7)), StopRule(max_eval=8)
    before = repr(solver)
    first = rd.solve(rnn, x, solver=solver, stop=stop)
    rd.solve(rnn, x[:1], solver=solver, stop=stop)
    rd.solve(lambda z, x: np.cos(z), z0=np.zeros((5, 2, 2), "float32"), solver=solver, stop=stop)
    same_bits(rd.solve(rnn, x, solver=solver, stop=stop).z, first.z)
    assert repr(solver) == before


@each_solver
def test_a_step_keeps_the_fields_of_the_state(solver, rng):
    """Same fields, dtypes and batch after every step; an inactive sample's are neither read nor changed."""
    kernels = rd.load_backend("reference").kernels(order="strict", threads=1)
    z = {"z": rng.standard_normal((3, 4))}
    state = solver.init(kernels, z)
    active = np.array([True, False, True])
    z["z"][1] = np.nan
    for _ in range(6):
        before = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
        f = {"z": np.sin(z["z"]) + 0.5}
        f["z"][1] = np.nan
        with np.errstate(all="ignore"):
            state, broken = solver.step(kernels, z, f, state, active)
        assert broken is None or not broken.any()
        for name, value in before.items():
            after = getattr(state, name)
            if isinstance(value, np.ndarray):
                assert (after.shape, after.dtype) == (value.shape, value.dtype)
            else:
                assert all(not np.isnan(row).any() for row in after)
    assert np.isnan(z["z"][1]).all()
    assert np.isfinite(z["z"][[0, 2]]).all()


@each_solver
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", [None, rd.DeltaRule(threshold=0.01)], ids=["dense", "delta"])
def test_the_numba_backend_has_the_same_bits(solver, dtype, rule, tanh_cell, rng, same_bits):
    cell, x = tanh_cell(n=37, dtype=dtype, norm=1.4), rng.standard_normal((4, 2)).astype(dtype)
    x[2] = np.nan
    stop = StopRule(rtol=1e-5, max_eval=25)
    one, two = (rd.solve(cell, x, solver=solver, stop=stop, delta=rule, backend=b, trace=True) for b in ("reference", "numba"))
    assert picture(one) == picture(two)
    same_bits(two.trace.z["z"], one.trace.z["z"])
    same_bits(two.trace.residual, one.trace.residual)
    same_bits(two.z, one.z)
