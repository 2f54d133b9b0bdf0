"""Memory of gradients (G-3), by what tracemalloc sees of NumPy's arrays."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

import refdeq as rd

BATCH, SIZE = 8, 256
STATE = 8 * BATCH * SIZE
PER_EVALUATION = 4 * STATE
"""Values of one evaluation that depend on the state: z itself and three nodes."""


@pytest.fixture(scope="module")
def cell():
    builder = rd.GraphBuilder()
    z, x = builder.state("z", (SIZE,)), builder.injection("x", (SIZE,))
    half = builder.node("Mul", z, builder.parameter("half", np.full(SIZE, 0.5)))
    builder.output(z, builder.node("Relu", builder.node("Add", half, x)))
    return builder.build()


def peak(call):
    """Peak of what a call allocates."""
    gc.collect()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def solved(cell, evaluations):
    sol = rd.solve(cell, np.ones((BATCH, SIZE)), stop=rd.StopRule(max_eval=evaluations))
    assert sol.n_eval.min() == evaluations
    return sol


@pytest.fixture(scope="module")
def solutions(cell):
    return {evaluations: solved(cell, evaluations) for evaluations in (10, 1000)}


METHODS = [rd.Ift(), rd.Ift(solver="gmres"), rd.Neumann(5), rd.Jfb(), rd.Phantom(2)]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_methods_at_the_fixed_point_do_not_see_the_number_of_evaluations(method, cell, solutions):
    """The same is allocated after 10 and after 1000 evaluations, to less than one state."""
    g = np.ones((BATCH, SIZE))
    rd.gradient(cell, solutions[10], g, method=method)
    few, many = (peak(lambda n=n: rd.gradient(cell, solutions[n], g, method=method)) for n in (10, 1000))
    assert few > PER_EVALUATION  # the peak is seen at all
    assert abs(many - few) < STATE


def test_unrolling_keeps_every_evaluation(cell, solutions):
    g = np.ones((BATCH, SIZE))
    few, many = (peak(lambda k=k: rd.gradient(cell, solutions[10], g, method=rd.Unrolled(k))) for k in (10, 60))
    assert many - few >= 50 * PER_EVALUATION
    assert many - few < 50 * 2 * PER_EVALUATION  # and no more than once
