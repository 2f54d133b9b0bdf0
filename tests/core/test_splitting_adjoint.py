"""Adjoints of monotone cells by splitting: the dense inverse, the same resolvent, gradients of the parametrisation."""

from __future__ import annotations

import numpy as np
import pytest
from monotone_cases import constants, conv_cell, dense_parts, fc_cell, injection

import refdeq as rd
from refdeq.circular import dense_matrix
from refdeq.errors import ArgumentError, UnsupportedError
from refdeq.models import monotone_pullback
from refdeq.solvers.splitting import resolvent

PR, FB = rd.PeacemanRachford, rd.ForwardBackward
CELLS = {"fc": fc_cell, "conv": conv_cell}
TIGHT = rd.StopRule(atol=1e-11, max_eval=2000)
METHODS = [FB(), PR(), PR(alpha=0.5), PR(alpha=0.5, inverse="dense")]


def solved(kind, solver=None, **options):
    """Cell, injection, a tight solution, and a cotangent."""
    cell = CELLS[kind](**options)
    x = injection(cell)
    solution = rd.solve(cell, x, solver=PR(alpha=0.5) if solver is None else solver, stop=TIGHT)
    g = np.random.default_rng(6).standard_normal(solution.z.shape).astype(cell.dtype)
    return cell, x, solution, g


def dense_adjoint(cell, x, z, g):
    """``(I - W^T D)^-1 g`` by one linear solve per sample, and the slopes D."""
    w, beta, mask = dense_parts(cell, x)
    slope = mask * (z.reshape(len(z), -1) @ w.T + beta > 0)
    rows = g.reshape(len(z), -1)
    exact = [np.linalg.solve(np.eye(len(w)) - w.T * d, row) for d, row in zip(slope, rows, strict=True)]
    return np.stack(exact), slope, w


@pytest.mark.parametrize("start", ["cotangent", "zero"])
@pytest.mark.parametrize("solver", METHODS, ids=lambda s: f"{s.name}-{getattr(s, 'inverse', '')}")
@pytest.mark.parametrize("kind", CELLS)
def test_against_the_dense_inverse(kind, solver, start):
    """``v = g + W^T u``, and u obeys the monotone bound: ``|u - u*| <= (1 + |I - W|) / m |F(u) - u|``."""
    cell, x, solution, g = solved(kind)
    gradient = rd.gradient(cell, solution, g, method=rd.Ift(solver=solver, stop=TIGHT, start=start))
    exact, slope, w = dense_adjoint(cell, x, solution.z, g)
    m, norm = constants(w)
    v = gradient.adjoint["z"].reshape(exact.shape)
    assert (gradient.status == rd.Status.CONVERGED).all()
    size = np.linalg.norm(w, 2)
    lost = 64 * len(w) * 2.0**-53 * (1 + norm) / m * (1 + size) * np.linalg.norm(exact, axis=1)
    assert np.all(np.linalg.norm(v - exact, axis=1) <= size * ((1 + norm) / m * 1e-11) + 10 * lost)
    residual = np.linalg.norm((v * slope) @ w + g.reshape(exact.shape) - v, axis=1)
    assert np.all(np.abs(gradient.residual - residual) <= lost)
    assert np.all(gradient.residual <= size * 1e-11 + lost)  # J^T v + g - v = W^T (F(u) - u)


@pytest.mark.parametrize("solver", [FB(), PR(alpha=0.5)], ids=lambda s: s.name)
def test_kernels_without_a_centre(solver, rng):
    """A kernel that reaches two sites one way and one the other, on one axis: its transpose reaches the other way."""
    shape, kernel = (2, 7), 0.2 * rng.standard_normal((2, 2, 4))
    builder = rd.GraphBuilder()
    z, x = builder.state("z", shape), builder.injection("x", shape)
    end = builder.node("Slice", z, starts=(5,), ends=(7,), axes=(2,))
    start = builder.node("Slice", z, starts=(0,), ends=(1,), axes=(2,))
    linear = builder.node("Conv", builder.node("Concat", end, z, start, axis=2), builder.parameter("W", kernel))
    builder.output(z, builder.node("Relu", builder.node("Add", linear, x)))
    cell = builder.build()
    w = dense_matrix(kernel, (7,), (2,))
    x, g = rng.standard_normal((2, 2, *shape))
    solution = rd.solve(cell, x, solver=solver, stop=TIGHT)
    slope = solution.z.reshape(2, -1) @ w.T + x.reshape(2, -1) > 0
    exact = [np.linalg.solve(np.eye(14) - w.T * d, row) for d, row in zip(slope, g.reshape(2, -1), strict=True)]
    gradient = rd.gradient(cell, solution, g, method=rd.Ift(solver=solver, stop=TIGHT))
    m, norm = constants(w)
    limit = np.linalg.norm(w, 2) * (1 + norm) / m * 1e-11 + 64 * 14 * 2.0**-53 * norm / m * np.linalg.norm(exact)
    assert np.all(np.linalg.norm(gradient.adjoint["z"].reshape(2, -1) - exact, axis=1) <= limit)
    assert solution.converged


@pytest.mark.parametrize("kind", CELLS)
def test_the_gradient_is_the_vjp_of_the_adjoint(kind, same_bits):
    cell, _, solution, g = solved(kind)
    gradient = rd.gradient(cell, solution, g, method=rd.Ift(solver=PR(), stop=TIGHT))
    pulled = rd.vjp(cell, solution, gradient.adjoint["z"])
    for part in ("parameters", "injections"):
        for name, array in getattr(pulled, part).items():
            same_bits(getattr(gradient, part)[name], array)


def test_the_inverse_of_the_forward_solve_is_found_again():
    cell, _, solution, g = solved("fc")
    before = resolvent.cache_info()
    rd.gradient(cell, solution, g, method=rd.Ift(solver=PR(alpha=0.5), stop=TIGHT))
    after = resolvent.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", CELLS)
