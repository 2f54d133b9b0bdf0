"""Products and sums of a linear node, in plain NumPy, in the strict order (N-6, D-7)."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq_validation.protocol.problem import Problem

__all__ = ["accumulate_conv", "accumulate_gemm"]

Array = np.ndarray[Any, Any]


def accumulate_gemm(problem: Problem, d: Array, sent: Array, a: Array) -> None:
    """Matrix product: columns ascending, for the samples that sent them."""
    for j in range(d.shape[1]):
        rows = sent[:, j]
        a[rows] = a[rows] + problem.weight[:, j] * d[rows, j, None]


def accumulate_conv(problem: Problem, d: Array, sent: Array, a: Array) -> None:
    """Convolution: kernel sites ascending, input channel fastest; padded taps are absent."""
    strides, pads, dilations = problem.geometry
    outputs, per_group = problem.weight.shape[0] // problem.group, problem.weight.shape[1]
    for tap in np.ndindex(*problem.weight.shape[2:]):
        places, sources = [], []
        for i, n in enumerate(problem.shape[1:]):
            site = np.arange(a.shape[2 + i]) * strides[i] - pads[i] + tap[i] * dilations[i]
            inside = (site >= 0) & (site < n)
            places.append(np.flatnonzero(inside))
            sources.append(site[inside])
        for c in range(per_group):
            for g in range(problem.group):
                pick = np.ix_(np.arange(len(d)), np.array([g * per_group + c]), *sources)
                put = np.ix_(np.arange(len(d)), np.arange(g * outputs, (g + 1) * outputs), *places)
                column = problem.weight[(slice(g * outputs, (g + 1) * outputs), c, *tap)]
                term = column.reshape(-1, *(1,) * len(tap)) * d[pick]
                a[put] = np.where(sent[pick], a[put] + term, a[put])
