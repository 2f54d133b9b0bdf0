"""The compiled gate against the reference, clause by clause, and against hand-computed rows."""

import itertools

import numpy as np
import pytest
from numba import vectorize
from refdeq_numba.kernels import NumbaKernels
from refdeq_numba.machine import round_to_bfloat16, round_to_float16

from refdeq.formats import round_to_format
from refdeq.kernels import GateSpec
from refdeq.reference import ReferenceKernels

DTYPES = ["float32", "float64"]
SHAPES = {
    "element": [(37,), (3, 5), (2, 3, 4)],
    "sample": [(37,), (2, 3, 4)],
    "channel": [(7,), (3, 5), (2, 3, 4)],
    "pixel": [(3, 5), (2, 3, 4)],
    "tile": [(5, 7), (5, 4, 7)],
}
MEMORIES = [("sent", None), ("always", None), ("feedback", "float16"), ("feedback", "bfloat16")]


def spec(dtype, shape, **changes):
    choices = {"compare": "gt", "memory": "sent", "granularity": "element", "feedback_format": None, "delta_dtype": None}
    choices |= {"tile": (2, 3, 2) if changes.get("granularity") == "tile" else None, "threshold": np.array(0.5, dtype=dtype)}
    return GateSpec(value="u", **(choices | changes))


def run(kernels, gate_spec, u, r, active):
    mask, d = np.zeros(u.shape, dtype=bool), np.full_like(u, 7)
    reference = r.copy()
    with np.errstate(all="ignore"):
        kernels.gate(u, gate_spec, active, reference, mask, d)
    return reference, mask, d


def awkward_pair(rng, shape, dtype, numbers):
    """Values and references with exact ties at 0.5, neighbours of ties, equal pairs and special values."""
    r = numbers(rng, shape, dtype, 0.1)
    step = rng.choice(np.array([0.0, 0.5, -0.5, 2.0, 0.25]), shape).astype(dtype)
    r = np.where(rng.random(shape) < 0.5, np.round(r), r).astype(dtype)
    with np.errstate(all="ignore"):
        u = np.where(rng.random(shape) < 0.7, r + step, numbers(rng, shape, dtype, 0.1)).astype(dtype)
    return np.where(rng.random(shape) < 0.1, np.nextafter(u, dtype(9.0)), u).astype(dtype), r


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("memory", "narrow"), MEMORIES)
@pytest.mark.parametrize("compare", ["gt", "ge"])
def test_gates_have_the_bits_of_the_reference(compare, memory, narrow, dtype, assert_same_bits, numbers):
    rng = np.random.default_rng(4)
    deltas = [None, "float16"] + (["float32"] if dtype == "float64" else [])
    for (granularity, shapes), delta_dtype in itertools.product(SHAPES.items(), deltas):
        for shape, batch in itertools.product(shapes, (1, 4)):
            per_channel = np.abs(rng.standard_normal((shape[0], *(1,) * (len(shape) - 1)))).astype(dtype)
            for threshold in (
                np.array(0.5, dtype=dtype),
                np.array(0.0, dtype=dtype),
                np.array(np.inf, dtype=dtype),
                per_channel,
            ):
                changes = {"compare": compare, "memory": memory, "granularity": granularity, "threshold": threshold}
                chosen = spec(dtype, shape, **changes, feedback_format=narrow, delta_dtype=delta_dtype)
                u, r = awkward_pair(rng, (batch, *shape), np.dtype(dtype).type, numbers)
                active = rng.random(batch) < 0.7
                expected = run(ReferenceKernels(), chosen, u, r, active)
                got = run(NumbaKernels(), chosen, u, r, active)
                for mine, theirs in zip(got, expected, strict=True):
                    assert_same_bits(mine, theirs)


def test_one_row_by_hand(assert_same_bits):
    """Tie, NaN, signed zero, quiet, loud (D-2, D-3, D-4, N-4) with gt and sent, worked out on paper."""
    u = np.array([[1.5, np.nan, -0.0, 1.25, 4.0]])
    r = np.array([[1.0, 1.0, 0.0, 1.0, 1.0]])
    reference, mask, d = run(NumbaKernels(), spec("float64", (5,)), u, r, np.ones(1, dtype=bool))
    assert mask.tolist() == [[False, True, False, False, True]]
    assert_same_bits(d, np.array([[0.0, np.nan, 0.0, 0.0, 3.0]]))
    assert_same_bits(reference, np.array([[1.0, np.nan, 0.0, 1.0, 4.0]]))
    reference, mask, _ = run(NumbaKernels(), spec("float64", (5,), compare="ge", memory="always"), u, r, np.ones(1, dtype=bool))
    assert mask.tolist() == [[True, True, False, False, True]]
    assert_same_bits(reference, u)


@pytest.mark.parametrize("threads", [2, 3])
def test_gates_do_not_depend_on_threads(threads, assert_same_bits, numbers):
    rng = np.random.default_rng(2)
    u, r = awkward_pair(rng, (900, 3, 9, 11), np.float64, numbers)
    active = rng.random(900) < 0.9
    chosen = spec("float64", u.shape[1:], granularity="tile")
    for mine, theirs in zip(
        run(NumbaKernels(threads=threads), chosen, u, r, active), run(ReferenceKernels(), chosen, u, r, active), strict=True
    ):
        assert_same_bits(mine, theirs)


@pytest.mark.parametrize(("function", "name"), [(round_to_float16, "float16"), (round_to_bfloat16, "bfloat16")])
def test_narrow_formats_round_like_the_reference(function, name, assert_same_bits):
    """All float16 numbers, all midpoints between them and their neighbours, and the same on the grid of bfloat16."""
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    brains = (np.arange(2**16, dtype=np.uint32) << 16).view(np.float32)
    grid = np.unique(np.concatenate([a[np.isfinite(a)].astype(np.float64) for a in (halves, brains)]))
    middles = 0.5 * (grid[1:] + grid[:-1])
    near = [np.nextafter(middles, -np.inf), np.nextafter(middles, np.inf)]
    x = np.concatenate(
        [grid, -grid, middles, *near, [np.nan, np.inf, -np.inf, 65519.99, 65520.0, 1e308, 5e-324, -0.0, 2.0**128]]
    )
    compiled = vectorize(["float64(float64)"])(lambda v: function(v))
    with np.errstate(all="ignore"):
        assert_same_bits(compiled(x), round_to_format(x, name))


@pytest.mark.parametrize("dtype", DTYPES)
def test_counters_have_the_numbers_of_the_reference(dtype, numbers):
    rng = np.random.default_rng(7)
    for shape, fan_shape in [((5,), ()), ((3, 4), (1, 4)), ((3, 4, 5), (1, 4, 5)), ((1, 1), (1, 1))]:
        mask = rng.random((6, *shape)) < 0.5
        values = np.where(mask, numbers(rng, mask.shape, dtype, 0.3), 0).astype(dtype)
        fan_out = np.int64(7) if fan_shape == () else rng.integers(0, 2**40, fan_shape)
        active = rng.random(6) < 0.7
        results = []
        for kernels in (ReferenceKernels(), NumbaKernels()):
            sent, nonzero = np.arange(6), np.arange(6)
            kernels.count_sent(mask, fan_out, active, sent)
            kernels.count_nonzero(values, active, nonzero)
            results.append((sent.tolist(), nonzero.tolist()))
        assert results[0] == results[1]
