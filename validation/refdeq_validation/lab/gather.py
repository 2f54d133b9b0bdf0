"""A linear node as plain matrices: one row of terms per output site, in the order (kh, kw, c_in) (N-6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq_validation.protocol.problem import Problem

__all__ = ["Block", "blocks"]

Array = np.ndarray[Any, Any]


@dataclass
class Block:
    """Products of one group.

    Attributes
    ----------
    weight : (M, K)
    values, sent : (R, K)
        Gated differences that each output site meets, and whether they take part: sent, and inside the image.
    inside : (R, K) bool
        Inside the image, sent or not.
    a : (R, M)
        Accumulator; what a kernel writes here goes back to the caller.
    """

    weight: Array
    values: Array
    sent: Array
    inside: Array
    a: Array


def blocks(problem: Problem, d: Array, sent: Array, a: Array) -> Iterator[Block]:
    """Take a node apart into blocks, and put what their kernels wrote back into `a`."""
    if problem.op == "Gemm":
        yield Block(problem.weight, d, sent, np.ones(d.shape, bool), a)
        return
    batch, outputs, per_group = len(d), problem.weight.shape[0] // problem.group, problem.weight.shape[1]
    sites = int(np.prod(a.shape[2:]))
    for g in range(problem.group):
        rows = slice(g * outputs, (g + 1) * outputs)
        columns = slice(g * per_group, (g + 1) * per_group)
        values, inside = patches(problem, d[:, columns], a.shape[2:])
        taken, _ = patches(problem, sent[:, columns], a.shape[2:])
        weight = np.moveaxis(problem.weight[rows], 1, -1).reshape(outputs, -1)
        block = Block(weight, values, taken, inside, np.moveaxis(a[:, rows], 1, -1).reshape(batch * sites, outputs))
        yield block
        a[:, rows] = np.moveaxis(block.a.reshape(batch, *a.shape[2:], outputs), -1, 1)


def patches(problem: Problem, image: Array, out_sites: tuple[int, ...]) -> tuple[Array, Array]:
    """What each output site meets, (B * sites, taps * channels), zero outside; and whether it is inside."""
    strides, pads, dilations = problem.geometry
    batch, channels = image.shape[:2]
    kernel = problem.weight.shape[2:]
    found = np.zeros((batch, *out_sites, *kernel, channels), image.dtype)
    inside = np.zeros(found.shape, bool)
    for tap in np.ndindex(*kernel):
        places, sources = [], []
        for i, n in enumerate(image.shape[2:]):
            site = np.arange(out_sites[i]) * strides[i] - pads[i] + tap[i] * dilations[i]
            within = (site >= 0) & (site < n)
            places.append(np.flatnonzero(within))
            sources.append(site[within])
        put = np.ix_(np.arange(batch), *places)
        found[(*put, *tap)] = np.moveaxis(image[np.ix_(np.arange(batch), np.arange(channels), *sources)], 1, -1)
        inside[(*put, *tap)] = True
    shape = (batch * int(np.prod(out_sites)), int(np.prod(kernel)) * channels)  # both by number: a batch may be empty
    return found.reshape(shape), inside.reshape(shape)
