"""The Jacobian penalty: exact expectation over all sign vectors, variance, gradients."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import refdeq as rd
from refdeq.errors import ArgumentError, DTypeError, ShapeError
from refdeq.gradients.regularisation import random_vectors

UNIT = 2.0**-53


def jacobians(cell, sol):
    """J of every sample, written down: diag(1 - tanh(W z + U x + b)^2) W."""
    w, u, b = (cell.parameters[name] for name in ("W", "U", "b"))
    slope = 1 - np.tanh(sol.z @ w.T + sol.x["x"] @ u.T + b) ** 2
    return slope[:, :, None] * w


def solved(cell, x, **options):
    return rd.solve(cell, x, stop=rd.StopRule(max_eval=3), **options)


@pytest.mark.parametrize("n", [1, 3, 8])
def test_the_mean_over_all_sign_vectors_is_the_frobenius_norm(n, tanh_cell, rng):
    """E[e e^T] = I holds exactly for the uniform distribution over all 2^n vectors, and so does E||J^T e||^2 = ||J||_F^2."""
    cell = tanh_cell(n=n)
    sol = solved(cell, rng.standard_normal((3, 2)))
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    probes = np.repeat(signs[:, None, :], 3, axis=1)
    penalty = rd.jacobian_penalty(cell, sol, probes=probes)
    j = jacobians(cell, sol)
    expected = np.square(j).sum(axis=(1, 2)) / n
    # each |w|^2 is a sum of n squares of n terms, at most n ||J||_F^2 in all: 2n + 4 roundings relative to that; and the slopes
    # by which J itself differs are good to 64 units: their arguments are sums of 10 terms, below 8, times a factor below 0.77
    slopes = 2 * 64 * np.abs(j * cell.parameters["W"]).sum(axis=(1, 2)) / n
    bound = n * UNIT * ((2 * n + 4) * expected + slopes)
    assert np.all(np.abs(penalty.per_sample - expected) <= bound)
    assert abs(penalty.value - expected.mean()) <= bound.max()
    assert penalty.vectors == 2**n


def test_the_mean_over_all_signs_of_two_states(rng):
    """Blocks between states count too: y <- A s, s <- B y, so that ||J||_F^2 = ||A||_F^2 + ||B||_F^2."""
    a, b = rng.integers(-4, 5, (2, 3)).astype(float), rng.integers(-4, 5, (3, 2)).astype(float)
    builder = rd.GraphBuilder()
    y, s = builder.state("y", (2,)), builder.state("s", (3,))
    builder.output(y, builder.node("Gemm", s, builder.parameter("A", a), transB=1))
    builder.output(s, builder.node("Gemm", y, builder.parameter("B", b), transB=1))
    cell = builder.build()
    sol = rd.solve(cell, z0={"y": np.zeros((1, 2)), "s": np.zeros((1, 3))}, stop=rd.StopRule(max_eval=1))
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=5)))
    probes = {"y": signs[:, None, :2], "s": signs[:, None, 2:]}
    penalty = rd.jacobian_penalty(cell, sol, probes=probes)
    exact = (np.sum(a * a) + np.sum(b * b)) / 5
    assert abs(penalty.value - exact) <= 2 * UNIT * exact  # sums of integers are exact; the scale and the mean round
    # R = sum of squares / 5, so dR/dA = 2 A / 5 in the mean over all signs: 32 additions, and the rounded weight
    assert np.all(np.abs(penalty.parameters["A"] - 2 * a / 5) <= 64 * UNIT * np.abs(a).max() * 4)


def spread(j):
    """Variances of ||J^T e||^2: for normal entries 2 tr((J J^T)^2), for signs without the diagonal's part."""
    m = j @ np.swapaxes(j, -1, -2)
    whole = np.square(m).sum(axis=(-2, -1))
    return {"normal": 2 * whole, "rademacher": 2 * (whole - np.square(np.einsum("...ii->...i", m)).sum(axis=-1))}


