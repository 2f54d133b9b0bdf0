"""Forward-backward and Peaceman-Rachford splitting: steps by hand, convergence as proved, and what they refuse (S-6b)."""

from __future__ import annotations

import numpy as np
import pytest
from monotone_cases import certified_distance, constants, conv_cell, dense_parts, fc_cell, injection

import refdeq as rd
from refdeq.errors import ArgumentError, MemoryMismatchError, UnsupportedError
from refdeq.solvers.splitting import match_form, resolvent

U = 2.0**-53
PR, FB = rd.PeacemanRachford, rd.ForwardBackward
TIGHT = rd.StopRule(atol=1e-11, max_eval=4000)
CELLS = {"fc": fc_cell, "conv": conv_cell}
SOLVERS = [FB(), PR(), PR(alpha=0.5)]


def scalar_cell(w=-2.0, dtype="float64"):
    """Cell ``z <- relu(w z + x)`` of one number, for ``w = -1 - a^2`` with m = 2."""
    a = np.array([[np.sqrt(-1.0 - w)]], dtype)
    return rd.models.monotone(a, np.zeros((1, 1), dtype), np.eye(1, dtype=dtype), np.zeros(1, dtype), m=2.0)


# ---------------------------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_peaceman_rachford_by_hand(dtype, backend):
    """W = -2, alpha = 1, so V = 1/4; beta = 6: every number is dyadic."""
    stop = rd.StopRule(max_eval=3)
    sol = rd.solve(
        scalar_cell(dtype=dtype), np.array([[6.0]], dtype), solver=PR(alpha=1.0), stop=stop, trace=True, backend=backend
    )
    np.testing.assert_array_equal(sol.trace.z["z"].ravel(), [1.5, 2.25, 1.875])
    np.testing.assert_array_equal(sol.trace.f["z"].ravel(), [3.0, 1.5, 2.25])  # relu(-2 y + 6)
    np.testing.assert_array_equal(sol.trace.residual.ravel(), [1.5, 0.75, 0.375])
    assert sol.z.item() == 1.875
    assert sol.iterate["z"].item() == 1.5  # u of the last evaluation


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_forward_backward_by_hand(dtype, backend):
    stop = rd.StopRule(max_eval=3)
    sol = rd.solve(
        scalar_cell(dtype=dtype), np.array([[6.0]], dtype), solver=FB(alpha=0.25), stop=stop, trace=True, backend=backend
    )
    np.testing.assert_array_equal(sol.trace.z["z"].ravel(), [0.0, 1.5, 1.875])
    np.testing.assert_array_equal(sol.trace.f["z"].ravel(), [6.0, 3.0, 2.25])


def test_a_step_of_one_is_picard(same_bits):
    cell = fc_cell(skew=0.1, m=1.0)
    x, stop = injection(cell), rd.StopRule(max_eval=6)
    one, two = (rd.solve(cell, x, solver=s, stop=stop, trace=True).trace for s in (FB(alpha=1.0), rd.Picard()))
    same_bits(one.f["z"], two.f["z"])
    same_bits(one.residual, two.residual)


def test_linear_rates_are_cayley_factors():
    """Where everything is positive, the error of u shrinks by (1 - alpha l) / (1 + alpha l) for each eigenvalue l of I - W."""
    eigenvalues, alpha = np.array([1.0, 3.0, 7.0]), 0.5
    a = np.diag(np.sqrt(eigenvalues - 0.5))
    cell = rd.models.monotone(a, np.zeros((3, 3)), np.eye(3), np.full(3, 8.0), m=0.5)
    stop = rd.StopRule(max_eval=12)
    z0 = (8.0 / eigenvalues + 1.0)[None]  # close enough for u to stay positive
    y = rd.solve(cell, np.zeros((1, 3)), z0=z0, solver=PR(alpha=alpha), stop=stop, trace=True).trace.z["z"][:, 0]
    error = y - 8.0 / eigenvalues
    factors = (1 - alpha * eigenvalues) / (1 + alpha * eigenvalues)
    # each error carries some 16 roundings of numbers up to 32, at every step so far
    assert np.all(np.abs(error[1:] - factors * error[:-1]) <= 16 * 32 * U * np.arange(1, 12)[:, None])
    assert np.abs(error[0]).min() > 0.1


