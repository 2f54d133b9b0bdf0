"""The SciPy dialect beside ``scipy.optimize``, live: points, norms of F after every step, tests and evaluations (S-9).

1e-10 is the number the project promises for its dialects; runs are short enough that rounding does not grow to it.
"""

import numpy as np
import pytest
from scipy import optimize
from stored_runs import AGREEMENT, B, U, W, X

import refdeq as rd


def rotation(z):
    """A contraction whose Jacobian is far from symmetric."""
    turned = np.stack([-z[:, 1], z[:, 0], z[:, 2] * 0.3], axis=1)
    return 0.8 * np.sin(turned) + np.array([0.4, -0.2, 1.0])


def coupled(z):
    """SciPy's own example, as a fixed point: g is its F."""
    d = 0.5 * (z[:, 0] - z[:, 1]) ** 3
    return z - np.stack([z[:, 0] + d - 1.0, -d + z[:, 1]], axis=1)


def steep(z):
    """Far from a contraction: line searches have something to do."""
    return z - (z + 2.0 * np.tanh(3.0 * z) - np.array([[0.3, -1.2, 0.7]]))


def winding(z):
    """Two unknowns, and a long way: the rank passes the dimension well before the end."""
    return z - np.stack([np.exp(z[:, 0]) + z[:, 1] - 2.0, z[:, 0] ** 3 - np.cos(3 * z[:, 1]) + 0.5], axis=1)


PROBLEMS = {
    "stored": (lambda z: np.tanh(z @ W.T + X @ U.T + B), np.zeros((3, 12))),
    "rotation": (rotation, np.array([[0.1, 0.2, 0.3], [1.0, -1.0, 0.0]])),
    "coupled": (coupled, np.zeros((1, 2))),
    "winding": (winding, np.array([[0.9, -0.4]])),
    "shift": (lambda z: z + 1.0, np.array([[0.25, -1.5]])),
    "steep": (steep, np.array([[0.5, 0.5, 0.5], [-1.0, 0.0, 2.0]])),
}
SOLVABLE = ("stored", "rotation", "coupled", "steep")
METHODS = ("broyden1", "broyden2", "anderson")


def in_scipy(problem, method, **options):
    """What SciPy does: its solution object, and the norms of F that its callback sees."""
    f, z0 = PROBLEMS[problem]
    norms = []
    names = {"iter": "nit", "max_iter": "maxiter", "tol": "fatol", "f_rtol": "ftol", "x_tol": "xatol", "x_rtol": "xtol"}
    jacobian = {name: options.pop(name) for name in ("alpha", "w0", "M", "max_rank", "reduction_method") if name in options}
    asked = {names.get(name, name): value for name, value in options.items()}
    with np.errstate(all="ignore"):  # SciPy divides by zero before it starts its Jacobian again
        found = optimize.root(
            lambda z: f(z) - z,
            z0,
            method=method,
            callback=lambda z, residual: norms.append(np.linalg.norm(residual)),
            options={**asked, "jac_options": jacobian},
        )
    return found, np.array(norms)


def in_refdeq(problem, method, **options):
    f, z0 = PROBLEMS[problem]
    return rd.solve(lambda z, x: f(z), z0=z0, dialect=rd.dialect("scipy", method, **options))


def assert_same(problem, method, **options):
    found, norms = in_scipy(problem, method, **options)
    solution = in_refdeq(problem, method, **options)
    report = solution.dialect
    np.testing.assert_allclose(report.abs_trace, norms, rtol=0.0, atol=AGREEMENT)
    np.testing.assert_allclose(report.result, found.x.reshape(report.result.shape), rtol=0.0, atol=AGREEMENT)
    assert report.nstep == found.nit
    assert solution.n_eval.max() == found.nfev
    assert solution.converged == found.success
    return found


@pytest.mark.parametrize("problem", SOLVABLE)
@pytest.mark.parametrize("method", METHODS)
def test_scipys_own_defaults(problem, method):
    """Its own first alpha, its line search, its tolerance, in the largest magnitude."""
    assert_same(problem, method, max_iter=12)


@pytest.mark.parametrize("problem", SOLVABLE)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("search", [None, "armijo"])
def test_a_fixed_number_of_steps(problem, method, search):
    assert_same(problem, method, iter=7, alpha=0.7, line_search=search)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("search", [None, "armijo"])
def test_a_jacobian_that_starts_again(method, search):
    """g does not change: denominators are zero, Gram matrices singular, and SciPy forgets what it has."""
    assert_same("shift", method, iter=7, alpha=0.5, line_search=search)


def test_line_searches_shorten_steps_here():
    """So that the comparisons above are about something."""
    found, norms = in_scipy("steep", "broyden1", iter=7, alpha=0.7, line_search="armijo")
    assert found.nfev > len(norms) + 1


