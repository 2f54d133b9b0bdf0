"""Derivatives of a cell by complex steps, and the gradient of a linear node's weight."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq_validation.protocol.problem import Problem

__all__ = ["STEP", "complex_activation", "weight_gradient"]

Array = np.ndarray[Any, Any]

STEP = 2.0**-200
"""Imaginary step: its square vanishes beside any number of float64, so the derivative has no truncation error."""


def complex_activation(name: str, x: Array) -> Array:
    """An activation at a complex argument; of piecewise linear ones the real part decides.

    >>> float(np.imag(complex_activation("Sigmoid", np.array([1j * STEP])))[0] / STEP)
    0.25
    """
    if name == "Identity":
        return x
    if name == "Relu":
        return np.where(x.real > 0, x, 0.0)
    if name == "LeakyRelu":
        return np.where(x.real < 0, 0.01 * x, x)
    if name == "Sigmoid":
        return np.asarray(1.0 / (1.0 + np.exp(-x)))
    functions = {"Tanh": np.tanh, "Sin": np.sin, "Cos": np.cos, "Exp": np.exp}
    return np.asarray(functions[name](x))


def weight_gradient(problem: Problem, push: Array, z: Array) -> Array:
    """``sum push z^T`` over batch (and sites): the gradient of the weight for cotangents `push` of the node's output.

    Parameters
    ----------
    problem : Problem
    push : (B, *out_shape)
    z : (B, *shape)
    """
    z = z.astype(np.float64)
    if problem.op == "Gemm":
        return np.asarray(push.T @ z)
    strides, pads, dilations = problem.geometry
    outputs, per_group = len(problem.weight) // problem.group, problem.weight.shape[1]
    gradient = np.zeros(problem.weight.shape)
    for tap in np.ndindex(*problem.weight.shape[2:]):
        places, sources = [], []
        for i, n in enumerate(problem.shape[1:]):
            site = np.arange(push.shape[2 + i]) * strides[i] - pads[i] + tap[i] * dilations[i]
            inside = (site >= 0) & (site < n)
            places.append(np.flatnonzero(inside))
            sources.append(site[inside])
        for m in range(len(problem.weight)):
            for c in range(per_group):
                channel = m // outputs * per_group + c
                read = z[np.ix_(np.arange(len(z)), np.array([channel]), *sources)][:, 0]
                gradient[(m, c, *tap)] = (push[np.ix_(np.arange(len(z)), np.array([m]), *places)][:, 0] * read).sum()
    return gradient
