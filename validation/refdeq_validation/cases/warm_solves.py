"""Family ``warm``: solves that go on from the state and the memory of the one before (D-9)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from refdeq.types import StopRule
from refdeq_validation.cases.building import SHORT, Numbers
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.cases.solving import PRESETS, SOLVERS, cell, rule_of, solved

__all__ = ["cases"]

STOP = StopRule(rtol=2.0**-6, max_eval=6)


def cases(dtype: str) -> Iterator[Case]:
    """Frames of a slowly changing input: replayed, and seen from outside."""
    for preset, level in product(PRESETS[1:], ("L2", "L4")):
        slug = f"frames-{'replayed' if level == 'L2' else 'outside'}-{preset}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = cell(number, 7, rule_of(preset, 0.03125), stop=STOP)
        x, move = number.full("x", (3, 7)), number.full("move", (3, 7)) * number.array(0.0625)
        z0 = number.full("z0", (3, 7)) * number.array(0.25)
        calls = [Call("reset", options={"batch": 3})]
        for t in range(3):
            frame = (x + move * number.array(t)).astype(dtype)
            options = {"keep": t > 0, "trace": level == "L2"}
            calls.append(Call("solve", {"x": frame, "z0": z0 + move * number.array(t)}, options))
        words = f"Three frames of a slowly changing input, the memory kept, rule {preset}."
        yield solved(level, "warm", slug, words, ("WARM_START", "MEMORY_RULE", "STATE_LEAK"), problem, calls)
    for name in ("anderson", "broyden"):
        slug = f"frames-{name}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = cell(number, 6, rule_of("refdeq"), stop=STOP, solver=SOLVERS[name])
        x, z0 = number.full("x", (2, 6)), number.full("z0", (2, 6))
        changed = (x * number.array(0.875)).astype(dtype)
        calls = [
            Call("reset", options={"batch": 2}),
            Call("solve", {"x": x, "z0": z0}, {"keep": False, "trace": True}),
            Call("solve", {"x": changed, "z0": z0}, {"keep": True, "trace": True}),
        ]
        words = f"The memory of a gate is kept from one solve to the next, the window of {name} is not."
        yield solved("L2", "warm", slug, words, ("WARM_START", "SOLVER_STEP"), problem, calls)
    yield given(dtype)


def given(dtype: str) -> Case:
    """A state from outside, at different ages of its samples, with a refresh that comes due in the second evaluation of one."""
    slug = f"given-state-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = cell(number, 6, rule_of("refdeq", refresh=4), stop=StopRule(max_eval=4))
    state = {"r": number.full("r", (3, 6)), "a": number.full("a", (3, 6)), "count": np.array([3, 0, 6], dtype=np.int64)}
    solve = Call("solve", {"x": number.full("x", (3, 6)), "z0": number.full("z0", (3, 6))}, {"keep": True, "trace": True})
    words = "A given state: one sample starts, one is refreshed soon, one later."
    return solved("L2", "warm", slug, words, ("WARM_START", "REFRESH", "START"), problem, (Call("set_state", state), solve))
