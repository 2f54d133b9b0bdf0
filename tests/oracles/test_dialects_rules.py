"""Rules of the dialects where their numbers can be told by hand: who decides, when, and by which comparison (S-9)."""

from dataclasses import replace

import numpy as np
import pytest
from stored_runs import AGREEMENT, CELL, X

import refdeq as rd
from refdeq.types import Status

BUDGET = 9
EVERY = [
    ("locuslab-v1", "broyden"),
    ("locuslab-v2", "broyden"),
    ("locuslab-v2", "anderson"),
    ("torchdeq", "fixed_point_iter"),
    ("torchdeq", "anderson"),
    ("torchdeq", "broyden"),
    ("deq-flow", "broyden"),
    ("deq-flow", "anderson"),
    ("deq-flow", "km"),
    ("jaxopt", "anderson"),
    ("jaxopt", "fixed_point"),
    ("jaxopt", "broyden"),
    ("srs", "anderson"),
]
AT_MOST = {"jaxopt"}
"""Dialects that stop at a residual equal to the tolerance; SciPy's are compared in ``test_dialects_scipy.py``."""


def solve(*names, f=None, z0=None, solver=None, **options):
    dialect = rd.dialect(*names, **options)
    if solver is not None:
        dialect = replace(dialect, solver=solver)
    if f is None:
        return rd.solve(CELL, X, dialect=dialect)
    return rd.solve(lambda z, x: f(z), z0=z0, dialect=dialect)


def worst(solution):
    """The tested residual of every iterate, the largest of the batch, without head and padding."""
    report = solution.dialect
    rules = report.dialect.rules
    trace = report.abs_trace if rules.mode == "abs" else report.rel_trace
    if trace.ndim == 2:
        trace = trace.max(axis=0 if rules.layout == "samples first" else 1)
    head = 0 if rules.head is None else 1
    return trace[head : head + int(solution.n_eval.max()) - rules.first_recorded]


@pytest.mark.parametrize(("name", "method"), EVERY)
def test_a_residual_equal_to_the_tolerance(name, method):
    trace = worst(solve(name, method, max_iter=BUDGET, tol=0.0))
    middle = 3
    stopped = solve(name, method, max_iter=BUDGET, tol=float(trace[middle]))
    first = next(i for i, value in enumerate(trace) if (value <= trace[middle] if name in AT_MOST else value < trace[middle]))
    assert len(worst(stopped)) == first + 1
    assert first == middle if name in AT_MOST else first > middle
    assert (stopped.status == Status.CONVERGED).all()


@pytest.mark.parametrize(("name", "method"), EVERY)
def test_the_first_iterate_that_is_tested(name, method):
    """With a tolerance that everything meets: v1 tests the first argument, Broyden the second, Anderson the third."""
    wanted = {"locuslab-v1": 1, "jaxopt": 1}.get(name, {"anderson": 3, "broyden": 2}.get(method, 1))
    wanted = 2 if (name, method) == ("jaxopt", "broyden") else wanted
    solution = solve(name, method, max_iter=BUDGET, tol=1e6)
    assert solution.n_eval.tolist() == [wanted] * 3
    assert solution.converged


@pytest.mark.parametrize(
    ("name", "method", "evaluations"),
    [
        ("locuslab-v1", "broyden", BUDGET + 1),
        ("locuslab-v2", "broyden", BUDGET + 1),
        ("locuslab-v2", "anderson", BUDGET),
        ("torchdeq", "fixed_point_iter", BUDGET),
        ("torchdeq", "anderson", BUDGET),
        ("torchdeq", "broyden", BUDGET + 1),
        ("jaxopt", "anderson", BUDGET),
        ("jaxopt", "broyden", BUDGET + 1),
        ("hopdeq", "anderson", BUDGET),
        ("hopdeq", "picard", BUDGET),
        ("srs", "anderson", BUDGET + 2),
        ("scipy", "broyden2", BUDGET + 1),
    ],
)
def test_what_a_budget_buys(name, method, evaluations):
    options = {"iter": BUDGET, "line_search": None} if name == "scipy" else {"max_iter": BUDGET}
    if name not in ("hopdeq", "scipy"):
        options["tol"] = 0.0
    solution = solve(name, method, **options)
    assert solution.n_eval.tolist() == [evaluations] * 3
    assert set(solution.status) == {Status.MAX_EVAL}


