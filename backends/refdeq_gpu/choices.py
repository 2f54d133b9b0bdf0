"""Choices of a delta rule as numbers, because kernels have no strings; the solvers that plans step by."""

from __future__ import annotations

from refdeq.solvers import KrasnoselskiiMann, Picard

__all__ = ["COMPARE", "DELTA_DTYPE", "FEEDBACK_FORMAT", "MEMORY", "SOLVERS"]

SOLVERS = {"Picard": Picard, "Krasnoselskii-Mann": KrasnoselskiiMann}
"""Solvers of all plans on devices, by the names that refusals give them."""

COMPARE = {"gt": 0, "ge": 1}
MEMORY = {"sent": 0, "always": 1, "feedback": 2}
DELTA_DTYPE = {None: 0, "float32": 1, "float16": 2}
FEEDBACK_FORMAT = {None: 0, "float16": 0, "bfloat16": 1}
