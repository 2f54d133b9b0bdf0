"""Spectral radius and norm of Jacobians against dense eigenvalues, known spectra and perturbation theory."""

from __future__ import annotations

import numpy as np
import pytest

import refdeq as rd
from refdeq.analyze import DENSE_UP_TO, spectrum
from refdeq.eigenvalues import dense_dominant, krylov_dominant
from refdeq.errors import ArgumentError, DTypeError, ShapeError
from refdeq.krylov import KrylovSchur

UNIT = 2.0**-53
METHODS = ("dense", "krylov")


def linear_cell(a, dtype="float64"):
    """``z <- A z``: the Jacobian is A everywhere."""
    builder = rd.GraphBuilder(dtype)
    z = builder.state("z", (len(a),))
    builder.output(z, builder.node("Gemm", z, builder.parameter("A", a.astype(dtype)), transB=1))
    return builder.build()


def rotations(angles, radius):
    """Block diagonal: eigenvalues ``radius exp(+-i angle)``."""
    a = np.zeros((2 * len(angles), 2 * len(angles)))
    for i, angle in enumerate(angles):
        c, s = radius * np.cos(angle), radius * np.sin(angle)
        a[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[c, -s], [s, c]]
    return a


def orthogonal(n, rng):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def similar(a, rng):
    """The same eigenvalues and singular values in general position."""
    q = orthogonal(len(a), rng)
    return q @ a @ q.T


def jordan(n, value, coupling):
    return value * np.eye(n) + coupling * np.diag(np.ones(n - 1), 1)


def beside(a, b):
    """Both spectra together."""
    return np.block([[a, np.zeros((len(a), len(b)))], [np.zeros((len(b), len(a))), b]])


def random(n, rng):
    return 0.9 * rng.standard_normal((n, n)) / np.sqrt(n)


CASES = {
    "number": lambda rng: np.array([[-0.3]]),
    "random": lambda rng: random(40, rng),
    "symmetric": lambda rng: random(30, rng) + random(30, rng).T,
    "rotation": lambda rng: rotations([2.0], 0.7),
    "pair in a crowd": lambda rng: similar(beside(rotations([1.0], 0.95), np.diag(rng.uniform(-0.9, 0.9, 30))), rng),
    "two pairs alike": lambda rng: similar(
        beside(rotations([1.0, 2.5], 0.9) - 1e-10, np.diag(rng.uniform(-0.8, 0.8, 40))), rng
    ),
    "same rotation in many planes": lambda rng: rotations([2.5] * 20, 0.8),
    "opposite signs": lambda rng: similar(np.diag([0.9, -0.9, 0.5, 0.1]), rng),
    "negative": lambda rng: similar(np.diag([-0.9, 0.8, 0.5, 0.1]), rng),
    "multiple of the identity": lambda rng: 0.5 * np.eye(12),
    "zero": lambda rng: np.zeros((5, 5)),
    "rank one": lambda rng: np.outer(rng.standard_normal(20), rng.standard_normal(20)) / 20,
    "not normal": lambda rng: similar(np.diag(np.linspace(0.1, 0.9, 25)) + np.triu(rng.standard_normal((25, 25)), 1) / 12, rng),
    "leaning": lambda rng: (lambda a: a + 2 * np.triu(a, 1))(random(64, rng)),
    "above one": lambda rng: 3.0 * random(20, rng),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_against_dense_eigenvalues(name, method, rng):
    """Both errors are met, and small: converged means to the tolerance asked for."""
    a = CASES[name](rng)
    found = spectrum(linear_cell(a), np.zeros((2, len(a))), method=method, rtol=1e-8)
    values = np.linalg.eigvals(a)
    radius, norm = np.abs(values).max(), np.linalg.norm(a, 2)
    oracle = len(a) * UNIT * np.linalg.norm(a)  # backward error of the oracle itself
    assert found.converged.all(), found
    assert np.all(np.abs(found.radius - radius) <= found.radius_error + oracle * 16)
    assert np.all(np.abs(found.norm - norm) <= found.norm_error + oracle)
    assert np.all(found.radius_error <= 1e-8 / 15 * radius)  # residuals of a sixteenth over the condition, and rounding
    top = values[np.abs(values) >= radius - 2 * found.radius_error[0] - 32 * oracle]
    assert np.all(np.abs(top[:, None] - found.dominant).min(axis=0) <= 2 * found.radius_error + 32 * oracle)
    if len(top) <= 2 and name != "opposite signs":
        assert list(found.complex_pair) == [bool(np.abs(top.imag).max() > 0)] * 2
    if method == "dense":
        assert found.products == len(a)
        np.testing.assert_array_equal(np.sort(np.abs(found.eigenvalues[0])), np.sort(np.abs(found.eigenvalues[1])))


@pytest.mark.parametrize("angle", [0.01, 0.5, np.pi / 2, 2.0, 3.1])
def test_rotation_angles_are_found(angle):
    """Where a Rayleigh quotient would say cos(angle) times the radius."""
    a = rotations([angle, 0.7], 0.9)
    a[2:] *= 0.5
    for method in METHODS:
        found = spectrum(linear_cell(a), np.zeros((1, 4)), method=method)
        assert found.complex_pair[0]
        assert abs(found.dominant[0] - 0.9 * np.exp(1j * angle)) <= found.radius_error[0] + 32 * UNIT


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [4, 8, 16])
def test_defective_eigenvalues_are_never_called_converged(n, method, rng):
    """A Jordan block's eigenvalue is the n-th root of rounding away from what was computed: the error says so."""
    a = similar(jordan(n, 0.5, 1.0), rng)
    found = spectrum(linear_cell(a), np.zeros((1, n)), method=method)
    assert not found.converged[0]
    assert abs(found.radius[0] - 0.5) <= found.radius_error[0]
    exact = spectrum(linear_cell(jordan(n, 0.5, 1.0)), np.zeros((1, n)), method="dense")  # triangular: computed exactly
    assert exact.radius[0] == 0.5
    assert not exact.converged[0]
    assert exact.radius_error[0] >= (n * UNIT) ** (1 / n) / 4


