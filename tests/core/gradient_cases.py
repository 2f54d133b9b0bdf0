"""What the tests of gradients share: cells, closed forms with certified radii, and central differences."""

from __future__ import annotations

import numpy as np

import refdeq as rd

TIGHT = rd.StopRule(atol=1e-14, max_eval=2000)
UNIT = 2.0**-53
NORM = 0.7
"""Norm of W in :func:`rnn_problem`, and so a bound of the norm of every Jacobian there."""


def rnn_problem(tanh_cell, rng, n=8, batch=3, stop=TIGHT, **options):
    """A contraction solved, and a cotangent: ``cell, x, solution, g``."""
    cell, x = tanh_cell(n=n, norm=NORM), rng.standard_normal((batch, 2))
    return cell, x, rd.solve(cell, x, stop=stop, **options), rng.standard_normal((batch, n))


def rnn_jacobians(cell, z, x):
    """Dense Jacobian of ``tanh(W z + U x + b)`` per sample."""
    w, u, b = (cell.parameters[name] for name in ("W", "U", "b"))
    return [(1 - np.tanh(w @ zi + u @ xi + b) ** 2)[:, None] * w for zi, xi in zip(z, x, strict=True)]


def roundings(cell, z, x):
    """Bound of ``|fl(J^T v) - J^T v| / (u |v|)`` in the 2-norm, for the reverse walk and for :func:`rnn_jacobians` together.

    A product of n terms in any order errs by n u | |J| | |v|, and | |J| |_2 <= sqrt(n) |J|_2 <= sqrt(n) here. A slope
    1 - tanh^2 errs by twice the error of its tanh: that of the pre-activation, a sum of n + d + 1 terms whose absolute values
    add up to S, and 2 ulp of the function itself (N-8).
    """
    w, u, b = (np.abs(cell.parameters[name]) for name in ("W", "U", "b"))
    total = (np.abs(z) @ w.T + np.abs(x) @ u.T + b).max(initial=0.0)
    n, d = w.shape[0], u.shape[1]
    slope = 2 * ((n + d + 1) * total + 4)
    return 2 * np.sqrt(n) * (n + 4 + slope)


def certified_solve(matrix, right, smallest):
    """Solution of a linear system, and a radius around it that holds the exact one: |residual| over the smallest singular
    value.

    The residual is formed in float64 from n + 1 terms per row; `smallest` is a lower bound of that singular value.
    """
    found = np.linalg.solve(matrix, right)
    n = len(right)
    rounding = (n + 2) * UNIT * (np.sqrt(n) * np.linalg.norm(matrix) * np.linalg.norm(found) + np.linalg.norm(right))
    return found, (np.linalg.norm(right - matrix @ found) + rounding) / smallest


def differences_agree(analytic, loss_at, rng, probes=6, h=2.0**-13):
    """Compare directional derivatives; Richardson's two steps bound the truncation error of the central difference."""
    assert analytic
    for _ in range(probes):
        direction = {name: rng.standard_normal(np.shape(value)) for name, value in analytic.items()}
        expected = sum(float(np.sum(analytic[name] * d)) for name, d in direction.items())
        wide, fine = ((loss_at(direction, step) - loss_at(direction, -step)) / (2 * step) for step in (2 * h, h))
        truncation = abs(wide - fine)  # three times the error of `fine`, to leading order
        noise = 1e-11 / h  # solves of residual 1e-14 amplified by (1 - |J|)^-1 and the sum over the batch
        assert abs(expected - fine) <= truncation + noise


def two_state_cell(rng):
    """Two states that feed each other, an injection used twice, and operators of every family."""
    builder = rd.GraphBuilder()
    y, s = builder.state("y", (2, 6)), builder.state("s", (4,))
    x, q = builder.injection("x", (2, 6)), builder.injection("q", (4,))

    def weight(name, *shape):
        return builder.parameter(name, 0.3 * rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])))

    conv = builder.node("Conv", y, weight("Wc", 4, 2, 3), weight("bc", 4), pads=(1, 1))
    halves = [builder.node("Slice", conv, starts=(k,), ends=(k + 2,), axes=(1,)) for k in (0, 2)]
    gate = builder.node("Sigmoid", halves[0])
    pooled = builder.node("ReduceMean", builder.node("Mul", gate, builder.node("Tanh", halves[1])), axes=(2,), keepdims=0)
    mixed = builder.node("Gemm", s, weight("Ws", 4, 4), weight("bs", 4), transB=1, alpha=0.5, beta=2.0)
    joined = builder.node("Concat", pooled, pooled, axis=1)
    builder.output(s, builder.node("Sin", builder.node("Add", builder.node("Add", mixed, joined), q)))
    spread = builder.node("Reshape", builder.node("MatMul", s, weight("Wm", 4, 12)), shape=(0, 2, 6))
    shifted = builder.node("Sub", builder.node("LeakyRelu", spread, alpha=0.25), builder.node("Cos", x))
    builder.output(y, builder.node("Tanh", builder.node("Mul", shifted, builder.node("Exp", builder.node("Neg", gate)))))
    return builder.build()
