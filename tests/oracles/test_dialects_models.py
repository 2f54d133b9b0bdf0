"""Dialects against plain models of the published codes: other problems, early stops, padding, line searches, windows (S-9).

The 1e-10 is the project's; it is kept small against what rounding can grow to by few steps on small, well-conditioned problems.
"""

import numpy as np
import peer_models as peers
import pytest
from stored_runs import AGREEMENT, BY_KEY, STORED, B, U, W, X

import refdeq as rd
from refdeq.solvers.dialect_tables import TABLES
from refdeq.solvers.peer_mixing import bordered_weights


def tanh_problem(seed, batch=3, n=6, norm=0.9):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, n))
    a *= norm / np.linalg.norm(a, 2)
    c = rng.standard_normal((batch, n))
    return lambda z: np.tanh(z @ a.T + c), 0.1 * rng.standard_normal((batch, n))


def stored_problem():
    return lambda z: np.tanh(z @ W.T + X @ U.T + B), np.zeros((len(X), len(B)))


PROBLEMS = {
    "stored": stored_problem,
    "contractive": lambda: tanh_problem(1, norm=0.5),
    "near one": lambda: tanh_problem(2, norm=1.0),
    "one sample": lambda: tanh_problem(3, batch=1),
    "expansive": lambda: tanh_problem(4, norm=1.8),
}


def ours(problem, *names, **options):
    f, z0 = PROBLEMS[problem]()
    return rd.solve(lambda z, x: f(z), z0=z0, dialect=rd.dialect(*names, **options))


def theirs(problem, model, *arguments, **options):
    f, z0 = PROBLEMS[problem]()
    calls = []

    def counted(z):
        calls.append(z)
        return f(z)

    with np.errstate(all="ignore"):
        out = model(counted, z0, *arguments, **options)
    out.calls = len(calls)
    return out


def assert_same(solution, model, *parts):
    report = solution.dialect
    for part in parts:
        expected = np.asarray(getattr(model, part))
        if part.endswith("trace") and expected.ndim == 2 and report.dialect.name == "torchdeq":
            expected = expected.T
        actual = np.asarray(getattr(report, part))
        assert actual.shape == expected.shape, part
        np.testing.assert_allclose(actual, expected, rtol=0.0, atol=AGREEMENT, err_msg=part)
    assert solution.n_eval.max() == model.calls


TORCH = ("result", "abs_trace", "rel_trace", "nstep", "lowest")


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize("tol", [1e-2, 1e-13])
def test_locuslab_v1_broyden(problem, search, tol):
    model = theirs(problem, peers.broyden_v1, 9, tol, search=search)
    solution = ours(problem, "locuslab-v1", max_iter=9, tol=tol, ls=search)
    assert_same(solution, model, "result", "abs_trace", "lowest_step", "nstep", "lowest")


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize(("mode", "tol"), [("abs", 1e-2), ("rel", 1e-2), ("rel", 1e-13)])
def test_broyden_of_the_torch_codes(problem, search, mode, tol):
    for name in ("locuslab-v2", "torchdeq", "deq-flow"):
        model = theirs(problem, peers.broyden_torch, 9, tol, mode, name.removeprefix("locuslab-"), search=search)
        solution = ours(problem, name, "broyden", max_iter=9, tol=tol, mode=mode, ls=search)
        assert_same(solution, model, *TORCH)
        assert solution.dialect.prot_break == model.broke


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("window", [1, 2, 5])
def test_ring_of_broyden_pairs(problem, window):
    model = theirs(problem, peers.broyden_torch, 8, 1e-13, "abs", "torchdeq", limit=window)
    assert_same(ours(problem, "torchdeq", "broyden", max_iter=8, tol=1e-13, LBFGS_thres=window), model, *TORCH)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(("mode", "tol"), [("abs", 3e-2), ("rel", 1e-13)])
