"""Beyond one block: samples past 128, inputs and outputs past 1024, steps past 255; and refreshes after quiet steps.

Blocks and counters do not depend on the dtype: in float64, whose packs weigh twice as much, the other sizes are smaller.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refdeq_validation.cases import sequences, shapes
from refdeq_validation.cases.building import SHORT, Numbers, gemm, prepared, ruled, started, unit
from refdeq_validation.cases.model import Case

__all__ = ["STEPS", "cases"]

STEPS = 260
"""Steps of a long run: more than eight bits count."""


def cases(dtype: str) -> Iterator[Case]:
    """Batches, widths, long runs and quiet steps."""
    for batch in (127, 129, 257):
        yield many_samples(dtype, batch)
    for inputs, outputs in ((3, 1025), (1025, 3)):
        yield shapes.sized(dtype, inputs, outputs, 2 if dtype == "float32" else 1)
    for memory, refresh in (("sent", 0), ("always", 13)):
        yield many_steps(dtype, memory, refresh)
    yield quiet_before_refresh(dtype)
    yield quiet_then_refresh(dtype)


def many_samples(dtype: str, batch: int) -> Case:
    """More samples than a block holds, from a reset: each has its own values, so that no two rows are alike."""
    slug = f"second-block-of-samples-{batch}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    width = 4 if dtype == "float32" else 2
    problem = gemm(shapes.distinct(3, width, dtype), number.signed("bias", (3,), 1, 9), ruled(1.0))
    own = np.arange(batch)[:, None]
    start = number.integers("start", (batch, width), -4, 4) + own.astype(dtype)
    sent = (np.arange(width) + own) % 3 == 0
    second = start + np.where(sent, number.signed("change", (batch, width), 2, 4), number.array(0.5))
    third = second + np.where(sent, number.array(0.25), number.array(2.0))
    title = f"{batch} samples that all differ: a start and two steps."
    steps = [np.asarray(u, dtype=dtype) for u in (start, second, third)]
    return unit("shape", slug, title, ("INDEXING", "TAIL", "CAPACITY"), problem, started(*steps))


def many_steps(dtype: str, memory: str, refresh: int) -> Case:
    """A counter of eight bits starts again, or loses the phase of the refresh."""
    slug = f"{STEPS}-steps-{memory}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    weight, bias = sequences.plain(number, 3, 2)
    problem = gemm(weight, bias, ruled(0.5, memory=memory, refresh=refresh))
    title = f"{STEPS} steps, memory {memory}, refresh {refresh}: nothing changes when a small counter would wrap."
    batch = 2 if dtype == "float32" else 1
    calls = started(*sequences.walk(number, batch, 3, STEPS))
    return unit("sequence", slug, title, ("OVERFLOW", "STATE_LEAK", "REFRESH"), problem, calls)


def quiet_before_refresh(dtype: str) -> Case:
    """A quiet step counts too (D-12): without it the refresh comes late, and the rounding errors of a large detour stay."""
    slug = f"quiet-step-before-refresh-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(number.full("weight", (4, 6)), number.full("bias", (4,)), ruled(0.25, refresh=4))
    large = 2.0**14 if dtype == "float32" else 2.0**40
    first = number.full("first", (3, 6))
    detour = first + number.full("detour", (3, 6)) * number.array(large)
    back = number.full("back", (3, 6))
    nudge = number.array(np.where((np.eye(3, 6) + np.eye(3, 6, 3)) > 0, 1.0, 0.125))
    steps = (first, detour, detour, back, back + nudge, back - nudge, back)
    title = "Nothing is sent in the third step; the refresh comes at the fifth all the same and removes what a detour left."
    bugs = ("REFRESH", "ACCUMULATE")
    return unit("sequence", slug, title, bugs, problem, started(*(np.asarray(u, dtype) for u in steps)), exact=False)


def quiet_then_refresh(dtype: str) -> Case:
    """Quiet steps from a state whose accumulator does not belong to its reference: only a refresh in time puts it right."""
    slug = f"quiet-steps-from-a-state-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(number.full("weight", (4, 6)), number.full("bias", (4,)), ruled(0.25, refresh=3))
    r, a = number.full("r", (3, 6)), number.full("a", (3, 4)) * number.array(64.0)
    quiet = r + number.array(0.0625)
    moved = quiet + number.array(np.eye(3, 6) * 2.0)
    title = "Samples that send nothing are counted and refreshed, each at its own evaluation."
    bugs = ("REFRESH", "WARM_START")
    calls = prepared(r, a, quiet, moved, moved, moved - number.array(0.5), count=[1, 2, 4])
    return unit("warm", slug, title, bugs, problem, calls, exact=False)
