"""What an implementation of a single preset is held to: the families in small, for each of the presets but ``refdeq``.

Most other generators use the rule ``refdeq`` where the rule does not matter; these cases give the profiles of the other presets
(``paper``, ``deltadeq-code``, ``delta-network``) their power.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refdeq.types import PRESETS, DeltaRule
from refdeq_validation.cases import few_terms, sequences, shapes, ties
from refdeq_validation.cases.building import SHORT, Numbers, gemm, prepared, started, unit
from refdeq_validation.cases.model import Case

__all__ = ["cases"]

NAN = float("nan")


def cases(dtype: str) -> Iterator[Case]:
    """Every preset but ``refdeq``."""
    for preset in PRESETS:
        if preset != "refdeq":
            yield from ties_and_special(dtype, preset)
            yield from precision(dtype, preset)
            yield from sizes(dtype, preset)
            yield from states(dtype, preset)


def ties_and_special(dtype: str, preset: str) -> Iterator[Case]:
    """Thresholds that are rounded, NaN, NaN columns, signs of zero."""
    for name in ("tenth", "seven-tenths"):
        slug = f"{preset}-rounded-threshold-{name}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        threshold = ties.THRESHOLDS[name]
        differences = ties.at_and_beside(number.array(threshold))
        u = np.stack([differences, differences[::-1]])
        u[1, ::3] = 0.0
        weight, bias = number.signed("weight", (4, len(differences)), 1, 7), number.signed("bias", (4,), 3, 9)
        problem = gemm(weight, bias, DeltaRule.preset(preset, threshold=threshold))
        calls = prepared(np.zeros_like(u), number.signed("a", (2, 4), 1, 9), u)
        title = f"Preset {preset}: |delta| at {threshold}, beside it, and at its roundings to narrower formats."
        yield unit("tie", slug, title, ("TIE_RULE", "THRESHOLD"), problem, calls, exact=False)
    slug = f"{preset}-special-values-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    weight, bias = sequences.plain(number)
    weight[:, 2], weight[1, 4] = NAN, np.inf
    problem = gemm(weight, bias, DeltaRule.preset(preset, threshold=0.5))
    r = number.integers("r", (4, 7), -4, 4)
    r[:, 0] = 0.0
    u = r + number.signed("change", (4, 7), 1, 3)
    u[:, 2], u[:, 4], u[:, 0] = r[:, 2] + number.array(0.25), r[:, 4], -0.0
    u[1, 3], u[2, 5], u[3, 2] = NAN, np.inf, r[3, 2] + number.array(2.0)
    title = f"Preset {preset}: NaN and Inf that are sent, and columns of them that are not."
    calls = prepared(r, number.signed("a", (4, 5), 1, 9), u, r)
    yield unit("special", slug, title, ("SPECIAL_VALUES", "MEMORY_RULE"), problem, calls, exact=False)


def precision(dtype: str, preset: str) -> Iterator[Case]:
    """One and three full-mantissa terms; the last bit of an integer accumulator."""
    rule = DeltaRule.preset(preset, threshold=0.25)
    for k in (1, 3):
        slug = f"{preset}-narrow-operands-{k}-terms-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        a = np.zeros((5, 4), dtype)
        weight, values = few_terms.adversarial(number, k, 5, 4, a)
        r, u = few_terms.spread(number, values)
        problem = gemm(weight, number.full("bias", (4,)), rule)
        title = f"Preset {preset}: {k} full-mantissa product{'s' if k > 1 else ''}."
        calls = prepared(r, number.full("a", (5, 4)), u)
        yield unit("bound_k1", slug, title, ("PRECISION_DOWNGRADE", "BIAS"), problem, calls, exact=False)
    slug = f"{preset}-last-bit-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    top = 2.0**23 if dtype == "float32" else 2.0**52
    problem = gemm(number.signed("weight", (6, 8), 1, 7), number.signed("bias", (6,), 1, 9), rule)
    a = np.asarray(number.signed("a", (3, 6), 1, 99) * number.array(2.0) + number.array(top + 1.0))
    r = number.integers("r", (3, 8), -3, 3)
    u = np.asarray(r + number.array(np.eye(3, 8)) + number.array(np.eye(3, 8, 4)) * number.array(2.0))
    title = f"Preset {preset}: odd integers near the largest exact one in the accumulator."
    bugs = ("PRECISION_DOWNGRADE", "ACCUMULATE")
    yield unit("exact", slug, title, bugs, problem, prepared(r, a, u))


def sizes(dtype: str, preset: str) -> Iterator[Case]:
    """Remainders and capacities."""
    for inputs, outputs, batch in ((1, 2, 3), (7, 9, 2), (33, 32, 2), (65, 17, 1), (129, 3, 2), (4, 255, 2)):
        slug = f"{preset}-remainder-at-{inputs}x{outputs}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        bias = number.signed("bias", (outputs,), 1, 9)
        problem = gemm(shapes.distinct(outputs, inputs, dtype), bias, DeltaRule.preset(preset, threshold=1.25))
        start = number.integers("start", (batch, inputs), -4, 4) + number.array(0.25)
        second = start + shapes.moves(number, "second", start.shape)
        third = second + number.array(0.5)
        third[0, -1] += number.array(2.0)
        title = f"Preset {preset}: {inputs} inputs, {outputs} outputs, batch {batch}."
        yield unit("shape", slug, title, shapes.BUGS, problem, started(start, second, third))


def states(dtype: str, preset: str) -> Iterator[Case]:
    """A ramp, twelve steps, refreshes, resets, two sessions, a state that is set."""
    slug = f"{preset}-slow-ramp-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(*sequences.plain(number), DeltaRule.preset(preset, threshold=0.625))
    base, slope = number.integers("base", (1, 7), -4, 4), number.signed("slope", (1, 7), 0, 3, 0.125)
    steps = [np.asarray(base + number.array(t) * slope) for t in range(25)]
    title = f"Preset {preset}: a ramp of up to 0.6 tau per step."
    yield unit("ramp", slug, title, ("MEMORY_RULE",), problem, started(*steps))
    for name, refresh in (("twelve-steps", 0), ("refresh-every-3", 3)):
        slug = f"{preset}-{name}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = gemm(*sequences.plain(number), DeltaRule.preset(preset, threshold=0.5, refresh=refresh))
        title = f"Preset {preset}: {name.replace('-', ' ')}."
        calls = started(*sequences.walk(number, 2, 7, 8 if refresh else 12))
        yield unit("sequence", slug, title, ("MEMORY_RULE", "ACCUMULATE", "MASK"), problem, calls)
    slug = f"{preset}-reset-forgets-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(*sequences.plain(number), DeltaRule.preset(preset, threshold=0.75))
    runs = [started(*sequences.walk(number, b, 7, 3, str(b)), session=s) for b, s in ((2, 0), (3, 1), (1, 0))]
    title = f"Preset {preset}: two sessions in turns, then a reset with another batch."
    mixed = tuple(call for pair in zip(runs[0], runs[1], strict=True) for call in pair)
    yield unit("reset", slug, title, ("RESET", "STATE_LEAK", "START"), problem, (*mixed, *runs[2]))
    slug = f"{preset}-continues-from-state-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(*sequences.plain(number), DeltaRule.preset(preset, threshold=0.75))
    r, a = number.integers("r", (3, 7), -8, 8, 0.5), number.integers("a", (3, 5), -99, 99, 0.5)
    values = [np.asarray(r + number.integers(f"c{t}", (3, 7), -6, 6, 0.25)) for t in range(3)]
    title = f"Preset {preset}: a state that is set, then three steps."
    yield unit("warm", slug, title, ("WARM_START", "MEMORY_RULE"), problem, prepared(r, a, *values, count=[1, 2, 0]))
