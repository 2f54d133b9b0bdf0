"""Family ``fuzz_regression``: sequences that a fuzzer found and shrank, kept as they were.

They live in ``regressions.json`` beside this file: :func:`remember` adds one, :func:`cases` rebuilds them all. Arrays
are stored as their bytes, so that nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from refdeq_validation.cases.model import Call, Case
from refdeq_validation.protocol.problem import Problem

__all__ = ["cases", "from_data", "remember", "to_data"]

Array = np.ndarray[Any, Any]

STORE = Path(__file__).parent / "regressions.json"


def cases(dtype: str) -> Iterator[Case]:
    """Rebuild the stored cases of a dtype."""
    text = resources.files("refdeq_validation.cases").joinpath("regressions.json").read_text(encoding="utf-8")
    for data in json.loads(text):
        if data["problem"]["dtype"] == dtype:
            yield from_data(data)


def remember(case: Case, store: Path = STORE) -> str:
    """Add a case to the store, as family ``fuzz_regression``; returns its id there. One that is stored already stays once.

    Parameters
    ----------
    case : Case
        As a fuzzer shrank it, with a slug that says what broke and the bug types.
    store : Path
    """
    data = {**to_data(case), "family": "fuzz_regression"}
    kept = json.loads(store.read_text(encoding="utf-8")) if store.exists() else []
    rebuilt = from_data(data)
    if rebuilt.id not in {from_data(old).id for old in kept}:
        store.write_text(json.dumps([*kept, data], indent=1) + "\n", encoding="utf-8")
    return rebuilt.id


def to_data(case: Case) -> dict[str, Any]:
    """A case as JSON-able values, arrays included.

    >>> from refdeq_validation.cases.suite import all_cases
    >>> case = all_cases()[0]
    >>> from_data(to_data(case)).id == case.id
    True
    """
    calls = [
        {"name": c.name, "arrays": _stored(c.arrays), "options": dict(c.options), "refused": c.refused} for c in case.calls
    ]
    return {
        "slug": case.slug,
        "level": case.level,
        "family": case.family,
        "problem": case.problem.as_data(),
        "arrays": _stored(case.problem.arrays()),
        "calls": calls,
        "bug_types": list(case.bug_types),
        "expect": case.expect,
        "requires": list(case.requires),
        "title": case.title,
        "flags": list(case.flags),
    }


def from_data(data: Mapping[str, Any]) -> Case:
    """Rebuild a case from :func:`to_data`."""
    problem = Problem.from_data(data["problem"], _read(data["arrays"]))
    calls = tuple(Call(c["name"], _read(c["arrays"]), c["options"], c["refused"]) for c in data["calls"])
    listed: dict[str, Any] = {name: tuple(data[name]) for name in ("bug_types", "requires", "flags")}
    plain: dict[str, Any] = {name: data[name] for name in ("slug", "level", "family", "expect", "title")}
    return Case(problem=problem, calls=calls, **plain, **listed)


def _stored(arrays: Mapping[str, Array]) -> dict[str, Any]:
    return {
        name: {
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "bits": np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes().hex(),
        }
        for name, array in arrays.items()
    }


def _read(stored: Mapping[str, Any]) -> dict[str, Array]:
    found = {}
    for name, data in stored.items():
        dtype = np.dtype(data["dtype"])
        plain = np.frombuffer(bytes.fromhex(data["bits"]), dtype.newbyteorder("<"))
        found[name] = plain.astype(dtype).reshape(data["shape"])
    return found