@pytest.mark.parametrize("problem", ["stored", "rotation"])
@pytest.mark.parametrize(
    "options",
    [
        {"tol": 1e-3},
        {"tol": 1e-3, "f_rtol": 1e-4},
        {"tol": np.inf, "x_tol": 1e-2},
        {"tol": np.inf, "x_rtol": 1e-3},
        {"tol": 1e-2, "x_tol": 1e-3, "x_rtol": 1e-2, "f_rtol": 1e-2},
    ],
)
@pytest.mark.parametrize("search", [None, "armijo"])
def test_terminations(problem, options, search):
    assert assert_same(problem, "broyden1", alpha=1.0, line_search=search, **options).success


@pytest.mark.parametrize("x_tol", np.geomspace(0.03, 3.0, 12))
def test_the_step_that_is_tested_is_the_one_before_the_line_search(x_tol):
    """SciPy compares the direction with ``x_tol``, not the step that the search made of it."""
    assert_same("steep", "broyden1", alpha=0.7, tol=np.inf, x_tol=x_tol, max_iter=9)


@pytest.mark.parametrize("method", ["broyden1", "broyden2"])
@pytest.mark.parametrize("problem", ["stored", "rotation", "winding"])
@pytest.mark.parametrize("reduction", ["restart", "simple"])
def test_limited_rank(method, problem, reduction):
    """With two unknowns the rank passes the dimension, where SciPy keeps a dense matrix and no longer reduces."""
    options = {"max_rank": 3, "reduction_method": reduction, "alpha": 1.0, "line_search": None}
    assert_same(problem, method, iter=7, **options)


@pytest.mark.parametrize("options", [{"M": 1}, {"M": 3, "w0": 0.1}, {"M": 0}, {"w0": 0.0}])
@pytest.mark.parametrize("problem", ["stored", "rotation"])
def test_options_of_anderson(problem, options):
    assert_same(problem, "anderson", iter=7, alpha=0.8, line_search=None, **options)


def test_the_last_iterate_is_not_tested():
    """SciPy tests before each step, so one that converges in the last step has not converged."""
    full = in_refdeq("rotation", "broyden1", tol=1e-6)
    steps = len(full.dialect.abs_trace)
    assert full.converged
    assert_same("rotation", "broyden1", tol=1e-6, max_iter=steps)
    assert set(in_refdeq("rotation", "broyden1", tol=1e-6, max_iter=steps).status) == {rd.Status.MAX_EVAL}
    assert_same("rotation", "broyden1", tol=1e-6, max_iter=steps + 1)


def test_the_budget_that_scipy_has_when_none_is_given():
    """100 steps per unknown and 100 more; the callback sees every step."""
    found, norms = in_scipy("shift", "broyden1", alpha=0.5, line_search=None)
    solution = in_refdeq("shift", "broyden1", alpha=0.5, line_search=None)
    assert len(norms) == len(solution.dialect.abs_trace) == 300
    assert solution.n_eval.max() == found.nfev
    assert set(solution.status) == {rd.Status.MAX_EVAL}


def test_a_start_at_the_solution():
    z0 = PROBLEMS["rotation"][1]
    solution = rd.solve(lambda z, x: z, z0=z0, dialect=rd.dialect("scipy", iter=5))
    assert solution.converged
    assert solution.n_eval.max() == 1
    np.testing.assert_array_equal(solution.z, z0)


def test_broyden_per_sample_is_the_broyden_of_the_deq_codes():
    """SciPy's first Broyden method on one sample, alpha 1 and without a line search, has the iterates of theirs (S-8)."""
    f, z0 = PROBLEMS["stored"]
    theirs = rd.solve(lambda z, x: f(z), z0=z0, dialect=rd.dialect("torchdeq", "broyden", max_iter=10, tol=1e-14))
    for b in range(3):
        norms = []
        optimize.broyden1(
            lambda z, b=b: np.tanh(z @ W.T + X[b] @ U.T + B) - z,
            z0[b],
            alpha=1.0,
            line_search=None,
            iter=10,
            callback=lambda z, residual, norms=norms: norms.append(np.linalg.norm(residual)),
        )
        np.testing.assert_allclose(theirs.dialect.abs_trace[b, 1:], norms, rtol=0.0, atol=AGREEMENT)


def test_jaxopts_broyden_is_scipys_with_that_alpha():
    f, z0 = PROBLEMS["stored"]
    jax = rd.solve(lambda z, x: f(z), z0=z0, dialect=rd.dialect("jaxopt", "broyden", max_iter=10, tol=0.0, gamma=1.0))
    _, norms = in_scipy("stored", "broyden1", iter=10, alpha=1.0, line_search=None)
    np.testing.assert_allclose(jax.dialect.abs_trace, norms, rtol=0.0, atol=AGREEMENT)
