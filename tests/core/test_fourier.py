"""DFT of any length: against the definition in 40 digits, the FFT of NumPy and ONNX's evaluator, and its transpose."""

from __future__ import annotations

import mpmath
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from refdeq.errors import GraphError
from refdeq.ops import BATCH, OPS
from refdeq.ops.fourier import prime_factors, roots_of_unity, transform

DFT = OPS["DFT"]
LENGTHS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 16, 30, 49, 64]
U = 2.0**-53


def roundings(n):
    """Error of one output over ``u * sum(|re| + |im|)``.

    A stage of p terms rounds a term at most p + 1 times (product, sum of two products, p - 1 additions), its root errs by at
    most 5 u (sine and cosine below 2.5 ulp, N-8) and the rounded angle by as much again (two roundings, at most one radian).
    The last 2 are the division of the inverse and the final rounding.
    """
    return sum(p + 1 + 10 for p in prime_factors(n)) + 2


def complete(axis=1, inverse=0):
    return DFT.complete({"axis": axis, "inverse": inverse})


def complex_of(value):
    return value[..., 0] + 1j * value[..., 1]


def gauge(x, axis=1):
    return np.abs(x.astype(np.float64)).sum(axis=(axis, -1), keepdims=True)


@pytest.mark.parametrize("n", range(1, 70))
def test_prime_factors(n):
    factors = prime_factors(n)
    assert np.prod(factors, dtype=int) == n
    assert factors == sorted(factors)
    assert all(p > 1 and all(p % q for q in range(2, p)) for p in factors)


@pytest.mark.parametrize("n", LENGTHS)
def test_roots_of_unity_in_forty_digits(n):
    cosines, sines = roots_of_unity(n)
    for j in range(n):
        with mpmath.workdps(40):
            angle = 2 * mpmath.pi * j / n
            assert abs(mpmath.cos(angle) - cosines[j]) <= 5 * U + 5 * U
            assert abs(mpmath.sin(angle) - sines[j]) <= 5 * U + 5 * U
        if (4 * j) % n == 0:
            assert {abs(cosines[j]), abs(sines[j])} == {0.0, 1.0}


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("n", LENGTHS)
def test_transform_against_the_definition(n, sign, rng):
    x = rng.standard_normal(n) + 1j * rng.standard_normal(n)
    re, im = transform(x.real, x.imag, sign)
    with mpmath.workdps(40):
        for k in range(n):
            exact = sum(
                mpmath.expjpi(mpmath.mpf(2 * sign * j * k) / n) * mpmath.mpc(*map(float, (x[j].real, x[j].imag)))
                for j in range(n)
            )
            limit = roundings(n) * U * np.sum(np.abs(x.real) + np.abs(x.imag))
            assert abs(exact.real - re[k]) <= limit
            assert abs(exact.imag - im[k]) <= limit


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize("n", LENGTHS)
def test_dft_against_numpy(n, inverse, dtype, rng):
    x = rng.standard_normal((3, 2, n, 2)).astype(dtype)
    ours = DFT.forward([x], complete(2, inverse))
    wide = complex_of(x.astype(np.float64))
    theirs = np.fft.ifft(wide, axis=2) if inverse else np.fft.fft(wide, axis=2)
    assert ours.dtype == dtype
    scale = n if inverse else 1
    # NumPy's transform has fewer roundings than ours, so twice ours; float32 is rounded once more, from float64
    limit = 2 * roundings(n) * U * gauge(x, 2)[..., 0] / scale
    if dtype is np.float32:
        limit = limit + 2.0**-24 * np.abs(theirs)
    error = complex_of(ours.astype(np.float64)) - theirs
    assert np.all(np.abs(error.real) <= limit)
    assert np.all(np.abs(error.imag) <= limit)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("n", [5, 6, 30])
def test_dft_against_onnx(n, parts, rng):
    x = rng.standard_normal((2, n, parts))
    signals = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [2, n, k]) for name, k in (("x", parts), ("y", 2))]
    graph = helper.make_graph([helper.make_node("DFT", ["x"], ["y"], axis=1)], "g", signals[:1], signals[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model)
    (theirs,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert np.all(np.abs(DFT.forward([x], complete()) - theirs) <= 2 * roundings(n) * U * gauge(x))


@pytest.mark.parametrize("n", [1, 6, 7])
def test_a_real_signal_is_a_complex_one_without_imaginary_part(n, rng, same_bits):
    x = rng.standard_normal((2, n, 1))
    same_bits(DFT.forward([x], complete()), DFT.forward([np.concatenate([x, np.zeros_like(x)], axis=-1)], complete()))


@pytest.mark.parametrize("n", LENGTHS)
def test_the_inverse_inverts(n, rng):
    x = rng.standard_normal((2, n, 2))
    back = DFT.forward([DFT.forward([x], complete())], complete(inverse=1))
    # each transform errs by its roundings; the first one's output is at most the gauge, so its own gauge is 2 n gauge / n
    assert np.all(np.abs(back - x) <= 4 * roundings(n) * U * gauge(x))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize("n", [3, 8, 10])
def test_vjp_is_the_transpose(n, inverse, parts, rng):
    x, g = rng.standard_normal((2, n, parts)), rng.standard_normal((2, n, 2))
    attributes = complete(1, inverse)
    out = DFT.forward([x], attributes)
    (back,) = DFT.vjp([x], out, attributes, g)
    assert back.shape == x.shape
    # both sides are sums of n * parts products of a number with a transform, which errs by `roundings` of its gauge
    scale = n if inverse else 1
    size = np.abs(x).sum() * np.abs(g).sum() / scale
    assert abs(np.sum(out * g) - np.sum(x * back)) <= 2 * (roundings(n) + 2 * x.size) * U * size


def test_bits_do_not_depend_on_neighbours(rng, same_bits):
    x = rng.standard_normal((5, 3, 6, 2))
    whole = DFT.forward([x], complete(2))
    for b in range(5):
        same_bits(DFT.forward([x[b : b + 1, 1:2]], complete(2))[0, 0], whole[b, 1])


def test_special_values_stay_in_their_own_signal(rng):
    x = rng.standard_normal((2, 6, 2))
    x[0, 3, 0], x[0, 4, 1] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        out = DFT.forward([x], complete())
    assert not np.isfinite(out[0]).any()
    assert np.isfinite(out[1]).all()


def test_cost_counts_the_products_as_written():
    cost = DFT.cost([(BATCH, 3, 6, 2)], (BATCH, 3, 6, 2), complete(2))
    assert (cost.macs, cost.elementwise) == (4 * 3 * 6 * (1 + 2), 0)
    inverse = DFT.cost([(BATCH, 3, 6, 2)], (BATCH, 3, 6, 2), complete(2, 1))
    assert (inverse.macs, inverse.elementwise) == (cost.macs, 36)
    assert DFT.cost([(BATCH, 1, 2)], (BATCH, 1, 2), complete()).macs == 0


@pytest.mark.parametrize("attributes", [{}, {"axis": 1, "onesided": 1}, {"axis": 1.0}])
def test_wrong_attributes(attributes):
    with pytest.raises(GraphError):
        DFT.complete(attributes)
