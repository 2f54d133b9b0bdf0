"""The adjoint of a monotone cell by operator splitting: the same iteration with W transposed, and the same inverse.

For ``z = relu(W z + beta)`` with slope D (0 or 1 per element) the adjoint ``v = g + W^T D v`` is ``v = g + W^T u`` with
``u = D (W^T u + g)``: an equation of the forward kind, whose projection is D in the place of the Relu. ``I - W^T`` is as
monotone as ``I - W``, so that both splittings converge whenever they do forward, and the resolvent of Peaceman-Rachford is the
transpose of the forward one. Source: Winston and Kolter, "Monotone operator equilibrium networks", NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.circular import transpose_kernel
from refdeq.errors import ArgumentError
from refdeq.gradients.linearisation import CellPoint
from refdeq.graph import Cell, GraphBuilder
from refdeq.kernels import Array, Kernels
from refdeq.solvers import ForwardBackward, PeacemanRachford, Picard, Split
from refdeq.solvers.splitting import MonotoneForm, match_form, resolvent

__all__ = ["AdjointSplitting", "splitting_adjoint"]

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class AdjointSplitting:
    """A splitting of one adjoint cell, ready for :func:`refdeq.solve`.

    Attributes
    ----------
    cell : Cell
        ``u <- slope * (W^T u + cotangent)``.
    name : str
    injections : dict of injection name to (B, ...) ndarray
    prepared : Split
    """

    cell: Cell
    name: str
    injections: Arrays
    prepared: Split

    def split(self, cell: Cell) -> Split:
        """Return what was prepared, for the one cell that it belongs to."""
        if cell is not self.cell:
            raise ArgumentError("solver", hint="this splitting belongs to another adjoint cell")
        return self.prepared

    def init(self, kernels: Kernels, z: Mapping[str, Array]) -> None:
        """No state beside the iterate."""

    def step(
        self, kernels: Kernels, z: Mapping[str, Array], f: Mapping[str, Array], state: None, active: np.ndarray
    ) -> tuple[None, None]:
        """Take the value of the rewritten cell (S-6b)."""
        return Picard().step(kernels, z, f, state, active)


def splitting_adjoint(point: CellPoint, g: Arrays, solver: ForwardBackward | PeacemanRachford) -> AdjointSplitting:
    """Prepare the adjoint of a monotone cell for a splitting (S-6b, G-1).

    Parameters
    ----------
    point : CellPoint
        The forward cell at the solution, with the dense Jacobian.
    g : dict of state name to (B, ...) ndarray
    solver : ForwardBackward or PeacemanRachford
        With the alpha of the forward solve the resolvent is not formed again.

    Raises
    ------
    UnsupportedError
        When the cell is not of the form ``z <- relu(W z + beta)``.
    """
    if point.frozen:
        raise ArgumentError(
            "jacobian", hint="frozen masks break the symmetry a splitting needs; use 'dense', or another solver"
        )
    form = match_form(point.cell)
    alpha = solver.step_length(point.cell)
    adjoint = _adjoint_form(form)
    if isinstance(solver, ForwardBackward):
        prepared = solver.rewrite(adjoint, alpha)
    else:
        v = resolvent(point.cell, alpha, solver.inverse == "dense")
        prepared = solver.rewrite(adjoint, alpha, np.conj(np.swapaxes(v, -1, -2)))
    slope = (point.values[form.total] > 0).astype(point.cell.dtype)
    if form.mask is not None:
        slope = slope * point.cell.parameters[form.mask]
    injections = {"cotangent": g[form.state], "slope": slope}
    return AdjointSplitting(adjoint.cell, solver.name, injections, prepared)


def _adjoint_form(form: MonotoneForm) -> MonotoneForm:
    """Parts of the adjoint cell: the transposed matrix or kernel, the cotangent for beta, the slope for the Relu."""
    builder = GraphBuilder(str(form.cell.dtype))
    u = builder.state(form.state, form.shape)
    g, slope = builder.injection("cotangent", form.shape), builder.injection("slope", form.shape)
    weight = transpose_kernel(form.weight) if form.size else form.weight.T
    origin = tuple(k - 1 - o for k, o in zip(form.weight.shape[2:], form.origin, strict=True))
    parameter = builder.parameter("transposed", np.ascontiguousarray(weight).astype(form.cell.dtype))
    options: dict[str, Any] = {} if form.size else {"transB": 1}
    data = u
    for axis, (length, before, taps) in enumerate(zip(form.size, origin, weight.shape[2:], strict=True)):
        data = _wrapped(builder, data, axis + 2, length, before, taps - 1 - before)
    linear = builder.node("Gemm" if not form.size else "Conv", data, parameter, name="adjoint_linear", **options)
    total = builder.node("Add", linear, g, name="adjoint_total")
    builder.output(u, builder.node("Mul", total, slope, name="adjoint_f"))
    cell = builder.build()
    node = next(node for node in cell.graph.nodes if node.name == linear)
    return MonotoneForm(cell, form.state, node, weight, form.size, origin, total, (g,), None, None, slope)


def _wrapped(builder: GraphBuilder, value: str, axis: int, length: int, before: int, after: int) -> str:
    """Sites from the far ends of an axis on either side of it."""
    parts = [value]
    if before:
        parts.insert(0, builder.node("Slice", value, starts=(length - before,), ends=(length,), axes=(axis,)))
    if after:
        parts.append(builder.node("Slice", value, starts=(0,), ends=(after,), axes=(axis,)))
    return builder.node("Concat", *parts, axis=axis)