def test_a_short_jordan_chain_converges_to_the_root_of_rounding(rng):
    a = similar(jordan(2, 0.5, 1.0), rng)
    found = spectrum(linear_cell(a), np.zeros((1, 2)), rtol=1e-6)
    assert found.converged[0]
    assert abs(found.radius[0] - 0.5) <= found.radius_error[0]
    assert UNIT**0.5 / 4 < found.radius_error[0] < 1e-6
    assert not spectrum(linear_cell(a), np.zeros((1, 2)), rtol=1e-10).converged[0]


def test_many_moduli_alike_are_not_called_converged(rng):
    """An orthogonal matrix has no dominant eigenvalue; the iteration says that it found none."""
    a = 0.9 * orthogonal(100, rng)
    found = spectrum(linear_cell(a), np.zeros((1, 100)), method="krylov", budget=256)
    assert not found.converged[0]
    assert abs(found.norm[0] - 0.9) <= found.norm_error[0] + 100 * UNIT
    dense = spectrum(linear_cell(a), np.zeros((1, 100)), method="dense")
    assert dense.converged[0]
    assert abs(dense.radius[0] - 0.9) <= dense.radius_error[0]


def test_a_budget_too_small_is_said(rng):
    a = random(200, rng)
    poor = spectrum(linear_cell(a), np.zeros((1, 200)), method="krylov", budget=64)
    assert not poor.converged[0]
    assert spectrum(linear_cell(a), np.zeros((1, 200)), method="krylov", budget=4096).converged[0]


def test_a_second_run_that_finds_more_denies_convergence():
    """A start without the dominant eigenvector converges elsewhere; the run from the left sees the larger eigenvalue."""
    a = np.diag([0.9, 0.5, 0.4])
    start, ones = np.array([0.0, 1.0, 1.0]), np.ones(3)

    def product(v):
        return v @ a

    blind, _ = krylov_dominant(product, product, (start, ones), 1e-6, 100, 1.0)
    assert blind.value[0].real == pytest.approx(0.5, abs=4 * UNIT)
    assert not blind.found[0]
    seeing, _ = krylov_dominant(product, product, (ones, ones), 1e-6, 100, 1.0)
    assert seeing.found[0]


@pytest.mark.parametrize("seed", [1, 4, 8])
@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-7])
def test_near_rivals_are_told_apart_or_said(gap, seed):
    """Thirty pairs of almost one modulus: what is called found is the largest, to the tolerance."""
    rng = np.random.default_rng(seed)
    a = np.zeros((60, 60))
    for i in range(0, 60, 2):
        radius = 0.9 * (1 - gap * rng.random())
        a[i : i + 2, i : i + 2] = rotations(rng.uniform(0, np.pi, 1), radius)
    a = similar(a, rng)
    found, _ = krylov_dominant(lambda v: a @ v, lambda v: a.T @ v, tuple(rng.standard_normal((2, 60))), 1e-6, 256, 0.9)
    error = abs(np.abs(found.value[0]) - np.abs(np.linalg.eigvals(a)).max())
    assert error <= 1e-6 * 0.9 or not found.found[0]


# ------------------------------------------------------------------------------------------------------------------- cells


