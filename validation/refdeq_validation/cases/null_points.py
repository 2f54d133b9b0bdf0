"""Null answers to solves and gradients: points that were never computed, beside what the golden run says of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refdeq_validation.cases.model import Call, Case
from refdeq_validation.lab.session import Lab

__all__ = ["null_point"]

Array = np.ndarray[Any, Any]
Results = Mapping[str, Array]

POINT = {"solve": "z", "gradient": "v"}
"""What the answer is about, by call."""


def null_point(case: Case, call: Call, golden: Results, before: Results, null: str, form: str) -> Results | None:
    """The answer of a null implementation to a solve or a gradient.

    Parameters
    ----------
    case : Case
    call : Call
    golden : mapping of str to ndarray
        The true answer.
    before : mapping of str to ndarray
        The true answer to the call before in the same session.
    null : str
        Key of :data:`refdeq_validation.cases.nulls.NULLS`.
    form : {"values", "whole"}
        ``values``: everything is true but the point itself; ``whole``: nothing is.

    Returns
    -------
    mapping of str to ndarray or None
        None where the null answer is a right one.
    """
    name = POINT[call.name]
    if null == "dense":
        return _dense(case, call, golden, form)
    point = _point(call, golden[name], before, null, name)
    if form == "values":
        return None if _is_right(point, golden[name]) else {**golden, name: point}
    nothing = {
        key: np.full_like(array, np.nan) if null == "nan" and array.dtype.kind == "f" else np.zeros_like(array)
        for key, array in golden.items()
    }
    return {**nothing, name: point}


def _point(call: Call, like: Array, before: Results, null: str, name: str) -> Array:
    if null == "nan":
        return np.full_like(like, np.nan)
    if null == "zeros":
        return np.zeros_like(like)
    if null == "stale":
        old = before.get(name)
        return old if old is not None and old.shape == like.shape else np.zeros_like(like)
    given = {"copy": {"z": "x", "v": "z"}, "identity": {"z": "z0", "v": "cotangent"}}[null][name]
    source = call.arrays[given]
    return np.stack([np.resize(sample, like.shape[1:]) for sample in source]).astype(like.dtype)


def _dense(case: Case, call: Call, golden: Results, form: str) -> Results | None:
    """The answer without a gate: of a solve under a rule, or of a gradient with masks."""
    problem = case.problem
    if problem.rule is None or case.level == "L5":  # an enclosure of the dense fixed point holds for the dense answer too
        return None
    session = Lab().open(replace(problem, rule=None))
    with np.errstate(all="ignore"):
        if call.name == "solve":
            options = {"keep": False, "trace": bool(call.options.get("trace", False))}
            found = session.solve(call.arrays["x"], call.arrays["z0"], **options)
        elif call.options.get("jacobian", "dense") == "dense":
            return None
        else:
            points = (call.arrays[name] for name in ("x", "z", "cotangent"))
            found = session.gradient(*points, jacobian="dense")
    name = POINT[call.name]
    if form == "whole":
        return dict(found)
    return None if _is_right(found[name], golden[name]) else {**golden, name: found[name]}


def _is_right(point: Array, golden: Array) -> bool:
    """Whether a null answer is the true one: one evaluation returns its argument, and some points are at rest."""
    return np.array_equal(point, golden, equal_nan=True)
