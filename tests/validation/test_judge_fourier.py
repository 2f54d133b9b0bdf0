"""The judge's Fourier transforms: the pinned one has the bits of the reference, and a tampered one is found."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from refdeq_validation.designed.graphs import every_operator_cell
from refdeq_validation.judge.fourier import defined_dft, dft_bound, strict_dft
from refdeq_validation.judge.replay import replay
from refdeq_validation.runner import run_data

import refdeq as rd
from refdeq.ops import OPS

LENGTHS = [1, 2, 3, 4, 6, 7, 8, 10, 11, 12, 13, 15, 16, 21, 25, 30]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("n", LENGTHS)
def test_the_pinned_transform(n, inverse, dtype, same_bits):
    rng = np.random.default_rng(n)
    op = OPS["DFT"]
    for parts, axis in ((1, 2), (2, 1)):
        x = rng.standard_normal((2, n, 3, parts) if axis == 1 else (2, 3, n, parts)).astype(dtype)
        same_bits(strict_dft(x, axis, inverse), op.forward([x], op.complete({"axis": axis, "inverse": int(inverse)})))
        error = np.abs(strict_dft(x, axis, inverse) - defined_dft(x, axis, inverse))
        assert np.all(error <= dft_bound(x, axis, inverse))


def run(order):
    """A traced run of a cell that holds two transforms."""
    cell, rng = every_operator_cell("float64"), np.random.default_rng(2)
    x = rng.standard_normal((3, 6))
    z0 = {state: 0.1 * rng.standard_normal((3, *shape)) for state, shape in cell.graph.states.items()}
    solution = rd.solve(cell, x, z0=z0, stop=rd.StopRule(max_eval=4), trace=True)
    return copy.deepcopy(run_data(cell, solution, z0, None, rd.Picard(), order, None))


@pytest.mark.parametrize("order", ["strict", "fast"])
def test_honest_transforms_pass(order):
    findings = replay(run(order))
    assert findings.passed, [failure.sentence() for failure in findings.failures]


@pytest.mark.parametrize("node", ["wave_rows", "back"])
@pytest.mark.parametrize("order", ["strict", "fast"])
def test_a_tampered_transform_is_found(node, order):
    """One bit is too much under strict order; in fast order a part of the size of the signal is."""
    tampered = run(order)
    values = tampered.trace.values[node]
    at = (2, 1, 0, 1, 0)
    values[at] = np.nextafter(values[at], np.inf) if order == "strict" else values[at] + 1e-9
    assert any(node in failure.tensor for failure in replay(tampered).failures)


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("inverse", ["fft", "dense"])
def test_a_rewritten_cell_is_judged_like_any_other(inverse, dtype, backend):
    """Peaceman-Rachford is Picard's iteration of the cell it makes (S-6b): that run is replayed, transforms and all."""
    rng = np.random.default_rng(3)
    cell = rd.models.monotone_conv(*rd.models.random_monotone_conv(2, 1, rng, dtype=dtype), (2, 3))
    x = rng.standard_normal((3, 1, 2, 3)).astype(dtype)
    solver = rd.PeacemanRachford(alpha=0.5, inverse=inverse)
    rewritten, stop = solver.split(cell).cell, rd.StopRule(max_eval=6)
    rule = rd.DeltaRule(threshold=0.01) if inverse == "dense" else None
    z0 = {"z": np.zeros((3, *rewritten.graph.states["z"]), dtype)}
    orders = ["strict"] if backend == "reference" else ["strict", "fast"]
    for order in orders:
        options = {"stop": stop, "delta": rule, "backend": backend, "order": order, "executor": "op"}
        solution = rd.solve(rewritten, x, z0=z0, trace=True, **options)
        findings = replay(run_data(rewritten, solution, z0, rule, rd.Picard(), order, None))
        assert findings.passed, [failure.sentence() for failure in findings.failures]
        split = rd.solve(cell, x, solver=solver, **options)
        np.testing.assert_array_equal(split.iterate["z"], solution.trace.z["z"][-1])
