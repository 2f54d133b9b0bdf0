"""Products with the Jacobians of whole cells: forward, reverse, second derivatives, frozen masks (G-1)."""

from __future__ import annotations

import numpy as np
import pytest

import refdeq as rd
from refdeq.errors import ArgumentError, DTypeError, MemoryMismatchError, ShapeError
from refdeq.gradients import forward
from refdeq.gradients.linearisation import CellMap
from refdeq.gradients.products import linearise_solution
from refdeq.gradients.reverse import vjp, vjp_tangent
from refdeq.ops import OPS

UNIT = 2.0**-53


def mixed_cell(seed=0, dtype="float64"):
    """Two states that feed each other through operators of every family, an injection, values that are read twice."""
    rng = np.random.default_rng(seed)
    builder = rd.GraphBuilder(dtype)
    y, s = builder.state("y", (2, 6)), builder.state("s", (4,))
    x, q = builder.injection("x", (2, 6)), builder.injection("q", (4,))

    def weight(name, *shape):
        return builder.parameter(name, (0.5 * rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(dtype))

    conv = builder.node("Conv", y, weight("Wc", 4, 2, 3), weight("bc", 4), pads=(1, 1), name="conv")
    halves = [builder.node("Slice", conv, starts=(k,), ends=(k + 2,), axes=(1,)) for k in (0, 2)]
    gate = builder.node("Sigmoid", halves[0])
    pooled = builder.node("ReduceMean", builder.node("Mul", gate, builder.node("Tanh", halves[1])), axes=(2,), keepdims=0)
    mixed = builder.node("Gemm", s, weight("Ws", 4, 4), weight("bs", 4), transB=1, alpha=0.5, beta=2.0, name="gemm")
    joined = builder.node("Concat", pooled, pooled, axis=1)
    builder.output(s, builder.node("Sin", builder.node("Add", builder.node("Add", mixed, joined), q)))
    spread = builder.node("Reshape", builder.node("MatMul", s, weight("Wm", 4, 12)), shape=(0, 2, 6))
    shifted = builder.node("Sub", builder.node("LeakyRelu", spread, alpha=0.25), builder.node("Cos", x))
    builder.output(y, builder.node("Tanh", builder.node("Mul", shifted, builder.node("Exp", builder.node("Neg", gate)))))
    return builder.build()


def draw(shapes, batch, rng, dtype=np.float64):
    return {name: rng.standard_normal((batch, *shape)).astype(dtype) for name, shape in shapes.items()}


def solved(cell, rng, batch=3, **options):
    """A point that need not be a fixed point: derivatives are taken wherever the solve stopped."""
    options = {"stop": rd.StopRule(max_eval=3), **options}
    return rd.solve(cell, draw(cell.graph.injections, batch, rng, cell.dtype), **options)


def absolute(cell, values, tangents, frozen):
    """The forward walk with every entry of every local Jacobian replaced by its modulus, column by column."""
    found = {name: np.abs(t) for name, t in tangents.items()}
    for node in cell.graph.nodes:
        op, inputs = OPS[node.op], [values[name] for name in node.inputs]
        total = np.zeros_like(values[node.name])
        for i, name in enumerate(node.inputs):
            if name not in found:
                continue
            for place in np.ndindex(inputs[i].shape):
                unit = np.zeros_like(inputs[i])
                unit[place] = found[name][place] if i or node.name not in frozen or frozen[node.name][place] else 0.0
                alone = [None] * len(inputs)
                alone[i] = unit
                total += np.abs(op.jvp(inputs, values[node.name], op.complete(node.attributes), alone))
        found[node.name] = total
    return found


ROUNDINGS = 21 * (12 + 4) + 3 * 16
"""Of any path in ``mixed_cell``: 21 nodes of sums of at most 12 terms and 4 products, and the final inner product."""


@pytest.mark.parametrize("jacobian", ["dense", "frozen-mask"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_forward_and_reverse_are_transposes(jacobian, dtype, rng):
    """<w, J v> = <J^T w, v>, over states, injections and parameters together.

    Both walks evaluate one polynomial in the same stored numbers, so they differ by at most the roundings of a path, of
    either walk, times the same polynomial with all its terms positive.
    """
    cell = mixed_cell(dtype=dtype)
    assert len(cell.graph.nodes) <= 21
    sol = solved(cell, rng, delta=rd.DeltaRule(threshold=0.3))
    graph = cell.graph
    v, t_x = draw(graph.states, 3, rng, cell.dtype), draw(graph.injections, 3, rng, cell.dtype)
    t_p = {name: rng.standard_normal(shape).astype(cell.dtype) for name, shape in graph.parameters.items()}
    w = draw(graph.states, 3, rng, cell.dtype)
    pushed = rd.jvp(cell, sol, v, injections=t_x, parameters=t_p, jacobian=jacobian)
    pulled = rd.vjp(cell, sol, w, jacobian=jacobian)

    def inner(left, right):
        return sum(np.sum(left[name].astype(np.float64) * right[name]) for name in right)

    ahead = inner(w, pushed)
    back = inner(pulled.states, v) + inner(pulled.injections, t_x) + inner(pulled.parameters, t_p)
    point = linearise_solution(cell, sol, jacobian)
    size = absolute(cell, point.values, v | t_x | t_p, point.frozen)
    gauge = sum(np.sum(np.abs(w[s]) * size[value].astype(np.float64)) for s, value in graph.outputs.items())
    unit = UNIT if dtype == "float64" else 2.0**-24
    assert abs(ahead - back) <= 2 * ROUNDINGS * unit * gauge
    assert 2 * ROUNDINGS * unit * gauge < abs(ahead) / 4 or dtype == "float32"  # the bound says something
    if jacobian == "frozen-mask":
        assert not sol.memory.mask["y"].all()
        assert np.abs(pushed["y"] - rd.jvp(cell, sol, v, injections=t_x, parameters=t_p)["y"]).max() > 1e-3


def dense_values(cell, states, x):
    """f itself, by the evaluator of every solve."""
    return CellMap(cell, x, 3, {}).linearise(states).value


def central(value_at, h=2.0**-12):
    """Central difference of a dict of arrays, and the distance of those with steps 2h and h, which bounds the truncation."""
    found = []
    for step in (2 * h, h):
        above, below = value_at(step), value_at(-step)
        found.append({name: (above[name] - below[name]) / (2 * step) for name in above})
    return found[1], {name: np.abs(found[0][name] - found[1][name]) for name in found[0]}


NOISE = 3 * ROUNDINGS * 2 * UNIT * 2.0**12
"""Of a difference quotient and of the distance: 1 + 1 + 1/2 errors of values below 2, over the step."""


def moved(arrays, direction, step):
    return {name: array + step * direction[name] for name, array in arrays.items()}


def test_jvp_against_differences(rng):
    cell = mixed_cell()
    sol = solved(cell, rng)
    directions = {
        "tangent": draw(cell.graph.states, 3, rng),
        "injections": draw(cell.graph.injections, 3, rng),
        "parameters": {name: rng.standard_normal(shape) for name, shape in cell.graph.parameters.items()},
    }
    walks = {
        "tangent": lambda d, h: dense_values(cell, moved(sol.states, d, h), sol.x),
        "injections": lambda d, h: dense_values(cell, sol.states, moved(sol.x, d, h)),
        "parameters": lambda d, h: dense_values(rd.Cell(cell.graph, moved(cell.parameters, d, h)), sol.states, sol.x),
    }
    total = {s: 0.0 for s in sol.states}
    for kind, direction in directions.items():
        exact = rd.jvp(cell, sol, **{"tangent": None, kind: direction})
        fine, truncation = central(lambda h, d=direction, f=walks[kind]: f(d, h))
        for s in exact:
            assert np.all(np.abs(exact[s] - fine[s]) <= truncation[s] + NOISE)
            assert np.abs(exact[s]).max() > 0.01
            total[s] = total[s] + exact[s]
    together = rd.jvp(cell, sol, **directions)
    for s in together:  # linear in all of them together: a few roundings per node and term, of numbers below 32
        assert np.all(np.abs(together[s] - total[s]) <= 4 * ROUNDINGS * UNIT * 32)


def test_a_few_parameters_vary_alone(tanh_cell, rng):
    cell = tanh_cell()
    sol = solved(cell, rng)
    bump = rng.standard_normal(6)
    product = rd.jvp(cell, sol, parameters={"b": bump})
    w, u, b = (cell.parameters[name] for name in ("W", "U", "b"))
    expected = (1 - np.tanh(sol.z @ w.T + sol.x["x"] @ u.T + b) ** 2) * bump
    assert np.all(np.abs(product - expected) <= 16 * UNIT * np.abs(bump).max())


@pytest.mark.parametrize("jacobian", ["dense", "frozen-mask"])
def test_complex_step(jacobian, tanh_cell, rng):
    """f written down once more in complex numbers: its derivative by a step too small to cancel anything.

    With frozen masks, unsent elements of z stay where they are in front of W.
    """
    cell = tanh_cell()
    sol = solved(cell, rng, delta=rd.DeltaRule(threshold=0.1))
    v, g = rng.standard_normal((3, 6)), rng.standard_normal((3, 6))
    w, u, b = (cell.parameters[name] for name in ("W", "U", "b"))
    mask = sol.memory.mask["z"] if jacobian == "frozen-mask" else np.ones((3, 6), dtype=bool)
    h = 2.0**-100

    def derivative(direction):
        return np.tanh((sol.z + 1j * h * direction * mask) @ w.T + sol.x["x"] @ u.T + b).imag / h

    # sums of 6 and 2 terms of moduli below 20 move the slope by their roundings; its product has six terms
    bound = 64 * 20 * UNIT * np.abs(v).sum(axis=1, keepdims=True)
    assert np.all(np.abs(rd.jvp(cell, sol, v, jacobian=jacobian) - derivative(v)) <= bound)
    columns = np.stack([derivative(np.eye(6)[k]) for k in range(6)], axis=-1)  # (B, 6, 6)
    back = rd.vjp(cell, sol, g, jacobian=jacobian).states["z"]
    assert np.all(np.abs(back - np.einsum("bij,bi->bj", columns, g)) <= 64 * 20 * UNIT * np.abs(g).sum(axis=1, keepdims=True))
    assert mask.all() == (jacobian == "dense")


# ------------------------------------------------------------------------------------------------------ second derivatives


@pytest.mark.parametrize("masked", [False, True])
def test_directional_derivative_of_the_reverse_walk(masked, rng):
    """Against differences of the walk itself, with the masks frozen on both sides."""
    cell = mixed_cell()
    graph = cell.graph
    sol = solved(cell, rng, delta=rd.DeltaRule(threshold=0.3))
    point = linearise_solution(cell, sol, "frozen-mask" if masked else "dense")
    t, w = draw(graph.states, 3, rng), draw(graph.states, 3, rng)

    def frozen_values(step):
        """Values of the cell in which unsent elements of a gated node's input stay where they were."""
        values = {**cell.parameters, **sol.x, **moved(sol.states, t, step)}
        for node in graph.nodes:
            op, inputs = OPS[node.op], [values[name] for name in node.inputs]
            if node.name in point.frozen:
                inputs[0] = np.where(point.frozen[node.name], inputs[0], point.values[node.inputs[0]])
            values[node.name] = op.forward(inputs, op.complete(node.attributes))
        return values

    def walk(step):
        values = frozen_values(step)
        found = vjp(cell, values, w, point.frozen)
        for node in graph.nodes:  # the weight of a frozen node meets the input that its node saw
            if node.name in point.frozen:
                data = node.inputs[0]
                seen = {**values, data: np.where(point.frozen[node.name], values[data], point.values[data])}
                found[node.inputs[1]] = vjp(cell, seen, w, point.frozen)[node.inputs[1]]
        return {name: found[name] for name in (*graph.states, *graph.injections, *graph.parameters)}

    tangents = forward.jvp(cell, point.values, t, point.frozen)
    found, moving = vjp_tangent(cell, point.values, tangents, w, point.frozen)
    same = vjp(cell, point.values, w, point.frozen)
    fine, truncation = central(walk)
    for name in fine:
        np.testing.assert_array_equal(found[name], same[name])
        exact = moving.get(name, np.zeros_like(fine[name]))
        assert np.all(np.abs(exact - fine[name]) <= truncation[name] + 18 * NOISE)  # sums over a batch of 3 and 6 sites
    assert sum(np.abs(bend).max() > 0.01 for bend in moving.values()) > 10


def test_second_derivatives_commute(rng):
    """<d/ds J(z + s a)^T w, b> = <d/ds J(z + s b)^T w, a>: the Hessian of <w, f> is symmetric."""
    cell = mixed_cell()
    point = linearise_solution(cell, solved(cell, rng))
    a, b, w = (draw(cell.graph.states, 3, rng) for _ in range(3))

    def bent(direction):
        return vjp_tangent(cell, point.values, forward.jvp(cell, point.values, direction, {}), w, {})[1]

    one, two = bent(a), bent(b)
    left, right = (sum(np.sum(bend[s] * d[s]) for s in d) for bend, d in ((one, b), (two, a)))
    terms = sum(np.sum(np.abs(bend[s] * d[s])) for bend, d in ((one, b), (two, a)) for s in d)
    assert abs(left) > 0.01
    assert abs(left - right) <= 4 * ROUNDINGS * UNIT * (terms + 64)  # what cancels inside the walks stays below 64


def test_linear_cells_do_not_bend(affine_cell, rng):
    cell = affine_cell(rng.standard_normal((3, 3)), np.zeros(3))
    point = linearise_solution(cell, solved(cell, rng))
    tangents = forward.jvp(cell, point.values, draw(cell.graph.states, 3, rng), {})
    _, moving = vjp_tangent(cell, point.values, tangents, draw(cell.graph.states, 3, rng), {})
    assert set(moving) == {"A"}  # bilinear in weight and state; nothing else moves


# -------------------------------------------------------------------------------------------------------------- API edge


def test_samples_that_are_not_finite_keep_to_themselves(tanh_cell, rng):
    cell, x = tanh_cell(), rng.standard_normal((3, 2))
    sol = rd.solve(cell, x)
    v = rng.standard_normal((3, 6))
    good = rd.jvp(cell, sol, v), rd.vjp(cell, sol, v).states["z"]
    x[1] = np.nan
    broken = rd.solve(cell, x, z0=sol.z, stop=rd.StopRule(max_eval=1))
    for before, after in zip(good, (rd.jvp(cell, broken, v), rd.vjp(cell, broken, v).states["z"]), strict=True):
        assert np.isnan(after[1]).all()
        assert np.isfinite(after[[0, 2]]).all()
        assert before.shape == after.shape


def test_no_influence_is_zero(rng):
    """Values that f does not depend on have zero products, of their own shape."""
    builder = rd.GraphBuilder()
    z, x = builder.state("z", (2,)), builder.injection("x", (2,))
    builder.parameter("idle", np.ones(3))
    builder.output(z, builder.node("Tanh", x))
    cell = builder.build()
    sol = solved(cell, rng)
    np.testing.assert_array_equal(rd.jvp(cell, sol, np.ones((3, 2))), np.zeros((3, 2)))
    back = rd.vjp(cell, sol, np.ones((3, 2)))
    np.testing.assert_array_equal(back.states["z"], np.zeros((3, 2)))
    np.testing.assert_array_equal(back.parameters["idle"], np.zeros(3))


def test_an_empty_batch_has_empty_products(tanh_cell):
    cell = tanh_cell()
    sol = rd.solve(cell, np.zeros((0, 2)))
    assert rd.jvp(cell, sol, np.zeros((0, 6))).shape == (0, 6)
    np.testing.assert_array_equal(rd.vjp(cell, sol, np.zeros((0, 6))).parameters["W"], np.zeros((6, 6)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tangent": None}, ArgumentError, "tangent"),
        ({"tangent": np.ones((3, 5))}, ShapeError, "tangent"),
        ({"tangent": np.ones((2, 6))}, ShapeError, "tangent"),
        ({"tangent": np.ones((3, 6), np.float32)}, DTypeError, "tangent"),
        ({"injections": np.ones((3, 3))}, ShapeError, "injections"),
        ({"parameters": {"Q": np.ones(6)}}, ArgumentError, "parameters"),
        ({"parameters": {"b": np.ones(5)}}, ShapeError, "parameters"),
        ({"parameters": {"b": 1.0}}, ArgumentError, "parameters"),
        ({"parameters": np.ones(6)}, ArgumentError, "parameters"),
        ({"jacobian": "sparse"}, ArgumentError, "jacobian"),
        ({"jacobian": "frozen-mask"}, ArgumentError, "delta rule"),
        ({"solution": np.ones((3, 6))}, ArgumentError, "solution"),
        ({"cell": np.tanh}, ArgumentError, "cell"),
    ],
)
def test_bad_arguments(options, error, message, tanh_cell, rng):
    cell = tanh_cell()
    call = {"cell": cell, "solution": solved(cell, rng), "tangent": np.ones((3, 6)), **options}
    with pytest.raises(error, match=message):
        rd.jvp(call.pop("cell"), call.pop("solution"), call.pop("tangent"), **call)


def test_bad_cotangents_and_solutions_of_others(tanh_cell, rng):
    cell = tanh_cell()
    sol = solved(cell, rng)
    with pytest.raises(ShapeError, match="cotangent"):
        rd.vjp(cell, sol, np.ones((3, 5)))
    with pytest.raises(ShapeError, match="solution"):
        rd.vjp(tanh_cell(n=7), sol, np.ones((3, 7)))
    gated = solved(cell, rng, delta=rd.DeltaRule(threshold=0.1))
    with pytest.raises(MemoryMismatchError):
        rd.vjp(tanh_cell(seed=8), gated, np.ones((3, 6)), jacobian="frozen-mask")
