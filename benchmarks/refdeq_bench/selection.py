"""From options to jobs: which workloads at which points, for which backends."""

from __future__ import annotations

import inspect
import itertools
import json
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from refdeq.errors import ArgumentError
from refdeq_bench.running import Job
from refdeq_bench.workloads import WORKLOADS, Workload

KINDS = {int: "a whole number above 0", float: "a number", str: "a name", bool: "true or false", type(None): "null"}
__all__ = ["TOUR", "parameters", "read_settings", "select_jobs"]

TOUR: dict[str, Mapping[str, Any]] = {
    "gemv": {"n": 4096, "density": 0.1},
    "gemm": {"samples": 65536, "density": 0.1, "pattern": "mixed"},
    "conv": {"kernel": "3x3", "density": 0.1, "pattern": "mixed"},
    "fused": {"activation": "Tanh", "density": 0.1},
    "image": {"tau": 0.01, "samples": 4096},
    "sine": {"tau": 0.0},
    "flow": {"tau": 0.01, "channels": 24},
    "solvers": {},
    "gradients": {},
    "judge": {"tier": "smoke", "cases": 20},
    "start": {"what": "import"},
}
"""One point of each workload: what runs when none is named."""


def parameters(workload: Workload) -> dict[str, Any]:
    """Parameters of a workload with their defaults.

    >>> parameters(WORKLOADS["gemv"])["n"]
    2048
    """
    found = inspect.signature(workload.prepare).parameters.values()
    kept = (p for p in found if p.kind is p.KEYWORD_ONLY and p.name not in ("order", "threads"))
    return {p.name: p.default for p in kept}


def read_settings(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read ``name=value`` pairs; a name given several times has several values.

    >>> read_settings(["n=64", "n=128", "kernel=1x5", "rtol=null"])
    {'n': [64, 128], 'kernel': ['1x5'], 'rtol': [None]}
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ArgumentError("--set", expected="NAME=VALUE, as in n=4096", got=repr(text))
        try:
            read = json.loads(value)
        except json.JSONDecodeError:
            read = value
        found.setdefault(name, []).append(read)
    return found


def select_jobs(
    names: Sequence[str], backends: Sequence[str], orders: Sequence[str], given: Mapping[str, Sequence[Any]], *, quick: bool
) -> list[Job]:
    """Jobs for every backend, order, workload and point.

    Parameters
    ----------
    names : sequence of str
        Workloads; none means one point of each.
    backends, orders : sequence of str
    given : dict of parameter name to values
        Replace those of the points. Each must be a parameter of every workload that is named; where none is named, a workload
        leaves out those that it does not have.
    quick : bool
        Only the quick point of each workload.

    Raises
    ------
    ArgumentError
        No such workload, or a parameter that none, or one that is named, has.
    """
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        raise ArgumentError("WORKLOAD", expected=f"one of {', '.join(WORKLOADS)}", got=repr(unknown[0]))
    jobs = []
    for name in names or TOUR:
        workload = WORKLOADS[name]
        known = parameters(workload)
        wrong = [] if name == "orders" else [key for key in given if key not in known]
        if wrong and names:
            raise ArgumentError(wrong[0], expected=f"a parameter of {name} ({', '.join(known)})", got=repr(wrong[0]))
        points = (workload.quick,) if quick else workload.points if names else (TOUR[name],)
        kept = {key: values for key, values in given.items() if key not in wrong}
        _check_values(workload, kept)
        for backend, order, point in itertools.product(backends, orders, _replaced(points, kept)):
            jobs.append(Job(name, backend, order, point))
    used = {key for name in names or TOUR for key in parameters(WORKLOADS[name])} | ({*given} if "orders" in names else set())
    for key in given:
        if key not in used:
            raise ArgumentError(key, expected="a parameter of some workload", got=repr(key))
    return jobs


def _check_values(workload: Workload, given: Mapping[str, Sequence[Any]]) -> None:
    """Refuse values of another type than the parameter's annotation, and counts below 1."""
    hints = typing.get_type_hints(workload.prepare)
    for name, values in given.items():
        if name not in hints:
            continue  # of the workload that `orders` is about, which checks it
        hint = hints[name]
        kinds = typing.get_args(hint) or (hint,)
        for value in values:
            is_number = float in kinds and type(value) is int
            if (type(value) not in kinds and not is_number) or (type(value) is int and int in kinds and value < 1):
                expected = " or ".join(KINDS[kind] for kind in kinds)
                raise ArgumentError(name, expected=expected, got=repr(value), hint=f"a parameter of {workload.name}")


def _replaced(points: Sequence[Mapping[str, Any]], given: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every point with every combination of the given values, each once."""
    found: list[dict[str, Any]] = []
    for point, values in itertools.product(points, itertools.product(*given.values())):
        changed = {**point, **dict(zip(given, values, strict=True))}
        if changed not in found:
            found.append(changed)
    return found
