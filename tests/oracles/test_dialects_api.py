"""Dialects as part of ``solve``: options and errors, bad numbers, delta rules, other backends, warm starts (S-9)."""

import numpy as np
import pytest
from stored_runs import AGREEMENT, CELL, X

import refdeq as rd
from refdeq.errors import ArgumentError, UnsupportedError
from refdeq.solvers.dialect_tables import TABLES
from refdeq.types import Status

ALL = [(name, method) for name, methods in TABLES.items() for method in methods]


def dialect(name, method, steps=8):
    """Every dialect with a fixed budget."""
    if name == "scipy":
        return rd.dialect(name, method, iter=steps)
    return rd.dialect(name, method, max_iter=steps, **({} if name == "hopdeq" else {"tol": 0.0}))


# ------------------------------------------------------------------------------------------------------ asking for one


def test_the_dialects_of_the_issue_are_there():
    names = {"locuslab-v1", "locuslab-v2", "torchdeq", "deq-flow", "jaxopt", "scipy", "hopdeq", "srs"}
    assert set(TABLES) == names
    assert {"broyden", "anderson", "km"} == set(TABLES["deq-flow"])
    assert {"broyden1", "broyden2", "anderson"} == set(TABLES["scipy"])


@pytest.mark.parametrize(("name", "method"), ALL)
def test_a_name_is_short_for_the_peers_defaults(name, method):
    assert rd.solve(CELL, X, dialect=f"{name}/{method}").dialect.dialect == rd.dialect(name, method)


@pytest.mark.parametrize("name", TABLES)
def test_a_dialect_without_a_method_is_its_first(name):
    assert rd.solve(CELL, X, dialect=name).dialect.dialect == rd.dialect(name, next(iter(TABLES[name])))


def test_the_peers_own_names_of_the_common_options():
    assert rd.dialect("locuslab-v2", threshold=7, eps=1e-2, stop_mode="abs") == rd.dialect(
        "locuslab-v2", max_iter=7, tol=1e-2, mode="abs"
    )
    assert rd.dialect("scipy", f_tol=1e-3, maxiter=7) == rd.dialect("scipy", tol=1e-3, max_iter=7)
    assert rd.dialect("hopdeq", iter=7) == rd.dialect("hopdeq", max_iter=7)
    assert rd.dialect("scipy", iter=7).rules.termination.iterations == 7
    assert rd.dialect("deq-flow", "km", f_alpha=0.5) == rd.dialect("deq-flow", "km", alpha=0.5)
    with pytest.raises(ArgumentError, match="another name of max_iter"):
        rd.dialect("jaxopt", max_iter=3, maxiter=3)


def test_a_dialect_is_a_value():
    one, other = rd.dialect("torchdeq", "anderson", m=3), rd.dialect("torchdeq", "anderson", m=3)
    assert one == other
    assert hash(one) == hash(other)
    assert one != rd.dialect("torchdeq", "anderson", m=4)
    with pytest.raises(AttributeError):
        one.name = "mine"
    assert dict(one.options) == {
        "max_iter": 50,
        "tol": 1e-3,
        "mode": "abs",
        "m": 3,
        "lam": 1e-4,
        "tau": 1.0,
        "return_final": False,
    }