# ------------------------------------------------------------------------------------------------------------- convergence


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0, 2.0, "auto"])
@pytest.mark.parametrize("kind", CELLS)
def test_peaceman_rachford_converges_where_picard_diverges(kind, alpha):
    cell = fc_cell(skew=3.0) if kind == "fc" else conv_cell(size=(3, 4), g=1.5, h=3.0)
    x = injection(cell)
    w, _, _ = dense_parts(cell, x)
    assert np.linalg.norm(w, 2) > 3
    picard = rd.solve(cell, x, stop=rd.StopRule(rtol=1e-8, max_eval=400, divergence=1e6))
    assert picard.counts() == {rd.Status.DIVERGED: len(x)}
    stop = rd.StopRule(atol=1e-8, max_eval=1000)
    sol = rd.solve(cell, x, solver=PR(alpha=alpha), stop=stop)
    assert sol.converged
    other = rd.solve(cell, x, solver=PR(alpha=0.7), stop=stop)
    distance = np.linalg.norm((sol.z - other.z).reshape(len(x), -1), axis=1)
    assert np.all(distance <= certified_distance(cell, x, sol.z) + certified_distance(cell, x, other.z))


@pytest.mark.parametrize("kind", CELLS)
def test_the_iterate_of_peaceman_rachford_is_fejer_monotone(kind):
    """u never moves away from its fixed point ``(1 - alpha) z* + alpha (W z* + beta)``."""
    cell, alpha = CELLS[kind](), 0.8
    x = injection(cell)
    w, beta, _ = dense_parts(cell, x)
    z = rd.solve(cell, x, solver=PR(alpha=alpha), stop=TIGHT).z
    rows = z.reshape(len(x), -1)
    fixed = (1 - alpha) * rows + alpha * (rows @ w.T + beta)
    lost = 2 * (1 + alpha) * (1 + np.linalg.norm(w, 2)) * certified_distance(cell, x, z) + 1e-12
    distances = []
    for k in range(1, 12):
        u = rd.solve(cell, x, solver=PR(alpha=alpha), stop=rd.StopRule(max_eval=k)).iterate["z"]
        distances.append(np.linalg.norm(u.reshape(len(x), -1) - fixed, axis=1))
    distances = np.stack(distances)
    assert np.all(distances[1:] <= distances[:-1] + lost)
    assert np.all(distances[-1] < distances[0])


@pytest.mark.parametrize("share", [0.25, 0.5, 0.95])
@pytest.mark.parametrize("kind", CELLS)
def test_forward_backward_contracts_as_proved(kind, share):
    """Below the limit every step shrinks the distance by ``sqrt(1 - 2 alpha m + alpha^2 |I - W|^2)``."""
    cell = CELLS[kind]()
    x = injection(cell)
    w, _, _ = dense_parts(cell, x)
    m, norm = constants(w)
    limit = rd.solvers.forward_backward_limit(cell)
    assert abs(limit - 2 * m / norm**2) <= 256 * len(w) * U * limit * norm / m
    alpha = share * limit
    rate = np.sqrt(1 - 2 * alpha * m + alpha**2 * norm**2)
    assert rate < 1
    star = rd.solve(cell, x, solver=PR(), stop=TIGHT).z
    lost = 2 * certified_distance(cell, x, star) + 1e-12
    trace = rd.solve(cell, x, solver=FB(alpha=alpha), stop=rd.StopRule(max_eval=40), trace=True).trace
    distance = np.linalg.norm((trace.z["z"] - star).reshape(40, len(x), -1), axis=2)
    assert np.all(distance[1:] <= rate * distance[:-1] + lost)
    sol = rd.solve(cell, x, solver=FB(alpha=alpha), stop=TIGHT)
    assert sol.converged
    apart = np.linalg.norm((sol.z - star).reshape(len(x), -1), axis=1)
    assert np.all(apart <= certified_distance(cell, x, sol.z) + lost)


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_a_long_step_diverges_and_leaves_neighbours_alone(backend, same_bits):
    rng = np.random.default_rng(8)
    a, b_skew = rng.standard_normal((2, 12, 12)) / np.sqrt(12)
    cell = rd.models.monotone(a, 6 * b_skew, np.eye(12), np.zeros(12))
    x = rng.standard_normal((4, 12))
    x[1], x[2] = -1.0, np.nan  # beta < 0 has the fixed point 0 whatever the step
    stop = rd.StopRule(rtol=1e-6, atol=1e-8, max_eval=300, divergence=1e6)
    sol = rd.solve(cell, x, solver=FB(alpha=1.5), stop=stop, backend=backend)
    assert [rd.Status(s).name for s in sol.status] == ["DIVERGED", "CONVERGED", "NONFINITE", "DIVERGED"]
    np.testing.assert_array_equal(sol.z[1], 0.0)
    good = rd.solve(cell, x, solver=PR(alpha=0.2), stop=stop, backend=backend)
    assert [rd.Status(s).name for s in good.status] == ["CONVERGED", "CONVERGED", "NONFINITE", "CONVERGED"]
    for i in (0, 1, 3):
        alone = rd.solve(cell, x[i : i + 1], solver=PR(alpha=0.2), stop=stop, backend=backend)
        same_bits(good.z[i : i + 1], alone.z)
        assert good.n_eval[i] == alone.n_eval[0]