def test_backends_and_dtypes(kind, dtype, backend, same_bits):
    stop = rd.StopRule(rtol=1e-4, max_eval=300)
    cell = CELLS[kind](dtype=dtype)
    x = injection(cell)
    solution = rd.solve(cell, x, solver=PR(alpha=0.5), stop=stop)
    g = np.ones_like(solution.z)
    runs = [
        rd.gradient(cell, solution, g, method=rd.Ift(solver=PR(alpha=0.5), stop=stop, backend=b))
        for b in ("reference", backend)
    ]
    assert (runs[0].status == rd.Status.CONVERGED).all()
    assert runs[0].adjoint["z"].dtype == dtype
    same_bits(runs[0].adjoint["z"], runs[1].adjoint["z"])
    same_bits(runs[0].parameters["W"], runs[1].parameters["W"])


@pytest.mark.parametrize("solver", [FB(), PR(alpha=0.5, inverse="dense")], ids=lambda s: s.name)
@pytest.mark.parametrize("kind", CELLS)
def test_a_delta_rule_on_the_adjoint(kind, solver):
    cell, _, solution, g = solved(kind)
    dense, delta = (
        rd.gradient(cell, solution, g, method=rd.Ift(solver=solver, stop=TIGHT, delta=rule))
        for rule in (None, rd.DeltaRule(threshold=0.0))
    )
    assert (delta.status == rd.Status.CONVERGED).all()
    _, norm = constants(dense_parts(cell, injection(cell))[0])
    limit = 2 * norm * (1 + norm) / constants(dense_parts(cell, injection(cell))[0])[0] * 1e-11
    # accumulators drift by a rounding of their own size per evaluation
    limit += 4 * int(delta.n_eval.max()) * 2.0**-53 * (1 + norm) ** 2 * np.linalg.norm(dense.adjoint["z"]) * np.sqrt(g[0].size)
    assert np.linalg.norm(dense.adjoint["z"] - delta.adjoint["z"]) <= np.sqrt(len(g)) * limit
    if isinstance(solver, FB):  # where the slope is 0, u stays 0 and nothing is sent
        assert delta.cost.saved > 0.2


def test_gradient_of_the_parametrisation_against_central_differences():
    """Through the parametrisation, the solve and the adjoint: dL/dA and dL/dB of ``L = <g, z*(A, B)>``."""
    rng = np.random.default_rng(11)
    n, d, h = 3, 2, 2.0**-13
    a, b_skew = rng.standard_normal((2, n, n)) / np.sqrt(n)
    u, b, x, g = rng.standard_normal((n, d)), rng.standard_normal(n), rng.standard_normal((2, d)), rng.standard_normal((2, n))
    stop = rd.StopRule(atol=1e-13, max_eval=2000)

    def solution(a, b_skew):
        return rd.solve(rd.models.monotone(a, b_skew, u, b), x, solver=PR(), stop=stop)

    def loss(a, b_skew):
        return float(np.sum(g * solution(a, b_skew).z))

    cell = rd.models.monotone(a, b_skew, u, b)
    gradient = rd.gradient(cell, solution(a, b_skew), g, method=rd.Ift(solver=PR(), stop=stop))
    to_a, to_b = monotone_pullback(a, gradient.parameters["W"])
    w, beta, _ = dense_parts(cell, x)
    pre = np.abs(solution(a, b_skew).z @ w.T + beta)
    assert pre.min() > 100 * h  # no slope flips between the two sides of a difference
    m, norm = constants(w)
    for got, of in ((to_a, lambda p: loss(p, b_skew)), (to_b, lambda p: loss(a, p))):
        base = a if got is to_a else b_skew
        for index in np.ndindex(base.shape):
            step = np.zeros_like(base)
            step[index] = h
            # half the difference of differences with steps h and 2 h bounds the third derivative's part
            near = (of(base + step) - of(base - step)) / (2 * h)
            far = (of(base + 2 * step) - of(base - 2 * step)) / (4 * h)
            noise = np.abs(g).sum() * (1 + norm) / m * 4e-13 / h
            assert abs(got[index] - near) <= abs(near - far) + noise


def test_other_cells_are_refused(tanh_cell):
    cell = tanh_cell()
    solution = rd.solve(cell, np.ones((1, 2)))
    with pytest.raises(UnsupportedError, match="Tanh"):
        rd.gradient(cell, solution, np.ones((1, 6)), method=rd.Ift(solver=PR()))


def test_splittings_that_it_does_not_know_are_refused():
    class Other(PR):
        def split(self, cell):
            return super().split(cell)

    class Foreign:
        name = "foreign"
        split = init = step = staticmethod(lambda *args: None)

    assert rd.Ift(solver=Other()).solver.name == "pr(auto)"
    with pytest.raises(ArgumentError, match="Foreign"):
        rd.Ift(solver=Foreign())


def test_frozen_masks_are_refused():
    cell = fc_cell()
    solution = rd.solve(cell, injection(cell), delta=rd.DeltaRule(threshold=0.1), stop=rd.StopRule(max_eval=3))
    with pytest.raises(ArgumentError, match="frozen masks"):
        rd.gradient(cell, solution, np.ones_like(solution.z), method=rd.Ift(solver=PR()), jacobian="frozen-mask")


def test_a_plain_callable_is_refused():
    solution = rd.solve(lambda z, x: z / 2, z0=np.ones((1, 2)))
    with pytest.raises(ArgumentError, match="needs a Cell"):
        rd.gradient(lambda z, x: z / 2, solution, np.ones((1, 2)), method=rd.Ift(solver=PR()), vjp=lambda z, x, v: v / 2)
