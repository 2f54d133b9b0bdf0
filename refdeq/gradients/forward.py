"""The forward walk over a cell: tangents of every value."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from refdeq.graph import Cell
from refdeq.ops import OPS

__all__ = ["jvp"]

Arrays = dict[str, np.ndarray]


def jvp(
    cell: Cell,
    values: Mapping[str, np.ndarray],
    tangents: Mapping[str, np.ndarray],
    frozen: Mapping[str, np.ndarray],
) -> Arrays:
    """Tangents of every value, given those of some states, injections or parameters: one forward walk over the nodes.

    Parameters
    ----------
    cell : Cell
    values : dict of value name to ndarray
        Every value of one dense evaluation.
    tangents : dict of state, injection or parameter name to ndarray
        Of the value's shape; what is absent does not vary.
    frozen : dict of linear node name to (B, ...) bool
        Frozen masks: what a gate did not send its node does not depend on (G-1, ``frozen-mask``); empty for the dense cell.

    Returns
    -------
    dict of value name to ndarray; values that do not vary are absent, `tangents` are contained
    """
    found = dict(tangents)
    for node in cell.graph.nodes:
        along = [found.get(name) for name in node.inputs]
        if all(tangent is None for tangent in along):
            continue
        if node.name in frozen and along[0] is not None:
            along[0] = np.where(frozen[node.name], along[0], along[0].dtype.type(0))
        op = OPS[node.op]
        inputs = [values[name] for name in node.inputs]
        found[node.name] = op.jvp(inputs, values[node.name], op.complete(node.attributes), along)
    return found