@pytest.mark.parametrize(("m", "lam", "mixing"), [(6, 1e-4, 1.0), (2, 1e-3, 0.6)])
def test_anderson_of_the_torch_codes(problem, mode, tol, m, lam, mixing):
    for name in ("locuslab-v2", "torchdeq", "deq-flow", "srs"):
        damping = "tau" if name == "torchdeq" else "beta"
        kind = name.removeprefix("locuslab-")
        model = theirs(problem, peers.anderson_torch, 11, tol, mode, kind, m=m, lam=lam, mixing=mixing)
        options = {"max_iter": 11, "tol": tol, "mode": mode, "m": m, "lam": lam, damping: mixing}
        assert_same(ours(problem, name, "anderson", **options), model, *TORCH)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("damping", [1.0, 0.7])
@pytest.mark.parametrize("tol", [1e-1, 1e-13])
def test_picard_of_the_torch_codes(problem, damping, tol):
    for name, method, option in (("torchdeq", "fixed_point_iter", "tau"), ("deq-flow", "km", "alpha")):
        model = theirs(problem, peers.picard_torch, 9, tol, "rel", name, damping=damping)
        solution = ours(problem, name, method, max_iter=9, tol=tol, mode="rel", **{option: damping})
        assert_same(solution, model, *TORCH)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(
    ("method", "model"),
    [
        ("broyden", lambda *a: peers.broyden_torch(*a, "torchdeq", final=True)),
        ("anderson", lambda *a: peers.anderson_torch(*a, "torchdeq", final=True)),
        ("fixed_point_iter", lambda *a: peers.picard_torch(*a, "torchdeq", final=True)),
    ],
)
def test_return_final_of_torchdeq(problem, method, model):
    solution = ours(problem, "torchdeq", method, max_iter=9, tol=1e-1, return_final=True)
    assert_same(solution, theirs(problem, model, 9, 1e-1, "abs"), *TORCH)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("tol", [1e-1, 0.0])
@pytest.mark.parametrize("options", [{}, {"m": 2, "beta": 0.5, "ridge": 1e-3}, {"m": 3, "frequency": 2}])
def test_anderson_of_jaxopt(problem, tol, options):
    renamed = {{"m": "history_size", "frequency": "mixing_frequency"}.get(k, k): v for k, v in options.items()}
    solution = ours(problem, "jaxopt", "anderson", max_iter=12, tol=tol, **renamed)
    model = theirs(problem, peers.anderson_jaxopt, 12, tol, **options)
    assert_same(solution, model, "result", "abs_trace", "nstep")


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("tol", [1e-1, 0.0])
@pytest.mark.parametrize("options", [{}, {"gamma": 0.5, "stepsize": 0.8}, {"history": 2}])
def test_broyden_of_jaxopt(problem, tol, options):
    renamed = {{"history": "history_size"}.get(k, k): v for k, v in options.items()}
    solution = ours(problem, "jaxopt", "broyden", max_iter=8, tol=tol, **renamed)
    assert_same(solution, theirs(problem, peers.broyden_jaxopt, 8, tol, **options), "result", "abs_trace", "nstep")


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("m", [2, 4])
def test_hopdeq(problem, m):
    solution = ours(problem, "hopdeq", "anderson", max_iter=10, m=m)
    model = theirs(problem, peers.anderson_hopdeq, 10, m=m)
    assert_same(solution, model, "result")
    np.testing.assert_allclose(solution.dialect.rel_trace[-1], model.logged, rtol=0.0, atol=AGREEMENT)
    assert solution.dialect.nstep == 10


def test_the_safeguard_of_hopdeq_acts_on_some_of_the_problems():
    models = {problem: theirs(problem, peers.anderson_hopdeq, 10) for problem in PROBLEMS}
    acted = {problem for problem, model in models.items() if model.refused}
    assert acted
    for problem in acted:
        without = theirs(problem, peers.anderson_hopdeq, 10, safeguard=False)
        assert np.abs(without.result - models[problem].result).max() > AGREEMENT


def test_line_searches_shorten_steps_on_some_of_the_problems():
    plain = {p: ours(p, "locuslab-v2", "broyden", max_iter=9, tol=1e-13).n_eval.max() for p in PROBLEMS}
    searched = {p: ours(p, "locuslab-v2", "broyden", max_iter=9, tol=1e-13, ls=True).n_eval.max() for p in PROBLEMS}
    assert any(searched[p] > plain[p] for p in PROBLEMS)


