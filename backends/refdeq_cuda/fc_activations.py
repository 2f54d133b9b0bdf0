"""Activations by their position in :data:`refdeq.fc_pattern.ACTIVATIONS`, strict in both orders (N-8)."""

from __future__ import annotations

from numba import cuda, float64

from refdeq.fc_pattern import ACTIVATIONS
from refdeq_cuda.arithmetic import times
from refdeq_cuda.strict import strict_cos, strict_sigmoid, strict_sin, strict_tanh

__all__ = ["activate"]

RELU, LEAKY_RELU, TANH, SIGMOID, SIN, COS = (
    ACTIVATIONS.index(name) for name in ("Relu", "LeakyRelu", "Tanh", "Sigmoid", "Sin", "Cos")
)


@cuda.jit(device=True)
def activate(values, i, kind, slope):
    """Apply an activation to one element, in place; storing a result of float64 rounds it, once."""
    x = values[i]
    if kind == RELU:
        if x <= 0:
            values[i] = 0
    elif kind == LEAKY_RELU:
        if x < 0:
            values[i] = times(slope, x)
    elif kind == TANH:
        values[i] = strict_tanh(float64(x))
    elif kind == SIGMOID:
        values[i] = strict_sigmoid(float64(x))
    elif kind == SIN:
        values[i] = strict_sin(float64(x))
    elif kind == COS:
        values[i] = strict_cos(float64(x))
