"""DFT: a mixed-radix transform whose every rounding is pinned, so that strict backends agree in bits (N-6).

Libraries order the additions of a Fourier transform in their own ways. Here the order is that of decimation in time by the
smallest prime factor: a transform of length ``n = p m`` is p transforms of length m, joined by p terms in ascending order.
Work and result are in float64, rounded once to the dtype of the value; the table of roots comes from the formulas of N-8.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from refdeq import scalar
from refdeq.errors import GraphError
from refdeq.ops.base import REQUIRED, Attributes, Op, Shape, linear_jvp, no_curvature, size
from refdeq.types import OpCount

__all__ = ["OPS", "prime_factors", "roots_of_unity", "transform"]

Array = np.ndarray


def prime_factors(n: int) -> list[int]:
    """Prime factors of n in ascending order; none for 1.

    >>> prime_factors(12)
    [2, 2, 3]
    """
    found, p = [], 2
    while n > 1:
        while n % p == 0:
            found.append(p)
            n //= p
        p = p + 1 if p * p < n else n
    return found


@functools.lru_cache(maxsize=64)
def roots_of_unity(n: int) -> tuple[Array, Array]:
    """Cosines and sines of ``2 pi j / n`` for j = 0 .. n - 1, float64, the same bits everywhere (N-8).

    The angle is reduced by integers to at most an eighth of a turn, so that multiples of a quarter turn are exact.

    >>> roots_of_unity(4)
    (array([ 1.,  0., -1.,  0.]), array([ 0.,  1.,  0., -1.]))
    """
    cosines, sines = np.empty(n), np.empty(n)
    for j in range(n):
        quadrant, rest = divmod(4 * j, n)
        folded = n - rest if 2 * rest > n else rest
        angle = 1.5707963267948966 * folded / n
        c, s = scalar.cos(angle), scalar.sin(angle)
        if folded != rest:
            c, s = s, c
        cosines[j], sines[j] = ((c, s), (0.0 - s, c), (-c, 0.0 - s), (s, -c))[quadrant]
    cosines.setflags(write=False)
    sines.setflags(write=False)
    return cosines, sines


def transform(re: Array, im: Array, sign: int) -> tuple[Array, Array]:
    """Unscaled Fourier transform along the last axis, ``X_k = sum_j exp(sign 2 pi i j k / n) x_j``, in pinned order (N-6).

    Parameters
    ----------
    re, im : (..., n) float64
        Real and imaginary parts, n >= 1.
    sign : {-1, 1}

    Returns
    -------
    re, im : (..., n) float64

    Examples
    --------
    >>> re, im = transform(np.array([1.0, 2.0, 4.0, 8.0]), np.zeros(4), -1)
    >>> re, im
    (array([15., -3., -5., -3.]), array([ 0.,  6.,  0., -6.]))
    """
    n = re.shape[-1]
    if n == 1:
        return re, im
    p = prime_factors(n)[0]
    lead = re.shape[:-1]
    # [r, j] is element j p + r: the p interleaved sequences, transformed side by side
    re, im = (np.swapaxes(x.reshape(*lead, n // p, p), -1, -2) for x in (re, im))
    part_re, part_im = transform(re, im, sign)
    cosines, sines = roots_of_unity(n)
    k = np.arange(n)
    total_re, total_im = (x[..., 0, k % (n // p)] for x in (part_re, part_im))
    for r in range(1, p):
        c, s = cosines[r * k % n], sign * sines[r * k % n]
        x, y = part_re[..., r, k % (n // p)], part_im[..., r, k % (n // p)]
        total_re = total_re + (c * x - s * y)
        total_im = total_im + (c * y + s * x)
    return total_re, total_im


def _axis(shape: Shape, attributes: Attributes) -> int:
    axis: int = attributes["axis"]
    rank = len(shape)
    if rank < 3 or shape[-1] not in (1, 2):
        raise GraphError(f"DFT: data must be (batch, ..., 1) when real or (batch, ..., 2) when complex, got {shape}")
    if not -rank <= axis < rank or axis % rank in (0, rank - 1):
        raise GraphError(f"DFT: axis {axis} must be neither the batch nor the last axis of {shape}")
    if attributes["inverse"] not in (0, 1):
        raise GraphError(f"DFT: inverse must be 0 or 1, got {attributes['inverse']}")
    return axis % rank


def _infer(shapes: Sequence[Shape], attributes: Attributes) -> Shape:
    _axis(shapes[0], attributes)
    return (*shapes[0][:-1], 2)


def _along(x: Array, axis: int, sign: int, scale: int) -> Array:
    """Transform of a value with real and imaginary parts on its last axis, divided by `scale`, rounded once."""
    wide = np.moveaxis(x.astype(np.float64), axis, -1)
    re, im = wide[..., 0, :], wide[..., 1, :] if x.shape[-1] == 2 else np.zeros(wide.shape[:-2] + wide.shape[-1:])
    parts = np.stack(transform(re, im, sign), axis=-2)
    if scale != 1:
        parts = parts / scale
    return np.ascontiguousarray(np.moveaxis(parts, -1, axis).astype(x.dtype))


def _forward(inputs: Sequence[Array], attributes: Attributes) -> Array:
    """``DFT`` or, with ``inverse``, its inverse: the transform with the other sign, divided by the length."""
    x = inputs[0]
    axis = _axis(x.shape, attributes)
    return _along(x, axis, 1, x.shape[axis]) if attributes["inverse"] else _along(x, axis, -1, 1)


def _vjp(inputs: Sequence[Array], _out: Array, attributes: Attributes, g: Array) -> list[Array]:
    """The transpose of a real-linear map: the transform with the other sign, of which a real input keeps the real part."""
    x = inputs[0]
    axis = _axis(x.shape, attributes)
    back = _along(g, axis, -1, x.shape[axis]) if attributes["inverse"] else _along(g, axis, 1, 1)
    return [back[..., : x.shape[-1]]]


def _cost(shapes: Sequence[Shape], out: Shape, attributes: Attributes) -> OpCount:
    """Four multiply-accumulates per complex product, p - 1 products per element and prime factor p, as written."""
    length = shapes[0][_axis(shapes[0], attributes)]
    products = sum(p - 1 for p in prime_factors(length)) * size(out) // 2
    return OpCount(macs=4 * products, elementwise=size(out) if attributes["inverse"] and length > 1 else 0)


OPS: tuple[Op, ...] = (
    Op(
        name="DFT",
        arity=(1, 1),
        infer=_infer,
        forward=_forward,
        vjp=_vjp,
        jvp=linear_jvp(_forward),
        curvature=no_curvature,
        cost=_cost,
        attributes={"axis": REQUIRED, "inverse": 0},
        exact=False,
    ),
)
"""ONNX ``DFT`` of whole signals (no ``dft_length``, no ``onesided``); ``axis`` is an attribute, as in opset 17."""