# -------------------------------------------------------------------------------------------- the residual is that of the cell


def reporting_error(cell, x, sol, alpha):
    """How far ``p = ((1 + alpha) y - h) / alpha`` can be from ``W y + beta`` (norm per sample).

    In exact arithmetic they agree when y = V (h + alpha beta) with the exact inverse. With M = (1 + alpha) I - alpha W they
    differ by ``(M y - s) / alpha``, where y is a rounded product with a rounded V: the defect ``M V - I`` (n u cond M, for the
    inversion, twice that for its own rounding) and n + 40 roundings of the product, both magnified by M; and a few roundings of
    y, h and p themselves. Transforms of length n count as n + 40 roundings as well, per axis and way.
    """
    w, beta, _ = dense_parts(cell, x)
    unit = float(np.finfo(cell.dtype).eps) / 2
    matrix = (1 + alpha) * np.eye(len(w)) - alpha * w
    rows = np.abs(sol.z.reshape(len(x), -1).astype(np.float64))
    size = np.linalg.norm(rows, axis=1) * np.sqrt(len(w))
    magnified = np.linalg.norm(matrix, 2) ** 2 * np.linalg.norm(np.linalg.inv(matrix), 2)
    return 4 * (len(w) + 40) * unit * (magnified * size + np.linalg.norm(beta, axis=1)) / alpha


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("max_eval", [1, 4, 40])
@pytest.mark.parametrize(
    "solver", [*SOLVERS, PR(alpha=1.0, inverse="dense")], ids=lambda s: f"{s.name}-{getattr(s, 'inverse', '')}"
)
@pytest.mark.parametrize("kind", CELLS)
def test_the_residual_is_that_of_the_cell(kind, solver, max_eval, dtype):
    cell = CELLS[kind](dtype=dtype)
    x = injection(cell)
    sol = rd.solve(cell, x, solver=solver, stop=rd.StopRule(max_eval=max_eval), verify=True)
    assert np.all(np.abs(sol.residual - sol.residual_dense) <= reporting_error(cell, x, sol, solver.step_length(cell)))
    if max_eval == 1:
        assert sol.residual.min() > 0.1


# ------------------------------------------------------------------------------------------------ transforms and matrices


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", [(3, 4), (1, 2), (6, 3)])
def test_transforms_and_the_matrix_find_the_same_point(size, dtype):
    cell = conv_cell(3, 2, size, dtype)
    x = injection(cell)
    stop = rd.StopRule(atol=1e-11 if dtype == "float64" else 1e-4, max_eval=3000)
    one, two = (rd.solve(cell, x, solver=PR(alpha=0.5, inverse=inverse), stop=stop) for inverse in ("fft", "dense"))
    assert one.converged
    assert two.converged
    apart = np.linalg.norm((one.z - two.z).reshape(len(x), -1).astype(np.float64), axis=1)
    assert np.all(apart <= certified_distance(cell, x, one.z) + certified_distance(cell, x, two.z))
    assert set(one.cost.by_node) == {"transform_2", "transform_3", "resolvent", "back_2", "back_3"}
    n = 3 * (size[0] + 2) * (size[1] + 2)
    assert two.cost.by_node == {"resolvent": n * n * int(two.n_eval.sum())}


