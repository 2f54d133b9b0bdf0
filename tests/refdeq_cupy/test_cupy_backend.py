"""The record of the backend, and whole solves through it on the simulated device."""

from __future__ import annotations

import numpy as np
import pytest
from refdeq_cupy import offer

import refdeq as rd
from refdeq.registry import load_backend


@pytest.fixture
def simulated(monkeypatch):
    monkeypatch.setenv("REFDEQ_CUPY_SHIM", "1")
    offer.device.cache_clear()
    yield load_backend("cupy")
    offer.device.cache_clear()


def test_the_record_says_that_it_is_simulated(simulated, monkeypatch):
    assert simulated.unavailable() is None
    assert simulated.info.summary.endswith("(simulated on the CPU)")
    assert simulated.describe()["device"].startswith("simulated")
    monkeypatch.setenv("REFDEQ_CUPY_SHIM", "0")
    assert "simulated" not in offer.offer().info.summary


def test_simulation_needs_a_compiler(simulated, monkeypatch):
    monkeypatch.setattr("refdeq_cupy.loader.compiler", lambda: None)
    assert "g++" in simulated.unavailable()[0]


RULES = [None, rd.DeltaRule(threshold=1e-2), rd.DeltaRule(threshold=1e-2, memory="feedback", feedback_format="bfloat16")]


@pytest.mark.parametrize("rule", RULES, ids=["dense", "sent", "feedback"])
def test_operators_have_the_bits_of_the_reference(simulated, conv_cell, rule, same_bits):
    cell, x = conv_cell(dtype="float32"), np.random.default_rng(3).standard_normal((3, 3, 4, 5)).astype(np.float32)
    ours, expected = (rd.solve(cell, x, delta=rule, backend=name, executor="op") for name in ("cupy", "reference"))
    same_bits(ours.z, expected.z)
    same_bits(ours.n_eval, expected.n_eval)
    same_bits(ours.residual, expected.residual)
