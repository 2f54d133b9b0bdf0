"""What a case is, and its immutable id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np

from refdeq_validation.protocol.problem import Problem

__all__ = ["FAMILIES", "LEVELS", "Call", "Case", "array_digest"]

Array = np.ndarray[Any, Any]

LEVELS = ("L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8")

FAMILIES = (
    "exact",
    "tie",
    "bound_k1",
    "bound",
    "special",
    "shape",
    "memory",
    "sequence",
    "reset",
    "warm",
    "solver",
    "certificate",
    "gradient",
    "conv",
    "determinism",
    "negative",
    "huge",
    "ramp",
    "fuzz_regression",
)


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a session.

    Attributes
    ----------
    name : {"reset", "set_state", "step", "solve", "gradient"}
    arrays : mapping of str to ndarray
        ``u`` of a step; ``r``, ``a``, ``count`` of set_state; ``x``, ``z0`` of solve; ``x``, ``z``, ``cotangent`` of gradient.
    options : mapping of str to JSON-able value
        ``batch`` of reset; ``keep``, ``trace`` of solve; ``jacobian`` of gradient; ``session`` (0 or 1, default 0) of any:
        cases of isolation open the problem twice.
    refused : bool
        The call must be refused, and must change nothing.
    """

    name: str
    arrays: Mapping[str, Array] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    refused: bool = False

    def as_data(self) -> dict[str, Any]:
        """JSON-able form, arrays as digests."""
        arrays = {name: array_digest(array) for name, array in sorted(self.arrays.items())}
        return {"name": self.name, "arrays": arrays, "options": dict(self.options), "refused": self.refused}


@dataclass(frozen=True, eq=False)
class Case:
    """One conformance case: a problem and the calls made to it.

    Attributes
    ----------
    slug : str
        What breaks when it fails, in a few words with hyphens.
    level : str
        One of ``LEVELS``: which judge reads the answers.
    family : str
        One of ``FAMILIES``.
    problem : Problem
    calls : tuple of Call
    bug_types : tuple of str
        Keys of :data:`refdeq_validation.cases.bug_types.BUG_TYPES`.
    expect : {"replay", "exact", "error", "invariant", "certificate", "gradient", "bitwise"}
        ``replay``: every transition from the implementation's own bits; ``exact``: also bitwise equal whatever the order, as
        the witness proves; the others as their level says.
    requires : tuple of str
        What an implementation must offer beyond the claims that follow from the problem: groups such as ``state``, ``solve``,
        ``trace``, ``gradient``.
    title : str
        One sentence.
    flags : tuple of str
    witness : mapping
        Facts that were proved about the case (JSON-able; :mod:`refdeq_validation.cases.witness`). No part of its id: a stronger
        proof leaves the case what it is.
    """

    slug: str
    level: str
    family: str
    problem: Problem
    calls: tuple[Call, ...]
    bug_types: tuple[str, ...]
    expect: str = "replay"
    requires: tuple[str, ...] = ("state",)
    title: str = ""
    flags: tuple[str, ...] = ()
    witness: Mapping[str, Any] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Everything that makes the case what it is, as JSON-able values; arrays as digests."""
        return {
            "schema": "refdeq-case/1",
            "slug": self.slug,
            "level": self.level,
            "family": self.family,
            "problem": self.problem.as_data(),
            "arrays": {name: array_digest(array) for name, array in sorted(self.problem.arrays().items())},
            "calls": [call.as_data() for call in self.calls],
            "bug_types": list(self.bug_types),
            "expect": self.expect,
            "requires": list(self.requires),
            "title": self.title,
            "flags": list(self.flags),
            "witness": dict(self.witness),
        }

    @cached_property
    def id(self) -> str:
        """``op/family/slug-xxxxxxxx``: the last part is the head of the SHA-256 of the canonical JSON without the witness."""
        data = {name: value for name, value in self.as_data().items() if name != "witness"}
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f"{self.problem.op.lower()}/{self.family}/{self.slug}-{digest[:8]}"


def array_digest(array: Array) -> str:
    """Dtype, shape and SHA-256 of the bytes (little endian, C order).

    >>> array_digest(np.zeros(2, "float32"))[:12]
    'float32:2:af'
    """
    array = np.asarray(array)
    plain = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    shape = "x".join(map(str, array.shape))
    return f"{_name(array.dtype)}:{shape}:{hashlib.sha256(plain.tobytes()).hexdigest()}"


@cache
def _name(dtype: np.dtype[Any]) -> str:
    """Name of a dtype; NumPy makes it anew each time."""
    return str(dtype.name)