@pytest.mark.parametrize("distribution", ["normal", "rademacher"])
def test_mean_and_variance_of_the_estimate(distribution, tanh_cell, rng):
    """Means of N independent draws against the formulas; the draws are one batch of equal samples.

    By Chebyshev's inequality a mean misses by more than s times its standard error with probability at most 1 / s^2; s = 10
    here, with a seed that does not change. The standard error of the variance takes the fourth moment of the draws.
    """
    n, draws = 5, 60_000
    cell = tanh_cell(n=n)
    sol = solved(cell, np.repeat(rng.standard_normal((1, 2)), draws, axis=0))
    j = jacobians(cell, sol)[0]
    penalty = rd.jacobian_penalty(cell, sol, rng=7, distribution=distribution)
    squares = n * penalty.per_sample
    variance = spread(j)[distribution]
    assert abs(squares.mean() - np.sum(j * j)) <= 10 * np.sqrt(variance / draws)
    deviations = np.square(squares - np.sum(j * j))
    error = np.sqrt(np.var(deviations) / draws)
    assert abs(deviations.mean() - variance) <= 10 * error
    assert 10 * error < variance / 4  # tight enough to tell the two distributions, and a factor of two, apart
    assert spread(j)["rademacher"] < 0.75 * spread(j)["normal"]


def test_more_vectors_are_a_mean(tanh_cell, rng, same_bits):
    """V vectors: the mean of V penalties of one vector each, gradients included."""
    cell = tanh_cell()
    sol = solved(cell, rng.standard_normal((3, 2)))
    probes = random_vectors(cell, 3, 4, 11)["z"]
    whole = rd.jacobian_penalty(cell, sol, vectors=4, rng=11)
    same_bits(whole.per_sample, rd.jacobian_penalty(cell, sol, probes=probes).per_sample)
    single = [rd.jacobian_penalty(cell, sol, probes=probes[v : v + 1]) for v in range(4)]
    assert abs(whole.value - np.mean([p.value for p in single])) <= 16 * UNIT * whole.value
    for kind in ("parameters", "injections", "states"):
        for name, gradient in getattr(whole, kind).items():
            parts = np.array([getattr(p, kind)[name] for p in single])
            assert np.all(np.abs(gradient - parts.mean(axis=0)) <= 64 * UNIT * np.abs(parts).max())


# ---------------------------------------------------------------------------------------------------------------- gradients


def directional(value_at, exact, h=2.0**-12, noise=0.0):
    """Central differences with steps 2h and h; their distance bounds the truncation, `noise` the error of the values."""
    wide, fine = ((value_at(step) - value_at(-step)) / (2 * step) for step in (2 * h, h))
    assert abs(exact - fine) <= abs(wide - fine) + 3 * noise / h
    assert abs(exact) > 100 * (abs(wide - fine) + 3 * noise / h)  # the comparison says something


def inner(left, right):
    return sum(float(np.sum(left[name] * right[name])) for name in left)


def moved(arrays, direction, step):
    return {name: array + step * direction[name] for name, array in arrays.items()}


def like(arrays, rng):
    return {name: rng.standard_normal(np.shape(array)) for name, array in arrays.items()}


def gated_cell(rng):
    """Values multiplied by gates, a convolution, a mean, a second state: every kind of curvature."""
    builder = rd.GraphBuilder()
    y, s, x = builder.state("y", (2, 4)), builder.state("s", (3,)), builder.injection("x", (2, 4))

    def weight(name, *shape):
        return builder.parameter(name, 0.6 * rng.standard_normal(shape))

    conv = builder.node("Conv", y, weight("Wc", 2, 2, 3), weight("bc", 2), pads=(1, 1))
    gate = builder.node("Sigmoid", builder.node("Gemm", s, weight("Wg", 3, 8), weight("bg", 8)))
    gated = builder.node("Mul", builder.node("Tanh", conv), builder.node("Reshape", gate, shape=(0, 2, 4)))
    builder.output(y, builder.node("Add", gated, builder.node("Mul", x, builder.node("Sin", y))))
    mean = builder.node("ReduceMean", y, axes=(2,), keepdims=0)
    builder.output(s, builder.node("Tanh", builder.node("MatMul", builder.node("Exp", mean), weight("Wm", 2, 3))))
    return builder.build()