@pytest.mark.parametrize(
    ("arguments", "options", "named"),
    [
        (("numpy",), {}, "dialect: expected one of locuslab-v1"),
        (("torchdeq", "newton"), {}, "method of torchdeq: expected one of fixed_point_iter"),
        (("torchdeq", "anderson"), {"memory": 3}, "memory: expected one of max_iter"),
        (("hopdeq",), {"tol": 1e-3}, "tol: expected one of max_iter, m"),
        (("torchdeq",), {"max_iter": 0}, "max_iter: expected an integer >= 1"),
        (("torchdeq", "anderson"), {"max_iter": 2}, "max_iter: expected an integer >= 3"),
        (("torchdeq",), {"tol": -1.0}, "tol: expected a number >= 0"),
        (("torchdeq",), {"tol": float("nan")}, "tol: expected a number >= 0"),
        (("torchdeq",), {"mode": "linf"}, "mode: expected one of"),
        (("torchdeq", "anderson"), {"m": 1}, "m: expected an integer >= 2"),
        (("torchdeq", "anderson"), {"tau": 0.0}, "tau: expected"),
        (("torchdeq", "broyden"), {"LBFGS_thres": 0}, "LBFGS_thres: expected an integer >= 1"),
        (("torchdeq", "broyden"), {"ls": 1}, "ls: expected True or False"),
        (("deq-flow", "km"), {"alpha": 0.0}, "alpha: expected"),
        (("jaxopt",), {"history_size": 1}, "history_size: expected an integer >= 2"),
        (("jaxopt", "broyden"), {"stepsize": 0.0}, "stepsize: expected a number > 0 .*derivatives"),
        (("scipy",), {"line_search": "wolfe"}, "line_search: expected one of"),
        (("scipy",), {"reduction_method": "svd"}, "reduction_method: expected one of"),
        (("scipy",), {"max_rank": 1}, "max_rank: expected an integer >= 2"),
        (("scipy", "anderson"), {"max_rank": 3}, "max_rank: expected one of max_iter"),
        (("scipy", "anderson"), {"M": -1}, "M: expected an integer >= 0"),
    ],
)
def test_bad_options(arguments, options, named):
    with pytest.raises(ArgumentError, match=named):
        rd.dialect(*arguments, **options)


@pytest.mark.parametrize(
    ("other", "value"),
    [("solver", rd.Picard()), ("stop", rd.StopRule(rtol=1e-3)), ("returned", "last"), ("returned", "lowest")],
)
def test_a_dialect_brings_its_own(other, value):
    with pytest.raises(ArgumentError, match=f"^{other} .*a dialect brings its own"):
        rd.solve(CELL, X, dialect="torchdeq", **{other: value})
    with pytest.raises(ArgumentError, match=f"^{other} "):
        rd.solve(lambda z, x: 0.5 * z, z0=np.ones((1, 1)), dialect="torchdeq", **{other: value})


def test_what_is_no_dialect():
    for wrong in (3, rd.dialect, "torchdeq/", ("torchdeq", "anderson")):
        with pytest.raises(ArgumentError):
            rd.solve(CELL, X, dialect=wrong)


# ----------------------------------------------------------------------------------------------- parts of every solve


@pytest.mark.parametrize(("name", "method"), ALL)
def test_backends_agree_in_bits(name, method, same_bits):
    solutions = [rd.solve(CELL, X, dialect=dialect(name, method), backend=b, trace=True) for b in ("reference", "numba")]
    for part in ("z", "residual", "status", "n_eval"):
        same_bits(*(getattr(solution, part) for solution in solutions))
    same_bits(*(solution.dialect.abs_trace for solution in solutions))
    same_bits(*(solution.trace.f["z"] for solution in solutions))


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize(("name", "method"), ALL)
def test_delta_rules(name, method, backend, same_bits):
    """Line searches and trial points included, every evaluation goes through the gates (D-8); a threshold of 0 sends it all."""
    rule = rd.DeltaRule(threshold=1e-3, compare="gt")
    sparse = rd.solve(CELL, X, dialect=dialect(name, method), delta=rule, backend=backend)
    assert sparse.memory is not None
    assert 0.0 < sparse.cost.saved < 1.0
    nothing_dropped = rd.solve(CELL, X, dialect=dialect(name, method), delta=rd.DeltaRule(threshold=0.0), backend=backend)
    dense = rd.solve(CELL, X, dialect=dialect(name, method), backend=backend)
    assert (nothing_dropped.n_eval == dense.n_eval).all()
    assert np.abs(sparse.z - dense.z).max() > np.abs(nothing_dropped.z - dense.z).max()
    same_bits(sparse.z, sparse.dialect.result)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "method"), ALL)
def test_dtypes_and_frozen_inputs(name, method, dtype):
    cell, x = CELL.astype(dtype), X.astype(dtype)
    z0 = np.full((3, 12), 0.1, dtype=dtype)
    kept = z0.copy()
    solution = rd.solve(cell, x, z0=z0, dialect=dialect(name, method))
    assert solution.z.dtype == dtype
    np.testing.assert_array_equal(z0, kept)
    assert solution.residual.max() < 0.2


