"""Designed cases larger than one block of a kernel: more than 48 samples, 256 columns, 512 input sites and 256 output sites.

Samples and sites that send nothing, little, nearly everything and everything lie side by side, so that kernels which treat them
apart have all of them in one block, and numbers of each that are no multiple of a group. Where a kernel fills a sample with
zeros, two things show it: an accumulator that is -0, and a weight that is not finite.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from refdeq.graph import Cell, GraphBuilder
from refdeq.types import DeltaRule, StopRule
from refdeq_validation.designed.graphs import linear_cell
from refdeq_validation.designed.parts import ONE, Case, unit_step

__all__ = ["blocks"]

PRESETS = ("paper", "delta-network")
"""With a bias of its own and accumulators that begin at zero; what a block does depends on no more of a rule."""

THRESHOLD = 0.0625


def blocks(dtype: str) -> Iterator[Case]:
    """Gemms and convolutions of several blocks, and rows that must not be filled."""
    for preset in PRESETS:
        rule = DeltaRule.preset(preset, threshold=THRESHOLD)
        yield _rows(preset, rule, dtype)
        yield _few_rows(preset, rule, dtype)
        yield _signs(preset, rule, dtype)
        yield _poisoned(preset, rule, dtype)
        yield _sites(preset, rule, dtype)
        yield _channels(preset, rule, dtype)
        yield _site_signs(preset, rule, dtype)
        yield _poisoned_sites(preset, rule, dtype)
        yield _skewed(preset, replace(rule, refresh=2), dtype)
    yield _poisoned_start(DeltaRule.preset("delta-network", threshold=THRESHOLD), dtype)
    if dtype == "float32":
        yield from _fed_back(dtype)


def _fed_back(dtype: str) -> Iterator[Case]:
    """Differences in bfloat16, for kernels that multiply such numbers; and solves of more than 256 columns, from a reset."""
    rule = DeltaRule(threshold=THRESHOLD, memory="feedback", feedback_format="bfloat16")
    yield _rows("feedback", rule, dtype)
    yield _few_rows("feedback", rule, dtype)
    yield _sites("feedback", rule, dtype)
    z0 = np.random.default_rng(79).uniform(-1.0, 1.0, (3, 270)).astype(dtype)
    for name, chosen in (("feedback", rule), ("dense", None)):
        yield Case(
            f"block-solve-{name}-{dtype}", "block", linear_cell(270, dtype), np.zeros_like(z0), z0, chosen, StopRule(max_eval=3)
        )


def _changed(rng: np.random.Generator, r: np.ndarray, sent: np.ndarray) -> np.ndarray:
    """Values that differ from `r` by more than the threshold where something is sent, and by less elsewhere."""
    size = np.where(sent, rng.uniform(0.5, 3.0, r.shape), rng.uniform(0.001, 0.05, r.shape))
    return np.asarray(r + size * rng.choice([-1.0, 1.0], r.shape), dtype=r.dtype)


def _sent(rng: np.random.Generator, shares: list[float], columns: int) -> np.ndarray:
    """One row per share: so much of it is sent, at random places."""
    return np.asarray(rng.random((len(shares), columns)) < np.array(shares)[:, None])


def _rows(preset: str, rule: DeltaRule, dtype: str) -> Case:
    """56 samples of 270 columns: in the first 48 nine are nearly whole (six and three), then eight (twice four)."""
    rng = np.random.default_rng(41)
    first = [0.9] * 9 + [0.0] * 3 + [0.02] * 12 + [0.2] * 12 + [0.5] * 12
    shares = [*rng.permutation(first).tolist(), 1.0, 1.0, 1.0, 0.85, 1.0, 0.95, 1.0, 1.0]
    r = rng.standard_normal((len(shares), 270)).astype(dtype)
    return unit_step(f"block-rows-{preset}-{dtype}", "block", rule, _changed(rng, r, _sent(rng, shares, 270)), r)


def _few_rows(preset: str, rule: DeltaRule, dtype: str) -> Case:
    """Two samples of 139 columns, one of which sends an odd number of them."""
    rng = np.random.default_rng(43)
    r = rng.standard_normal((2, 139)).astype(dtype)
    sent = _sent(rng, [0.3, 1.0], 139)
    return unit_step(f"block-few-{preset}-{dtype}", "block", rule, _changed(rng, r, sent), r)


def _signs(preset: str, rule: DeltaRule, dtype: str) -> Case:
    """Six samples that send nine tenths: what is -0 and adds nothing but -0 stays -0, and +0 stays +0 (N-6)."""
    rng, n = np.random.default_rng(47), 20
    cell = linear_cell(n, dtype, bias=rule.bias == "folded")
    w = np.array(cell.parameters["W"])
    w[3], w[11] = 0.0, 0.0
    r = rng.standard_normal((6, n)).astype(dtype)
    u = (r - np.dtype(dtype).type(2.0)).astype(dtype)
    u[:, [4, 15]] = r[:, [4, 15]]
    case = unit_step(f"block-signs-{preset}-{dtype}", "block", rule, u, r, Cell(cell.graph, {**cell.parameters, "W": w}))
    assert case.memory is not None
    a = case.memory["linear"].copy()
    a[1:, 3], a[1:4, 11], a[4:, 11] = -0.0, -0.0, 0.0
    return replace(case, memory={**case.memory, "linear": a})


def _poisoned(preset: str, rule: DeltaRule, dtype: str) -> Case:
    """Six samples that send nine tenths; what they do not send has weights that are not finite (D-7)."""
    rng, n = np.random.default_rng(53), 20
    cell = linear_cell(n, dtype, bias=rule.bias == "folded")
    w = np.array(cell.parameters["W"])
    w[:, 4], w[2, 15] = np.nan, np.inf
    r = rng.standard_normal((6, n)).astype(dtype)
    u = (r + np.dtype(dtype).type(2.0)).astype(dtype)
    u[:, [4, 15]] = r[:, [4, 15]]
    return unit_step(f"block-poisoned-{preset}-{dtype}", "block", rule, u, r, Cell(cell.graph, {**cell.parameters, "W": w}))


def _poisoned_start(rule: DeltaRule, dtype: str) -> Case:
    """The same from a reset: a first difference to a reference of zeros leaves out what is zero."""
    n = 20
    cell = linear_cell(n, dtype)
    w = np.array(cell.parameters["W"])
    w[:, 4] = np.nan
    z0 = np.random.default_rng(67).uniform(1.0, 2.0, (6, n)).astype(dtype)
    z0[:, [4, 15]] = 0.0
    cell = Cell(cell.graph, {**cell.parameters, "W": w})
    return Case(f"block-poisoned-start-delta-network-{dtype}", "block", cell, np.zeros_like(z0), z0, rule, ONE)


def _convolution(dtype: str, channels: int, sites: tuple[int, ...], kernel: tuple[int, ...], group: int = 1) -> Cell:
    """Return ``z <- z * W + x``, padded so that every site keeps its place."""
    rng = np.random.default_rng(channels)
    weight = (rng.standard_normal((channels, channels // group, *kernel)) * 0.1).astype(dtype)
    pads = *((size - 1) // 2 for size in kernel), *(size // 2 for size in kernel)
    builder = GraphBuilder(dtype)
    z, x = builder.state("z", (channels, *sites)), builder.injection("x", (channels, *sites))
    linear = builder.node("Conv", z, builder.parameter("W", weight), pads=pads, group=group, name="linear")
    builder.output(z, builder.node("Add", linear, x, name="total"))
    return builder.build()


def _spread(rng: np.random.Generator, batch: int, channels: int, sites: int, shares: list[float]) -> np.ndarray:
    """What is sent, when the sites of every sample take their shares from a list at random."""
    chosen = np.repeat(rng.choice(shares, (batch, 1, sites)), channels, axis=1)
    return np.asarray(rng.random((batch, channels, sites)) < chosen)


def _unit(name: str, rule: DeltaRule, cell: Cell, u: np.ndarray, r: np.ndarray, rng: np.random.Generator) -> Case:
    """One evaluation of a convolution that keeps sizes, from a memory of full mantissas."""
    a, x = (rng.standard_normal(u.shape).astype(u.dtype) for _ in range(2))
    return Case(name, "block", cell, x, u, rule, ONE, memory={"z": r, "linear": a})


def _sites(preset: str, rule: DeltaRule, dtype: str) -> Case:
    """A plane of 23 by 25 sites: two bands of input sites and three blocks of output sites; the last rows send nothing."""
    rng, shape = np.random.default_rng(59), (2, 12, 23, 25)
    cell = _convolution(dtype, 12, shape[2:], (3, 2))
    r = rng.standard_normal(shape).astype(dtype)
    sent = _spread(rng, 2, 12, 23 * 25, [0.0, 0.1, 0.4, 0.95, 1.0]).reshape(shape)
    sent[1, :, :13] = False
    return _unit(f"block-sites-{preset}-{dtype}", rule, cell, _changed(rng, r, sent), r, rng)


def _channels(preset: str, rule: DeltaRule, dtype: str) -> Case:
    """Two groups of 70 channels on a line of nine sites, one sample of which sends at its last site alone."""
    rng, shape = np.random.default_rng(61), (3, 140, 9)
    cell = _convolution(dtype, 140, shape[2:], (3,), group=2)
    r = rng.standard_normal(shape).astype(dtype)
    sent = _spread(rng, 3, 140, 9, [0.02, 0.3, 0.9, 1.0])
    sent[1, :, :8] = False
    return _unit(f"block-channels-{preset}-{dtype}", rule, cell, _changed(rng, r, sent), r, rng)


def _nearly_whole_sites(rng: np.random.Generator, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Value and reference of three samples of 20 channels on eight sites: channels 4 and 7 send nothing, the others shrink."""
    r = rng.standard_normal((3, 20, 8)).astype(dtype)
    u = (r - np.dtype(dtype).type(2.0)).astype(dtype)
    u[:, [4, 7]] = r[:, [4, 7]]
    return u, r