def at(cell, sol, states=None, x=None):
    """The same solution record at other numbers, where nothing is solved."""
    return rd.solve(
        cell, x if x is not None else dict(sol.x), z0=states if states is not None else sol.states, stop=rd.StopRule(max_eval=1)
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradients_against_differences(seed):
    rng = np.random.default_rng(seed)
    cell = gated_cell(rng)
    x = {"x": 0.5 * rng.standard_normal((2, 2, 4))}
    sol = rd.solve(cell, x, stop=rd.StopRule(max_eval=2))
    probes = {name: rng.standard_normal((2, *array.shape)) for name, array in sol.states.items()}

    def value(cell, states, x):
        return rd.jacobian_penalty(cell, at(cell, sol, states, x), probes=probes).value

    penalty = rd.jacobian_penalty(cell, at(cell, sol), probes=probes)
    # sums of squares of at most 12 terms over paths of at most 100 roundings, all positive up to cancellation by 16
    noise = 16 * 200 * UNIT * penalty.value
    t = like(penalty.parameters, rng)
    directional(
        lambda h: value(rd.Cell(cell.graph, moved(cell.parameters, t, h)), sol.states, x),
        inner(penalty.parameters, t),
        noise=noise,
    )
    t = like(x, rng)
    directional(lambda h: value(cell, sol.states, moved(x, t, h)), inner(penalty.injections, t), noise=noise)
    t = like(sol.states, rng)
    directional(lambda h: value(cell, moved(sol.states, t, h), x), inner(penalty.states, t), noise=noise)


def test_total_gradient_through_the_solution(tanh_cell, rng):
    """dR/dtheta at the solution of theta: the direct part and, by implicit differentiation of `states`, the rest."""
    cell, x = tanh_cell(norm=0.6), 0.1 * rng.standard_normal((3, 2))
    tight = rd.StopRule(atol=1e-14, max_eval=1000)
    sol = rd.solve(cell, x, stop=tight)
    probes = rng.standard_normal((2, 3, 6))
    penalty = rd.jacobian_penalty(cell, sol, probes=probes)
    through = rd.gradient(cell, sol, penalty.states["z"], method=rd.Ift(stop=tight))
    t = like(cell.parameters, rng)

    def value(h):
        other = rd.Cell(cell.graph, moved(cell.parameters, t, h))
        return rd.jacobian_penalty(other, rd.solve(other, x, z0=sol.z, stop=tight), probes=probes).value

    # residuals of 1e-14 become errors of z of 2.5e-14, and of R by its gradient
    noise = 2.5e-14 * np.abs(penalty.states["z"]).sum() + 200 * UNIT * penalty.value
    directional(value, inner(penalty.parameters, t) + inner(through.parameters, t), noise=noise)
    assert abs(inner(through.parameters, t)) > 0.01 * abs(inner(penalty.parameters, t))  # both parts are there


def test_complex_step(tanh_cell, rng):
    """R of the tanh cell written down in complex numbers, moved along the imaginary axis in everything at once."""
    cell = tanh_cell()
    sol = solved(cell, rng.standard_normal((3, 2)))
    probes = rng.standard_normal((2, 3, 6))
    penalty = rd.jacobian_penalty(cell, sol, probes=probes)
    everything = {**cell.parameters, "x": sol.x["x"], "z": sol.z}
    gradients = {**penalty.parameters, **penalty.injections, **penalty.states}
    t, h = like(everything, rng), 2.0**-100
    p = {name: array + 1j * h * t[name] for name, array in everything.items()}
    slope = 1 - np.tanh(p["z"] @ p["W"].T + p["x"] @ p["U"].T + p["b"]) ** 2
    w = (probes * slope) @ p["W"]
    expected = (np.sum(w * w) / w.size).imag / h
    size = sum(np.sum(np.abs(gradients[name] * t[name])) for name in t)
    # 72 squares of sums of 6 and 2 terms on either side, slopes good to 16 roundings of arguments below 20
    assert abs(inner(gradients, t) - expected) <= 2 * (72 + 8 + 16 * 20) * UNIT * (size + abs(expected))


def test_a_linear_cell_by_hand(affine_cell):
    """J = A: R = ||A^T e||^2 / 2 with e = (1, 2), and dR/dA = e (A^T e)^T, exactly."""
    cell = affine_cell(np.array([[0.5, 0.25], [-0.5, 1.0]]), np.zeros(2))
    sol = solved(cell, np.zeros((1, 2)))
    penalty = rd.jacobian_penalty(cell, sol, probes=np.array([[[1.0, 2.0]]]))
    back = np.array([-0.5, 2.25])  # A^T e
    assert penalty.value == (0.25 + 5.0625) / 2
    np.testing.assert_array_equal(penalty.parameters["A"], np.outer([1.0, 2.0], back))
    np.testing.assert_array_equal(penalty.parameters["b"], np.zeros(2))
    np.testing.assert_array_equal(penalty.states["z"], np.zeros((1, 2)))
    assert repr(penalty) == "JacobianPenalty(2.65625; 1 samples, 1 random vectors)"


# ----------------------------------------------------------------------------------------------------------------- API edge


def test_float32_agrees_with_float64(tanh_cell, rng):
    """The same random numbers, rounded; everything stays float32, and the value is that of float64 to its roundings."""
    x = rng.standard_normal((3, 2)).astype(np.float32)
    narrow, wide = tanh_cell(dtype="float32"), tanh_cell(dtype="float32").astype("float64")
    sol = solved(narrow, x)
    one = rd.jacobian_penalty(narrow, sol, rng=3, distribution="rademacher")
    there = rd.solve(wide, x.astype(np.float64), z0=sol.z.astype(np.float64), stop=rd.StopRule(max_eval=1))
    two = rd.jacobian_penalty(wide, there, rng=3, distribution="rademacher")
    arrays = [*one.parameters.values(), *one.injections.values(), *one.states.values()]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}
    j = np.abs(jacobians(wide, there))
    gauge = np.square(j.sum(axis=1)).sum(axis=1).mean() / 6  # ||J^T e||^2 with nothing cancelling
    columns = np.abs(wide.parameters["W"]).sum(axis=0)
    slopes = (j.sum(axis=1) * columns).sum(axis=1).mean() / 6  # each good to 64 units, as above
    assert 0 < abs(one.value - two.value) <= 2 * 2.0**-24 * (8 * gauge + 64 * slopes)


