"""Designed cases of special values: NaN, infinities, signed zeros, subnormals, and arguments at which formulas change."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refdeq.graph import Cell
from refdeq.types import DeltaRule
from refdeq_validation.designed.graphs import injected_cell, linear_cell, scalar_cell
from refdeq_validation.designed.parts import ONE, Case, rules, unit_step

__all__ = ["specials"]

ACTIVATIONS = ("Relu", "LeakyRelu", "Tanh", "Sigmoid", "Sin", "Cos", "Exp")


def specials(dtype: str) -> Iterator[Case]:
    """One special value per sample, so that none hides another."""
    tiny, big = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    values = [np.nan, np.inf, -np.inf, 0.0, -0.0, tiny, -tiny, np.finfo(dtype).tiny, 1.0]
    pairs = [(u, r) for u in values for r in (0.0, -0.0, 1.0, np.inf, tiny)]
    u = np.full((len(pairs), 5), 0.5, dtype=dtype)
    r = np.full((len(pairs), 5), 0.5, dtype=dtype)
    u[:, 2], r[:, 2] = np.array(pairs, dtype=dtype).T
    for threshold in (0.0, 0.25, float(tiny), np.inf):
        for preset, rule in rules(threshold):
            yield unit_step(f"special-{threshold:g}-{preset}-{dtype}", "special", rule, u, r)
    huge = np.full((1, 5), big, dtype=dtype)
    for preset, rule in rules(1.0):
        yield unit_step(f"special-overflow-{preset}-{dtype}", "special", rule, huge, -huge)
        yield _poisoned_columns(preset, rule, dtype)
        yield _infinite_weights(preset, rule, dtype)
    for narrow in ("float16", "bfloat16"):
        yield _feedback(narrow, dtype)
    for activation in ACTIVATIONS:
        yield from _arguments(activation, dtype)


def _poisoned_columns(preset: str, rule: DeltaRule, dtype: str) -> Case:
    """Columns that are never sent hold NaN and Inf (D-7)."""
    n = 6
    cell = linear_cell(n, dtype, bias=rule.bias == "folded")
    w = np.array(cell.parameters["W"])
    w[:, 1], w[:, 4] = np.nan, np.inf
    cell = Cell(cell.graph, {**cell.parameters, "W": w})
    r = np.random.default_rng(3).standard_normal((4, n)).astype(dtype)
    u = r.copy()
    u[:, [0, 2, 5]] += np.dtype(dtype).type(3.0)
    return unit_step(f"special-inactive-columns-{preset}-{dtype}", "special", rule, u, r, cell)


def _infinite_weights(preset: str, rule: DeltaRule, dtype: str) -> Case:
    """A first evaluation at a state with zeros, with infinite weights: dense sums do not leave zeros out (N-6)."""
    n = 6
    cell = linear_cell(n, dtype, bias=rule.bias == "folded")
    w = np.array(cell.parameters["W"])
    w[2, 1], w[4, 5] = np.inf, -np.inf
    z0 = np.ones((3, n), dtype)
    z0[1, 1], z0[2, 5] = 0.0, -0.0
    cell = Cell(cell.graph, {**cell.parameters, "W": w})
    return Case(f"special-infinite-weights-{preset}-{dtype}", "special", cell, np.zeros((3, n), dtype), z0, rule, ONE)


def _feedback(narrow: str, dtype: str) -> Case:
    """Differences at the ends of a narrow format, halfway between two of its numbers, and among its subnormals (D-4)."""
    bits, largest, tiny = (11, 65504.0, 2.0**-24) if narrow == "float16" else (8, 3.3895313892515355e38, 2.0**-133)
    half = 2.0**-bits  # of the spacing of the format at 1
    values = [1 + half, 1 + 3 * half, 1 + half * (1 + 2.0**-10), 2 - half, largest, largest * (1 + half / 2), largest * 1.001]
    values += [largest * (1 + half), tiny, tiny / 2, 1.5 * tiny, 2.5 * tiny, tiny * 0.75, 2.0**15, 3.0e38]
    u = np.array([[sign * value for value in values] for sign in (1.0, -1.0)]).astype(dtype)
    rule = DeltaRule(threshold=0.0, memory="feedback", feedback_format=narrow)  # type: ignore[arg-type]
    return unit_step(f"special-feedback-{narrow}-{dtype}", "special", rule, u, np.zeros_like(u))


def _arguments(activation: str, dtype: str) -> Iterator[Case]:
    """One activation at special values, at the ends of its range, and where its formula changes: of a sum, and of x itself."""
    limits = np.finfo(dtype)
    turns = [0.625, 2.0**20, 2.0**30, np.pi / 4, np.pi / 2, np.pi, 88.7, 104.0, 709.78271289338397, 745.13321910194122]
    near_pi = [105032.8671875, 642615.9188844458, 28922353.34055676]  # so close to a multiple that a reduction shows its parts
    values = [np.nan, np.inf, limits.max, limits.tiny, limits.smallest_subnormal, 0.0, 1.0, 20.0, 1e-8, *turns, *near_pi]
    x = np.array(values, dtype)
    with np.errstate(over="ignore"):
        x = np.concatenate([x, np.nextafter(x, np.array(0, dtype)), np.nextafter(x, np.array(np.inf, dtype))])
    x = np.concatenate([x, -x])[:, None]
    for title, cell in (("argument", scalar_cell(activation, dtype)), ("injected", injected_cell(activation, dtype))):
        yield Case(f"special-{title}-{activation.lower()}-{dtype}", "special", cell, x, np.zeros_like(x), None, ONE)
