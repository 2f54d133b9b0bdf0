"""How long the interleaved measurements of the suites take."""

from __future__ import annotations

import os
from typing import Any

QUICK = "REFDEQ_BENCH_QUICK"
"""Set for a smoke run: every contender is timed, but hardly."""


def settings() -> Any:
    """Settings of one measurement: a second or so for all rounds of one point."""
    from refdeq_bench.measuring import Settings

    if os.environ.get(QUICK):
        return Settings(rounds=2, sample_seconds=1e-4)
    return Settings(rounds=9, budget_seconds=0.7)
