"""Implicit layers for implicit representations, (Implicit)^2: image networks whose every pixel is a fixed point.

Source: Huang, Bai, Kolter, "(Implicit)^2: Implicit Layers for Implicit Representations", NeurIPS 2021; one layer, filters
``siren`` and ``fourier``. The state is one hidden vector per pixel, the injection its coordinates.
"""

from __future__ import annotations

import numpy as np

from refdeq.graph import Cell, GraphBuilder

__all__ = ["fourier", "siren"]


def _entry(builder: GraphBuilder, hidden: int, a0: np.ndarray, b0: np.ndarray) -> tuple[str, str, str]:
    """State, injection, and the shared entry ``u = z + sin(A0 x + b0)``."""
    z, x = builder.state("z", (hidden,)), builder.injection("x", a0.shape[1:])
    phase = builder.node("Gemm", x, builder.parameter("A0", a0), builder.parameter("b0", b0), transB=1, name="entry_phase")
    return z, x, builder.node("Add", z, builder.node("Sin", phase, name="entry"), name="u")


def siren(w: np.ndarray, a0: np.ndarray, b0: np.ndarray, a1: np.ndarray, b1: np.ndarray) -> Cell:
    """Build the SIREN-like cell ``z <- sin(W (z + sin(A0 x + b0)) + (A1 x + b1))``.

    Parameters
    ----------
    w : (h, h) float32 or float64
    a0, a1 : (h, d), same dtype
    b0, b1 : (h,), same dtype

    Returns
    -------
    Cell with state ``z`` (h,) and injection ``x`` (d,)

    Examples
    --------
    >>> siren(np.eye(2), np.ones((2, 2)), np.zeros(2), np.ones((2, 2)), np.zeros(2)).graph.injections
    {'x': (2,)}
    """
    builder = GraphBuilder(str(w.dtype))
    z, x, u = _entry(builder, len(w), a0, b0)
    phase = builder.node("Gemm", x, builder.parameter("A1", a1), builder.parameter("b1", b1), transB=1, name="phase")
    linear = builder.node("Gemm", u, builder.parameter("W", w), transB=1, name="linear")
    builder.output(z, builder.node("Sin", builder.node("Add", linear, phase, name="total"), name="f"))
    return builder.build()


def fourier(w: np.ndarray, bz: np.ndarray, a0: np.ndarray, b0: np.ndarray, a1: np.ndarray, b1: np.ndarray) -> Cell:
    """Build the multiplicative Fourier cell ``z <- (W (z + sin(A0 x + b0)) + bz) * sin(A1 x + b1)``.

    Parameters
    ----------
    w : (h, h) float32 or float64
    bz : (h,), same dtype
    a0, a1 : (h, d), same dtype
    b0, b1 : (h,), same dtype

    Returns
    -------
    Cell with state ``z`` (h,) and injection ``x`` (d,)

    Examples
    --------
    >>> fourier(np.eye(2), np.zeros(2), np.ones((2, 2)), np.zeros(2), np.ones((2, 2)), np.zeros(2)).graph.states
    {'z': (2,)}
    """
    builder = GraphBuilder(str(w.dtype))
    z, x, u = _entry(builder, len(w), a0, b0)
    phase = builder.node("Gemm", x, builder.parameter("A1", a1), builder.parameter("b1", b1), transB=1, name="phase")
    filtered = builder.node("Sin", phase, name="filter")
    linear = builder.node("Gemm", u, builder.parameter("W", w), builder.parameter("bz", bz), transB=1, name="linear")
    builder.output(z, builder.node("Mul", linear, filtered, name="f"))
    return builder.build()
