"""Implementations that compute with less precision than they declare: what the families ``bound_k1`` and ``bound`` must see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refdeq_validation.cases.model import Case
from refdeq_validation.lab.roundings import operand
from refdeq_validation.lab.session import CLAIMS, Lab, LabSession
from refdeq_validation.lab.style import Style
from refdeq_validation.protocol.problem import Problem

__all__ = ["DOWNGRADES", "NarrowWeights", "Narrowed", "terms_of"]

Array = np.ndarray[Any, Any]


class Narrowed:
    """The lab at another dtype than that of the problem: inputs are narrowed, results widened again."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def manifest(self) -> Mapping[str, Any]:
        """The claims of the lab."""
        return CLAIMS.manifest()

    def open(self, problem: Problem) -> _NarrowedSession:
        """Open the problem in the narrower dtype."""
        bias = None if problem.bias is None else problem.bias.astype(self.dtype)
        narrow = replace(problem, dtype=self.dtype, weight=problem.weight.astype(self.dtype), bias=bias)
        return _NarrowedSession(Lab().open(narrow), self.dtype)


class _NarrowedSession:
    def __init__(self, session: LabSession, dtype: str) -> None:
        self.session, self.dtype = session, dtype

    def reset(self, batch: int) -> None:
        self.session.reset(batch)

    def step(self, u: Array, mask: Array, y: Array) -> None:
        narrow = y.astype(self.dtype)
        self.session.step(u.astype(self.dtype), mask, narrow)
        y[...] = narrow

    def set_state(self, r: Array, a: Array, count: Array) -> None:
        self.session.set_state(r.astype(self.dtype), a.astype(self.dtype), count)

    def get_state(self, r: Array, a: Array) -> None:
        narrow = r.astype(self.dtype), a.astype(self.dtype)
        self.session.get_state(*narrow)
        r[...], a[...] = narrow

    def close(self) -> None:
        self.session.close()


class NarrowWeights:
    """The lab with weights rounded to another format when a problem is opened."""

    def __init__(self, name: str) -> None:
        self.name = name

    def manifest(self) -> Mapping[str, Any]:
        """The claims of the lab."""
        return CLAIMS.manifest()

    def open(self, problem: Problem) -> LabSession:
        """Open the problem with rounded weights."""
        return Lab().open(replace(problem, weight=operand(problem.weight, self.name).astype(problem.dtype)))


def _lab(**style: str) -> Lab:
    return Lab(style=Style(kernel="ascending", **style))  # type: ignore[arg-type]


DOWNGRADES: Mapping[str, Any] = {
    "operands in tf32": _lab(multiply="tf32"),
    "operands in bfloat16": _lab(multiply="bfloat16"),
    "operands in float16": _lab(multiply="float16"),
    "sums in bfloat16": _lab(accumulate="bfloat16"),
    "sums in float16": _lab(accumulate="float16"),
    "weights in tf32": NarrowWeights("tf32"),
    "weights in bfloat16": NarrowWeights("bfloat16"),
    "weights in float16": NarrowWeights("float16"),
    "float32": Narrowed("float32"),
}
"""By name; the last one passes for nothing but float64."""


def terms_of(case: Case) -> int:
    """Largest number of terms that one sum of a case can have."""
    weight = case.problem.weight
    return int(np.prod(weight.shape[1:]))
