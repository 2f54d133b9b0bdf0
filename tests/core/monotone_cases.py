"""Monotone cells for several test files, and a bound on the distance of any point to the fixed point of one."""

from __future__ import annotations

import numpy as np

import refdeq as rd
from refdeq.circular import dense_matrix


def fc_cell(n=10, d=4, m=1.0, skew=1.0, dtype="float64", seed=3):
    """Cell with a spectral norm well above 1, on which Picard has no reason to converge."""
    rng = np.random.default_rng(seed)
    a, b_skew = rng.standard_normal((2, n, n)) / np.sqrt(n)
    u, b = rng.standard_normal((n, d)), rng.standard_normal(n)
    return rd.models.monotone(*(p.astype(dtype) for p in (a, skew * b_skew, u, b)), m=m)


def conv_cell(channels=2, inputs=1, size=(2, 3), dtype="float64", seed=4, **options):
    """Small convolutional cell."""
    parameters = rd.models.random_monotone_conv(channels, inputs, np.random.default_rng(seed), dtype=dtype)
    return rd.models.monotone_conv(*parameters, size, **{"g": 0.5, "h": 1.5, **options})


def injection(cell, batch=3, seed=5):
    rng = np.random.default_rng(seed)
    ((_, shape),) = cell.graph.injections.items()
    return rng.standard_normal((batch, *shape)).astype(cell.dtype)


def dense_parts(cell, x):
    """W as a matrix, beta and the 0/1 mask as rows, all float64 and straight from the parameters."""
    p = {name: array.astype(np.float64) for name, array in cell.parameters.items()}
    x = x.astype(np.float64)
    if "interior" not in p:
        return p["W"], x @ p["U"].T + p["b"], np.ones(len(p["W"]))
    channels, height, width = cell.graph.states["z"]
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    beta = np.zeros((len(x), channels, height, width)) + p["b"][:, None, None]
    for i in range(3):
        for j in range(3):
            beta += np.einsum("oc,bchw->bohw", p["U"][:, :, i, j], padded[:, :, i : i + height, j : j + width])
    mask = np.broadcast_to(p["interior"], (channels, height, width)).ravel()
    return dense_matrix(p["W"], (height, width)), beta.reshape(len(x), -1), mask


def constants(w):
    """Strong monotonicity and norm of ``I - W``, the first rounded down by what ``eigvalsh`` loses."""
    s = np.eye(len(w)) - w
    norm = np.linalg.norm(s, 2)
    return np.linalg.eigvalsh((s + s.T) / 2)[0] - 8 * len(w) * 2.0**-53 * norm, norm


def certified_distance(cell, x, z):
    """Bound on ``|z - z*|`` per sample: ``(1 + |I - W|) / m`` times the residual of z (Pang's bound for monotone problems).

    The residual is evaluated here, in float64, with at most ``n + d + 8`` roundings of every sum.
    """
    w, beta, mask = dense_parts(cell, x)
    rows = z.reshape(len(z), -1).astype(np.float64)
    value = mask * np.maximum(rows @ w.T + beta, 0)
    lost = 2 * (len(w) + 40) * 2.0**-53 * np.linalg.norm(np.abs(rows) @ np.abs(w).T + np.abs(beta) + np.abs(rows), axis=1)
    m, norm = constants(w)
    assert m > 0
    return (1 + norm) / m * (np.linalg.norm(value - rows, axis=1) + lost)