def test_polish_verify_and_warm_starts():
    first = rd.solve(CELL, X, dialect="torchdeq/broyden", verify=True)
    np.testing.assert_allclose(first.residual_dense, first.residual, rtol=0.0, atol=1e-15)
    polished = rd.solve(CELL, X, dialect="torchdeq/broyden", polish=True)
    assert polished.n_eval.tolist() == [n + 1 for n in first.n_eval]
    np.testing.assert_array_equal(polished.dialect.result, first.dialect.result)
    assert np.abs(polished.z - first.z).max() > 0.0
    warm = rd.solve(CELL, X, dialect="torchdeq/broyden", warm=first)
    assert warm.n_eval.max() < first.n_eval.min()


@pytest.mark.parametrize(("name", "method"), ALL)
def test_verification_knows_the_peers_tolerance(name, method):
    """No warning where the peer has converged by its own rule; one where only a delta rule made it look so (S-2b)."""
    plain = rd.solve(CELL, X, dialect=rd.dialect(name, method), verify=True)
    assert plain.warnings == ()
    blind = rd.solve(CELL, X, dialect=rd.dialect(name, method), delta=rd.DeltaRule(threshold=np.inf), verify=True)
    expected = (blind.status == Status.CONVERGED).any()
    assert expected or name == "hopdeq"
    assert bool([w for w in blind.warnings if "dense" in w]) == expected


def test_no_fused_plan_and_no_sample():
    with pytest.raises(UnsupportedError, match="a dialect decides in the loop"):
        rd.solve(CELL, X, dialect="torchdeq", executor="fused", backend="numba")
    for name, method in ALL:
        empty = rd.solve(CELL, X[:0], dialect=dialect(name, method))
        assert empty.z.shape == (0, 12)
        assert empty.dialect.result.shape == (0, 12)


def test_cancelling():
    solution = rd.solve(CELL, X, dialect="deq-flow/km", on_evaluation=lambda progress: progress.evaluation < 4)
    assert solution.counts() == {Status.CANCELLED: 3}
    assert solution.dialect.nstep.tolist() == [4.0] * 3


def two_state_cell(rng):
    """``a' = tanh(b V + p)`` and ``b' = tanh(a W + q)``."""
    builder = rd.GraphBuilder()
    a, b, p, q = (
        make(name, shape)
        for make, name, shape in (
            (builder.state, "a", (2,)),
            (builder.state, "b", (3,)),
            (builder.injection, "p", (2,)),
            (builder.injection, "q", (3,)),
        )
    )
    for state, other, x, weight in ((a, b, p, 0.3 * rng.standard_normal((3, 2))), (b, a, q, 0.3 * rng.standard_normal((2, 3)))):
        product = builder.node("Gemm", other, builder.parameter(f"W_{state}", weight))
        builder.output(state, builder.node("Tanh", builder.node("Add", product, x)))
    return builder.build()


@pytest.mark.parametrize(("name", "method"), ALL)
def test_several_states_are_one_vector(name, method, rng):
    """The same numbers as the plain callable on the concatenated states; the report names the states."""
    cell = two_state_cell(rng)
    x = {"p": rng.standard_normal((4, 2)), "q": rng.standard_normal((4, 3))}

    def f(z, _):
        a = np.tanh(z[:, 2:] @ cell.parameters["W_a"] + x["p"])
        return np.concatenate([a, np.tanh(z[:, :2] @ cell.parameters["W_b"] + x["q"])], axis=1)

    spoken = dialect(name, method, steps=6)
    both = rd.solve(cell, x, dialect=spoken)
    one = rd.solve(f, z0=np.zeros((4, 5)), dialect=spoken)
    assert set(both.dialect.result) == {"a", "b"}
    joined = np.concatenate([both.z["a"], both.z["b"]], axis=1)
    np.testing.assert_allclose(joined, one.z, rtol=0.0, atol=AGREEMENT)
    np.testing.assert_allclose(both.dialect.abs_trace, one.dialect.abs_trace, rtol=0.0, atol=AGREEMENT)
