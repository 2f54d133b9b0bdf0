"""Designed cases: small solves whose inputs sit where kernels go wrong. Everything is seeded; nothing is drawn per run.

A unit step (level L1) is a solve of one evaluation from given memory; a sequence (level L2) is a solve of several. Both are
judged by replay. Families: ``tie`` (differences exactly at the threshold and one ulp beside it), ``special`` (NaN, infinities,
signed zeros, subnormals; see :mod:`refdeq_validation.designed.special_values`), ``terms`` (k = 0, 1, 2, 3, all sent), ``shape``
(odd sizes, batch 1 and many), ``decision`` (residuals exactly at a limit), ``sequence`` (freezing, statuses, damping, norms),
``warm``, ``rule`` (every other choice of a rule), ``graph`` (cells with an entry, a phase and a filter; convolutions and every
operator, op level only), ``block`` (more samples, columns and sites than a block of a kernel holds).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from refdeq.graph import Cell
from refdeq.models import fourier, siren
from refdeq.solvers import KrasnoselskiiMann, Picard
from refdeq.types import DeltaRule, GateOverride, StopRule
from refdeq_validation.designed.blocks import blocks
from refdeq_validation.designed.graphs import convolution_cell, every_operator_cell, linear_cell, scalar_cell, skewed_cell
from refdeq_validation.designed.parts import PRESET_NAMES, Case, rules, unit_step
from refdeq_validation.designed.solving import solver_cases
from refdeq_validation.designed.special_values import specials

__all__ = ["PRESET_NAMES", "Case", "designed_cases"]

DTYPES = ("float32", "float64")


def _ties(dtype: str) -> Iterator[Case]:
    """Differences at the threshold, one ulp inside and outside, of both signs, from a zero and a non-zero reference."""
    real = np.dtype(dtype).type
    for threshold in (0.25, 0.0, float(np.finfo(dtype).smallest_subnormal) * 3, 0.1):
        tau = real(threshold)
        beside = [tau, np.nextafter(tau, real(1)), np.nextafter(tau, real(-1)), real(0), tau + tau]
        deltas = np.array([s * d for d in beside for s in (real(1), real(-1))], dtype=dtype)
        for title, reference in (("zero", real(0)), ("one", real(1))):
            r = np.full((3, len(deltas)), reference, dtype=dtype)
            u = r + np.stack([deltas, -deltas, np.roll(deltas, 3)])
            for preset, rule in rules(threshold):
                yield unit_step(f"tie-{threshold:g}-{title}-{preset}-{dtype}", "tie", rule, u, r)


def _terms(dtype: str) -> Iterator[Case]:
    """Exactly k sent columns, at the ends and in the middle, for every size class of a vector kernel."""
    rng = np.random.default_rng(11)
    for n in (1, 2, 3, 5, 8, 15, 17, 33, 65):
        patterns = [[], [0], [n - 1], [0, n - 1], [0, n // 2, n - 1], [n - 1, n - 2], list(range(n))]
        r = rng.standard_normal((len(patterns), n)).astype(dtype)
        u = r + np.dtype(dtype).type(2.0**-9) * rng.uniform(-1, 1, r.shape).astype(dtype)
        for row, pattern in enumerate(patterns):
            picked = [j for j in pattern if j >= 0]
            u[row, picked] = rng.standard_normal(len(picked)).astype(dtype) * 3 + 5
        for preset, rule in rules(0.0625):
            yield unit_step(f"terms-{n}-{preset}-{dtype}", "terms", rule, u, r)


def _shapes(dtype: str) -> Iterator[Case]:
    """Whole solves at odd sizes and batches, with a stop in the middle."""
    rng = np.random.default_rng(13)
    for n, batch in ((1, 1), (2, 3), (7, 130), (16, 1), (31, 5), (64, 2), (70, 9)):
        cell = linear_cell(n, dtype, activation="Tanh", bias=n % 2 == 1)
        x = (rng.standard_normal((batch, n)) * rng.choice([0.01, 1.0, 4.0], (batch, 1))).astype(dtype)
        z0 = (rng.standard_normal((batch, n)) * 0.1).astype(dtype)
        for preset, rule in rules(0.01):
            stop = StopRule(rtol=1e-3, max_eval=9)
            yield Case(f"shape-{n}x{batch}-{preset}-{dtype}", "shape", cell, x, z0, rule, stop)


def _sequences(dtype: str) -> Iterator[Case]:
    """Freezing, every status, damping, norms, tolerances; a NaN sample next to good ones."""
    rng = np.random.default_rng(17)
    n, batch = 9, 8
    x = (rng.standard_normal((batch, n)) * np.logspace(-3, 1, batch)[:, None]).astype(dtype)
    z0 = (rng.standard_normal((batch, n)) * 0.1).astype(dtype)
    bad = x.copy()
    bad[3, 4], bad[5, 0] = np.nan, np.inf
    tanh, plain, wild = (linear_cell(n, dtype, activation=phi, scale=s) for phi, s in (("Tanh", 0.9), (None, 0.8), (None, 3.0)))
    sines = linear_cell(n, dtype, activation="Sin", bias=True)
    damped = KrasnoselskiiMann(alpha=0.7)
    for preset, rule in rules(0.02):
        stops: dict[str, tuple[Cell, np.ndarray, StopRule, Picard | KrasnoselskiiMann]] = {
            "atol": (tanh, x, StopRule(atol=1e-2, max_eval=12), Picard()),
            "linf": (tanh, x, StopRule(atol=1e-2, norm="linf", max_eval=12), Picard()),
            "linf-nonfinite": (tanh, bad, StopRule(atol=1e-2, norm="linf", max_eval=8), Picard()),
            # fl(1 - 0.9) and 1 - fl(0.9) differ in float32
            "either": (tanh, x, StopRule(atol=1e-4, rtol=1e-2, max_eval=12), KrasnoselskiiMann(alpha=0.9)),
            "resting": (tanh, x, StopRule(max_eval=16), Picard()),
            "damped": (plain, x, StopRule(rtol=1e-3, max_eval=14), damped),
            "sine": (sines, x, StopRule(rtol=1e-3, max_eval=10), damped),
            "nonfinite": (tanh, bad, StopRule(rtol=1e-3, max_eval=8), Picard()),
            "diverged": (wild, x, StopRule(rtol=1e-3, divergence=3.0, max_eval=14), Picard()),
            "stagnated": (tanh, x, StopRule(rtol=1e-12, stagnation=(2, 0.5), max_eval=14), damped),
            "budget": (tanh, x, StopRule(max_eval=3), Picard()),
            "odd-eps": (tanh, x, StopRule(rtol=1e-2, eps=0.5, max_eval=12), Picard()),
        }
        for title, (cell, injection, stop, solver) in stops.items():
            name = f"sequence-{title}-{preset}-{dtype}"
            yield Case(name, "sequence", cell, injection, z0, rule, stop, solver)
        for title in ("nonfinite", "diverged", "odd-eps"):
            cell, injection, stop, solver = stops[title]
            name = f"sequence-lowest-{title}-{preset}-{dtype}"
            yield Case(name, "sequence", cell, injection, z0, rule, stop, solver, returned="lowest")
    yield Case(f"sequence-dense-{dtype}", "sequence", tanh, x, z0, None, StopRule(rtol=1e-3, max_eval=12), damped)
    # alpha = 1 is Picard (S-6): -0 stays -0, where fl(0 z + f) would make it +0
    ones = np.array([[0.0], [1.0], [np.inf]], dtype)
    undamped, stop = KrasnoselskiiMann(alpha=1.0), StopRule(max_eval=3)
    negated, zero = scalar_cell("Neg", dtype), np.zeros_like(ones)
    yield Case(f"sequence-undamped-{dtype}", "sequence", negated, ones, zero, None, stop, undamped)


def _decisions(dtype: str) -> Iterator[Case]:
    """Residuals that equal a limit exactly (S-3): with ``z <- w z + x`` from 0 they are ``|x| |w|**t``."""
    x = np.array([[1.0], [0.25], [-3.0], [np.inf]], dtype)
    stops: dict[str, tuple[float, StopRule]] = {
        "atol": (-0.5, StopRule(atol=0.25, max_eval=6)),
        "rtol": (-0.5, StopRule(rtol=0.5, eps=0.5, max_eval=6)),
        "linf": (-0.5, StopRule(atol=0.25, norm="linf", max_eval=6)),
        "order": (-0.5, StopRule(atol=0.25, divergence=0.1, stagnation=(1, 0.1), max_eval=3)),
        "divergence": (-2.0, StopRule(divergence=4.0, max_eval=6)),
        "divergence-first": (-2.0, StopRule(divergence=1.5, stagnation=(1, 0.5), max_eval=2)),
        "stagnation": (-0.5, StopRule(stagnation=(1, 0.5), max_eval=6)),
        "stagnation-window": (-0.5, StopRule(stagnation=(3, 0.125), max_eval=6)),
        "stagnation-flat": (-1.0, StopRule(stagnation=(2, 1.0), max_eval=6)),
        "stagnation-never": (-1.0, StopRule(stagnation=(6, 1.0), max_eval=6)),
    }
    for title, (weight, stop) in stops.items():
        cell = scalar_cell("Identity", dtype, weight)
        for preset, rule in rules(0.0):
            yield Case(f"decision-{title}-{preset}-{dtype}", "decision", cell, x, np.zeros_like(x), rule, stop)
            if weight == -1.0:  # equal residuals at different points: the earlier is the lowest
                name = f"decision-{title}-lowest-{preset}-{dtype}"
                yield Case(name, "decision", cell, x, np.zeros_like(x), rule, stop, returned="lowest")


def _warm(dtype: str) -> Iterator[Case]:
    """A second solve of a changed injection that goes on from state and memory (D-9), and slow ramps of it."""
    rng = np.random.default_rng(19)
    n, batch = 10, 4
    cell = linear_cell(n, dtype, activation="Tanh", bias=True)
    x = rng.standard_normal((batch, n)).astype(dtype)
    for preset, rule in rules(0.05):
        stop = StopRule(rtol=1e-3, max_eval=6)
        moved = (x + 0.03 * rng.standard_normal(x.shape)).astype(dtype)
        yield Case(f"warm-{preset}-{dtype}", "warm", cell, x, np.zeros_like(x), rule, stop, then=moved)


def _other_rules(dtype: str) -> Iterator[Case]:
    """Every choice of a rule that the presets leave out."""
    rng = np.random.default_rng(23)
    n, batch = 12, 5
    cell = linear_cell(n, dtype, activation="Tanh", bias=True)
    x = rng.standard_normal((batch, n)).astype(dtype)
    channel = tuple(float(t) for t in np.linspace(0.0, 0.2, n))
    base = DeltaRule(threshold=0.05)
    rules = {
        "feedback-float16": replace(base, memory="feedback", feedback_format="float16"),
        "feedback-bfloat16": replace(base, memory="feedback", feedback_format="bfloat16"),
        "delta-float16": replace(base, delta_dtype="float16"),
        "sample": replace(base, granularity="sample"),
        "channel": replace(base, granularity="channel"),
        "per-channel": replace(base, threshold=channel),
        "override": replace(base, gates={"z": GateOverride(threshold=0.2, granularity="sample")}),
        "refresh": replace(base, memory="always", refresh=3),
        "refresh-folded": replace(base, bias="folded", refresh=2),
        "zero-folded": replace(base, start="zero", bias="folded"),
        "zero-always": replace(base, start="zero", memory="always"),
        "dense-node": replace(base, dense=("linear",)),
    }
    for title, rule in rules.items():
        stop = StopRule(rtol=1e-4, max_eval=8)
        yield Case(f"rule-{title}-{dtype}", "rule", cell, x, np.zeros_like(x), rule, stop)


def _graphs(dtype: str) -> Iterator[Case]:
    """Convolutions of every geometry with every granularity, and a graph of every operator."""
    rng = np.random.default_rng(29)
    stop = StopRule(rtol=1e-4, max_eval=5)
    grains: dict[str, dict[str, Any]] = {
        "element": {},
        "pixel": {"granularity": "pixel"},
        "channel": {"granularity": "channel"},
        "sample": {"granularity": "sample"},
        "tile": {"granularity": "tile", "tile": (2, 3, 2)},
    }
    for rank in (1, 2):
        cell = convolution_cell(rank, dtype)
        x = rng.standard_normal((3, *cell.graph.injections["x"])).astype(dtype)
        z0 = np.zeros((3, *cell.graph.states["z"]), dtype)
        for preset in PRESET_NAMES:
            for title, grain in grains.items():
                rule = DeltaRule.preset(preset, threshold=0.05, **grain)
                yield Case(f"graph-conv{rank}d-{title}-{preset}-{dtype}", "graph", cell, x, z0, rule, stop)
        yield Case(f"graph-conv{rank}d-dense-{dtype}", "graph", cell, x, z0, None, stop)
    cell = skewed_cell(dtype)
    x, z0 = (rng.standard_normal((2, *cell.graph.injections["x"])).astype(dtype) for _ in range(2))
    for preset, rule in rules(0.1):
        yield Case(f"graph-skewed-{preset}-{dtype}", "graph", cell, x, z0, rule, replace(stop, max_eval=3))
    yield Case(f"graph-skewed-dense-{dtype}", "graph", cell, x, z0, None, replace(stop, max_eval=3))
    for title, cell in _network_cells(dtype).items():
        x = rng.uniform(-1.0, 1.0, (9, 2)).astype(dtype)
        for preset, rule in rules(0.05):
            z0 = np.zeros((9, *cell.graph.states["z"]), dtype)
            yield Case(f"graph-{title}-{preset}-{dtype}", "graph", cell, x, z0, rule, StopRule(rtol=1e-2, max_eval=8))
    cell = every_operator_cell(dtype)
    x = rng.standard_normal((4, *cell.graph.injections["x"])).astype(dtype)
    both = {name: np.zeros((4, *shape), dtype) for name, shape in cell.graph.states.items()}
    for preset, rule in rules(0.02):
        # A folded bias needs alpha = beta = 1 (D-6), which this graph's Gemm has not.
        rule = replace(rule, dense=("gemm",)) if rule.bias == "folded" else rule
        yield Case(f"graph-operators-{preset}-{dtype}", "graph", cell, x, both, rule, stop)


def _network_cells(dtype: str) -> dict[str, Cell]:
    """Small cells of the implicit networks: an entry added to the state, and a phase or a filter behind the linear node."""
    rng, n = np.random.default_rng(37), 11

    def draw(*shape: int) -> np.ndarray:
        weights: np.ndarray = (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(dtype)
        return weights

    weight = (0.3 * rng.standard_normal((n, n)) / np.sqrt(n)).astype(dtype)
    return {
        "siren": siren(weight, draw(n, 2), draw(n), draw(n, 2), draw(n)),
        "fourier": fourier(weight, draw(n), draw(n, 2), draw(n), draw(n, 2), draw(n)),
    }


def designed_cases(dtypes: tuple[str, ...] = DTYPES) -> Iterator[Case]:
    """Yield every designed case, cheapest and most telling families first."""
    families = _ties, _terms, specials, _decisions, _sequences, _warm, _other_rules, _shapes, _graphs, solver_cases, blocks
    for make in families:
        for dtype in dtypes:
            yield from make(dtype)
