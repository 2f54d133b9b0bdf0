"""Backends of refdeq through the protocol: the same bits as ``refdeq.solve`` gives, and the contract kept."""

from __future__ import annotations

import numpy as np
import pytest
from refdeq_validation.cases.building import Numbers, conv, gemm, prepared, ruled, started
from refdeq_validation.cases.model import Case
from refdeq_validation.lab.session import Lab
from refdeq_validation.protocol.adapter import BackendImplementation
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.problem_cells import solve_cell, solver_of, step_cell
from refdeq_validation.running import run_case

import refdeq
from refdeq.errors import ArgumentError, DTypeError, ShapeError
from refdeq.reference import ReferenceBackend, ReferenceKernels
from refdeq.registry import load_backend
from refdeq.types import DeltaRule, StopRule

NUMBER = Numbers("adapter", "float32")
STOP = StopRule(rtol=1e-5, max_eval=30)
PATHS = [("reference", "strict", "op"), ("numba", "strict", "op"), ("numba", "strict", "fused"), ("numba", "fast", "fused")]


def implementation(name="reference", order="strict", path="op"):
    return BackendImplementation(load_backend(name), order, path)


def square(rule=None, **more):
    weight = NUMBER.full("w", (6, 6)) * np.float32(0.25)
    return Problem("Gemm", "float32", (6,), weight, NUMBER.full("b", (6,)), rule or ruled(0.01), stop=STOP, **more)


def oblong(rule):
    return gemm(NUMBER.full("o", (4, 6)), NUMBER.full("ob", (4,)), rule)


def strided(rule):
    return conv(NUMBER.full("c", (4, 1, 3, 2)), None, rule, (2, 6, 5), strides=(2, 1), pads=(1, 0, 0, 1), group=2)


@pytest.mark.parametrize("declaration", PATHS, ids=":".join)
@pytest.mark.parametrize("make", [square, oblong, strided])
def test_steps_pass_the_judge(declaration, make):
    problem = make(DeltaRule.preset("paper", threshold=0.25))
    shape = (3, *problem.shape)
    us = [NUMBER.full(f"u{t}", shape) for t in range(3)]
    r, a = NUMBER.full("r", shape), NUMBER.full("a", (3, *problem.out_shape))
    offered = implementation(*declaration)
    for calls in (started(*us), prepared(r, a, *us, count=[1, 0, 4])):
        case = Case("demo", "L2", "bound", problem, calls, ())
        result = run_case(case, offered, offered.claims)
        assert result.disposition == "passed", result.findings.failures


@pytest.mark.parametrize("declaration", PATHS[:3], ids=":".join)
def test_strict_steps_have_the_bits_of_the_plain_implementation(declaration):
    for problem in (square(ruled(0.25, bias="folded")), oblong(ruled(0.25)), strided(ruled(0.25, granularity="pixel"))):
        u = NUMBER.full("same", (3, *problem.shape))
        answers = []
        for session in (implementation(*declaration).open(problem), Lab().open(problem)):
            session.reset(3)
            mask, y = np.zeros(u.shape, bool), np.zeros((3, *problem.out_shape), "float32")
            for scale in (1, 2):
                session.step(u * np.float32(scale), mask, y)
            r, a = np.zeros_like(u), np.zeros_like(y)
            session.get_state(r, a)
            answers.append([array.tobytes() for array in (mask, y, r, a)])
        assert answers[0] == answers[1]


def test_a_minus_zero_survives_the_injection():
    session = implementation().open(Problem("Gemm", "float32", (1,), np.ones((1, 1), "float32"), None, ruled(0.5)))
    zero = np.array([[-0.0]], "float32")
    session.set_state(np.ones((1, 1), "float32"), zero, np.ones(1, np.int64))
    mask, y = np.zeros((1, 1), bool), np.ones((1, 1), "float32")
    session.step(np.ones((1, 1), "float32"), mask, y)
    assert not mask.any()
    assert np.signbit(y).all()


@pytest.mark.parametrize(
    "solver", [{"name": "picard"}, {"name": "krasnoselskii-mann", "alpha": 0.5}, {"name": "anderson", "window": 2}]
)
@pytest.mark.parametrize("declaration", PATHS[:3], ids=":".join)
def test_solves_have_the_bits_of_refdeq(declaration, solver):
    problem = square(activation="Tanh", solver=solver)
    x, z0 = NUMBER.full("x", (3, 6)), NUMBER.full("z0", (3, 6))
    session = implementation(*declaration).open(problem)
    session.reset(3)
    found = session.solve(x, z0, keep=False, trace=True)
    own = refdeq.solve(solve_cell(problem), x, z0=z0, stop=STOP, delta=problem.rule, solver=solver_of(solver))
    for name in ("z", "status", "n_eval", "residual", "scale"):
        np.testing.assert_array_equal(found[name], getattr(own, name))
    assert found["trace.mask"].shape == found["trace.r"].shape == found["trace.a"].shape == (own.n_eval.max(), 3, 6)
    again = session.solve(x, found["z"], keep=True, trace=False)
    warm = refdeq.solve(
        solve_cell(problem), x, warm=own, reuse="state+memory", stop=STOP, delta=problem.rule, solver=solver_of(solver)
    )
    np.testing.assert_array_equal(again["z"], warm.z)
    assert set(again) == {"z", "status", "n_eval", "residual", "scale"}