def jacobian_by_hand(cell, z, x):
    """J of the tanh cell: diag(1 - tanh(W z + U x + b)^2) W."""
    w, u, b = (cell.parameters[name].astype(np.float64) for name in ("W", "U", "b"))
    slope = 1 - np.tanh(z @ w.T + x @ u.T + b) ** 2
    return slope[:, :, None] * w


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_sample_has_its_own_jacobian(method, dtype, tanh_cell, rng):
    cell, x = tanh_cell(n=12, dtype=dtype), rng.standard_normal((4, 2)).astype(dtype)
    sol = rd.solve(cell, x, stop=rd.StopRule(rtol=1e-5))
    found = spectrum(cell, sol, method=method)
    expected = jacobian_by_hand(cell, sol.z.astype(np.float64), x.astype(np.float64))
    radius = np.abs(np.linalg.eigvals(expected)).max(axis=1)
    # entries of J differ by the strict tanh's 3 ulp and a few roundings more; its eigenvalues by that times their condition,
    # which radius_error contains
    assert found.converged.all()
    assert np.all(np.abs(found.radius - radius) <= 16 * found.radius_error)
    assert np.all(np.abs(found.norm - np.linalg.norm(expected, 2, axis=(1, 2))) <= found.norm_error + 64 * UNIT)
    assert len(set(found.radius)) == 4
    assert found.radius.dtype == np.float64
    same = spectrum(cell, sol.z, x, method=method)
    np.testing.assert_array_equal(found.radius, same.radius)


@pytest.mark.parametrize("method", METHODS)
def test_samples_do_not_hurt_each_other(method, tanh_cell, rng, same_bits):
    cell, x = tanh_cell(n=8), rng.standard_normal((3, 2))
    z = rng.standard_normal((3, 8))
    alone = [spectrum(cell, z[b : b + 1], x[b : b + 1], method=method) for b in range(3)]
    z[1] = np.nan
    together = spectrum(cell, z, x, method=method)
    assert list(together.converged) == [True, False, True]
    assert np.isnan([together.radius[1], together.norm[1], together.radius_error[1], together.dominant[1].real]).all()
    for b in (0, 2):
        if method == "krylov":  # one sample after the other
            same_bits(together.radius[b : b + 1], alone[b].radius)
        # products of another batch may be summed in another order
        bound = 16 * (alone[b].radius_error[0] + together.radius_error[b])
        assert abs(together.radius[b] - alone[b].radius[0]) <= bound


def test_conv_cell_with_two_methods(conv_cell, rng):
    cell, x = conv_cell(), rng.standard_normal((2, 3, 4, 5))
    sol = rd.solve(cell, x, stop=rd.StopRule(rtol=1e-10))
    dense, krylov = (spectrum(cell, sol, method=method) for method in METHODS)
    assert dense.converged.all()
    assert krylov.converged.all()
    assert np.all(np.abs(dense.radius - krylov.radius) <= dense.radius_error + krylov.radius_error)
    assert np.all(dense.radius <= dense.norm)
    assert (dense.method, krylov.method) == METHODS
    assert DENSE_UP_TO >= 60
    assert spectrum(cell, sol).method == "dense"


def test_two_states_and_automatic_choice(rng):
    """y <- 0.5 s, s <- -0.8 y: eigenvalues +-i sqrt(0.4) in every pair of elements."""
    n = DENSE_UP_TO // 2 + 1
    builder = rd.GraphBuilder()
    y, s = builder.state("y", (n,)), builder.state("s", (n,))
    builder.output(y, builder.node("Mul", s, builder.parameter("half", np.array(0.5))))
    builder.output(s, builder.node("Mul", y, builder.parameter("minus", np.array(-0.8))))
    found = spectrum(builder.build(), {"y": np.zeros((1, n)), "s": np.zeros((1, n))})
    assert found.method == "krylov"
    assert found.converged[0]
    assert found.complex_pair[0]
    assert abs(found.radius[0] - 0.4**0.5) <= found.radius_error[0] + 4 * UNIT
    assert abs(found.norm[0] - 0.8) <= found.norm_error[0]


def test_frozen_masks_change_the_spectrum(affine_cell):
    """What was not sent has no influence: with a threshold that keeps the second element back, its column is gone."""
    cell = affine_cell(np.array([[0.5, 0.25], [0.0, -0.75]]), np.zeros(2))
    sol = rd.solve(cell, np.array([[1.0, 0.0]]), delta=rd.DeltaRule(threshold=1e-9, gates={}), stop=rd.StopRule(max_eval=3))
    np.testing.assert_array_equal(sol.memory.mask["z"], [[True, False]])
    assert spectrum(cell, sol).radius[0] == pytest.approx(0.75, abs=4 * UNIT)
    assert spectrum(cell, sol, jacobian="frozen-mask").radius[0] == pytest.approx(0.5, abs=4 * UNIT)
    with pytest.raises(ArgumentError, match="frozen-mask"):
        spectrum(cell, sol.z, np.array([[1.0, 0.0]]), jacobian="frozen-mask")


