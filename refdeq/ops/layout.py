"""Operators that move values without arithmetic (Concat, Slice, Reshape, Transpose), and ReduceMean.

None touches the batch axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from refdeq.errors import GraphError
from refdeq.ops.base import BATCH, REQUIRED, Attributes, Op, Shape, Tangents, linear_jvp, no_curvature, size
from refdeq.types import OpCount

__all__ = ["OPS"]

Array = np.ndarray


def _free(_shapes: Sequence[Shape], _out: Shape, _attributes: Attributes) -> OpCount:
    return OpCount()


def _axis(name: str, axis: int, rank: int) -> int:
    """Normalise an axis and refuse the batch axis."""
    if not -rank <= axis < rank:
        raise GraphError(f"{name}: axis {axis} is outside rank {rank}")
    axis %= rank
    if axis == 0:
        raise GraphError(f"{name}: axis 0 is the batch; no operator may touch it")
    return axis


# Concat -------------------------------------------------------------------------------------------------------------------


def _concat_infer(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    axis = _axis("Concat", attributes["axis"], len(shapes[0]))
    rest = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
    if len({len(shape) for shape in shapes}) > 1 or len(rest) > 1:
        raise GraphError(f"Concat: shapes {list(shapes)} differ outside axis {axis} (parameters cannot be concatenated)")
    return (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])


def _concat_vjp(inputs: Sequence[Array], _out: Array, attributes: Attributes, g: Array) -> list[Array]:
    axis = attributes["axis"]
    ends = np.cumsum([value.shape[axis] for value in inputs])[:-1]
    return list(np.split(g, ends, axis=axis))


def _concat_jvp(inputs: Sequence[Array], _out: Array, attributes: Attributes, tangents: Tangents) -> Array:
    parts = [np.zeros_like(value) if tangent is None else tangent for value, tangent in zip(inputs, tangents, strict=True)]
    return np.concatenate(parts, axis=attributes["axis"])


# Slice --------------------------------------------------------------------------------------------------------------------


def _slices(rank: int, attributes: Attributes) -> tuple[slice, ...]:
    """Python slices of an ONNX Slice: negative and out-of-range bounds mean the same in both."""
    starts, ends = attributes["starts"], attributes["ends"]
    axes = attributes["axes"] if attributes["axes"] is not None else range(len(starts))
    steps = attributes["steps"] if attributes["steps"] is not None else [1] * len(starts)
    if not len(starts) == len(ends) == len(list(axes)) == len(steps):
        raise GraphError("Slice: starts, ends, axes and steps must have one length")
    out = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise GraphError(f"Slice: steps must be >= 1, got {step}")
        axis = _axis("Slice", axis, rank)
        if out[axis] != slice(None):
            raise GraphError(f"Slice: axis {axis} is given twice")
        out[axis] = slice(start, end, step)
    return tuple(out)


def _slice_infer(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    picks = _slices(len(shapes[0]), attributes)
    lengths = [n if n == BATCH else len(range(*pick.indices(n))) for n, pick in zip(shapes[0], picks, strict=True)]
    if 0 in lengths:
        raise GraphError(f"Slice: nothing is left of shape {shapes[0]}")
    return tuple(lengths)


def _slice(inputs: Sequence[Array], attributes: Attributes) -> Array:
    return inputs[0][_slices(inputs[0].ndim, attributes)]


def _slice_vjp(inputs: Sequence[Array], _out: Array, attributes: Attributes, g: Array) -> list[Array]:
    whole = np.zeros_like(inputs[0])
    whole[_slices(inputs[0].ndim, attributes)] = g
    return [whole]


# Reshape ------------------------------------------------------------------------------------------------------------------


def _reshape_target(shape: Shape, attributes: Attributes) -> Shape:
    """ONNX shape rules: 0 copies the input's length, one -1 is inferred; axis 0 must stay the batch (0)."""
    wanted = list(attributes["shape"])
    if not wanted or wanted[0] != 0:
        raise GraphError(f"Reshape: shape {tuple(wanted)} must begin with 0 (keep the batch axis)")
    if any(n == 0 and i >= len(shape) for i, n in enumerate(wanted)):
        raise GraphError(f"Reshape: shape {tuple(wanted)} copies an axis that {shape} lacks")
    lengths = [shape[i] if n == 0 else n for i, n in enumerate(wanted)][1:]
    total = size(shape[1:])
    if lengths.count(-1) == 1:
        known = math.prod(n for n in lengths if n != -1)
        lengths = [total // known if n == -1 and known else n for n in lengths]
    if min(lengths, default=1) < 1 or math.prod(lengths) != total:
        raise GraphError(f"Reshape: {shape} does not fit shape {tuple(wanted)}")
    return (shape[0], *lengths)


def _reshape(inputs: Sequence[Array], attributes: Attributes) -> Array:
    return inputs[0].reshape(_reshape_target(inputs[0].shape, attributes))


# Transpose ----------------------------------------------------------------------------------------------------------------


def _permutation(rank: int, attributes: Attributes) -> tuple[int, ...]:
    perm = tuple(attributes["perm"])
    if sorted(perm) != list(range(rank)) or perm[:1] != (0,):
        raise GraphError(f"Transpose: perm {perm} must order the axes of rank {rank} and begin with 0 (keep the batch axis)")
    return perm


def _transpose(inputs: Sequence[Array], attributes: Attributes) -> Array:
    return np.transpose(inputs[0], _permutation(inputs[0].ndim, attributes))


def _transpose_vjp(inputs: Sequence[Array], _out: Array, attributes: Attributes, g: Array) -> list[Array]:
    return [np.transpose(g, np.argsort(_permutation(g.ndim, attributes)))]


# ReduceMean ---------------------------------------------------------------------------------------------------------------


def _mean_axes(rank: int, attributes: Attributes) -> tuple[int, ...]:
    axes = sorted(_axis("ReduceMean", axis, rank) for axis in attributes["axes"])
    if not axes or len(set(axes)) < len(axes):
        raise GraphError(f"ReduceMean: axes must name at least one axis, each once, got {tuple(attributes['axes'])}")
    return tuple(axes)


def _mean_infer(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    axes = _mean_axes(len(shapes[0]), attributes)
    kept = [1 if i in axes else n for i, n in enumerate(shapes[0])]
    return tuple(kept) if attributes["keepdims"] else tuple(n for i, n in enumerate(kept) if i not in axes)


def _mean(inputs: Sequence[Array], attributes: Attributes) -> Array:
    """Strict mean (N-6): elements added from +0 in ascending row-major order, then one division by their number."""
    x = inputs[0]
    axes = _mean_axes(x.ndim, attributes)
    rows = np.moveaxis(x, axes, range(len(axes)))
    total = np.zeros(rows.shape[len(axes) :], dtype=x.dtype)
    for index in np.ndindex(rows.shape[: len(axes)]):
        total = total + rows[index]
    mean = total / x.dtype.type(math.prod(rows.shape[: len(axes)]))
    return np.expand_dims(mean, axes) if attributes["keepdims"] else mean


def _mean_vjp(inputs: Sequence[Array], _out: Array, attributes: Attributes, g: Array) -> list[Array]:
    axes = _mean_axes(inputs[0].ndim, attributes)
    g = g if attributes["keepdims"] else np.expand_dims(g, axes)
    count = math.prod(inputs[0].shape[axis] for axis in axes)
    return [np.broadcast_to(g / g.dtype.type(count), inputs[0].shape)]


OPS: tuple[Op, ...] = (
    Op(
        name="Concat",
        arity=(1, -1),
        infer=_concat_infer,
        forward=lambda inputs, attrs: np.concatenate(list(inputs), axis=attrs["axis"]),
        vjp=_concat_vjp,
        jvp=_concat_jvp,
        curvature=no_curvature,
        cost=_free,
        attributes={"axis": REQUIRED},
    ),
    Op(
        name="Slice",
        arity=(1, 1),
        infer=_slice_infer,
        forward=_slice,
        vjp=_slice_vjp,
        jvp=linear_jvp(_slice),
        curvature=no_curvature,
        cost=_free,
        attributes={"starts": REQUIRED, "ends": REQUIRED, "axes": None, "steps": None},
    ),
    Op(
        name="Reshape",
        arity=(1, 1),
        infer=lambda shapes, attrs: _reshape_target(shapes[0], attrs),
        forward=_reshape,
        vjp=lambda inputs, out, attrs, g: [g.reshape(inputs[0].shape)],
        jvp=linear_jvp(_reshape),
        curvature=no_curvature,
        cost=_free,
        attributes={"shape": REQUIRED},
    ),
    Op(
        name="Transpose",
        arity=(1, 1),
        infer=lambda shapes, attrs: tuple(shapes[0][axis] for axis in _permutation(len(shapes[0]), attrs)),
        forward=_transpose,
        vjp=_transpose_vjp,
        jvp=linear_jvp(_transpose),
        curvature=no_curvature,
        cost=_free,
        attributes={"perm": REQUIRED},
    ),
    Op(
        name="ReduceMean",
        arity=(1, 1),
        infer=_mean_infer,
        forward=_mean,
        vjp=_mean_vjp,
        jvp=linear_jvp(_mean),
        curvature=no_curvature,
        cost=lambda shapes, out, attrs: OpCount(elementwise=size(shapes[0])),
        attributes={"axes": REQUIRED, "keepdims": 1},
        exact=False,
    ),
)