def test_gradients_are_those_of_the_implicit_equation():
    problem = Problem("Gemm", "float64", (2,), np.array([[0.25, 0.5], [-0.5, 0.125]]), np.ones(2), None, stop=STOP)
    z, g = np.array([[1.0, -1.0]]), np.array([[1.0, 2.0]])
    found = implementation().open(problem).gradient(np.zeros((1, 2)), z, g, jacobian="dense")
    v = np.linalg.solve(np.eye(2) - problem.weight.T, g[0])
    np.testing.assert_allclose(found["v"][0], v, rtol=8 * np.finfo(float).eps * np.linalg.cond(np.eye(2) - problem.weight))
    np.testing.assert_array_equal(found["x"], found["v"])
    np.testing.assert_array_equal(found["weight"], np.outer(found["v"][0], z[0]))
    np.testing.assert_array_equal(found["bias"], found["v"][0])


def test_executors_are_counted():
    offered = implementation("numba", "strict", "fused")
    for problem in (square(), oblong(ruled(0.5))):
        session = offered.open(problem)
        session.reset(2)
        u = np.ones((2, 6), "float32")
        session.step(u, np.zeros(u.shape, bool), np.zeros((2, *problem.out_shape), "float32"))
    assert offered.executors == {"fused": 1, "op": 1}


def test_arrays_that_are_read_before_they_are_written_show():
    class Careless(ReferenceKernels):
        """Adds what was in the output before."""

        def add_bias(self, a, bias, alpha, beta, active, out):
            before = out[active].copy()
            super().add_bias(a, bias, alpha, beta, active, out)
            out[active] = np.where(np.isfinite(before) & (before != 0), out[active] + before, out[active])

    backend = ReferenceBackend()
    backend.kernels = lambda *, order, threads: Careless()
    offered = BackendImplementation(backend, "strict", "op")
    case = Case("demo", "L2", "bound", square(ruled(0.25)), started(NUMBER.full("p", (2, 6))), (), requires=())
    result = run_case(case, offered, offered.claims)
    assert result.disposition == "failed"
    assert result.findings.failures[0].kind == "value"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda s: s.step(np.ones((2, 6), "float32"), np.zeros((2, 6), bool), np.zeros((2, 6), "float32")), ShapeError),
        (lambda s: s.step(np.ones((3, 6)), np.zeros((3, 6), bool), np.zeros((3, 6), "float32")), DTypeError),
        (lambda s: s.step([[1.0] * 6] * 3, np.zeros((3, 6), bool), np.zeros((3, 6), "float32")), ArgumentError),
        (lambda s: s.step(np.ones((3, 6), "float32"), np.zeros((3, 6), bool), np.zeros((3, 5), "float32")), ShapeError),
        (lambda s: s.step(np.ones((3, 6), "float32"), np.zeros((3, 6)), np.zeros((3, 6), "float32")), DTypeError),
        (lambda s: s.reset(-1), ArgumentError),
        (lambda s: s.reset(True), ArgumentError),
        (lambda s: s.solve(np.ones((3, 6), "float32"), np.ones((2, 6), "float32"), keep=True, trace=False), ShapeError),
        (lambda s: s.solve(np.ones((3, 6), "float32"), 1.0, keep=False, trace=False), ArgumentError),
        (lambda s: s.gradient(*[np.ones((3, 6), "float32")] * 3, jacobian="sparse"), ArgumentError),
    ],
)
def test_what_is_wrong_is_refused(call, error):
    session = implementation().open(square())
    session.reset(3)
    with pytest.raises(error):
        call(session)


def test_calls_before_a_reset_and_problems_that_are_none_are_refused():
    with pytest.raises(ArgumentError, match="reset"):
        implementation().open(square()).step(np.ones((1, 6), "float32"), np.zeros((1, 6), bool), np.zeros((1, 6), "float32"))
    with pytest.raises(ArgumentError, match="granularity"):
        implementation().open(square(ruled(0.5, granularity="pixel")))
    with pytest.raises(NotImplementedError, match="storage"):
        implementation().open(square(storage="float16"))
    with pytest.raises(ArgumentError, match="as the state's"):
        implementation().open(oblong(ruled(0.5))).solve(
            np.ones((1, 4), "float32"), np.ones((1, 6), "float32"), keep=False, trace=False
        )
    with pytest.raises(ArgumentError, match="secant"):
        solver_of({"name": "secant"})


@pytest.mark.parametrize(
    ("order", "path", "told"), [("fast", "op", "order"), ("strict", "fused", "path"), ("strict", "auto", "path")]
)
def test_declarations_that_a_backend_does_not_make_are_refused(order, path, told):
    with pytest.raises(ArgumentError, match=told):
        implementation("reference", order, path)


def test_cells_are_made_once_per_problem():
    offered, problem = implementation(), square()
    assert offered.open(problem).cell is offered.open(problem).cell
    assert offered.open(square()).cell is not offered.open(problem).cell
    assert step_cell(problem)[1]
    assert not step_cell(oblong(ruled(0.5)))[1]


def test_fast_order_claims_no_declared_bits():
    assert implementation("numba", "strict", "op").claims.determinism == "R4"
    assert implementation("numba", "fast", "op").claims.determinism == "R3"
