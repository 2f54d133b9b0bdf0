"""Implicit gradients (G-1, G-2) against dense linear algebra and against differences through converged solves."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_cases import TIGHT, UNIT, differences_agree, two_state_cell

import refdeq as rd
from refdeq.errors import ArgumentError, DTypeError, MemoryMismatchError, ShapeError


def rnn_by_linear_algebra(cell, z, x, g, masks=None):
    """Gradient of the tanh cell at (z, x) by the implicit function theorem, with dense matrices per sample."""
    w, u, b = (cell.parameters[name] for name in ("W", "U", "b"))
    grads = {"W": np.zeros_like(w), "U": np.zeros_like(u), "b": np.zeros_like(b)}
    adjoint, to_x = np.zeros_like(z), np.zeros_like(x)
    for i in range(len(z)):
        slope = 1 - np.tanh(w @ z[i] + u @ x[i] + b) ** 2
        jacobian = slope[:, None] * (w if masks is None else w * masks[i])
        adjoint[i] = np.linalg.solve(np.eye(len(b)) - jacobian.T, g[i])
        pulled = slope * adjoint[i]
        grads["W"] += np.outer(pulled, z[i])
        grads["U"] += np.outer(pulled, x[i])
        grads["b"] += pulled
        to_x[i] = u.T @ pulled
    return adjoint, grads, to_x


def close(actual, expected, norm, residual, scale):
    """|v - v*| <= residual / (1 - |J|); everything after it is linear in v: 64 n roundings at that scale cover the rest."""
    bound = (residual + 64 * expected.shape[-1] * UNIT * scale) / (1 - norm) * scale
    assert np.all(np.abs(actual - expected) <= bound)


@pytest.mark.parametrize("n", [1, 6, 16, 64])
@pytest.mark.parametrize("frozen", [False, True])
def test_rnn_against_dense_linear_algebra(n, frozen, tanh_cell, rng):
    cell, x, g = tanh_cell(n=n, norm=0.7), rng.standard_normal((4, 2)), rng.standard_normal((4, n))
    rule = rd.DeltaRule(threshold=0.02) if frozen else None
    sol = rd.solve(cell, x, stop=rd.StopRule(max_eval=12), delta=rule)
    jacobian = "frozen-mask" if frozen else "dense"
    grad = rd.gradient(cell, sol, g, jacobian=jacobian, method=rd.Ift(stop=TIGHT))
    masks = sol.memory.mask["z"] if frozen else None
    adjoint, expected, to_x = rnn_by_linear_algebra(cell, sol.z, x, g, masks)
    scale = 10 * n * (1 + np.abs(g).max()) * (1 + np.abs(x).max())  # above every norm that multiplies v here
    assert (grad.status == rd.Status.CONVERGED).all()
    assert np.all(grad.residual <= 1e-14)
    close(grad.adjoint["z"], adjoint, 0.7, 1e-14, scale)
    close(grad.injections["x"], to_x, 0.7, 1e-14, scale)
    for name, value in expected.items():
        close(grad.parameters[name], value, 0.7, 4e-14, scale)
    if frozen:
        assert not masks.all()
        dense = rd.gradient(cell, sol, g, method=rd.Ift(stop=TIGHT)).adjoint["z"]
        assert np.abs(dense - grad.adjoint["z"]).max() > 1e-3  # the two Jacobians do differ


def loss(cell, x, z0, weights):
    """A linear loss of a fully converged solve, so that its cotangent is `weights`."""
    sol = rd.solve(cell, x, z0=z0, stop=rd.StopRule(atol=1e-14, max_eval=3000))
    assert sol.converged
    return sum(float(np.sum(sol.states[name] * w)) for name, w in weights.items())


@pytest.mark.parametrize("seed", [0, 1])
def test_two_states_against_differences(seed):
    rng = np.random.default_rng(seed)
    cell = two_state_cell(rng)
    x = {"x": rng.standard_normal((3, 2, 6)), "q": rng.standard_normal((3, 4))}
    weights = {"y": rng.standard_normal((3, 2, 6)), "s": rng.standard_normal((3, 4))}
    sol = rd.solve(cell, x, stop=rd.StopRule(atol=1e-14, max_eval=3000))
    assert sol.converged
    grad = rd.gradient(cell, sol, weights, method=rd.Ift(stop=TIGHT))
    assert (grad.status == rd.Status.CONVERGED).all()

    def with_parameters(direction, step):
        moved = {name: array + step * direction[name] for name, array in cell.parameters.items()}
        return loss(rd.Cell(cell.graph, moved), x, sol.states, weights)

    def with_injections(direction, step):
        return loss(cell, {name: array + step * direction[name] for name, array in x.items()}, sol.states, weights)

    differences_agree(grad.parameters, with_parameters, rng)
    differences_agree(grad.injections, with_injections, rng)


def test_a_shared_gate_is_frozen_for_gated_readers_only(conv_cell, rng, same_bits):
    """A node listed dense reads the value behind its neighbour's gate; its derivative must not be masked."""
    cell, x = conv_cell(), rng.standard_normal((2, 3, 4, 5))
    g, stop = rng.standard_normal((2, 3, 4, 5)), rd.StopRule(max_eval=5)
    rule = rd.DeltaRule(threshold=np.inf, dense=("c2",))
    sol = rd.solve(cell, x, delta=rule, stop=stop)
    assert not sol.memory.mask["z"].any()
    frozen = rd.gradient(cell, sol, g, jacobian="frozen-mask", method=rd.Ift(stop=TIGHT))
    # with nothing sent, c1 is a constant: the same as a cell whose W1 is zero in the derivative with respect to z
    tau_zero = rd.solve(cell, x, z0=sol.z, delta=rd.DeltaRule(threshold=np.inf), stop=rd.StopRule(max_eval=2))
    nothing = rd.gradient(cell, tau_zero, g, jacobian="frozen-mask", method=rd.Ift(stop=TIGHT))
    same_bits(nothing.adjoint["z"], g)  # no path at all: J = 0
    assert np.abs(frozen.adjoint["z"] - g).max() > 1e-3