def test_the_slowest_sample_keeps_the_others_running():
    """torchdeq stops when the largest residual of the batch is below; ours freezes each sample for itself."""

    def f(z):
        return z * np.array([[0.1], [0.5]])

    z0 = np.ones((2, 1))
    together = solve("torchdeq", f=f, z0=z0, max_iter=40, tol=1e-3)
    assert together.n_eval.tolist() == [10, 10]  # 0.5^(k-1) * 0.5 < 1e-3 first for k = 10
    alone = rd.solve(lambda z, x: f(z), z0=z0, stop=rd.StopRule(atol=1e-3, max_eval=40))
    assert alone.n_eval.tolist() == [4, 10]


def test_statuses_when_the_budget_ends_the_batch():
    """The batch did not converge, so the peer says nothing; a sample whose own residual is below its tolerance has."""
    solution = solve("torchdeq", f=lambda z: z * np.array([[0.1], [0.9]]), z0=np.ones((2, 1)), max_iter=8, tol=1e-3)
    assert solution.status.tolist() == [Status.CONVERGED, Status.MAX_EVAL]


def test_v1s_default_tolerance_grows_with_the_batch():
    """``1e-6 sqrt(B N)``: the norm is that of the whole batch."""
    for batch in (1, 4):
        solution = solve("locuslab-v1", f=lambda z: 0.5 * z, z0=np.ones((batch, 9)), solver=rd.Picard(), max_iter=60)
        trace = solution.dialect.abs_trace
        assert trace[-1] < 1e-6 * np.sqrt(batch * 9) <= trace[-2]


# ---------------------------------------------------------------------------------------------- stagnation and protection


def shifts(*sizes):
    """No fixed point: the residual of sample b is always ``sizes[b]``."""
    return {"f": lambda z: z + np.array(sizes)[:, None], "z0": np.zeros((len(sizes), 1)), "solver": rd.Picard()}


@pytest.mark.parametrize("size", [0.9e-3, 1.5e-3, 2.9e-3, 3.1e-3])
def test_stagnation_of_v1_and_v2(size):
    """No progress in 30 steps, at less than 3 tol."""
    for name, first in (("locuslab-v1", 1), ("locuslab-v2", 2)):
        options = {"mode": "abs"} if name == "locuslab-v2" else {}
        solution = solve(name, max_iter=40, tol=1e-3, **options, **shifts(size))
        if size < 1e-3:
            assert (solution.status[0], solution.n_eval[0]) == (Status.CONVERGED, first)
        elif size < 3e-3:
            assert (solution.status[0], solution.n_eval[0]) == (Status.STAGNATED, 32)
        else:
            assert (solution.status[0], solution.n_eval[0]) == (Status.MAX_EVAL, 41)


def test_stagnation_looks_at_thirty_iterates():
    """Five residuals of 2.5e-3, then 1.5e-3: the last of the five leaves the window when iterate 34 comes in."""

    def f(z):
        return z + np.where(z < 12.4e-3, 2.5e-3, 1.5e-3)

    options = {"f": f, "z0": np.zeros((1, 1)), "solver": rd.Picard(), "max_iter": 60, "tol": 1e-3}
    assert solve("locuslab-v1", **options).n_eval[0] == 35
    assert solve("locuslab-v2", "broyden", mode="abs", **options).n_eval[0] == 35


def falling(ratio, sizes):
    """Residuals that shrink by `ratio` at every step, in every sample."""
    return {
        "f": lambda z: z + (1 - ratio) * (np.array(sizes)[:, None] / (1 - ratio) - z),
        "z0": np.zeros((len(sizes), 1)),
        "solver": rd.Picard(),
    }


def test_stagnation_of_the_later_codes_compares_samples_instead_of_steps():
    """A batch of one always stagnates once below 3 tol, though it still falls; unequal samples never do."""
    options = {"max_iter": 60, "tol": 1e-3, "mode": "abs"}
    steady = falling(0.95, [1.2e-2])
    assert solve("locuslab-v2", "broyden", **options, **steady).status[0] == Status.CONVERGED
    for name in ("torchdeq", "deq-flow"):
        alone = solve(name, "broyden", **options, **steady)
        assert (alone.status[0], alone.n_eval[0]) == (Status.STAGNATED, 32)
        alike = solve(name, "broyden", **options, **falling(0.95, [1.2e-2, 1.0e-2]))
        assert alike.n_eval.tolist() == [32, 32]
        unlike = solve(name, "broyden", **options, **falling(0.95, [1.2e-2, 0.9e-2]))
        assert unlike.status.tolist() == [Status.CONVERGED] * 2
        assert solve(name, "broyden", **options, **shifts(1.5e-3, 2.5e-3)).status[0] == Status.MAX_EVAL


