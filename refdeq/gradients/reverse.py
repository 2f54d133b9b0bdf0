"""The reverse walk over a cell: cotangents of every value, and the directional derivative of that walk itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from refdeq.graph import Cell
from refdeq.ops import OPS

__all__ = ["vjp", "vjp_tangent"]

Arrays = dict[str, np.ndarray]


def vjp(
    cell: Cell,
    values: Mapping[str, np.ndarray],
    cotangents: Mapping[str, np.ndarray],
    frozen: Mapping[str, np.ndarray],
    *,
    states_only: bool = False,
) -> Arrays:
    """Cotangents of every value, given those of the outputs of f: one reverse walk over the nodes.

    Parameters
    ----------
    cell : Cell
    values : dict of value name to ndarray
        Every value of one dense evaluation.
    cotangents : dict of state name to ndarray
        Of ``f``'s outputs.
    frozen : dict of linear node name to (B, ...) bool
        Frozen masks: what a gate did not send its node does not depend on (G-1, ``frozen-mask``); empty for the dense cell.
    states_only : bool
        Walk over the nodes that depend on a state alone: the states' cotangents are complete, those of other values are not.

    Returns
    -------
    dict of value name to ndarray; values that nothing depends on are absent
    """
    found: Arrays = {}
    for state, value in cell.graph.outputs.items():
        _add(found, value, cotangents[state])
    for node in reversed(cell.graph.loop_nodes if states_only else cell.graph.nodes):
        if node.name not in found:
            continue
        op = OPS[node.op]
        inputs = [values[name] for name in node.inputs]
        attributes = op.complete(node.attributes)
        gradients = op.vjp(inputs, values[node.name], attributes, found[node.name])
        if node.name in frozen:
            gradients[0] = _masked(gradients[0], frozen[node.name])
        for name, gradient in zip(node.inputs, gradients, strict=True):
            _add(found, name, gradient)
    return found


def vjp_tangent(
    cell: Cell,
    values: Mapping[str, np.ndarray],
    tangents: Mapping[str, np.ndarray],
    cotangents: Mapping[str, np.ndarray],
    frozen: Mapping[str, np.ndarray],
) -> tuple[Arrays, Arrays]:
    """Directional derivative of :func:`vjp` along tangents of the values, the outputs' cotangents held fixed.

    These are second derivatives of f, exactly: with ``tangents`` those that a state tangent t gives
    (:func:`refdeq.gradients.forward.jvp`), the second result holds ``d/ds J(z + s t)^T v`` at ``s = 0`` for the states, and
    the gradients of ``<v, J t>`` for parameters and injections.

    Parameters
    ----------
    cell, values, cotangents, frozen
        As in :func:`vjp`.
    tangents : dict of value name to ndarray
        Of every value that varies, as the forward walk with the same masks returns them.

    Returns
    -------
    cotangents, tangents of cotangents : dicts of value name to ndarray
        Values whose cotangent does not vary are absent from the second.
    """
    found: Arrays = {}
    moving: Arrays = {}
    for state, value in cell.graph.outputs.items():
        _add(found, value, cotangents[state])
    for node in reversed(cell.graph.nodes):
        if node.name not in found:
            continue
        op = OPS[node.op]
        inputs, out = [values[name] for name in node.inputs], values[node.name]
        attributes, mask = op.complete(node.attributes), frozen.get(node.name)
        along = [tangents.get(name) for name in node.inputs]
        if mask is not None and along[0] is not None:
            along[0] = _masked(along[0], mask)
        pairs: list[tuple[Arrays, Sequence[np.ndarray | None]]]
        pairs = [(found, op.vjp(inputs, out, attributes, found[node.name]))]
        if any(tangent is not None for tangent in along):
            pairs.append((moving, op.curvature(inputs, out, attributes, found[node.name], along)))
        if node.name in moving:
            pairs.append((moving, op.vjp(inputs, out, attributes, moving[node.name])))
        for target, gradients in pairs:
            for i, (name, gradient) in enumerate(zip(node.inputs, gradients, strict=True)):
                if gradient is not None:
                    _add(target, name, gradient if mask is None or i else _masked(gradient, mask))
    return found, moving


def _add(found: Arrays, name: str, gradient: np.ndarray) -> None:
    found[name] = found[name] + gradient if name in found else gradient


def _masked(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The entries that a gate sent; +0 elsewhere, whatever stands there."""
    return np.where(mask, array, array.dtype.type(0))
