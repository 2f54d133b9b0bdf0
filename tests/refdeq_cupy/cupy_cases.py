"""A launch of a kernel and what must come out of it.

Arrays that a kernel writes begin as NaN (flags as 9, counters as -9), so that what it must not touch is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BATCH, N = 5, 37
ROWS = np.array([0, 2, 3], dtype=np.int32)
SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-310, 1e-45, -1e-45, 65519.0, 65520.0, 3.3e38, 6e-8]


@dataclass
class Case:
    """Arguments of a launch, and the arrays that must come out, by the place of the argument."""

    arguments: list
    expected: dict
    grid: object = 2
    block: object = 64


def numbers(rng, shape, dtype, is_special=True):
    """Ordinary numbers of many sizes with special ones among them."""
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3, shape)
    if is_special:
        at = rng.random(shape) < 0.15
        values[at] = rng.choice(SPECIAL, at.sum())
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def listed(n=N):
    return [ROWS, np.int64(len(ROWS)), np.int64(n)]


def written(dtype, width=N, batch=BATCH):
    fill = np.nan if np.dtype(dtype).kind == "f" else 9 if dtype == "uint8" else -9
    return np.full((batch, width), fill, dtype=dtype)


def put(out, values):
    """The array after `values` were written to the listed rows."""
    out = out.copy()
    out[ROWS] = values
    return out


def run(device, kernel, case, dtype):
    """Launch a case and return the arrays that it writes."""
    on_device = {}
    values = []
    for value in case.arguments:
        if isinstance(value, np.ndarray):
            if id(value) not in on_device:  # one argument may be two
                on_device[id(value)] = device.upload(value)
            values.append(on_device[id(value)])
        else:
            values.append(value.item())
    device.launch(kernel, case.grid, case.block, values, dtype=dtype)
    return {place: device.download(values[place]) for place in case.expected}
