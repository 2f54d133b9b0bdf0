"""Implicit gradient of one linear node's fixed point, by a direct solve per sample (G-1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq_validation.lab.activations import slope
from refdeq_validation.lab.formats import store
from refdeq_validation.lab.kernels import accumulate
from refdeq_validation.lab.node import Node
from refdeq_validation.lab.style import STRICT
from refdeq_validation.protocol.problem import Problem

__all__ = ["gradient"]

Array = np.ndarray[Any, Any]


def gradient(problem: Problem, x: Array, z: Array, cotangent: Array, frozen: Array | None) -> Mapping[str, Array]:
    """Adjoint and gradients at `z`.

    Parameters
    ----------
    problem : Problem
    x, z, cotangent : (B, *shape)
    frozen : (B, *shape) bool, optional
        Masks of the last evaluation, for the frozen-mask Jacobian; None for the dense one.

    Returns
    -------
    mapping of str to ndarray
        ``v``, ``x``, ``weight`` and, where there is one, ``bias``, in the dtype of the problem.
    """
    batch = len(z)
    slopes = slope(problem, total_at(problem, x, z))
    matrix = linear_map(problem)
    v = np.zeros(z.shape, np.float64)
    for b in range(batch):
        jacobian = slopes[b].reshape(-1, 1) * matrix
        if frozen is not None:
            jacobian = np.where(frozen[b].reshape(1, -1), jacobian, 0.0)
        adjoint = np.eye(len(jacobian)) - jacobian.T
        v[b] = gauss(adjoint, cotangent[b].ravel().astype(np.float64)).reshape(z.shape[1:])
    pulled = slopes * v.reshape(slopes.shape)
    results = {"v": v, "x": pulled, "weight": weight_gradient(problem, pulled, z.astype(np.float64))}
    if problem.bias is not None:
        sites = tuple(range(2, pulled.ndim))
        results["bias"] = pulled.sum(axis=(0, *sites))
    return {name: values.astype(problem.dtype) for name, values in results.items()}


def total_at(problem: Problem, x: Array, z: Array) -> Array:
    """Argument of phi at the returned point, by one dense evaluation."""
    node = Node(problem, len(z))
    _, y = node.dense(z, np.arange(len(z)))
    if node.folded:
        y = store(problem, y + node.bias)
    return store(problem, y + x)


def linear_map(problem: Problem) -> Array:
    """The linear node as a matrix (outputs, inputs) in float64: its answers to unit vectors."""
    size = int(np.prod(problem.shape))
    units = np.eye(size).reshape(size, *problem.shape)
    answers = np.zeros((size, *problem.out_shape))
    accumulate(problem, STRICT, units, units != 0.0, answers)
    return answers.reshape(size, -1).T


def weight_gradient(problem: Problem, pulled: Array, z: Array) -> Array:
    """Gradient of the weights: products of what was pulled back with what each weight met, summed over the batch."""
    total = np.zeros(problem.weight.shape, np.float64)
    if problem.op == "Gemm":
        for b in range(len(z)):
            total = total + pulled[b][:, None] * z[b][None, :]
        return total
    strides, pads, dilations = problem.geometry
    outputs, per_group = problem.weight.shape[0] // problem.group, problem.weight.shape[1]
    for tap in np.ndindex(*problem.weight.shape[2:]):
        places, sources = [], []
        for i, n in enumerate(problem.shape[1:]):
            site = np.arange(pulled.shape[2 + i]) * strides[i] - pads[i] + tap[i] * dilations[i]
            inside = (site >= 0) & (site < n)
            places.append(np.flatnonzero(inside))
            sources.append(site[inside])
        for g in range(problem.group):
            rows, columns = np.arange(g * outputs, (g + 1) * outputs), np.arange(g * per_group, (g + 1) * per_group)
            left = pulled[np.ix_(np.arange(len(z)), rows, *places)].reshape(len(z), outputs, 1, -1)
            right = z[np.ix_(np.arange(len(z)), columns, *sources)].reshape(len(z), 1, per_group, -1)
            total[(rows, slice(None), *tap)] = (left * right).sum(axis=(0, 3))
    return total


def gauss(matrix: Array, right: Array) -> Array:
    """Solve a linear system by elimination with row exchanges; a singular one gives what is not finite.

    >>> gauss(np.array([[0.0, 2.0], [1.0, 0.0]]), np.array([4.0, 3.0]))
    array([3., 2.])
    """
    a, b = matrix.copy(), right.copy()
    for j in range(len(a)):
        pivot = j + int(np.argmax(np.abs(a[j:, j])))
        a[[j, pivot]], b[[j, pivot]] = a[[pivot, j]], b[[pivot, j]]
        factors = a[j + 1 :, j] / a[j, j]
        a[j + 1 :] = a[j + 1 :] - factors[:, None] * a[j]
        b[j + 1 :] = b[j + 1 :] - factors * b[j]
    x = np.zeros(len(a))
    for j in reversed(range(len(a))):
        x[j] = (b[j] - np.add.reduce(a[j, j + 1 :] * x[j + 1 :])) / a[j, j]
    return x