@pytest.mark.parametrize(
    ("key", "model"),
    [
        ("locuslab_deq_v1_broyden", lambda f, z: peers.broyden_v1(f, z, 12, 1e-14)),
        ("locuslab_deq_v2_broyden_ls1", lambda f, z: peers.broyden_torch(f, z, 12, 1e-14, "rel", "v2", search=True)),
        ("locuslab_deq_v2_anderson", lambda f, z: peers.anderson_torch(f, z, 14, 1e-14, "rel", "v2")),
        ("torchdeq_broyden_L4", lambda f, z: peers.broyden_torch(f, z, 12, 1e-14, "rel", "torchdeq", limit=4)),
        ("torchdeq_anderson", lambda f, z: peers.anderson_torch(f, z, 12, 1e-14, "rel", "torchdeq")),
        ("torchdeq_fixed_point_iter", lambda f, z: peers.picard_torch(f, z, 12, 1e-14, "rel", "torchdeq")),
        ("hopdeq_anderson_iter12", lambda f, z: peers.anderson_hopdeq(f, z, 12)),
        ("srs_anderson", lambda f, z: peers.anderson_torch(f, z, 12, 1e-14, "rel", "srs")),
        ("jaxopt_anderson_m5_ridge1e-5", lambda f, z: peers.anderson_jaxopt(f, z, 12, 0.0)),
        ("jaxopt_broyden_gamma-1_step1", lambda f, z: peers.broyden_jaxopt(f, z, 12, 0.0)),
    ],
)
def test_the_models_agree_with_the_stored_runs(key, model):
    """So they are models of the published codes, and not of refdeq."""
    f, z0 = stored_problem()
    out = model(f, z0)
    entries = {entry: part for entry, part in BY_KEY[key].parts.items() if hasattr(out, part)}
    for entry, part in entries.items():
        value = getattr(out, part)
        if part.endswith("trace") and key.startswith("torchdeq"):
            value = value.T
        np.testing.assert_allclose(value, STORED[key][entry], rtol=0.0, atol=AGREEMENT, err_msg=entry)
    assert "result" in entries.values()


# ------------------------------------------------------------------------------------------------------------ identities


@pytest.mark.parametrize("ridge", [1e-10, 1e-4, 1.0])
def test_normalised_weights_are_those_of_the_bordered_system(ridge, rng):
    """hopdeq solves ``(A + ridge I) w = 1`` and divides by the sum; the others solve the bordered system.

    Both errors are at most the condition number times a few rounding errors per element, for the three solves.
    """
    gap = rng.standard_normal((5, 4, 9))
    gram = gap @ gap.transpose(0, 2, 1)
    plain = np.linalg.inv(gram + ridge * np.eye(4)).sum(axis=2)
    bound = np.linalg.cond(gram + ridge * np.eye(4)).max() * 3 * 4**2 * np.finfo(float).eps
    np.testing.assert_allclose(bordered_weights(gram, ridge), plain / plain.sum(axis=1, keepdims=True), rtol=0.0, atol=bound)


@pytest.mark.parametrize(("name", "method"), [(n, m) for n, methods in TABLES.items() for m in methods])
def test_affine_maps_are_solved(name, method, rng):
    """``‖z - z*‖ <= ‖(I - A)^-1‖ ‖f(z) - z‖``, with f(z) one more factor of ‖A‖; rounding of f is added to the residual."""
    a = rng.standard_normal((5, 5))
    a *= 0.8 / np.linalg.norm(a, 2)
    c = rng.standard_normal((3, 5))
    steps = {"iter": 40} if name == "scipy" else {"max_iter": 40}
    solution = rd.solve(lambda z, x: z @ a.T + c, z0=np.zeros((3, 5)), dialect=rd.dialect(name, method, **steps))
    exact = np.linalg.solve(np.eye(5) - a, c.T).T
    away = np.linalg.norm(solution.z - exact, axis=1)
    rounding = 8 * np.finfo(float).eps * (np.linalg.norm(a) * np.linalg.norm(exact, axis=1) + np.linalg.norm(c, axis=1))
    inverse = np.linalg.norm(np.linalg.inv(np.eye(5) - a), 2)
    assert (away <= inverse * (solution.residual + rounding)).all()
    assert (solution.residual < np.linalg.norm(c, axis=1)).all(), "the residual at the start is that of c"
