"""Numbers that go wrong in one sample of a dialect's batch, next to samples that are well (S-9, N-2)."""

from dataclasses import replace

import numpy as np
import pytest
from stored_runs import AGREEMENT

import refdeq as rd
from refdeq.types import Status

PER_SAMPLE = [
    ("torchdeq", "fixed_point_iter"),
    ("torchdeq", "anderson"),
    ("torchdeq", "broyden"),
    ("deq-flow", "broyden"),
    ("deq-flow", "anderson"),
    ("deq-flow", "km"),
    ("hopdeq", "picard"),
    ("hopdeq", "anderson"),
    ("srs", "anderson"),
]
WHOLE_BATCH = [("locuslab-v1", "broyden"), ("locuslab-v2", "broyden"), ("jaxopt", "anderson"), ("scipy", "broyden1")]


def dialect(name, method, **options):
    if name == "scipy":
        return rd.dialect(name, method, iter=9, **options)
    return rd.dialect(name, method, max_iter=9, **({} if name == "hopdeq" else {"tol": 1e-13}), **options)


def good(z):
    return 0.7 * np.sin(z[:, ::-1]) + np.array([0.3, -0.5, 0.1])


def spoiled(bad):
    """The middle sample is spoiled from its third evaluation on."""
    calls = []

    def f(z, x):
        calls.append(1)
        value = good(z)
        if len(calls) >= 3:
            value[1] = bad
        return value

    return f


START = np.array([[0.25, 0.125, -0.5], [1.0, 1.0, 1.0], [-0.5, 0.75, 0.0]])
"""Numbers to which 1 can be added without rounding: a residual that is exactly the same everywhere."""


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("name", "method"), PER_SAMPLE)
def test_a_bad_sample_ends_and_the_others_are_unharmed(name, method, bad, same_bits):
    solution = rd.solve(spoiled(bad), z0=START, dialect=dialect(name, method))
    alone = rd.solve(lambda z, x: good(z), z0=START, dialect=dialect(name, method))
    assert solution.status[1] == Status.NONFINITE
    assert solution.n_eval[1] == 3
    for b in (0, 2):
        same_bits(solution.z[b], alone.z[b])
        assert solution.n_eval[b] == alone.n_eval.max(), "the peer's largest residual is NaN from there on: it never stops"
    if name == "torchdeq":
        same_bits(solution.dialect.abs_trace[::2], alone.dialect.abs_trace[::2])
        assert np.isnan(solution.dialect.abs_trace[1, -1]) or solution.dialect.abs_trace[1, -1] == np.inf


@pytest.mark.parametrize(("name", "method"), [each for each in PER_SAMPLE if each[0] in ("torchdeq", "deq-flow")])
def test_a_nan_keeps_the_batch_of_a_peer_from_converging(name, method):
    options = {} if name == "hopdeq" else {"max_iter": 40, "tol": 1e-2}
    solution = rd.solve(spoiled(np.nan), z0=START, dialect=rd.dialect(name, method, **options))
    assert solution.n_eval[[0, 2]].min() >= 40
    assert solution.status.tolist() == [Status.CONVERGED, Status.NONFINITE, Status.CONVERGED]


@pytest.mark.parametrize(("name", "method"), WHOLE_BATCH)
def test_one_norm_of_the_batch_is_one_sample(name, method):
    """Where the peer has one norm for all, NaN is in it, and the whole batch ends."""
    options = {"line_search": None} if name == "scipy" else {}
    solution = rd.solve(spoiled(np.nan), z0=START, dialect=dialect(name, method, **options))
    assert set(solution.status) == {Status.NONFINITE}
    assert solution.n_eval.tolist() == [3, 3, 3]


def test_v2_goes_on_and_records_nan_to_the_end_of_its_budget():
    """The report has the NaN that the peer would have recorded, then its padding with the lowest before."""
    report = rd.solve(spoiled(np.nan), z0=START, dialect=dialect("locuslab-v2", "broyden")).dialect
    assert report.abs_trace.shape == (10,)
    assert np.isnan(report.abs_trace[1:9]).all()
    assert report.abs_trace[0] > 0.0
    assert report.abs_trace[9] == report.abs_lowest
    assert report.nstep == 1


@pytest.mark.parametrize("where", ["start", "x"])
@pytest.mark.parametrize(("name", "method"), PER_SAMPLE)
def test_a_start_that_is_not_finite(name, method, where, same_bits):
    z0 = START.copy()
    z0[1, 0] = np.nan
    solution = rd.solve(lambda z, x: good(z), z0=z0, dialect=dialect(name, method))
    alone = rd.solve(lambda z, x: good(z), z0=START, dialect=dialect(name, method))
    assert solution.status[1] == Status.NONFINITE
    assert solution.n_eval[1] == 1
    same_bits(solution.z[[0, 2]], alone.z[[0, 2]])


# ------------------------------------------------------------------------------------------------ zero denominators


