"""The contract of every primitive: inactive samples are neither read nor written, results go where they are told."""

from __future__ import annotations

import numpy as np
import pytest

from refdeq.kernels import GateSpec, Kernels
from refdeq.ops import OPS
from refdeq.reference import ReferenceKernels, backend

ACTIVE = np.array([True, False, True])
SPEC = GateSpec("u", np.array(0.5), "gt", "sent", "element", None, None, None)
KERNELS = ReferenceKernels()


def primitives(rng):
    """Name, call, arrays it writes; whatever it reads of sample 1 is NaN."""

    def batched(*shape):
        array = rng.standard_normal((3, *shape))
        array[1] = np.nan
        return array

    def outs(*arrays):
        return list(arrays)

    u, r, mask, d = batched(4), batched(4), np.zeros((3, 4), bool), batched(4)
    yield "gate", lambda: KERNELS.gate(u, SPEC, ACTIVE, r, mask, d), outs(r, mask, d)
    out = batched(4)
    yield "fill", lambda: KERNELS.fill(7.0, ACTIVE, out), outs(out)
    copied = batched(4)
    yield "copy_active", lambda: KERNELS.copy_active(u, ACTIVE, copied), outs(copied)
    a, weight = batched(2), rng.standard_normal((4, 2))
    yield "accumulate_gemm", lambda: KERNELS.accumulate_gemm(u, None, weight, {"transB": 0}, ACTIVE, a), outs(a)
    c, image, kernel = batched(2, 3), batched(4, 5), rng.standard_normal((2, 4, 3))
    attributes = OPS["Conv"].complete({})
    yield "accumulate_conv", lambda: KERNELS.accumulate_conv(image, None, kernel, attributes, ACTIVE, c), outs(c)
    biased = batched(2)
    yield "add_bias", lambda: KERNELS.add_bias(a, np.ones(2), 2.0, 1.0, ACTIVE, biased), outs(biased)
    folded = batched(2)
    yield "fold_bias", lambda: KERNELS.fold_bias(a, np.ones(2), ACTIVE, folded), outs(folded)
    sent, zeros = np.full(3, 5), np.full(3, 5)
    yield "count_sent", lambda: KERNELS.count_sent(np.ones((3, 4), bool), np.int64(3), ACTIVE, sent), outs(sent)
    yield "count_nonzero", lambda: KERNELS.count_nonzero(np.ones((3, 4)), ACTIVE, zeros), outs(zeros)
    res, scale = np.full(3, -1.0), np.full(3, -1.0)
    yield "residual", lambda: KERNELS.residual([u], [copied], "l2", ACTIVE, res, scale), outs(res, scale)
    z = batched(4)
    yield "relax", lambda: KERNELS.relax(z, u, 0.5, ACTIVE, z), outs(z)
    parts, rows = [batched(2), batched(2, 1)], batched(4)
    yield "unflatten", lambda: KERNELS.unflatten(u, ACTIVE, parts), outs(*parts)
    yield "flatten", lambda: KERNELS.flatten([parts[1], parts[0]], ACTIVE, rows), outs(rows)
    products = np.full((3, 2), -9.0)
    yield "inner", lambda: KERNELS.inner([u, z], u, ACTIVE, products), outs(products)
    combined, weights = batched(4), np.full((3, 2), 0.3)
    yield "combine", lambda: KERNELS.combine([u, z], weights, ACTIVE, combined), outs(combined)
    for name in ("Tanh", "Add"):
        value = batched(4)
        inputs, flags = ([u], [True]) if name == "Tanh" else ([u, np.ones(4)], [True, False])
        yield name, lambda v=value, n=name, i=inputs, f=flags: KERNELS.ops[n](i, f, {}, ACTIVE, v), outs(value)


@pytest.mark.parametrize("index", range(17))
def test_only_active_samples_are_written(index, rng, same_bits):
    _, call, outputs = list(primitives(rng))[index]
    before = [array.copy() for array in outputs]
    with np.errstate(invalid="raise"):
        call()
    for array, old in zip(outputs, before, strict=True):
        same_bits(array[1], old[1])
        assert not np.array_equal(array[[0, 2]], old[[0, 2]])
        assert np.isfinite(array[[0, 2]]).all()


def test_no_primitive_was_forgotten(rng):
    listed = {name for name, _, _ in primitives(rng)} | {"upload", "constant", "download", "empty"}
    assert {name for name in vars(Kernels) if not name.startswith("_")} <= listed | {"ops"}
    assert len(list(primitives(rng))) == 17
    assert KERNELS.ops.keys() == OPS.keys()