def test_all_sent_is_dense(tanh_cell, rng, same_bits):
    cell, x, g = tanh_cell(), rng.standard_normal((3, 2)), rng.standard_normal((3, 6))
    sol = rd.solve(cell, x, delta=rd.DeltaRule(threshold=0.0, compare="ge"))
    one, two = (rd.gradient(cell, sol, g, jacobian=j) for j in ("dense", "frozen-mask"))
    same_bits(one.adjoint["z"], two.adjoint["z"])
    same_bits(one.parameters["W"], two.parameters["W"])


def test_parameters_and_injections_without_influence_have_zero_gradients(rng):
    builder = rd.GraphBuilder()
    z, x, _ = builder.state("z", (2,)), builder.injection("x", (2,)), builder.injection("unused", (1,))
    builder.parameter("idle", np.ones(3))
    builder.node("Exp", z, name="leads nowhere")
    builder.output(z, builder.node("Mul", builder.node("Tanh", z), builder.node("Sigmoid", x)))
    cell = builder.build()
    sol = rd.solve(cell, {"x": rng.standard_normal((2, 2)), "unused": np.zeros((2, 1))})
    grad = rd.gradient(cell, sol, np.ones((2, 2)))
    np.testing.assert_array_equal(grad.parameters["idle"], np.zeros(3))
    np.testing.assert_array_equal(grad.injections["unused"], np.zeros((2, 1)))
    assert grad.parameters.keys() == cell.parameters.keys()


def test_gradient_statuses_are_per_sample(affine_cell):
    """J = diag(1/2, 2): the adjoint of the second component cannot converge."""
    cell = affine_cell(np.diag([0.5, 2.0]), np.zeros(2))
    sol = rd.solve(cell, np.zeros((2, 2)))
    grad = rd.gradient(cell, sol, np.array([[1.0, 0.0], [0.0, 1.0]]), method=rd.Ift(stop=rd.StopRule(rtol=1e-9, max_eval=50)))
    assert list(grad.status) == [rd.Status.CONVERGED, rd.Status.MAX_EVAL]
    assert grad.n_eval[1] == 50


def test_empty_batch(tanh_cell):
    cell = tanh_cell()
    grad = rd.gradient(cell, rd.solve(cell, np.zeros((0, 2))), np.zeros((0, 6)))
    np.testing.assert_array_equal(grad.parameters["W"], np.zeros((6, 6)))
    assert grad.injections["x"].shape == (0, 2)


@pytest.mark.parametrize(
    "method",
    [
        rd.Ift(solver="gmres"),
        rd.Ift(delta=rd.DeltaRule(threshold=0.1)),
        rd.Ift(reuse="forward", solver=rd.Broyden()),
        rd.Neumann(2),
        rd.Jfb(),
        rd.Phantom(2),
        rd.Unrolled(2),
    ],
    ids=lambda method: method.name,
)
def test_empty_batch_of_every_method(method, tanh_cell):
    cell = tanh_cell()
    sol = rd.solve(cell, np.zeros((0, 2)), solver=rd.Broyden())
    grad = rd.gradient(cell, sol, np.zeros((0, 6)), method=method)
    for name, array in cell.parameters.items():
        np.testing.assert_array_equal(grad.parameters[name], np.zeros_like(array))
    assert grad.initial["z"].shape == grad.adjoint["z"].shape == grad.z.shape == (0, 6)
    assert len(grad.status) == len(grad.n_eval) == len(grad.residual) == 0


