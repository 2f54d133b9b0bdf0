"""Every operator's vjp, jvp and curvature, by one generator of cases (see ``op_cases``)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from op_cases import ACTIVATIONS, CASES, Case, attributes, differentiable_point, forward

from refdeq.ops import OPS

UNIT = 2.0**-53
SMOOTH = [Case(name, [(3, 40)]) for name in ACTIVATIONS]


def moved(inputs, tangents, step):
    return [u if t is None else u + u.dtype.type(step) * t for u, t in zip(inputs, tangents, strict=True)]


def subsets(tangents):
    """The tangents of every non-empty choice of inputs, None for the others."""
    for chosen in itertools.product((False, True), repeat=len(tangents)):
        if any(chosen):
            yield [t if here else None for t, here in zip(tangents, chosen, strict=True)]


def jvp(case, inputs, tangents):
    return OPS[case.op].jvp(inputs, forward(case, inputs), attributes(case), tangents)


def vjp(case, inputs, g):
    return OPS[case.op].vjp(inputs, forward(case, inputs), attributes(case), g)


def curvature(case, inputs, g, tangents):
    return OPS[case.op].curvature(inputs, forward(case, inputs), attributes(case), g, tangents)


def cotangent(case, inputs, rng):
    return rng.integers(-4, 5, forward(case, inputs).shape).astype(inputs[0].dtype)


def test_every_operator_has_a_case():
    assert {case.op for case in CASES + SMOOTH} == set(OPS)


# ------------------------------------------------------------------------ polynomials of degree two: every difference is exact


@pytest.mark.parametrize("case", CASES, ids=str)
def test_jvp_is_the_central_difference(case, rng):
    inputs, tangents = differentiable_point(case, rng)
    for some in subsets(tangents):
        above, below = (forward(case, moved(inputs, some, step)) for step in (1, -1))
        np.testing.assert_array_equal(jvp(case, inputs, some), (above - below) / 2)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_jvp_and_vjp_are_transposes(case, rng):
    inputs, tangents = differentiable_point(case, rng)
    g = cotangent(case, inputs, rng)
    back = vjp(case, inputs, g)
    for some in subsets(tangents):
        products = [np.sum(gradient * t) for gradient, t in zip(back, some, strict=True) if t is not None]
        assert np.sum(g * jvp(case, inputs, some)) == sum(products)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_curvature_is_the_central_difference_of_vjp(case, rng):
    inputs, tangents = differentiable_point(case, rng)
    g = cotangent(case, inputs, rng)
    for some in subsets(tangents):
        above, below = (vjp(case, moved(inputs, some, step), g) for step in (1, -1))
        found = curvature(case, inputs, g, some)
        assert len(found) == len(inputs)
        for value, bend, up, down in zip(inputs, found, above, below, strict=True):
            np.testing.assert_array_equal(np.zeros_like(value) if bend is None else bend, (up - down) / 2)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_curvature_is_symmetric(case, rng):
    """<curvature(g, s), t> = <curvature(g, t), s>: second derivatives commute."""
    inputs, s = differentiable_point(case, rng)
    _, t = differentiable_point(case, rng)
    g = cotangent(case, inputs, rng)

    def pairing(along, against):
        found = curvature(case, inputs, g, along)
        return sum(np.sum(bend * w) for bend, w in zip(found, against, strict=True) if bend is not None)

    assert pairing(s, t) == pairing(t, s)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_derivatives_in_float32(case, rng):
    """Shapes and dtype are those of the inputs, and exact numbers stay exact."""
    wide, tangents = differentiable_point(case, rng)
    inputs, narrow = [u.astype(np.float32) for u in wide], [t.astype(np.float32) for t in tangents]
    g = cotangent(case, wide, rng)
    out = jvp(case, inputs, narrow)
    assert (out.dtype, out.shape) == (np.float32, g.shape)
    np.testing.assert_array_equal(out, jvp(case, wide, tangents))
    back = [*vjp(case, inputs, g.astype(np.float32)), *curvature(case, inputs, g.astype(np.float32), narrow)]
    same = [*vjp(case, wide, g), *curvature(case, wide, g, tangents)]
    for gradient, expected, value in zip(back, same, inputs + inputs, strict=True):
        assert (gradient is None) == (expected is None)
        if gradient is not None:
            assert (gradient.dtype, gradient.shape) == (np.float32, value.shape)
            np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("case", [c for c in CASES if c.op != "MatMul" or 0 in c.batched], ids=str)
def test_derivatives_of_an_empty_batch(case, rng):
    inputs = [np.zeros((0, *s[1:])) if i in case.batched else rng.standard_normal(s) for i, s in enumerate(case.shapes)]
    out = jvp(case, inputs, inputs)
    assert out.shape == forward(case, inputs).shape
    for found in (vjp(case, inputs, out), curvature(case, inputs, out, inputs)):
        assert [None if a is None else a.shape for a in found] == [
            None if a is None else u.shape for a, u in zip(found, inputs, strict=True)
        ]


@pytest.mark.parametrize("case", [Case("Relu", [(1, 3)]), Case("LeakyRelu", [(1, 3)], {"alpha": 0.25})], ids=str)
def test_kinks_take_one_branch(case):
    """At zero, of either sign, jvp and vjp take the same slope, and nothing curves."""
    x, t = np.array([[0.0, -0.0, 1.0]]), np.array([[3.0, -3.0, 2.0]])
    np.testing.assert_array_equal(jvp(case, [x], [t]), vjp(case, [x], t)[0])
    assert curvature(case, [x], t, [t]) == [None]


def test_unread_inputs_are_not_read(same_bits):
    """What does not vary contributes nothing, even where another input's value is not finite."""
    weight, t = np.array([[np.inf, 1.0], [1.0, 2.0]]), np.array([[1.0, 1.0]])
    case = Case("Gemm", [(1, 2), (2, 2), (2,)])
    same_bits(jvp(case, [t, weight, t[0]], [None, None, t[0]]), t)


