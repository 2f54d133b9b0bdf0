"""Rewritten cells of splittings (S-6b): what one evaluation makes of its argument, against the formulas, and the resolvent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq_validation.judge import arithmetic
from refdeq_validation.judge.bounds import unit_roundoff
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.run import Run
from refdeq_validation.judge.verdicts import Failure

__all__ = ["judge_resolvent", "judge_split"]

Array = np.ndarray[Any, Any]

THRESHOLD = 30.0
"""Of residual ratios in units of n u."""


def judge_split(run: Run, compare: Comparer, t: int, local: Mapping[str, Array]) -> None:
    """Compare what an evaluation of a rewritten cell gives with the formulas of S-6b, in bits.

    Forward-backward: ``M relu(fl(fl(beta' z) + fl(alpha' p)))`` from the ``p`` of the cell. Peaceman-Rachford, from the ``y``
    that its product gave: ``z = M relu(u)``, ``h = 2 z - u``, ``u <- 2 y - h``, and the value ``M relu(p)`` of
    ``p = fl(fl(((1 + alpha) / alpha) y) - fl(h / alpha))``.

    Parameters
    ----------
    run : Run
        With ``solver["name"]`` and ``solver["alpha"]``.
    compare : Comparer
    t : int
    local : mapping of value name to array
        Graph values of the evaluation.
    """
    assert run.split is not None
    assert run.solver is not None
    nodes = {node["name"]: node for node in run.graph["nodes"]}
    alpha = float(run.solver["alpha"])
    for state, value in run.split["value"].items():
        scalar = local[state].dtype.type
        relu, mask = _relu_of(nodes, value, local)
        following = local[run.graph["outputs"][state]]
        if run.solver["name"] == "forward-backward":
            p, z = local[relu["inputs"][0]], local[state]
            mixed = np.add(np.multiply(scalar(1.0 - alpha), z), np.multiply(scalar(alpha), p))
            compare.bits("state", t, f"next {state}", _projected(mixed, mask), following)
            continue
        u, y = local[state], local[run.split["argument"][state]]
        z = _projected(u, mask)
        half = np.subtract(np.add(z, z), u)
        compare.bits("state", t, f"next {state}", np.subtract(np.add(y, y), half), following)
        far, near = scalar((1.0 + alpha) / alpha), scalar(1.0 / alpha)
        p = np.subtract(np.multiply(far, y), np.multiply(near, half))
        compare.bits("value", t, f"f[{state}]", _projected(p, mask), local[value])


def _relu_of(nodes: Mapping[str, Any], value: str, local: Mapping[str, Array]) -> tuple[Any, Array | None]:
    """The Relu that makes a value, and the mask behind it where there is one."""
    node = nodes[value]
    if node["op"] == "Mul":
        return nodes[node["inputs"][0]], local[node["inputs"][1]]
    return node, None


def _projected(values: Array, mask: Array | None) -> Array:
    out = arithmetic.apply_exact("Relu", [values], {})
    return out if mask is None else np.multiply(out, mask)


def judge_resolvent(weight: Array, resolvent: Array, alpha: float, compare: Comparer) -> None:
    """``V`` against ``((1 + alpha) I - alpha W)^-1``: ``||V B - I|| / (n u ||V|| ||B||) < 30``, in the row sum norm.

    Parameters
    ----------
    weight : (n, n) array
        W, acting on columns.
    resolvent : (n, n) array
        V, in the dtype of the run.
    alpha : float
    compare : Comparer
    """
    n = len(weight)
    inverted = (1.0 + alpha) * np.eye(n) - alpha * weight.astype(np.float64)
    v = resolvent.astype(np.float64)
    size = float(np.abs(v @ inverted - np.eye(n)).sum(axis=1).max())
    norms = float(np.abs(v).sum(axis=1).max() * np.abs(inverted).sum(axis=1).max())
    limit = THRESHOLD * n * unit_roundoff(resolvent.dtype) * norms
    compare.findings.values += resolvent.size
    compare.findings.ratios(np.array([size / limit]))
    if not size <= limit:
        words = "the inverse of (1 + alpha) I - alpha W"
        compare.findings.add(Failure("value", -1, "V", (), words, f"residual {size:.3g}", size, limit))
