"""Kernels of a Conv that start from the inputs: each sent site is scattered to the outputs that see it."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdeq_validation.protocol.problem import Problem

__all__ = ["halo_tiles", "scatter"]

Array = np.ndarray[Any, Any]

TILE = 3
"""Output sites of one tile, along each axis."""


def scatter(problem: Problem, d: Array, sent: Array, a: Array) -> None:
    """Sites ascending, channels fastest: every output gets its terms in the order (kh, kw, c_in)."""
    strides, pads, dilations = problem.geometry
    per_group = problem.weight.shape[1]
    outputs = problem.weight.shape[0] // problem.group
    kernel = problem.weight.shape[2:]
    for b in range(len(d)):
        for site in np.ndindex(*d.shape[2:]):
            for c in range(d.shape[1]):
                if not sent[(b, c, *site)]:
                    continue
                g = c // per_group
                rows = slice(g * outputs, (g + 1) * outputs)
                for tap in np.ndindex(*kernel):
                    reach = [site[i] + pads[i] - tap[i] * dilations[i] for i in range(len(kernel))]
                    target = tuple(reach[i] // strides[i] for i in range(len(kernel)))
                    if any(reach[i] % strides[i] for i in range(len(kernel))):
                        continue
                    if any(target[i] < 0 or target[i] >= a.shape[2 + i] for i in range(len(kernel))):
                        continue
                    column = problem.weight[(rows, c % per_group, *tap)]
                    a[(b, rows, *target)] = a[(b, rows, *target)] + column * d[(b, c, *site)]


def halo_tiles(problem: Problem, d: Array, sent: Array, a: Array) -> None:
    """Tiles of outputs; each reads its own inputs and a halo around them into a scratch image with zeros outside."""
    strides, pads, dilations = problem.geometry
    kernel, sites = problem.weight.shape[2:], a.shape[2:]
    for corner in np.ndindex(*(-(-n // TILE) for n in sites)):
        first = [i * TILE for i in corner]
        last = [min(start + TILE, n) for start, n in zip(first, sites, strict=True)]
        low = [first[i] * strides[i] - pads[i] for i in range(len(kernel))]
        high = [(last[i] - 1) * strides[i] - pads[i] + (kernel[i] - 1) * dilations[i] + 1 for i in range(len(kernel))]
        values, taken = scratch(d, low, high), scratch(sent, low, high)
        out = a[(slice(None), slice(None), *(slice(s, e) for s, e in zip(first, last, strict=True)))]
        one_tile(problem, values, taken, out)


def scratch(image: Array, low: list[int], high: list[int]) -> Array:
    """Inputs of a tile with its halo; zero, and not sent, outside the image."""
    found = np.zeros((*image.shape[:2], *(end - start for start, end in zip(low, high, strict=True))), image.dtype)
    inner, outer = [], []
    for start, end, n in zip(low, high, image.shape[2:], strict=True):
        begin, stop = max(start, 0), max(min(end, n), max(start, 0))
        outer.append(slice(begin, stop))
        inner.append(slice(begin - start, stop - start))
    found[(slice(None), slice(None), *inner)] = image[(slice(None), slice(None), *outer)]
    return found


def one_tile(problem: Problem, values: Array, taken: Array, out: Array) -> None:
    """Convolution of a scratch image without borders."""
    strides, _, dilations = problem.geometry
    per_group = problem.weight.shape[1]
    outputs = problem.weight.shape[0] // problem.group
    for tap in np.ndindex(*problem.weight.shape[2:]):
        window = tuple(
            slice(tap[i] * dilations[i], tap[i] * dilations[i] + (out.shape[2 + i] - 1) * strides[i] + 1, strides[i])
            for i in range(len(tap))
        )
        for c in range(per_group):
            for g in range(problem.group):
                rows = slice(g * outputs, (g + 1) * outputs)
                channel = g * per_group + c
                column = problem.weight[(rows, c, *tap)].reshape(-1, *(1,) * len(tap))
                picked = (slice(None), slice(channel, channel + 1), *window)
                out[:, rows] = np.where(taken[picked], out[:, rows] + column * values[picked], out[:, rows])
