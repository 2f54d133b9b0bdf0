"""Choices of a delta rule as numbers, because kernels have no strings."""

from __future__ import annotations

__all__ = ["COMPARE", "DELTA_DTYPE", "FEEDBACK_FORMAT", "MEMORY"]

COMPARE = {"gt": 0, "ge": 1}
MEMORY = {"sent": 0, "always": 1, "feedback": 2}
DELTA_DTYPE = {None: 0, "float32": 1, "float16": 2}
FEEDBACK_FORMAT = {None: 0, "float16": 0, "bfloat16": 1}
