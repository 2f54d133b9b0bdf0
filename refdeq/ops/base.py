"""The record that describes one operator, and what all operators share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refdeq.errors import GraphError
from refdeq.types import OpCount

__all__ = ["BATCH", "REQUIRED", "Op", "Tangents", "broadcast", "linear_jvp", "no_curvature", "size", "unbroadcast"]

BATCH = -1
"""Stands for the batch axis in shapes: always axis 0 of a value that depends on z or x, never elsewhere."""

REQUIRED: Any = object()
"""Default of an attribute that has none."""

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]
Tangents = Sequence[np.ndarray | None]
"""One tangent per input of an operator; None where the input does not vary."""


@dataclass(frozen=True)
class Op:
    """Meaning of one ONNX operator.

    Attributes
    ----------
    name : str
        ONNX operator name.
    arity : (int, int)
        Fewest and most inputs; -1 for any number.
    infer : callable
        ``infer(shapes, attributes) -> shape``; raises ``GraphError`` when the shapes do not fit. Shapes carry ``BATCH`` in
        place of the batch axis.
    forward : callable
        ``forward(inputs, attributes) -> array``: the value in strict order (N-6), one rounding per ONNX operation (E-1).
    vjp : callable
        ``vjp(inputs, output, attributes, cotangent) -> list`` of one array per input, summed over broadcast axes but not over
        the batch axis of a parameter's gradient, which is reduced too.
    jvp : callable
        ``jvp(inputs, output, attributes, tangents) -> array`` of the output's shape: the directional derivative of `forward`.
        `tangents` holds one array of each input's shape, or None for an input that does not vary; at least one is an array.
        An operator that is linear in its one input takes :func:`linear_jvp`.
    curvature : callable
        ``curvature(inputs, output, attributes, cotangent, tangents) -> list`` of one array or None per input: the directional
        derivative of ``vjp(inputs, output, attributes, cotangent)`` along `tangents`, the cotangent held fixed; shapes as
        those of `vjp`, None where it is zero whatever the values. An operator that is linear in all its inputs together
        takes :func:`no_curvature`; a bilinear one is its `vjp` with inputs replaced by tangents. Exact, never a difference.
        At the kink of a piecewise linear operator both take the branch that `vjp` takes.
    cost : callable
        ``cost(shapes, out_shape, attributes) -> OpCount`` for one sample, evaluated densely (C-1, C-2).
    attributes : mapping
        Attribute name to default (``REQUIRED`` when there is none).
    exact : bool
        Every order of evaluation gives the same bits (no sum is formed).
    activation : bool
        Non-linear function whose native implementations differ in bits (N-8).
    """

    name: str
    arity: tuple[int, int]
    infer: Callable[[Sequence[Shape], Attributes], Shape]
    forward: Callable[[Sequence[np.ndarray], Attributes], np.ndarray]
    vjp: Callable[[Sequence[np.ndarray], np.ndarray, Attributes, np.ndarray], list[np.ndarray]]
    jvp: Callable[[Sequence[np.ndarray], np.ndarray, Attributes, Tangents], np.ndarray]
    curvature: Callable[[Sequence[np.ndarray], np.ndarray, Attributes, np.ndarray, Tangents], list[np.ndarray | None]]
    cost: Callable[[Sequence[Shape], Shape, Attributes], OpCount]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = True
    activation: bool = False

    def complete(self, given: Attributes) -> dict[str, Any]:
        """Attributes with defaults filled in; unknown or missing ones raise ``GraphError``."""
        unknown = sorted(set(given) - set(self.attributes))
        if unknown:
            raise GraphError(f"{self.name}: unknown attribute {unknown[0]!r}; it has {sorted(self.attributes)}")
        filled = {**self.attributes, **given}
        missing = [name for name, value in filled.items() if value is REQUIRED]
        if missing:
            raise GraphError(f"{self.name}: attribute {missing[0]!r} is required")
        for name, value in given.items():
            if not _is_kind(name, value) and not (value is None and self.attributes[name] is None):
                raise GraphError(f"{self.name}: attribute {name!r} has a value of the wrong kind: {value!r}")
        return filled


def _is_kind(attribute: str, value: Any) -> bool:
    """Whether a value is of the attribute's kind: in ONNX a name has the same kind wherever it occurs."""
    if attribute in ("alpha", "beta"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if attribute in ("axis", "group", "inverse", "keepdims", "transA", "transB"):
        return isinstance(value, int)
    return isinstance(value, tuple) and all(type(n) is int for n in value)


def size(shape: Shape) -> int:
    """Elements per sample of a shape that may carry ``BATCH``."""
    return math.prod(n for n in shape if n != BATCH)


def broadcast(name: str, shapes: Sequence[Shape]) -> Shape:
    """Shape of an ONNX multidirectional broadcast; the batch axis broadcasts against 1 or nothing only."""
    rank = max(len(shape) for shape in shapes)
    out = []
    for axis in range(rank):
        lengths = {shape[axis - rank + len(shape)] for shape in shapes if axis - rank + len(shape) >= 0} - {1}
        if len(lengths) > 1:
            raise GraphError(f"{name}: shapes {list(shapes)} do not broadcast at axis {axis}")
        out.append(lengths.pop() if lengths else 1)
    if BATCH in out[1:]:
        raise GraphError(f"{name}: shapes {list(shapes)} broadcast the batch axis away from axis 0; reshape first")
    return tuple(out)


def unbroadcast(gradient: np.ndarray, shape: Shape) -> np.ndarray:
    """Sum a cotangent over the axes along which an input of `shape` was broadcast."""
    extra = gradient.ndim - len(shape)
    gradient = gradient.sum(axis=tuple(range(extra))) if extra else gradient
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and gradient.shape[i] != 1)
    return gradient.sum(axis=axes, keepdims=True) if axes else gradient


def linear_jvp(
    forward: Callable[[Sequence[np.ndarray], Attributes], np.ndarray],
) -> Callable[[Sequence[np.ndarray], np.ndarray, Attributes, Tangents], np.ndarray]:
    """Return the ``jvp`` of an operator that is linear in its one input: `forward` of the tangent."""

    def jvp(_inputs: Sequence[np.ndarray], _out: np.ndarray, attributes: Attributes, tangents: Tangents) -> np.ndarray:
        return forward([tangent for tangent in tangents if tangent is not None], attributes)

    return jvp


def no_curvature(
    inputs: Sequence[np.ndarray], _out: np.ndarray, _attributes: Attributes, _g: np.ndarray, _tangents: Tangents
) -> list[np.ndarray | None]:
    """``curvature`` of an operator whose vjp does not depend on its inputs (linear, or piecewise linear off the kinks)."""
    return [None] * len(inputs)
