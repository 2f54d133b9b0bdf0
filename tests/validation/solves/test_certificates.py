"""Certificates hold against solutions in fifty digits, and are not given where nothing is proved."""

import mpmath
import numpy as np
import pytest
from refdeq_validation.judge.certificate import certify
from refdeq_validation.protocol.problem import Problem

PHI = {"Tanh": mpmath.tanh, "Sigmoid": lambda t: 1 / (1 + mpmath.exp(-t)), "Sin": mpmath.sin, "Identity": lambda t: t}


def solution(problem, x, z):
    """Fixed point near z in fifty digits, by Newton's method from it."""
    n, phi = len(z), PHI[problem.activation]
    with mpmath.workdps(50):
        w = mpmath.matrix([[mpmath.mpf(float(v)) for v in row] for row in problem.weight])
        c = mpmath.matrix([mpmath.mpf(float(v)) for v in x])
        point = mpmath.matrix([mpmath.mpf(float(v)) for v in z])
        for _ in range(60):
            total = w * point + c
            rest = point - mpmath.matrix([phi(t) for t in total])
            slopes = [mpmath.diff(phi, t) for t in total]
            jacobian = mpmath.matrix(n, n)
            for i in range(n):
                for j in range(n):
                    jacobian[i, j] = (1 if i == j else 0) - slopes[i] * w[i, j]
            point -= mpmath.lu_solve(jacobian, rest)
        assert mpmath.norm(rest) < mpmath.mpf(10) ** -45
        return [+value for value in point]


def problem_of(activation, size, scale, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((size, size)) * scale / size**0.5).astype(dtype)
    return Problem("Gemm", dtype, (size,), weight, None, None, activation=activation), rng.standard_normal(size).astype(dtype)


@pytest.mark.parametrize("activation", ["Tanh", "Sigmoid", "Sin", "Identity"])
@pytest.mark.parametrize("away", [1e-3, 1e-7, 1e-12])
def test_the_enclosure_contains_the_fixed_point_and_is_not_much_larger(activation, away):
    problem, x = problem_of(activation, 5, 0.8)
    start = np.array([float(v) for v in solution(problem, x, np.zeros(5))])
    z = start + away * np.array([1.0, -0.5, 0.25, -1.0, 0.75])
    found = certify(problem, x, z, np.inf, np.zeros(5))
    exact = solution(problem, x, z)
    assert found is not None
    with mpmath.workdps(50):
        distance = np.array([float(abs(mpmath.mpf(float(v)) - e)) for v, e in zip(z, exact, strict=True)])
        point = [mpmath.mpf(np.format_float_positional(v, unique=True)) for v in found.point]
        gaps = np.array([float(abs(p - e)) for p, e in zip(point, exact, strict=True)])
    assert (distance <= found.radius).all()
    assert np.median(found.radius / distance) < 1.5
    assert (gaps <= found.own).all()


def test_expansive_maps_are_certified_too():
    """Entries so large that |J| has no bound below 1: the inverse of I - |J| says nothing, Krawczyk's test does."""
    problem, x = problem_of("Tanh", 6, 4.0, seed=3)
    z = np.array([float(v) for v in solution(problem, x, np.zeros(6))])
    found = certify(problem, x, z + 1e-9, np.inf, np.zeros(6))
    assert found is not None
    assert (np.abs(z + 1e-9 - z) <= found.radius).all()


def test_nothing_is_claimed_where_nothing_is_proved():
    problem, x = problem_of("Tanh", 4, 0.8)
    assert certify(problem, x, np.full(4, 0.9), np.inf, np.zeros(4)) is None  # far from any fixed point
    singular = Problem("Gemm", "float64", (2,), np.eye(2), None, None)
    assert certify(singular, np.ones(2), np.zeros(2), np.inf, np.zeros(2)) is None  # z = z + 1 has none
    relu = Problem("Gemm", "float64", (2,), 0.5 * np.eye(2), None, None, activation="Relu")
    assert certify(relu, np.ones(2), np.ones(2), np.inf, np.zeros(2)) is None  # no second derivative
    assert certify(problem, x, np.full(4, np.nan), np.inf, np.zeros(4)) is None


def test_the_claimed_radius_grows_with_the_claimed_residual_and_the_error_of_f():
    problem, x = problem_of("Tanh", 4, 0.5)
    z = np.array([float(v) for v in solution(problem, x, np.zeros(4))])
    radii = [
        certify(problem, x, z, claimed, np.full(4, error)).claimed.max()
        for claimed, error in ((1e-9, 0), (1e-6, 0), (1e-9, 1e-4))
    ]
    assert radii[0] < radii[1] < radii[2]
    assert certify(problem, x, z, 8.0, np.zeros(4)).claimed.max() == np.inf
