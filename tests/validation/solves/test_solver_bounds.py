"""Bounds of whole solves: what they must contain, and what they must not."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refdeq_validation.cases import solver
from refdeq_validation.judge.bounds_solver import activation_error, damped_error, derivative, exact_activation, inner, ulp
from refdeq_validation.judge.calls import Memory
from refdeq_validation.judge.enclosure import Enclosure
from refdeq_validation.judge.jacobian import STEP, complex_activation
from refdeq_validation.judge.mixing import Least, optimality
from refdeq_validation.lab.session import CLAIMS, Lab
from refdeq_validation.lab.variants import VARIANTS
from refdeq_validation.protocol.execute import execute

MP = {
    "Tanh": mpmath.tanh,
    "Sigmoid": lambda t: 1 / (1 + mpmath.exp(-t)),
    "Sin": mpmath.sin,
    "Cos": mpmath.cos,
    "Exp": mpmath.exp,
}
POINTS = np.array([-18.0, -2.5, -0.3, -1e-4, 0.0, 1e-9, 0.7, 1.3, 9.0])


@pytest.mark.parametrize("name", MP)
def test_exact_activations_and_their_derivatives(name):
    """To far below an ulp of float64, in the judge's way and by complex steps."""
    got, slope = exact_activation(name, POINTS), derivative(name, POINTS)
    steps = np.imag(complex_activation(name, POINTS + 1j * STEP)) / STEP
    with mpmath.workdps(40):
        for i, point in enumerate(POINTS):
            exact = MP[name](mpmath.mpf(float(point)))
            rate = mpmath.diff(MP[name], mpmath.mpf(float(point)))
            assert abs(float(mpmath.mpf(np.format_float_positional(got[i], unique=True)) - exact)) <= 0.1 * ulp(
                got[i], "float64"
            )
            assert abs(float(slope[i]) - float(rate)) <= 4e-15 * abs(float(rate)) + 1e-17
            assert abs(steps[i] - float(rate)) <= 1e-14 * abs(float(rate)) + 1e-15


def test_ulp_at_powers_of_two_and_zero():
    assert ulp(np.array([1.0, 1.5, 2.0, 0.0]), "float32").tolist() == [2.0**-23, 2.0**-23, 2.0**-22, 2.0**-149]


def test_strict_activations_keep_within_their_error_and_a_native_one_within_its_own():
    value = exact_activation("Tanh", POINTS)
    for dtype in ("float32", "float64"):
        strict = activation_error("Tanh", value, dtype, None)
        rounded = value.astype(dtype).astype(np.longdouble)
        assert (np.abs(rounded - value) <= strict).all()
        assert (activation_error("Tanh", value, dtype, 4.0) >= strict).all()
    assert not activation_error("Relu", value, "float32", 4.0).any()


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_inner_products_of_uncertain_rows_lie_in_their_radius(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 3, 9))
    a_error, b_error = 10.0 ** rng.uniform(-9, -2, (2, 3, 9))
    centre, radius = inner(a, a_error, b, b_error)
    other = ((a + a_error * rng.choice([-1, 1], a.shape)) * (b + b_error * rng.choice([-1, 1], b.shape)))[..., ::-1].sum(
        axis=-1
    )
    assert (np.abs(other - centre) <= radius).all()


def test_a_damped_step_in_float32_keeps_within_its_error():
    rng = np.random.default_rng(0)
    z, f = rng.standard_normal((2, 1000)).astype(np.float32)
    alpha, one = 0.7, np.float32
    step = one(1.0 - alpha) * z + one(alpha) * f
    exact = (1.0 - alpha) * z.astype(np.float64) + alpha * f.astype(np.float64)
    zero = np.zeros(1000)
    limit = damped_error(alpha, z.astype(np.float64), f.astype(np.float64), zero, zero, np.float32)
    ratio = np.abs(step - exact) / limit
    assert 0.3 < ratio.max() <= 1.0


# --------------------------------------------------------------------------------------------------- Anderson's optimality


def mixed(seed, k, dtype, wrong=0.0):
    rng = np.random.default_rng(seed)
    residuals, values = rng.standard_normal((2, 8, k))
    g, f = rng.standard_normal((2, 8))
    best = np.linalg.lstsq(residuals, g, rcond=None)[0] + wrong * rng.standard_normal(k)
    problem = Least(g, residuals, f, values)
    return optimality(problem, (f - values @ best).astype(dtype), dtype)


@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from(["float32", "float64"]))
@settings(max_examples=60, deadline=None)
def test_the_best_weights_pass_and_others_do_not(seed, k, dtype):
    good, bad = mixed(seed, k, dtype), mixed(seed, k, dtype, wrong=1e-2)
    assert good.hull <= good.hull_limit
    assert good.gap <= good.gap_limit
    assert bad.hull <= bad.hull_limit
    assert bad.gap > bad.gap_limit


def test_an_argument_outside_the_affine_hull_is_told():
    rng = np.random.default_rng(1)
    problem = Least(rng.standard_normal(8), rng.standard_normal((8, 2)), rng.standard_normal(8), rng.standard_normal((8, 2)))
    ratio = optimality(problem, rng.standard_normal(8), "float64")
    assert ratio.hull > 1e6 * ratio.hull_limit
    none = Least(problem.h, np.zeros((8, 0)), problem.start, np.zeros((8, 0)))
    assert optimality(none, problem.start, "float64").hull == 0.0
    assert not optimality(none, problem.start + 1e-9, "float64").hull <= optimality(none, problem.start, "float64").hull_limit


# ------------------------------------------------------------------------------------------------------------- enclosures


@pytest.mark.parametrize("name", ["reverse", "fma", "kahan", "truncate", "tf32", "bfloat16x3", "native"])
def test_enclosures_contain_the_runs_of_legal_variants(name):
    variant = VARIANTS[name]
    case = next(c for c in solver.cases("float32") if c.slug == "lockstep-3-damped-refdeq-f32")
    call, state = case.calls[-1], case.calls[0].arrays
    enclosure = Enclosure(
        case, variant.claims, Memory(state["r"], state["a"], state["count"]), call.arrays["x"], call.arrays["z0"]
    )
    everyone = np.ones(3, bool)
    for _ in range(2):
        enclosure.step(enclosure.evaluate(), everyone)
    z = execute(case, variant.implementation(), variant.claims).answers[-1].results["z"].astype(np.longdouble)
    ratio = np.abs(z - enclosure.z.value) / enclosure.z.error
    assert 0 < ratio.max() <= 1.0


def test_under_strict_claims_an_enclosure_is_the_run():
    case = next(c for c in solver.cases("float64") if c.slug == "lockstep-3-picard-delta-network-f64")
    call, state = case.calls[-1], case.calls[0].arrays
    enclosure = Enclosure(case, CLAIMS, Memory(state["r"], state["a"], state["count"]), call.arrays["x"], call.arrays["z0"])
    everyone = np.ones(3, bool)
    for _ in range(2):
        enclosure.step(enclosure.evaluate(), everyone)
    assert enclosure.exact
    assert not enclosure.z.error.any()
    assert np.array_equal(enclosure.z.value, execute(case, Lab(), CLAIMS).answers[-1].results["z"])
