"""The recurrent cell ``z <- tanh(W z + U x + b)``: the smallest deep-equilibrium model (DeltaDEQ's sine example)."""

from __future__ import annotations

import numpy as np

from refdeq.graph import Cell, GraphBuilder

__all__ = ["rnn"]


def rnn(w: np.ndarray, u: np.ndarray, b: np.ndarray) -> Cell:
    """Build the cell ``z <- tanh(W z + (U x + b))``; the bias belongs to the x-only Gemm (E-1).

    Parameters
    ----------
    w : (n, n) float32 or float64
    u : (n, d), same dtype
    b : (n,), same dtype

    Returns
    -------
    Cell with state ``z`` (n,) and injection ``x`` (d,)

    Examples
    --------
    >>> rnn(np.zeros((3, 3)), np.zeros((3, 1)), np.zeros(3)).graph.linear_nodes[0].name
    'recurrent'
    """
    builder = GraphBuilder(str(w.dtype))
    z, x = builder.state("z", (len(w),)), builder.injection("x", u.shape[1:])
    weight, inward, bias = builder.parameter("W", w), builder.parameter("U", u), builder.parameter("b", b)
    injected = builder.node("Gemm", x, inward, bias, transB=1, name="injected")
    recurrent = builder.node("Gemm", z, weight, transB=1, name="recurrent")
    total = builder.node("Add", recurrent, injected, name="total")
    builder.output(z, builder.node("Tanh", total, name="f"))
    return builder.build()