# ---------------------------------------------------------------------------------------------------------------- activations


@pytest.mark.parametrize("case", SMOOTH, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_activations_have_one_slope(case, dtype, rng, same_bits):
    """The Jacobian is diagonal: jvp and vjp are the same product, bit for bit."""
    x, t = (rng.uniform(-4, 4, case.shapes[0]).astype(dtype) for _ in range(2))
    same_bits(jvp(case, [x], [t]), vjp(case, [x], t)[0])
    bend = curvature(case, [x], t, [t])[0]
    assert (bend.dtype, bend.shape) == (dtype, x.shape)


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_activations_pair_with_their_transpose(case, rng):
    """<g, J t> and <J^T g, t>: two products per term and n - 1 additions on either side."""
    x, t, g = (rng.uniform(-4, 4, case.shapes[0]) for _ in range(3))
    left, right = g * jvp(case, [x], [t]), vjp(case, [x], g)[0] * t
    assert abs(left.sum() - right.sum()) <= 2 * (x.size + 2) * UNIT * np.abs(left).sum()


def richardson(derivative_of, x, exact, value_error):
    """Central differences with steps 2h and h: their distance bounds the truncation, `value_error` (per value) the rounding."""
    h = 2.0**-11
    wide, fine = ((derivative_of(x + step) - derivative_of(x - step)) / (2 * step) for step in (2 * h, h))
    truncation = np.abs(wide - fine)  # three times the error of `fine`, to leading order
    noise = 3 * value_error / h  # of `fine`, and of the distance
    assert np.all(np.abs(exact - fine) <= truncation + noise)


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_jvp_of_activations_against_differences(case, rng):
    x = np.round(rng.uniform(-4, 4, (1, 300)) * 2**20) / 2**20  # x + h and x - h are exact
    y = forward(case, [np.abs(x) + 1.0]) if case.op == "Exp" else np.ones_like(x)
    richardson(lambda p: forward(case, [p]), x, jvp(case, [x], [np.ones_like(x)]), 3 * np.spacing(y))  # at most 3 ulp


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_curvature_of_activations_against_differences(case, rng):
    x = np.round(rng.uniform(-4, 4, (1, 300)) * 2**20) / 2**20
    one = np.ones_like(x)
    y = forward(case, [np.abs(x) + 1.0]) if case.op == "Exp" else one
    # a slope is at most three operations on a value of 3 ulp, all below 1 (Exp: the value itself)
    richardson(lambda p: vjp(case, [p], one)[0], x, curvature(case, [x], one, [one])[0], 12 * np.spacing(y))
    t, g = (rng.uniform(-4, 4, x.shape) for _ in range(2))
    bend, unit = curvature(case, [x], g, [t])[0], curvature(case, [x], one, [one])[0]
    assert np.all(np.abs(bend - g * t * unit) <= 4 * UNIT * np.abs(bend))  # two products on either side


@pytest.mark.parametrize(
    ("name", "at", "slope", "second"),
    [
        ("Tanh", 0.0, 1.0, -0.0),
        ("Sigmoid", 0.0, 0.25, 0.0),
        ("Sin", 0.0, 1.0, -0.0),
        ("Cos", 0.0, -0.0, -1.0),
        ("Exp", 0.0, 1.0, 1.0),
        ("Exp", -np.inf, 0.0, 0.0),
        ("Tanh", np.inf, 0.0, -0.0),
        ("Sigmoid", -np.inf, 0.0, 0.0),
        ("Sin", np.inf, np.nan, np.nan),
        ("Exp", np.nan, np.nan, np.nan),
    ],
)
def test_known_derivatives(name, at, slope, second, same_bits):
    x, one = np.array([[at]]), np.ones((1, 1))
    with np.errstate(all="ignore"):
        case = Case(name, [(1, 1)])
        same_bits(jvp(case, [x], [one]), np.array([[slope]]))
        same_bits(curvature(case, [x], one, [one])[0], np.array([[second]]))