def test_float32_gradients_stay_float32(tanh_cell, rng):
    cell, x = tanh_cell(dtype="float32"), rng.standard_normal((3, 2)).astype(np.float32)
    grad = rd.gradient(cell, rd.solve(cell, x, stop=rd.StopRule(rtol=1e-5)), np.ones((3, 6), np.float32))
    assert {a.dtype for a in (*grad.parameters.values(), *grad.injections.values(), *grad.adjoint.values())} == {np.dtype("f4")}


def test_plain_callable_with_a_vjp(rng):
    """z = cos(z) + x: dz/dx = 1 / (1 + sin z)."""
    x, g = 0.1 * rng.standard_normal((3, 2)), rng.standard_normal((3, 2))
    sol = rd.solve(lambda z, x: 0.5 * np.cos(z) + x, x, z0=np.zeros((3, 2)), stop=rd.StopRule(atol=1e-14))
    grad = rd.gradient(lambda z, x: z, sol, g, vjp=lambda z, x, v: -0.5 * np.sin(z) * v, method=rd.Ift(stop=TIGHT))
    exact = g / (1 + 0.5 * np.sin(sol.z))
    assert np.all(np.abs(grad.adjoint["z"] - exact) <= (1e-14 + 16 * UNIT * np.abs(g)) / 0.5)
    assert grad.parameters == {}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"jacobian": "sparse"}, ArgumentError, "jacobian"),
        ({"jacobian": "frozen-mask"}, ArgumentError, "delta rule"),
        ({"method": rd.Ift}, ArgumentError, "method"),
        ({"where": [True, True, True]}, ArgumentError, "where"),
        ({"where": np.ones(2, bool)}, ShapeError, "where"),
        ({"vjp": lambda z, x, v: v}, ArgumentError, "vjp"),
        ({"cotangent": np.ones((3, 6), np.float32)}, DTypeError, "cotangent"),
        ({"cotangent": np.ones((2, 6))}, ShapeError, "cotangent"),
        ({"cotangent": np.ones(6)}, ShapeError, "cotangent"),
        ({"cotangent": {"q": np.ones((3, 6))}}, ArgumentError, "cotangent"),
        ({"cotangent": None}, ArgumentError, "cotangent"),
        ({"solution": None}, ArgumentError, "solution"),
        ({"cell": None}, ArgumentError, "cell"),
    ],
)
def test_bad_arguments(options, error, message, tanh_cell, rng):
    cell = tanh_cell()
    call = {"cell": cell, "solution": rd.solve(cell, rng.standard_normal((3, 2))), "cotangent": np.ones((3, 6)), **options}
    with pytest.raises(error, match=message):
        rd.gradient(call.pop("cell"), call.pop("solution"), call.pop("cotangent"), **call)


def test_bad_arguments_for_callables(tanh_cell, rng):
    sol = rd.solve(lambda z, x: z / 2, z0=np.ones((2, 3)))
    for options in ({}, {"vjp": lambda z, x, v: v / 2, "jacobian": "frozen-mask"}):
        with pytest.raises(ArgumentError):
            rd.gradient(lambda z, x: z / 2, sol, np.ones((2, 3)), **options)
    with pytest.raises(ShapeError):
        rd.gradient(lambda z, x: z, sol, np.ones((1, 3)), vjp=lambda z, x, v: v / 2)
    with pytest.raises(ShapeError):
        rd.gradient(lambda z, x: z, sol, np.ones((2, 3)), vjp=lambda z, x, v: v[0])
    made_by_a_cell = rd.solve(tanh_cell(), rng.standard_normal((3, 2)))
    with pytest.raises(ArgumentError, match="plain callable"):
        rd.gradient(lambda z, x: z, made_by_a_cell, np.ones((3, 6)), vjp=lambda z, x, v: v)


def test_a_solution_of_another_cell(tanh_cell, rng):
    cell, x = tanh_cell(), rng.standard_normal((3, 2))
    with pytest.raises(ShapeError):
        rd.gradient(tanh_cell(n=7), rd.solve(cell, x), np.ones((3, 7)))
    sol = rd.solve(cell, x, delta=rd.DeltaRule(threshold=0.1))
    with pytest.raises(MemoryMismatchError):
        rd.gradient(tanh_cell(seed=8), sol, np.ones((3, 6)), jacobian="frozen-mask")