def test_the_symbol_of_the_resolvent_is_that_of_the_matrix():
    cell = conv_cell(2, 1, (3, 4))
    form = match_form(cell)
    assert (form.size, form.origin, form.mask) == ((5, 6), (2, 2), "interior")
    w, _, _ = dense_parts(cell, injection(cell))
    dense = np.linalg.inv(1.5 * np.eye(len(w)) - 0.5 * w)
    impulse = np.zeros((2, 5, 6))
    impulse[1, 2, 3] = 1.0
    waves = np.fft.fft2(impulse).transpose(1, 2, 0)[..., None]
    column = np.fft.ifft2((resolvent(cell, 0.5) @ waves)[..., 0].transpose(2, 0, 1)).real
    # |V| <= 1 / (1 + alpha m): backward errors of the inversions and of the transforms, of numbers of size 1
    bound = 64 * len(w) * U * np.linalg.cond(1.5 * np.eye(len(w)) - 0.5 * w)
    assert np.abs(column.ravel() - dense[:, np.ravel_multi_index((1, 2, 3), impulse.shape)]).max() <= bound


# ------------------------------------------------------------------------------------------------------------------ parameters


@pytest.mark.parametrize("make", [PR, FB])
@pytest.mark.parametrize("alpha", [0.0, -1.0, np.nan, np.inf, "Auto", None, True])
def test_bad_alpha(make, alpha):
    with pytest.raises(ArgumentError, match="alpha"):
        make(alpha=alpha)


def test_bad_inverse():
    with pytest.raises(ArgumentError, match="inverse"):
        PR(inverse="lu")


@pytest.mark.parametrize("solver", [PR(), FB()], ids=lambda s: s.name)
def test_an_automatic_step_needs_a_monotone_cell(solver):
    builder = rd.GraphBuilder()
    z, x = builder.state("z", (2,)), builder.injection("x", (2,))
    linear = builder.node("Gemm", z, builder.parameter("W", 2 * np.eye(2)))
    builder.output(z, builder.node("Relu", builder.node("Add", linear, x)))
    with pytest.raises(ArgumentError, match="not strongly monotone"):
        rd.solve(builder.build(), np.ones((1, 2)), solver=solver)


def test_a_singular_resolvent_is_refused():
    builder = rd.GraphBuilder()
    z, x = builder.state("z", (2,)), builder.injection("x", (2,))
    linear = builder.node("Gemm", z, builder.parameter("W", 2 * np.eye(2)))
    builder.output(z, builder.node("Relu", builder.node("Add", linear, x)))
    with pytest.raises(ArgumentError, match="singular"):
        rd.solve(builder.build(), np.ones((1, 2)), solver=PR(alpha=1.0))


def test_memory_of_another_solver_is_refused():
    cell = fc_cell()
    x, rule = injection(cell), rd.DeltaRule(threshold=0.01)
    warm = rd.solve(cell, x, solver=PR(alpha=1.0), delta=rule)
    for solver in (rd.Picard(), PR(alpha=0.5), FB(alpha=1.0)):
        with pytest.raises(MemoryMismatchError):
            rd.solve(cell, x, solver=solver, delta=rule, warm=warm, reuse="state+memory")


def test_transforms_leave_nothing_to_gate():
    cell = conv_cell()
    with pytest.raises(UnsupportedError, match="inverse='dense'"):
        rd.solve(cell, injection(cell), solver=PR(), delta=rd.DeltaRule(threshold=0.01))


def test_a_plain_callable_cannot_be_split():
    with pytest.raises(ArgumentError, match="build a Cell"):
        rd.solve(lambda z, x: z / 2, z0=np.ones((1, 2)), solver=PR())