def test_no_sample_active(rng):
    nobody = np.zeros(3, bool)
    arrays = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), np.zeros((3, 4), bool), rng.standard_normal((3, 4))
    before = [a.copy() for a in arrays]
    KERNELS.gate(arrays[0], SPEC, nobody, *arrays[1:])
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_uploads_and_downloads_are_copies(rng):
    host = np.asfortranarray(rng.standard_normal((3, 4)))
    for copy in (KERNELS.upload, KERNELS.constant):
        device = copy(host)
        assert device.flags.c_contiguous
        device[...] = 0.0
        assert host.any()
    back = KERNELS.download(device)
    back[...] = 1.0
    assert not device.any()
    assert KERNELS.empty((2, 3), "float32").dtype == np.float32


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.3, 1.0), (1.0, -0.7), (0.3, -0.7)])
def test_bias_and_factors_round_once_each(alpha, beta, rng, same_bits):
    a, bias, out = (
        rng.standard_normal((1, 5)).astype(np.float32),
        rng.standard_normal(5).astype(np.float32),
        np.empty((1, 5), np.float32),
    )
    KERNELS.add_bias(a, bias, alpha, beta, np.array([True]), out)
    scaled = a if alpha == 1 else np.float32(alpha) * a
    same_bits(out, scaled + (bias if beta == 1 else np.float32(beta) * bias))
    KERNELS.add_bias(a, None, alpha, beta, np.array([True]), out)
    same_bits(out, scaled)


def test_folded_bias_is_the_published_formula(same_bits):
    """((s + b) + a) - b, in this order: the bias is added before and taken away after, and costs its rounding."""
    s, b, a = np.array([[1.0]]), np.array([2.0**53]), np.array([[0.5]])
    KERNELS.fold_bias(s, b, np.array([True]), a)
    same_bits(a, np.array([[((1.0 + 2.0**53) + 0.5) - 2.0**53]]))
    assert a[0, 0] == 0.0


def test_the_record():
    record = backend()
    assert record.unavailable() is None
    assert record.info.orders == ("strict",)
    assert "numpy" in record.describe()


def test_rows_hold_the_states_in_declared_order():
    parts, rows = [np.array([[[1.0, 2.0]]]), np.array([[3.0]])], np.zeros((1, 3))
    KERNELS.flatten(parts, np.array([True]), rows)
    np.testing.assert_array_equal(rows, [[1.0, 2.0, 3.0]])
    back = [np.zeros((1, 1, 2)), np.zeros((1, 1))]
    KERNELS.unflatten(rows, np.array([True]), back)
    np.testing.assert_array_equal(back[0], parts[0])
    np.testing.assert_array_equal(back[1], parts[1])


def test_inner_products_add_in_lanes_of_thirty_two():
    column, row, out = np.zeros((1, 65)), np.ones((1, 65)), np.zeros((1, 1))
    column[0, 0], column[0, 1], column[0, 32], column[0, 64] = 2.0**53, 1.0, 1.0, -(2.0**53)
    KERNELS.inner([column], row, np.array([True]), out)
    # lane 0 holds (2^53 + 1) - 2^53 = 0 after rounding, lane 1 holds 1; any other order gives 2
    assert out[0, 0] == 1.0


def test_inner_products_of_float32_are_exact_in_float64():
    column, out = np.array([[1 + 2.0**-23]], dtype=np.float32), np.zeros((1, 1))
    KERNELS.inner([column], column, np.array([True]), out)
    assert out[0, 0] == (1 + 2.0**-23) ** 2


def test_combinations_round_once_and_skip_zero_weights():
    one, tiny = np.ones((1, 1), np.float32), np.full((1, 1), 2.0**-24, np.float32)
    broken, out = np.full((1, 1), np.nan, np.float32), np.zeros((1, 1), np.float32)
    KERNELS.combine([one, broken, tiny, tiny], np.array([[1.0, 0.0, 1.0, 1.0]]), np.array([True]), out)
    assert out[0, 0] == np.float32(1 + 2.0**-23)  # rounding after each term would give 1
    KERNELS.combine([out, one], np.array([[2.0, -1.0]]), np.array([True]), out)  # in place
    assert out[0, 0] == np.float32(1 + 2.0**-22)
