"""Residual and scale by the pinned tree, over several states of any size."""

import math

import numpy as np
import pytest
from refdeq_numba.kernels import NumbaKernels

from refdeq import scalar
from refdeq.reference import ReferenceKernels

SIZES = [[(1,)], [(31,)], [(32,)], [(33,)], [(200,)], [(3,), (5, 7), (64,)], [(32,), (1,)], [(2, 3, 4), (40,), (31,)]]


def both_norms(kernels, f, z, norm, active):
    residual, scale = np.full((2, len(active)), 7.0)
    with np.errstate(all="ignore"):
        kernels.residual(f, z, norm, active, residual, scale)
    return residual, scale


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("shapes", SIZES, ids=str)
def test_residuals_have_the_bits_of_the_reference(shapes, norm, dtype, assert_same_bits, numbers):
    rng = np.random.default_rng(29)
    for batch in (0, 1, 5):
        for special in (0.0, 0.01, 0.3):
            f, z = ([numbers(rng, (batch, *shape), dtype, special) for shape in shapes] for _ in range(2))
            active = rng.random(batch) < 0.7
            expected = both_norms(ReferenceKernels(), f, z, norm, active)
            got = both_norms(NumbaKernels(threads=2), f, z, norm, active)
            assert_same_bits(got[0], expected[0])
            assert_same_bits(got[1], expected[1])


def test_one_sample_against_the_scalar_formula():
    rng = np.random.default_rng(31)
    f, z = rng.standard_normal((2, 77))
    parts = [f[None, :20], f[None, 20:]], [z[None, :20], z[None, 20:]]
    for norm in ("l2", "linf"):
        residual, scale = both_norms(NumbaKernels(), *parts, norm, np.ones(1, dtype=bool))
        assert residual[0] == scalar.residual(f.tolist(), z.tolist(), norm)
        assert scale[0] == scalar.residual(f.tolist(), [0.0] * 77, norm)


def test_nan_wins_wherever_it_is():
    for place in range(3):
        f = np.array([[1.0, 2.0, 3.0]])
        f[0, place] = math.nan
        residual, scale = both_norms(NumbaKernels(), [f], [np.zeros((1, 3))], "linf", np.ones(1, dtype=bool))
        assert math.isnan(residual[0])
        assert math.isnan(scale[0])
