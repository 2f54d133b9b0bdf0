"""Where a splitting starts from when it is warmed by a solution (D-9, S-6b), and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import refdeq as rd
from refdeq.errors import ArgumentError, MemoryMismatchError

EIGHT = rd.StopRule(max_eval=8)
ONE = rd.StopRule(max_eval=1)


def monotone(dtype="float64"):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((2, 4, 4))
    return rd.models.monotone(a, 2 * b, np.eye(4), np.zeros(4), m=0.5).astype(dtype)


def injection(dtype="float64"):
    return np.random.default_rng(4).standard_normal((3, 4)).astype(dtype)


def first_argument(cell, x, warm, solver):
    return rd.solve(cell, x, solver=solver, stop=ONE, warm=warm, trace=True).trace.z["z"][0]


@pytest.mark.parametrize("changes", [{}, {"returned": "lowest"}, {"polish": True}])
def test_forward_backward_starts_at_the_returned_point(changes, same_bits):
    cell, x, solver = monotone(), injection(), rd.ForwardBackward(alpha=0.05)
    warm = rd.solve(cell, x, solver=solver, stop=EIGHT, **changes)
    same_bits(first_argument(cell, x, warm, solver), warm.z)


@pytest.mark.parametrize("changes", [{"returned": "lowest"}, {"polish": True}])
def test_peaceman_rachford_starts_from_a_point_that_is_not_its_last_argument(changes, same_bits):
    cell, x, solver = monotone(), injection(), rd.PeacemanRachford(alpha=1.0)
    warm = rd.solve(cell, x, solver=solver, stop=EIGHT, **changes)
    assert dict(warm.iterate) == {}
    cold = rd.solve(cell, x, solver=solver, stop=ONE, z0=warm.z, trace=True)
    same_bits(first_argument(cell, x, warm, solver), cold.trace.z["z"][0])


def test_peaceman_rachford_goes_on_as_if_it_had_not_stopped(same_bits):
    cell, x, solver = monotone(), injection(), rd.PeacemanRachford(alpha=1.0)
    whole = rd.solve(cell, x, solver=solver, stop=EIGHT, trace=True)
    part = rd.solve(cell, x, solver=solver, stop=rd.StopRule(max_eval=5))
    same_bits(first_argument(cell, x, part, solver), whole.trace.z["z"][4])  # the last evaluation is made again


def test_a_sample_that_was_lost_does_not_touch_the_warm_start_of_the_others(same_bits):
    cell, x, solver = monotone("float32"), injection("float32"), rd.PeacemanRachford(alpha=1.0)
    x[1] = np.inf
    warm = rd.solve(cell, x, solver=solver, stop=EIGHT)
    assert warm.status[1] == rd.Status.NONFINITE
    again = first_argument(cell, injection("float32"), warm, solver)
    alone = rd.solve(cell, injection("float32"), solver=solver, stop=EIGHT)
    same_bits(again[[0, 2]], first_argument(cell, injection("float32"), alone, solver)[[0, 2]])


def test_a_step_length_that_the_dtype_cannot_hold_is_refused():
    with pytest.raises(ArgumentError, match="alpha"):
        rd.solve(monotone("float32"), injection("float32"), solver=rd.PeacemanRachford(alpha=1e-50))
    for solver in (rd.ForwardBackward, rd.PeacemanRachford):
        with pytest.raises(ArgumentError, match="alpha"):
            solver(alpha=np.array([1.0, 2.0]))


def test_frozen_masks_of_a_rewritten_cell_are_refused():
    cell, x = monotone(), injection()
    sol = rd.solve(cell, x, solver=rd.ForwardBackward(alpha=0.05), delta=rd.DeltaRule(threshold=0.1), stop=EIGHT)
    for ask in (
        lambda: rd.gradient(cell, sol, np.ones((3, 4)), jacobian="frozen-mask"),
        lambda: rd.jvp(cell, sol, np.ones((3, 4)), jacobian="frozen-mask"),
        lambda: rd.analyze.spectrum(cell, sol, jacobian="frozen-mask"),
    ):
        with pytest.raises(MemoryMismatchError, match="splitting has rewritten"):
            ask()
    rd.gradient(cell, sol, np.ones((3, 4)))  # the dense Jacobian is there
