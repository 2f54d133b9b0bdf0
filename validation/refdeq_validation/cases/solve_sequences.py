"""Family ``sequence`` of solves: resets between them, another batch, two sessions side by side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refdeq.types import StopRule
from refdeq_validation.cases.building import SHORT, Numbers
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.cases.solving import PRESETS, SOLVERS, cell, rule_of, solved

__all__ = ["cases"]

STOP = StopRule(rtol=2.0**-6, max_eval=6)


def cases(dtype: str) -> Iterator[Case]:
    """Solves that must not know of each other."""
    for preset in PRESETS[1:]:
        slug = f"solves-apart-{preset}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = cell(number, 5, rule_of(preset), stop=STOP)
        first, second, z0 = number.full("x", (3, 5)), number.full("y", (3, 5)), number.full("z0", (3, 5))
        calls = [
            Call("reset", options={"batch": 3}),
            Call("solve", {"x": first, "z0": z0}, {"trace": True}),
            Call("solve", {"x": second, "z0": z0}, {"trace": True}),
            Call("reset", options={"batch": 1}),
            Call("solve", {"x": first[1:2], "z0": z0[1:2]}, {"keep": True, "trace": True}),
        ]
        words = f"Two solves without memory, a reset, and a smaller batch, rule {preset}."
        yield solved("L2", "sequence", slug, words, ("STATE_LEAK", "RESET", "ALIASING"), problem, calls)
    for name in ("picard", "anderson", "broyden"):
        slug = f"two-sessions-{name}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = cell(number, 5, rule_of("refdeq"), stop=STOP, solver=SOLVERS[name])
        calls = [Call("reset", options={"batch": 2, "session": s}) for s in (0, 1)]
        for t in range(2):
            for s in (0, 1):
                x, z0 = number.full(f"x{t}{s}", (2, 5)), np.zeros((2, 5), dtype)
                calls.append(Call("solve", {"x": x, "z0": z0}, {"keep": t > 0, "trace": True, "session": s}))
        words = f"Two sessions in turn, solver {name}."
        yield solved("L2", "sequence", slug, words, ("STATE_LEAK",), problem, calls)
