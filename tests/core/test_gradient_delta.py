"""The delta rule on the adjoint iteration, and gradients of the delta-evaluated cell with its masks frozen (G-1, G-2)."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_cases import NORM, TIGHT, UNIT, certified_solve, rnn_jacobians, rnn_problem, roundings, two_state_cell

import refdeq as rd
from refdeq.errors import ArgumentError, MemoryMismatchError
from refdeq.gradients.adjoint_cell import adjoint_cell
from refdeq.gradients.linearisation import CellMap


def solved_densely(cell, sol, g, stop):
    """The adjoint cell by the ordinary solve, without a rule."""
    point = CellMap(cell, sol.x, len(g), {}).linearise(sol.states)
    adjoint = adjoint_cell(cell)
    return rd.solve(adjoint.cell, adjoint.injections(point.values, {"z": g}, {}), z0=g, stop=stop)


@pytest.mark.parametrize("memory", ["sent", "always"])
@pytest.mark.parametrize("start", ["dense", "zero"])
def test_threshold_zero_is_the_dense_adjoint(memory, start, tanh_cell, rng, same_bits):
    """With a refresh at every evaluation nothing is left of the accumulated sums either: equal bits, and nothing is saved."""
    cell, _, sol, g = rnn_problem(tanh_cell, rng)
    stop = rd.StopRule(rtol=1e-9)
    rule = rd.DeltaRule(threshold=0.0, compare="ge", memory=memory, start=start, refresh=1)
    grad = rd.gradient(cell, sol, g, method=rd.Ift(stop=stop, delta=rule))
    dense = solved_densely(cell, sol, g, stop)
    same_bits(grad.adjoint["z"], dense.z)
    same_bits(grad.residual, dense.residual)
    assert grad.cost.macs == grad.cost.macs_dense == 64 * grad.n_eval.sum()
    walk = rd.gradient(cell, sol, g, method=rd.Ift(stop=stop))
    assert walk.cost is None
    apart = (grad.residual + walk.residual + 1e3 * UNIT * np.linalg.norm(g)) / (1 - NORM)
    assert np.all(np.linalg.norm(grad.adjoint["z"] - walk.adjoint["z"], axis=1) <= apart)


@pytest.mark.parametrize("tau", [1e-6, 1e-3, 1e-1])
def test_the_error_of_a_threshold_is_bounded(tau, tanh_cell, rng):
    """Memory "sent" keeps |u - r| <= tau, so the accumulator is off by at most tau sqrt(n) |W|, and v by that / (1 - |J|)."""
    cell, x, sol, g = rnn_problem(tanh_cell, rng, n=16, batch=4)
    stop = rd.StopRule(rtol=1e-3 * tau)
    grad = rd.gradient(cell, sol, g, method=rd.Ift(stop=stop, delta=rd.DeltaRule(threshold=tau)))
    assert grad.converged
    assert grad.cost.macs < grad.cost.macs_dense
    # what the rule leaves out shows in the dense residual, and in no other
    left_out = tau * 4 * NORM + 1e3 * UNIT * np.linalg.norm(g)
    assert np.all(np.abs(grad.residual_dense - grad.residual) <= left_out)
    assert grad.residual_dense.max() > 10 * grad.residual.max()
    errors = []
    for i, jacobian in enumerate(rnn_jacobians(cell, sol.z, x)):
        exact, radius = certified_solve(np.eye(16) - jacobian.T, g[i], 1 - NORM)
        accumulated = grad.n_eval[i] * roundings(cell, sol.z, x) * UNIT * (np.linalg.norm(exact) + np.linalg.norm(g[i]))
        errors.append(np.linalg.norm(grad.adjoint["z"][i] - exact))
        assert errors[-1] <= (tau * 4 * NORM + grad.residual[i] + accumulated) / (1 - NORM) + radius
    assert max(errors) > tau / 100  # and it is not dense evaluation that is being judged


def test_cost_by_hand(affine_cell):
    """J^T = diag(1/2, 0), g = (1, 1): u = y is 1, 1 at first, then only the first component moves."""
    cell = affine_cell(np.diag([0.5, 0.0]), np.zeros(2))
    sol = rd.solve(cell, np.zeros((1, 2)))
    method = rd.Ift(delta=rd.DeltaRule(threshold=0.0), stop=rd.StopRule(max_eval=4))
    grad = rd.gradient(cell, sol, np.ones((1, 2)), method=method)
    np.testing.assert_array_equal(grad.adjoint["z"], [[1.875, 1.0]])  # 1, 3/2, 7/4, 15/8: the argument of the last evaluation
    assert grad.cost.macs_dense == 4 * 4
    assert grad.cost.macs == 4 + 3 * 2
    assert grad.cost.saved == 3 / 8
    assert list(grad.cost.by_gate.values()) == [2 + 3]
    assert "saved" in repr(grad)


def test_gates_and_dense_nodes_have_the_forward_names(conv_cell, rng):
    cell, x = conv_cell(), rng.standard_normal((2, 3, 4, 5))
    sol, g = rd.solve(cell, x, stop=rd.StopRule(rtol=1e-8)), rng.standard_normal((2, 3, 4, 5))
    assert {node.name for node in adjoint_cell(cell).cell.graph.linear_nodes} == {"c1", "c2"}
    both, one = (
        rd.gradient(cell, sol, g, method=rd.Ift(delta=rd.DeltaRule(threshold=1e-2, dense=dense))) for dense in ((), ("c2",))
    )
    assert both.cost.by_node["c1"] > 0
    assert one.cost.by_node["c2"] > both.cost.by_node["c2"] * one.n_eval.sum() / both.n_eval.sum()
    with pytest.raises(ArgumentError, match="dense"):
        rd.gradient(cell, sol, g, method=rd.Ift(delta=rd.DeltaRule(threshold=1e-2, dense=("c3",))))


@pytest.mark.parametrize("solver", [rd.Picard(), rd.KrasnoselskiiMann(alpha=0.8), rd.Anderson(), rd.Broyden()])
def test_any_solver_with_a_rule(solver, tanh_cell, rng):
    cell, x, sol, g = rnn_problem(tanh_cell, rng)
    method = rd.Ift(solver=solver, delta=rd.DeltaRule(threshold=1e-9), stop=rd.StopRule(atol=1e-7))
    grad = rd.gradient(cell, sol, g, method=method)
    assert grad.converged
    for i, jacobian in enumerate(rnn_jacobians(cell, sol.z, x)):
        exact, radius = certified_solve(np.eye(8) - jacobian.T, g[i], 1 - NORM)
        off = 3 * 1e-9 * NORM + 1e-7 + 1e5 * UNIT * (np.linalg.norm(exact) + np.linalg.norm(g[i]))
        assert np.linalg.norm(grad.adjoint["z"][i] - exact) <= off / (1 - NORM) + radius


@pytest.mark.parametrize("delta", [None, rd.DeltaRule(threshold=1e-4)])
def test_another_backend_gives_the_same_bits(delta, conv_cell, rng, same_bits):
    cell, x = conv_cell(), rng.standard_normal((2, 3, 4, 5))
    sol, g = rd.solve(cell, x, stop=rd.StopRule(rtol=1e-8)), rng.standard_normal((2, 3, 4, 5))
    numba = rd.gradient(cell, sol, g, method=rd.Ift(backend="numba", delta=delta))
    here = rd.gradient(cell, sol, g, method=rd.Ift(threads=2, delta=delta))  # also as a cell: threads are not the default
    same_bits(numba.adjoint["z"], here.adjoint["z"])
    same_bits(numba.parameters["W1"], here.parameters["W1"])
    assert numba.cost.macs == here.cost.macs


def test_callables_have_no_graph(rng):
    f = lambda z, x: z / 2  # noqa: E731
    sol = rd.solve(f, None, z0=np.ones((2, 3)))
    with pytest.raises(ArgumentError, match="callable"):
        rd.gradient(f, sol, np.ones((2, 3)), method=rd.Ift(backend="numba"), vjp=lambda z, x, v: v / 2)


# frozen masks -------------------------------------------------------------------------------------------------------------


def by_complex_steps(cell, z, x, mask, g):
    """Gradient by complex steps through an evaluation of the cell of our own, the masks frozen.

    What the gate did not send is a constant: ``f = tanh(W (z* + m (z - z*)) + U x + b)``. A complex step of 2^-100 has no
    truncation error in float64 and no cancellation, so each derivative errs by roundings of one evaluation.
    """
    w, u, b = (cell.parameters[name].astype(complex) for name in ("W", "U", "b"))
    h = 2.0**-100

    def f(z_now, w=w, u=u, b=b, x=x):
        return np.tanh(w @ (z + mask * (z_now - z)) + u @ x + b)

    n = len(z)
    jacobian = np.stack([f(z + 1j * h * e).imag / h for e in np.eye(n)], axis=1)
    adjoint, radius = certified_solve(np.eye(n) - jacobian.T, g, 1 - NORM)

    def along(name, array):
        out = np.empty(array.shape)
        for index in np.ndindex(array.shape):
            moved = array.astype(complex)
            moved[index] += 1j * h
            out[index] = adjoint @ (f(z, **{name: moved}).imag / h)
        return out

    return adjoint, {"W": along("w", w), "U": along("u", u), "b": along("b", b)}, along("x", x), radius


@pytest.mark.parametrize(
    "method", [rd.Ift(stop=TIGHT), rd.Ift(solver="gmres", stop=rd.StopRule(atol=1e-12)), rd.Ift(backend="numba", stop=TIGHT)]
)
def test_frozen_masks_against_complex_steps(method, tanh_cell, rng):
    cell, x, sol, g = rnn_problem(tanh_cell, rng, delta=rd.DeltaRule(threshold=0.02), stop=rd.StopRule(max_eval=3))
    grad = rd.gradient(cell, sol, g, method=method, jacobian="frozen-mask")
    mask = sol.memory.mask["z"]
    assert mask.any()
    assert not mask.all()
    totals = {name: np.zeros_like(array) for name, array in cell.parameters.items()}
    slack = 0.0
    for i in range(len(g)):
        adjoint, parameters, to_x, radius = by_complex_steps(cell, sol.z[i], x[i], mask[i], g[i])
        rounding = 2 * roundings(cell, sol.z, x) * UNIT * (np.linalg.norm(adjoint) + np.linalg.norm(g[i]))
        off = (grad.residual[i] + rounding) / (1 - NORM) + radius
        assert np.linalg.norm(grad.adjoint["z"][i] - adjoint) <= off
        reach = 1 + np.linalg.norm(cell.parameters["U"]) + np.abs(sol.z[i]).max() + np.abs(x[i]).max()  # of df/dtheta and df/dx
        assert np.abs(grad.injections["x"][i] - to_x).max() <= reach * (off + rounding)
        slack += reach * (off + rounding)
        for name, array in parameters.items():
            totals[name] += array
    for name, total in totals.items():
        assert np.abs(grad.parameters[name] - total).max() <= slack
    dense = rd.gradient(cell, sol, g, method=method)
    assert np.abs(dense.adjoint["z"] - grad.adjoint["z"]).max() > 1e3 * slack
    assert (grad.jacobian, dense.jacobian) == ("frozen-mask", "dense")


@pytest.mark.parametrize("method", [rd.Neumann(3, 0.5), rd.Jfb()])
def test_truncated_methods_freeze_masks_too(method, tanh_cell, rng):
    cell, x, sol, g = rnn_problem(tanh_cell, rng, delta=rd.DeltaRule(threshold=0.02), stop=rd.StopRule(max_eval=3))
    grad = rd.gradient(cell, sol, g, method=method, jacobian="frozen-mask")
    assert 0 < sol.memory.mask["z"].sum() < g.size
    for i, jacobian in enumerate(rnn_jacobians(cell, sol.z, x)):
        back = (jacobian * sol.memory.mask["z"][i]).T
        v = g[i]
        if isinstance(method, rd.Neumann):
            b = 0.5 * (np.eye(8) + back)
            v = 0.5 * (v + b @ v + b @ b @ v)
        bound = 8 * roundings(cell, sol.z, x) * UNIT * np.linalg.norm(g[i])
        assert np.linalg.norm(grad.adjoint["z"][i] - v) <= bound
        assert abs(grad.residual[i] - np.linalg.norm(back @ v + g[i] - v)) <= 4 * bound


def test_frozen_masks_of_several_gates_as_a_cell(rng):
    """Some nodes gated, one dense, two states: the adjoint cell multiplies by the masks where the walk selects."""
    cell = two_state_cell(rng)
    x = {"x": rng.standard_normal((3, 2, 6)), "q": rng.standard_normal((3, 4))}
    g = {"y": rng.standard_normal((3, 2, 6)), "s": rng.standard_normal((3, 4))}
    sol = rd.solve(cell, x, delta=rd.DeltaRule(threshold=0.02), stop=rd.StopRule(max_eval=3))
    assert all(0 < mask.sum() < mask.size for mask in sol.memory.mask.values())
    one, two = (
        rd.gradient(cell, sol, g, method=rd.Ift(stop=TIGHT, backend=backend), jacobian="frozen-mask")
        for backend in ("reference", "numba")
    )
    dense = rd.gradient(cell, sol, g, method=rd.Ift(stop=TIGHT))
    assert one.converged
    assert two.converged
    for s in g:  # both adjoints have residuals below 1e-14; |J| is below 0.9 here, as the count of evaluations shows
        assert np.abs(one.adjoint[s] - two.adjoint[s]).max() <= (2e-14 + 1e3 * UNIT * 10) / 0.1
        assert np.abs(one.adjoint[s] - dense.adjoint[s]).max() > 1e-6
    assert one.n_eval.max() <= np.log(1e-15) / np.log(0.9)


def test_frozen_masks_need_a_rule_and_its_cell(tanh_cell, rng):
    cell, x, sol, g = rnn_problem(tanh_cell, rng)
    with pytest.raises(ArgumentError, match="delta rule"):
        rd.gradient(cell, sol, g, method=rd.Neumann(2), jacobian="frozen-mask")
    delta = rd.solve(cell, x, delta=rd.DeltaRule(threshold=0.1))
    with pytest.raises(MemoryMismatchError):
        rd.gradient(tanh_cell(seed=9, n=8, norm=NORM), delta, g, method=rd.Jfb(), jacobian="frozen-mask")
