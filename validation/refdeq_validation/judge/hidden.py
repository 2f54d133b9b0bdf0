"""The value of a cell whose ungated sum a trace does not show, in an order of the implementation's own (N-7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq_validation.judge import bounds
from refdeq_validation.judge.bounds_solver import SLOPE, activation_error, exact_activation, rounding, wide
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.models import plain
from refdeq_validation.judge.nodes import LinearNode
from refdeq_validation.judge.run import Run

__all__ = ["cell_value", "judge_hidden"]

Array = np.ndarray[Any, Any]


def judge_hidden(run: Run, compare: Comparer, t: int, rows: Array, node: LinearNode, local: Mapping[str, Array]) -> None:
    """Compare f of a dense cell ``phi((A z + b) + x)`` with its exact value.

    Parameters
    ----------
    run : Run
        Of a graph as :meth:`refdeq_validation.protocol.problem.Problem.graph` makes it.
    compare : Comparer
    t : int
    rows : array
        Samples that took part.
    node : LinearNode
        The sum.
    local : mapping of value name to array
        Arguments of f.
    """
    state = next(iter(run.graph["states"]))
    got, last = run.trace.f[state][t][rows], run.graph["nodes"][-1]["op"]
    activation = "Identity" if last == "Add" else last
    z = local[state]
    zero, everything = np.zeros(got.shape, got.dtype), np.ones(z.shape, bool)
    _, gauge, k, total = node.exact(z, everything, zero, zero)
    model = plain(got.dtype.name) if run.model is None else run.model
    if model.operands is not None and max(_largest(z), _largest(node.weight)) >= model.operands.largest:
        compare.findings.unclaimed += got.size  # an operand leaves the format it is rounded to
        return
    sizes = None if model.operands is None else node.sizes(z, everything, zero)
    error = bounds.accumulate(model, k, np.zeros(gauge.shape), gauge, sizes).limit
    value, error = cell_value(node, wide(total), error, local["x"], activation, got.dtype, run.native_ulp)
    distance = np.abs(wide(got) - value).astype(np.float64)
    compare.within("value", t, f"f[{state}]", value.astype(np.float64), got, distance, error.astype(np.float64))


def _largest(values: Array) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def cell_value(
    node: LinearNode,
    total: Array,
    error: Array,
    x: Array,
    activation: str,
    dtype: Any,
    native_ulp: float | None,
    folded: bool = False,
) -> tuple[Array, Array]:
    """``phi(fl(fl(a + b) + x))`` of an accumulator known to within an error, and the error of the result.

    Each addition adds one rounding of its own result; the activation multiplies what it inherits by its largest slope and adds
    its own error (section 3.3 e). Source: validation design, section 3.3.

    Parameters
    ----------
    node : LinearNode
    total, error : arrays
        Accumulator, in the widest format, and how far off it may be.
    x : array
        Injection.
    activation : str
    dtype : dtype of the implementation
    native_ulp : float or None
    folded : bool
        The accumulator carries the bias (D-6).
    """
    value = total
    if node.bias is not None and not folded:
        value = value + node.bias
        error = error + rounding(np.abs(value) + error, dtype)
    value = value + x
    error = error + rounding(np.abs(value) + error, dtype)
    result = exact_activation(activation, value)
    inherited = SLOPE.get(activation, np.inf) * error
    reach = np.abs(result) + inherited
    return result, inherited + activation_error(activation, reach, dtype, native_ulp)