def test_the_injection_is_remembered_as_it_was(tanh_cell, rng, same_bits):
    cell, x = tanh_cell(), rng.standard_normal((3, 2))
    sol = rd.solve(cell, x)
    before = rd.gradient(cell, sol, np.ones((3, 6))).parameters["U"]
    x[...] = 0.0  # the caller goes on using its array
    same_bits(rd.gradient(cell, sol, np.ones((3, 6))).parameters["U"], before)


@pytest.mark.parametrize(
    "solver", [rd.KrasnoselskiiMann(alpha=0.7), rd.Anderson(), rd.Broyden(), rd.Broyden(line_search="armijo")]
)
@pytest.mark.parametrize("start", ["zero", "cotangent"])
def test_any_solver_solves_the_adjoint(solver, start, tanh_cell, rng):
    cell, x, g = tanh_cell(norm=0.7), rng.standard_normal((4, 2)), rng.standard_normal((4, 6))
    sol = rd.solve(cell, x, stop=rd.StopRule(max_eval=12))
    method = rd.Ift(solver=solver, start=start, stop=rd.StopRule(atol=1e-11, max_eval=300))
    grad = rd.gradient(cell, sol, g, method=method)
    assert grad.converged
    adjoint, expected, to_x = rnn_by_linear_algebra(cell, sol.z, x, g)
    scale = 60 * (1 + np.abs(g).max()) * (1 + np.abs(x).max())
    close(grad.adjoint["z"], adjoint, 0.7, 1e-11, scale)
    close(grad.injections["x"], to_x, 0.7, 1e-11, scale)
    for name, value in expected.items():
        close(grad.parameters[name], value, 0.7, 4e-11, scale)


@pytest.mark.parametrize("solver", [rd.Picard(), rd.Anderson(), rd.Broyden()])
def test_a_bad_sample_does_not_hurt_its_neighbours(solver, affine_cell, same_bits):
    """J = diag(1/2, 4): the second component of an adjoint overflows under Picard, and NaN comes from a NaN cotangent."""
    cell = affine_cell(np.diag([0.5, 4.0]), np.zeros(2))
    sol = rd.solve(cell, np.zeros((4, 2)), stop=rd.StopRule(max_eval=1))
    g = np.array([[1.0, 0.0], [1.0, 1.0], [np.nan, 1.0], [3.0, 0.0]])
    stop = rd.StopRule(rtol=1e-12, max_eval=600)
    grad = rd.gradient(cell, sol, g, method=rd.Ift(solver=solver, stop=stop))
    assert grad.status[0] == grad.status[3] == rd.Status.CONVERGED
    assert grad.status[2] == rd.Status.NONFINITE
    assert grad.status[1] == (rd.Status.NONFINITE if solver == rd.Picard() else rd.Status.CONVERGED)
    tame = np.where(np.arange(4)[:, None] % 3 == 0, g, 0.0)
    alone = rd.gradient(cell, sol, tame, method=rd.Ift(solver=solver, stop=stop))
    for i in (0, 3):
        same_bits(grad.adjoint["z"][i], alone.adjoint["z"][i])
        same_bits(grad.injections["x"][i], alone.injections["x"][i])
        assert grad.n_eval[i] == alone.n_eval[i]


def test_where_chooses_the_samples(tanh_cell, rng, same_bits):
    """Sums over the batch contain those that take part; a callable cotangent sees those alone."""
    cell, x, g = tanh_cell(), rng.standard_normal((3, 2)), rng.standard_normal((3, 6))
    sol = rd.solve(cell, x, delta=rd.DeltaRule(threshold=0.02), stop=rd.StopRule(max_eval=3))
    g[1] = np.nan
    chosen, seen = np.array([True, False, True]), []

    def cotangent(z):
        seen.append(z)
        return g[chosen]

    fewer = rd.solve(cell, x[chosen], delta=rd.DeltaRule(threshold=0.02), stop=rd.StopRule(max_eval=3))
    for jacobian in ("dense", "frozen-mask"):
        some = rd.gradient(cell, sol, cotangent, where=chosen, jacobian=jacobian)
        alone = rd.gradient(cell, fewer, g[chosen], jacobian=jacobian)
        for name in cell.parameters:
            same_bits(some.parameters[name], alone.parameters[name])
        same_bits(some.adjoint["z"][chosen], alone.adjoint["z"])
        same_bits(some.injections["x"][chosen], alone.injections["x"])
        same_bits(some.z, sol.z)
        np.testing.assert_array_equal(some.adjoint["z"][1], np.zeros(6))
        assert (some.status[1], some.n_eval[1]) == (rd.Status.CANCELLED, 0)
        assert np.isnan(some.residual[1])
    same_bits(seen[0], sol.z[chosen])
    nobody = rd.gradient(cell, sol, g, where=np.zeros(3, bool))
    np.testing.assert_array_equal(nobody.parameters["W"], np.zeros((6, 6)))
