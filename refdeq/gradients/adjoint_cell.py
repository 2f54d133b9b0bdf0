"""The adjoint iteration as a cell: ``y <- J^T y + g`` written as a graph, so that everything that solves cells solves it.

Slopes and values of the forward evaluation become injections, each linear node becomes the same kind of node with its weight
transposed, under its own name. So a delta rule on the adjoint watches the slope times y in front of every transposed weight;
backends, traces and exact cost come with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refdeq.checks import check_choice
from refdeq.gradients.transposer import Source, Transposer
from refdeq.gradients.transposes import TRANSPOSES
from refdeq.graph import Cell

__all__ = ["AdjointCell", "adjoint_cell"]

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class AdjointCell:
    """A cell for ``y <- J^T y + g``, and where its injections come from.

    Attributes
    ----------
    cell : Cell
        States and their shapes are those of the forward cell.
    sources : dict of injection name to callable
        Makes an injection from the forward values.
    cotangents : dict of state name to injection name
    masks : dict of linear node name to injection name
    """

    cell: Cell
    sources: Mapping[str, Source]
    cotangents: Mapping[str, str]
    masks: Mapping[str, str]

    def injections(
        self, values: Mapping[str, np.ndarray], g: Mapping[str, np.ndarray], frozen: Mapping[str, np.ndarray]
    ) -> Arrays:
        """Injections of the adjoint cell.

        Parameters
        ----------
        values : dict of value name to (B, ...) ndarray
            Every value of one evaluation of the forward cell.
        g : dict of state name to (B, ...) ndarray
        frozen : dict of linear node name to (B, ...) bool
            Masks of the nodes that were named to :func:`adjoint_cell`.
        """
        found = {name: np.ascontiguousarray(make(values)) for name, make in self.sources.items()}
        found |= {name: g[s] for s, name in self.cotangents.items()}
        return found | {name: frozen[node].astype(self.cell.dtype) for node, name in self.masks.items()}


def adjoint_cell(cell: Cell, frozen: Sequence[str] = ()) -> AdjointCell:
    """Write the adjoint map of a cell as a cell (G-2).

    Parameters
    ----------
    cell : Cell
    frozen : sequence of str
        Linear nodes behind a frozen mask (G-1): what comes back through them is multiplied by the mask.

    Returns
    -------
    AdjointCell

    Raises
    ------
    UnsupportedError
        A node on the way has no transpose in the operator set, such as a strided Conv; the message names it.

    Examples
    --------
    >>> import refdeq as rd
    >>> cell = rd.models.rnn(np.array([[0.5]]), np.array([[1.0]]), np.array([0.0]))
    >>> [node.op for node in adjoint_cell(cell).cell.graph.nodes]  # slope times y, through W^T, plus g
    ['Mul', 'Gemm', 'Add']
    """
    for name in frozen:
        check_choice("frozen", name, tuple(node.name for node in cell.graph.linear_nodes))
    walk = Transposer(cell)
    graph = cell.graph
    for state in graph.states:
        walk.add(graph.outputs[state], walk.builder.state(state, graph.states[state]))
    masks = {}
    for node in reversed(graph.loop_nodes):
        if node.name not in walk.found:
            continue
        if node.op not in TRANSPOSES:
            raise walk.unsupported(node, f"{node.op} has no transpose here")
        y = walk.found[node.name]
        for i, name in enumerate(node.inputs):
            if name in graph.state_dependent:
                back = TRANSPOSES[node.op](walk, node, i, y)
                if node.name in frozen:
                    masks[node.name] = walk.builder.injection(walk.fresh(f"mask of {node.name}"), graph.shapes[name][1:])
                    back = walk.node("Mul", back, masks[node.name], stem=f"masked {node.name}")
                walk.add(name, back)
    cotangents = {}
    for state, shape in graph.states.items():
        g = walk.builder.injection(walk.fresh(f"cotangent of {state}"), shape)
        cotangents[state] = g
        value = walk.node("Add", walk.found[state], g, stem=f"adjoint of {state}") if state in walk.found else g
        walk.builder.output(state, value)
    return AdjointCell(walk.builder.build(), walk.sources, cotangents, masks)