def test_broyden_of_a_converged_sample_next_to_others(same_bits):
    """0/0: the peers' NaN becomes a pair of zeros, the sample stays where it is, and the others do not notice."""
    z0 = START.copy()
    solve = {"f": lambda z, x: np.where(np.arange(3)[:, None] == 1, z, good(z)), "z0": z0}
    for name in ("torchdeq", "locuslab-v2", "locuslab-v1"):
        solution = rd.solve(solve["f"], z0=z0, dialect=dialect(name, "broyden"))
        alone = rd.solve(lambda z, x: good(z), z0=z0, dialect=dialect(name, "broyden"))
        np.testing.assert_array_equal(solution.z[1], z0[1])
        assert solution.status[1] in (Status.CONVERGED, Status.MAX_EVAL)
        assert solution.n_eval.tolist() == [10, 10, 10]
        if name == "torchdeq":
            same_bits(solution.z[[0, 2]], alone.z[[0, 2]])


def test_broyden_breaks_down_at_a_zero_denominator():
    """a/0: g does not change although z does. The peers go on with infinite numbers; refdeq says BREAKDOWN (S-3)."""

    def f(z, x):
        return np.where(np.arange(3)[:, None] == 1, z + 1.0, good(z))

    solution = rd.solve(f, z0=START, dialect=dialect("torchdeq", "broyden"))
    assert solution.status[1] == Status.BREAKDOWN
    assert solution.n_eval[1] == 2
    assert solution.n_eval[0] == 10
    assert np.isnan(solution.dialect.abs_trace[1, 2:]).all(), "as in the peer, whose iterates are not finite from there on"
    alone = rd.solve(lambda z, x: good(z), z0=START, dialect=dialect("torchdeq", "broyden"))
    np.testing.assert_array_equal(solution.z[[0, 2]], alone.z[[0, 2]])
    for name, method in (("jaxopt", "broyden"), ("locuslab-v1", "broyden")):
        shift = rd.solve(lambda z, x: z + 1.0, z0=START, dialect=dialect(name, method))
        assert set(shift.status) == {Status.BREAKDOWN}
        assert shift.n_eval.tolist() == [2, 2, 2]


def test_scipy_starts_its_jacobian_again():
    """SciPy drops its pairs when a direction is not finite: then every second step is along alpha g."""
    for method in ("broyden1", "broyden2"):
        spoken = dialect("scipy", method, alpha=0.5, line_search=None)
        solution = rd.solve(lambda z, x: z + 1.0, z0=START, dialect=spoken)
        np.testing.assert_allclose(solution.z, START + 0.5 * 9, rtol=0.0, atol=AGREEMENT)


def test_scipy_breaks_down_at_a_direction_of_zero():
    """Where SciPy raises ``ValueError``."""
    solution = rd.solve(lambda z, x: good(z), z0=START, dialect=dialect("scipy", "broyden1", alpha=0.0))
    assert set(solution.status) == {Status.BREAKDOWN}
    assert solution.n_eval.tolist() == [1, 1, 1]


def test_a_singular_gram_matrix_ends_one_sample(same_bits):
    """Without a ridge, equal columns have no weights; torch raises for the whole batch, refdeq ends the sample."""

    def f(z, x):
        return np.where(np.arange(3)[:, None] == 1, z + 1.0, good(z))

    spoken = rd.dialect("torchdeq", "anderson", max_iter=6, tol=1e-13, lam=0.0)
    solution = rd.solve(f, z0=START, dialect=spoken)
    alone = rd.solve(lambda z, x: good(z), z0=START, dialect=spoken)
    assert solution.status[1] == Status.BREAKDOWN
    same_bits(solution.z[[0, 2]], alone.z[[0, 2]])
    regular = rd.solve(f, z0=START, dialect=rd.dialect("torchdeq", "anderson", max_iter=6, tol=1e-13))
    assert regular.status[1] == Status.MAX_EVAL


def test_a_batch_of_broken_samples_is_recorded_like_the_peer():
    spoken = rd.dialect("torchdeq", "broyden", max_iter=6)
    report = rd.solve(lambda z, x: z + 1.0, z0=START, dialect=spoken).dialect
    assert report.abs_trace.shape == (3, 7)
    assert np.isnan(report.abs_trace[:, 2:]).all()
    np.testing.assert_array_equal(report.result, START + 1.0)


def test_no_state_is_left_between_solves(same_bits):
    spoken = rd.dialect("torchdeq", "broyden", max_iter=9, LBFGS_thres=2, ls=True)
    first = rd.solve(lambda z, x: good(z), z0=START, dialect=spoken)
    rd.solve(lambda z, x: good(z), z0=START[:1] + 3.0, dialect=spoken)
    again = rd.solve(lambda z, x: good(z), z0=START, dialect=replace(spoken))
    same_bits(first.z, again.z)
    same_bits(first.dialect.abs_trace, again.dialect.abs_trace)
