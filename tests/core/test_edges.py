"""Edges that no clause is about, but that somebody will reach: extreme sizes, changed cells, wrong kinds of arguments."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import refdeq as rd
from refdeq.analyze import spectrum
from refdeq.errors import ArgumentError


def linear_cell(w, dtype="float64"):
    builder = rd.GraphBuilder(dtype)
    z, x = builder.state("z", (len(w),)), builder.injection("x", (len(w),))
    product = builder.node("Gemm", z, builder.parameter("W", np.asarray(w, dtype=dtype)), transB=1)
    builder.output(z, builder.node("Add", product, x))
    return builder.build()


def test_the_parameters_of_a_cell_cannot_be_exchanged():
    cell = linear_cell([[0.5]])
    with pytest.raises(TypeError):
        cell.parameters["W"] = np.array([[0.25]])
    copy = pickle.loads(pickle.dumps(cell))
    assert copy.digest == cell.digest
    assert not copy.parameters["W"].flags.writeable


@pytest.mark.parametrize("exponent", [-900, -500, 0, 500, 900])
def test_the_spectrum_scales_with_the_matrix_exactly(exponent):
    a = np.array([[0.5, -0.75, 0.0], [0.75, 0.5, 0.125], [0.0, 0.25, 0.25]])
    found, unit = (
        spectrum(linear_cell(np.ldexp(a, k)), np.zeros((1, 3)), np.zeros((1, 3)), method="dense") for k in (exponent, 0)
    )
    assert unit.converged.all()
    assert found.converged.all()
    for name in ("radius", "norm", "radius_error"):
        np.testing.assert_array_equal(getattr(found, name), np.ldexp(getattr(unit, name), exponent))


@pytest.mark.parametrize("update", ["good", "bad"])
@pytest.mark.parametrize("window", [None, 2])
def test_broyden_calls_an_overflow_of_its_own_a_breakdown(update, window):
    """Near the smallest numbers of float32 a column exceeds the largest: the cell is not to blame."""
    w = np.diag(np.array([0.5, 0.25], dtype=np.float32))
    x = np.array([[1e-40, 3e-40], [1.0, 2.0]], dtype=np.float32)
    sol = rd.solve(linear_cell(w, "float32"), x, solver=rd.Broyden(update=update, window=window), stop=rd.StopRule(max_eval=12))
    assert sol.status[0] == rd.Status.BREAKDOWN
    assert np.isfinite(sol.z).all()


@pytest.mark.parametrize("value", ["q", [1], None, 0.0, 3.0])
@pytest.mark.parametrize(("name", "method", "option"), [("torchdeq", "fixed_point_iter", "tau"), ("deq-flow", "km", "alpha")])
def test_a_damping_that_is_none_is_refused(name, method, option, value):
    with pytest.raises(ArgumentError, match=option):
        rd.dialect(name, method, **{option: value})


def test_wrong_kinds_of_arguments_are_named(tmp_path):
    cell = linear_cell([[0.5]])
    x = np.ones((1, 1))
    sol = rd.solve(cell, x)
    with pytest.raises(ArgumentError, match="on_evaluation"):
        rd.solve(cell, x, on_evaluation=3)
    with pytest.raises(ArgumentError, match="cell"):
        rd.save_cell(cell, tmp_path / "cell.safetensors")
    for rng in (-1, "seed", True):
        with pytest.raises(ArgumentError, match="rng"):
            rd.jacobian_penalty(cell, sol, rng=rng)
        with pytest.raises(ArgumentError, match="rng"):
            spectrum(cell, sol, rng=rng)


def test_an_empty_batch_of_a_dialect_that_averages_is_verified():
    sol = rd.solve(linear_cell([[0.5]]), np.zeros((0, 1)), dialect="hopdeq", verify=True)
    assert sol.status.shape == (0,)
