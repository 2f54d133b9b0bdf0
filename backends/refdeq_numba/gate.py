"""The gate of the delta rule (D-1 to D-4, D-10) and the counters of what it sent (C-1, C-3), over a range of samples."""

from __future__ import annotations

import numpy as np

from refdeq_numba.compilation import compiled, inlined
from refdeq_numba.machine import round_to_bfloat16, round_to_float16

__all__ = ["COMPARE", "DELTA_DTYPE", "FEEDBACK_FORMAT", "MEMORY", "count_nonzero", "count_sent", "gate"]

# Choices of a rule as numbers, because compiled code has no strings worth comparing.
COMPARE = {"gt": 0, "ge": 1}
MEMORY = {"sent": 0, "always": 1, "feedback": 2}
DELTA_DTYPE = {None: 0, "float32": 1, "float16": 2}
FEEDBACK_FORMAT = {None: 0, "float16": 0, "bfloat16": 1}


@inlined
def _write_differences(u, r, delta_dtype, d):
    """Difference of every element, in the dtype of `u` or formed in a narrower one (D-1)."""
    if delta_dtype == 0:
        for k in range(len(d)):
            d[k] = u[k] - r[k]
    elif delta_dtype == 1:
        for k in range(len(d)):
            d[k] = np.float32(u[k]) - np.float32(r[k])
    else:
        # the difference of two float16 numbers is exact in float64, so this rounds it once
        for k in range(len(d)):
            d[k] = round_to_float16(round_to_float16(np.float64(u[k])) - round_to_float16(np.float64(r[k])))


@inlined
def _write_decisions(d, threshold, compare, mask):
    """Elementwise decisions (D-2), written as negations so that NaN is always sent."""
    if compare == 1:
        for k in range(len(d)):
            mask[k] = not (abs(d[k]) < threshold[k])
    else:
        for k in range(len(d)):
            mask[k] = not (abs(d[k]) <= threshold[k])


@inlined
def _share_decisions(mask, group, any_sent):
    """OR over each group (D-10); ``group[k]`` is the group of element k, an empty array means element granularity."""
    if len(group) == 0:
        return
    any_sent[:] = False
    for k in range(len(mask)):
        any_sent[group[k]] |= mask[k]
    for k in range(len(mask)):
        mask[k] = any_sent[group[k]]


@inlined
def _narrow_gated(mask, feedback_format, d):
    """Gated difference rounded to the narrow format of the feedback memory (D-3, D-4)."""
    if feedback_format == 1:
        for k in range(len(d)):
            d[k] = round_to_bfloat16(np.float64(d[k])) if mask[k] else 0.0
    else:
        for k in range(len(d)):
            d[k] = round_to_float16(np.float64(d[k])) if mask[k] else 0.0


@compiled
def gate(rows, first, last, u, threshold, group, group_count, choices, r, mask, d):
    """Advance one gate: decide, write mask and gated difference, update the reference (D-1 to D-4, D-10).

    Parameters
    ----------
    u : (B, n) array
        Watched values.
    threshold : (n,) array of the same dtype
    group : (n,) int64, or empty for element granularity
    group_count : int
    choices : (compare, memory, delta_dtype, feedback_format)
        Numbers from the tables of this module.
    r : (B, n) array, changed in place
    mask : (B, n) bool, written
    d : (B, n) array, written
    """
    compare, memory, delta_dtype, feedback_format = choices
    any_sent = np.empty(group_count, np.bool_)
    for i in range(first, last):
        b = rows[i]
        value, reference, sent, gated = u[b], r[b], mask[b], d[b]
        _write_differences(value, reference, delta_dtype, gated)
        _write_decisions(gated, threshold, compare, sent)
        _share_decisions(sent, group, any_sent)
        if memory == 2:
            _narrow_gated(sent, feedback_format, gated)
            for k in range(len(gated)):
                reference[k] = reference[k] + gated[k] if sent[k] else reference[k]
            continue
        for k in range(len(gated)):
            gated[k] = gated[k] if sent[k] else 0.0
        if memory == 1:
            for k in range(len(gated)):
                reference[k] = value[k]
        else:
            for k in range(len(gated)):
                reference[k] = value[k] if sent[k] else reference[k]


@compiled
def count_sent(rows, first, last, mask, fan_out, position, out):
    """Add the fan-outs of the sent elements of each sample to `out` (C-1).

    Parameters
    ----------
    mask : (B, n) bool
    fan_out : (m,) int64
        One number, or one per site.
    position : (n,) int64
        Which fan-out an element has; not read when there is one.
    out : (B,) int64, changed in place
    """
    for i in range(first, last):
        sent = mask[rows[i]]
        total = 0
        if len(fan_out) == 1:
            for k in range(len(sent)):
                total += sent[k]
            total *= fan_out[0]
        else:
            for k in range(len(sent)):
                total += fan_out[position[k]] if sent[k] else 0
        out[rows[i]] += total


@compiled
def count_nonzero(rows, first, last, values, out):
    """Add the number of elements of each sample that are not zero (NaN is not) to `out` (C-3)."""
    for i in range(first, last):
        source = values[rows[i]]
        total = 0
        for k in range(len(source)):
            total += source[k] != 0.0
        out[rows[i]] += total
