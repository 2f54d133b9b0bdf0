"""What a solve returns, and what is known of the gate state after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge.calls import Memory
from refdeq_validation.judge.models import Arithmetic, declared
from refdeq_validation.protocol.manifest import Claims

__all__ = ["RETURNED", "arithmetic_of", "memory_after", "shapes_returned"]

Array = np.ndarray[Any, Any]

RETURNED = ("z", "status", "n_eval", "residual", "scale")
"""What every solve returns."""


def arithmetic_of(claims: Claims, dtype: str) -> Arithmetic:
    """The declared model of arithmetic; of the outcomes with subnormals the wider one (cases of solves hold none)."""
    return declared(claims, dtype, "ieee" if claims.subnormals == "ieee" else "ftz")


def shapes_returned(case: Case, batch: int, claims: Claims) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shapes and dtypes of what a solve returns, and of the state where it is shown."""
    problem, float64 = case.problem, "float64"
    wanted: dict[str, tuple[tuple[int, ...], Any]] = {
        "z": ((batch, *problem.shape), problem.dtype),
        "status": ((batch,), "integer"),
        "n_eval": ((batch,), "integer"),
        "residual": ((batch,), float64),
        "scale": ((batch,), float64),
    }
    if "state" in claims.offers and problem.rule is not None:
        wanted |= {"r": ((batch, *problem.shape), problem.dtype), "a": ((batch, *problem.out_shape), problem.dtype)}
    return wanted


def memory_after(case: Case, call: Call, before: Memory | None, results: Mapping[str, Array]) -> Memory:
    """What is known of the gate state after a solve: what was shown, or the last entries of the trace."""
    n_eval = np.asarray(results["n_eval"]).astype(np.int64)
    count = n_eval if before is None else before.count + n_eval
    if case.problem.rule is None:
        return Memory(None, None, count)
    samples = np.arange(len(n_eval))

    def last(name: str) -> Array | None:
        part = results.get(f"trace.{name}")
        return None if part is None or not len(part) else np.asarray(part[n_eval - 1, samples])

    if "r" in results:
        return Memory(results["r"], results["a"], count, last("mask"))
    return Memory(last("r"), last("a"), count, last("mask"))
