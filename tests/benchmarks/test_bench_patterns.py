"""Patterns send exactly what they say, in the shape they say."""

from __future__ import annotations

import numpy as np
import pytest
from refdeq_bench.workloads.patterns import pattern, values_of

from refdeq.errors import ArgumentError

SHAPES = ((1, 256), (7, 130), (64, 31), (333, 77), (2048, 64))
DENSITIES = (1.0, 0.9, 0.5, 0.3, 0.1, 0.01)


def cases(kinds):
    for kind in kinds:
        for shape in SHAPES if kind == "random" else SHAPES[1:]:
            for density in DENSITIES:
                if round(density * (shape[0] if kind == "rows" else shape[0] * shape[1])) > 0:
                    yield kind, shape, density


@pytest.mark.parametrize(("kind", "shape", "density"), list(cases(("random", "mixed"))))
def test_elements_are_exactly_as_many_as_asked_for(kind, shape, density):
    mask = pattern(kind, shape, density)
    assert mask.shape == shape
    assert mask.sum() == round(density * mask.size)


@pytest.mark.parametrize(("kind", "shape", "density"), list(cases(("rows",))))
def test_rows_are_whole(kind, shape, density):
    mask = pattern(kind, shape, density)
    assert (mask.all(axis=1) == mask.any(axis=1)).all()
    assert mask.any(axis=1).sum() == round(density * shape[0])


@pytest.mark.parametrize("density", [0.3, 0.1, 0.05])
def test_mixed_has_quiet_samples_in_runs_and_features_of_all_kinds(density):
    mask = pattern("mixed", (4096, 256), density)
    active = mask.any(axis=1)
    runs = active.reshape(-1, 32)
    quiet = ~runs.any(axis=1)
    assert 0 < quiet.sum() < len(runs)
    # a quarter of the runs more than a square root of the density can send: the pattern chose one more than that
    assert (~quiet).sum() == round(density**0.5 * len(runs)) + 1
    frequency = mask[active].mean(axis=0)
    spread = np.std(pattern("random", (int(active.sum()), 256), float(mask[active].mean())).mean(axis=0))
    assert np.std(frequency) > 10 * spread  # features of a random pattern are alike but for sampling


@pytest.mark.parametrize("kind", ["random", "mixed", "rows"])
def test_the_seed_decides(kind):
    first, again, other = (pattern(kind, (256, 64), 0.3, seed) for seed in (0, 0, 1))
    assert first.tobytes() == again.tobytes() != other.tobytes()


@pytest.mark.parametrize(
    ("kind", "density", "names"),
    [("diagonal", 0.5, "pattern"), ("random", 0.0, "density"), ("random", 1.5, "density"), ("rows", 0.001, "density")],
)
def test_what_cannot_be_is_refused(kind, density, names):
    with pytest.raises(ArgumentError, match=f"^{names}"):
        pattern(kind, (8, 8), density)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_are_neither_zero_nor_tiny_and_of_both_signs(dtype):
    values = values_of((1000,), dtype, 0, 2.0**-6)
    assert values.dtype == dtype
    assert (abs(values) >= 2.0**-7).all()
    assert (abs(values) <= 1.5 * 2.0**-6).all()  # the upper end can be reached by rounding
    assert 0 < (values < 0).sum() < 1000