@pytest.mark.parametrize(
    ("name", "options", "factor", "first"),
    [
        ("locuslab-v1", {}, 1e5, 0),
        ("locuslab-v2", {"mode": "abs"}, 1e6, 1),
    ],
)
@pytest.mark.parametrize("length", [1, 3])
def test_protective_break(name, options, factor, first, length):
    """Residuals 10, 100, ...: ended when they exceed that of the first recorded iterate, times a factor, times the length."""
    z0 = np.full((1, 2, length), 1.0)
    solution = solve(name, f=lambda z: 11.0 * z, z0=z0, solver=rd.Picard(), max_iter=40, tol=1e-3, **options)
    # z grows by 11 per step, and so does the residual
    growth = 11.0 ** np.arange(40)
    expected = int(np.argmax(growth > growth[first] * factor * length))
    assert solution.status[0] == Status.DIVERGED
    assert solution.dialect.prot_break
    assert solution.n_eval[0] == expected + 1


def test_protective_break_of_relative_residuals():
    """v2 with ``rel``: a thousand times the first recorded one."""

    def f(z):  # residuals relative to f: 1e-3 / 1.001 at first, then 2 / 1
        return np.where(z < 1.0005, z + 1e-3, np.where(z < 1.0015, 1.0015, -z))

    solution = solve("locuslab-v2", f=f, z0=np.ones((1, 1)), solver=rd.Picard(), max_iter=9, tol=1e-5)
    assert solution.status[0] == Status.DIVERGED
    assert solution.dialect.prot_break
    assert not solve(
        "torchdeq", "broyden", f=f, z0=np.ones((1, 1)), solver=rd.Picard(), max_iter=9, tol=1e-5
    ).dialect.prot_break


# ------------------------------------------------------------------------------------------------------- what is returned


def test_v1_returns_the_last_iterate_when_none_beats_the_first():
    """Its "lowest" is initialised with the variable that it then updates in place."""

    def run(name):
        return solve(name, f=lambda z: 2.0 * z, z0=np.ones((1, 1)), solver=rd.Picard(), max_iter=5, tol=1e-9)

    v1 = run("locuslab-v1")
    assert v1.dialect.lowest_step == 0
    assert v1.z.item() == 2.0**5
    assert run("locuslab-v2").z.item() == 2.0  # the first of the equal relative residuals after the first step


def test_a_residual_of_1e8_is_no_lowest():
    """The DEQ codes start from 1e8: worse than that is never returned, and z0 is."""
    z0 = np.full((2, 1), 5.0)
    for names in (("torchdeq", "fixed_point_iter"), ("locuslab-v2", "broyden")):
        solution = solve(*names, f=lambda z: z + 1e9, z0=z0, solver=rd.Picard(), max_iter=4, mode="abs")
        np.testing.assert_array_equal(solution.z, z0)
        assert (solution.dialect.lowest == 1e8).all()
        assert (solution.dialect.nstep == 0).all()
    np.testing.assert_array_equal(solve("jaxopt", "fixed_point", f=lambda z: z + 1e9, z0=z0, max_iter=4).z, z0 + 4e9)


def test_lowest_per_sample_and_for_the_batch():
    """Sample 0 has its lowest residual at the first step, sample 1 at the last: torchdeq returns both, v2 one point of both."""

    def f(z):
        return z + np.array([[1.0], [4.0]]) * np.where(np.arange(2)[:, None] == 0, 2.0**z, 0.5 ** (z / 4))

    z0 = np.zeros((2, 1))
    options = {"f": f, "z0": z0, "solver": rd.Picard(), "max_iter": 2, "mode": "abs", "tol": 0.0}
    each = solve("torchdeq", "broyden", **options)
    whole = solve("locuslab-v2", "broyden", **options)
    assert each.dialect.nstep.tolist() == [1.0, 2.0]
    assert each.z[:, 0].tolist() == [1.0, 6.0]
    assert whole.dialect.nstep == 1
    assert whole.z[:, 0].tolist() == [1.0, 4.0]


def test_the_solutions_residual_stays_that_of_the_clause():
    """Per sample, of f at its argument, whatever the peer pools or damps (S-2)."""
    solution = rd.solve(CELL, X, dialect=rd.dialect("torchdeq", "fixed_point_iter", tau=0.5, max_iter=6, tol=0.0), trace=True)
    at_lowest = solution.trace.residual[-1]
    np.testing.assert_array_equal(solution.residual, at_lowest)
    np.testing.assert_allclose(solution.dialect.abs_lowest, 0.5 * at_lowest, rtol=0.0, atol=AGREEMENT)
