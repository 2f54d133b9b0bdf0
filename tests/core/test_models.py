"""Builders of published cells against their formulas in NumPy (E-1)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import refdeq as rd
from refdeq.errors import ArgumentError, GraphError

TWICE = rd.StopRule(max_eval=2)


def value(cell, x, z):
    """One evaluation of f: the second argument of Picard."""
    return rd.solve(cell, x, z0=z, stop=TWICE).z


def bound(terms, *gauges):
    """A sum of `terms` products and a few elementary functions of slope at most 1, both here and in NumPy: see N-7."""
    return 2 * (terms + 12) * 2.0**-53 * sum(gauges)


@pytest.mark.parametrize("d", [1, 3])
def test_rnn(d, rng):
    w, u, b = rng.standard_normal((5, 5)), rng.standard_normal((5, d)), rng.standard_normal(5)
    x, z = rng.standard_normal((4, d)), rng.standard_normal((4, 5))
    expected = np.tanh(z @ w.T + x @ u.T + b)
    gauge = np.abs(z) @ np.abs(w).T + np.abs(x) @ np.abs(u).T + np.abs(b) + 1
    assert np.all(np.abs(value(rd.models.rnn(w, u, b), x, z) - expected) <= bound(5 + d, gauge))


@pytest.mark.parametrize("name", ["siren", "fourier"])
def test_inr(name, rng):
    h = 6
    w, bz = rng.standard_normal((h, h)), rng.standard_normal(h)
    a0, a1 = rng.standard_normal((2, h, 2))
    b0, b1 = rng.standard_normal((2, h))
    x, z = rng.standard_normal((4, 2)), rng.standard_normal((4, h))
    u = z + np.sin(x @ a0.T + b0)
    phase = x @ a1.T + b1
    if name == "siren":
        cell, expected = rd.models.siren(w, a0, b0, a1, b1), np.sin(u @ w.T + phase)
    else:
        cell, expected = rd.models.fourier(w, bz, a0, b0, a1, b1), (u @ w.T + bz) * np.sin(phase)
    inner = 1 + np.abs(x) @ np.abs(a0).T + np.abs(b0)
    gauge = (np.abs(u) + inner) @ np.abs(w).T + np.abs(bz) + 1
    outer = 1 + np.abs(x) @ np.abs(a1).T + np.abs(b1)
    assert np.all(np.abs(value(cell, x, z) - expected) <= bound(h + 6, gauge * outer))


def test_the_bias_of_the_rnn_belongs_to_the_injection(rng, same_bits):
    """a + (U x + b), not (a + U x) + b (E-1)."""
    x, z = np.array([[1.0]]), np.array([[1.0]])
    cell = rd.models.rnn(np.array([[1.0]]), np.array([[2.0**53]]), np.array([-(2.0**53)]))
    assert value(cell, x, z)[0, 0] == value(rd.models.rnn(np.eye(1), np.zeros((1, 1)), np.zeros(1)), x, z)[0, 0]
    assert ((1.0 + 2.0**53) - 2.0**53) == 0.0  # the other order


@pytest.mark.parametrize(
    ("w", "u", "b"),
    [
        (np.zeros((2, 3)), np.zeros((2, 1)), np.zeros(2)),
        (np.zeros((2, 2)), np.zeros((3, 1)), np.zeros(3)),
        (np.zeros((2, 2)), np.zeros((2, 1)), np.zeros(3)),
    ],
)
def test_shapes_that_do_not_fit(w, u, b):
    with pytest.raises(GraphError):
        rd.models.rnn(w, u, b)


@pytest.mark.parametrize("name", rd.models.trained_names())
def test_shipped_models_are_whole(name):
    model = rd.models.load_trained(name)
    cell = model.cell
    assert model.x.dtype == cell.dtype
    assert model.x.shape[1:] == next(iter(cell.graph.injections.values()))
    assert len(model.target) == len(model.x)
    (shape,) = cell.graph.states.values()
    few = rd.solve(cell, model.x[:50], stop=rd.StopRule(rtol=1e-3, max_eval=200))
    assert few.converged  # a fixed point it is
    assert model.decode(few.z).shape == model.target[:50].shape
    assert model.readout_weight.shape[1:] == shape
    assert model.meta
    part = dataclasses.replace(model, target=model.decode(few.z.astype(np.float64)))
    assert part.mse(few.z) == 0.0
    shifted = dataclasses.replace(model, target=np.clip(part.target, -1, 1) + 0.5)
    assert abs(shifted.psnr(few.z) - 10 * np.log10(4 / 0.25)) <= 64 * 2.0**-53 * 100


@pytest.mark.parametrize("name", ["nothing", "", "../sine", None])
def test_unknown_models(name):
    with pytest.raises(ArgumentError, match="expected one of"):
        rd.models.load_trained(name)