def test_a_sample_that_is_not_finite_keeps_to_itself(tanh_cell, rng, same_bits):
    cell, x = tanh_cell(), rng.standard_normal((3, 2))
    sol = solved(cell, x)
    x[1] = np.nan
    broken = rd.solve(cell, x, z0=sol.z, stop=rd.StopRule(max_eval=1))
    probes = rng.standard_normal((1, 3, 6))
    penalty = rd.jacobian_penalty(cell, broken, probes=probes)
    assert list(np.isfinite(penalty.per_sample)) == [True, False, True]
    assert list(np.isfinite(penalty.injections["x"]).all(axis=1)) == [True, False, True]
    assert np.isnan(penalty.value)


def test_an_empty_batch_costs_nothing(tanh_cell):
    cell = tanh_cell()
    penalty = rd.jacobian_penalty(cell, rd.solve(cell, np.zeros((0, 2))))
    assert penalty.value == 0.0
    np.testing.assert_array_equal(penalty.parameters["W"], np.zeros((6, 6)))


def test_generators_go_on_and_seeds_repeat(tanh_cell, rng):
    cell = tanh_cell()
    sol = solved(cell, rng.standard_normal((3, 2)))
    one, two = (rd.jacobian_penalty(cell, sol, rng=rng).value for _ in range(2))
    assert one != two
    assert rd.jacobian_penalty(cell, sol).value == rd.jacobian_penalty(cell, sol, rng=0).value
    signs = random_vectors(cell, 3, 5, 1, "rademacher")["z"]
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert signs.shape == (5, 3, 6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"vectors": 0}, ArgumentError, "vectors"),
        ({"vectors": 1.0}, ArgumentError, "vectors"),
        ({"distribution": "uniform"}, ArgumentError, "distribution"),
        ({"rng": "seed"}, ArgumentError, "rng"),
        ({"rng": True}, ArgumentError, "rng"),
        ({"probes": np.ones((3, 6))}, ShapeError, "probes"),
        ({"probes": np.ones((1, 2, 6))}, ShapeError, "probes"),
        ({"probes": np.ones((0, 3, 6))}, ShapeError, "probes"),
        ({"probes": np.ones((1, 3, 6), np.float32)}, DTypeError, "probes"),
        ({"solution": None}, ArgumentError, "solution"),
        ({"cell": np.tanh}, ArgumentError, "cell"),
    ],
)
def test_bad_arguments(options, error, message, tanh_cell, rng):
    cell = tanh_cell()
    call = {"cell": cell, "solution": solved(cell, rng.standard_normal((3, 2))), **options}
    with pytest.raises(error, match=message):
        rd.jacobian_penalty(call.pop("cell"), call.pop("solution"), **call)