def _site_signs(preset: str, rule: DeltaRule, dtype: str) -> Case:
    """What is -0 at a site and adds nothing but -0 stays -0 (N-6)."""
    rng = np.random.default_rng(71)
    cell = _convolution(dtype, 20, (8,), (3,))
    w = np.array(cell.parameters["W"])
    w[3] = 0.0
    u, r = _nearly_whole_sites(rng, dtype)
    case = _unit(f"block-site-signs-{preset}-{dtype}", rule, Cell(cell.graph, {**cell.parameters, "W": w}), u, r, rng)
    assert case.memory is not None
    a = case.memory["linear"].copy()
    a[1, 3], a[2, 3] = 0.0, -0.0
    return replace(case, memory={**case.memory, "linear": a})


def _poisoned_sites(preset: str, rule: DeltaRule, dtype: str) -> Case:
    """Channels that send nothing have weights that are not finite (D-7)."""
    rng = np.random.default_rng(73)
    cell = _convolution(dtype, 20, (8,), (3,))
    w = np.array(cell.parameters["W"])
    w[:, 4, 1], w[5, 7] = np.nan, np.inf
    u, r = _nearly_whole_sites(rng, dtype)
    return _unit(f"block-poisoned-sites-{preset}-{dtype}", rule, Cell(cell.graph, {**cell.parameters, "W": w}), u, r, rng)


def _skewed(preset: str, rule: DeltaRule, dtype: str) -> Case:
    """A solve with refreshes over a convolution whose every number differs between the two axes and the two ends of one."""
    rng, n = np.random.default_rng(79), 6
    builder = GraphBuilder(dtype)
    z, x = builder.state("z", (n, 5, 8)), builder.injection("x", (n, 5, 8))
    weight = builder.parameter("W", (rng.standard_normal((n, n, 3, 2)) * 0.2).astype(dtype))
    geometry = {"strides": (1, 3), "pads": (2, 1, 0, 3), "dilations": (1, 2)}
    conv = builder.node("Conv", z, weight, **geometry, name="linear")
    mean = builder.node("ReduceMean", conv, axes=(2, 3), name="mean")
    builder.output(z, builder.node("Tanh", builder.node("Add", mean, x, name="total"), name="f"))
    injections, z0 = (rng.standard_normal((2, n, 5, 8)).astype(dtype) for _ in range(2))
    return Case(f"block-skewed-{preset}-{dtype}", "block", builder.build(), injections, z0, rule, StopRule(max_eval=4))