def test_empty_batch_and_repr(tanh_cell):
    cell = tanh_cell()
    for method in METHODS:
        found = spectrum(cell, np.zeros((0, 6)), np.zeros((0, 2)), method=method)
        assert found.radius.shape == (0,)
        assert "no samples" in repr(found)
    text = repr(spectrum(linear_cell(rotations([1.0], 0.5)), np.zeros((3, 2))))
    assert text == "Spectrum(dense, dense J; 3 samples; radius 0.5; norm 0.5; complex pairs 3; converged 3)"


# ---------------------------------------------------------------------------------------------------------- linear algebra


@pytest.mark.parametrize("small", [1.0, 1e-8])
def test_krylov_relation_survives_restarts(small, rng):
    """``A Q = Q H`` with orthonormal Q, after restarts and cancellation: a residual is what ``||A x - value x||`` is."""
    n = 120
    a = random(n, rng) if small == 1.0 else np.eye(n) + small * random(n, rng)  # products along their vector, but for 1e-8
    space = KrylovSchur(lambda v: a @ v, rng.standard_normal(n))
    space.run(lambda space: bool(space.residuals[0] <= small * 1e-9), budget=400)
    assert space.products > 3 * 32  # it did restart
    norm = np.linalg.norm(a, 2)
    for i in range(6):
        x = space.vector(i)
        # 2 * 32 roundings of a projection and n of a product, per restart at most once more
        bound = (space.products / 16) * (n + 64) * UNIT * norm
        assert abs(np.linalg.norm(x) - 1) <= bound
        assert abs(np.linalg.norm(a @ x - space.values[i] * x) - space.residuals[i]) <= bound
    oracle = np.linalg.eigvals(a)
    assert abs(np.abs(space.values[0]) - np.abs(oracle).max()) <= small * 1e-6


def test_an_invariant_space_ends_the_iteration(rng):
    """Two distinct eigenvalues: two products, and nothing is divided by rounding."""
    a = np.diag([0.5] * 3 + [0.25] * 6)
    space = KrylovSchur(lambda v: a @ v, rng.standard_normal(9))
    space.run(lambda space: False, budget=100)
    assert space.products == 2
    assert np.all(np.abs(space.values - [0.5, 0.25]) <= 16 * UNIT)
    np.testing.assert_array_equal(space.residuals, np.zeros(2))
    space.run(lambda space: False, budget=100)
    assert space.products == 2


def test_the_dense_error_contains_a_perturbation_of_rounding_size(rng):
    """Matrices moved by the backward error the estimate assumes have their radius inside it."""
    for a in (random(20, rng), jordan(5, 0.7, 0.3), similar(jordan(3, 0.7, 1.0), rng)):
        found, _, _ = dense_dominant(a[None])
        for _ in range(10):
            noise = rng.standard_normal(a.shape)
            noise *= len(a) * UNIT * np.linalg.norm(a) / np.linalg.norm(noise, 2)
            moved = np.abs(np.linalg.eigvals(a + noise)).max()
            assert abs(moved - np.abs(found.value[0])) <= found.error[0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "power"}, ArgumentError, "method"),
        ({"jacobian": "sparse"}, ArgumentError, "jacobian"),
        ({"rtol": 0.0}, ArgumentError, "rtol"),
        ({"budget": 0}, ArgumentError, "budget"),
        ({"rng": "seed"}, ArgumentError, "rng"),
        ({"rng": True}, ArgumentError, "rng"),
        ({"cell": np.tanh}, ArgumentError, "cell"),
        ({"z": np.zeros((2, 5))}, ShapeError, "z"),
        ({"z": np.zeros((2, 6), np.float32)}, DTypeError, "z"),
        ({"x": None}, ArgumentError, "x"),
        ({"x": np.zeros((3, 2))}, ShapeError, "x"),
    ],
)
def test_bad_arguments(options, error, message, tanh_cell):
    call = {"cell": tanh_cell(), "z": np.zeros((2, 6)), "x": np.zeros((2, 2)), **options}
    with pytest.raises(error, match=message):
        spectrum(call.pop("cell"), call.pop("z"), call.pop("x"), **call)
    sol = rd.solve(tanh_cell(), np.zeros((2, 2)))
    with pytest.raises(ArgumentError, match="brings its own"):
        spectrum(tanh_cell(), sol, np.zeros((2, 2)))
