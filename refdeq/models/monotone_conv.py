"""Convolutional monotone operator network: circular 3 x 3 kernels A and B, composed into one 5 x 5 kernel of W.

``W = (1 - m) I - A^T A + B - B^T`` with ``A = sqrt(g) A0 / |A0|`` and ``B = h B0 / |B0|`` (Frobenius norms), all convolutions
circular, so that the symbol of ``I - W`` has Hermitian part ``m I + A_hat^H A_hat`` at every frequency. The state is larger
than the image by a border of one pixel that is held at zero, as published. Source: Winston and Kolter, "Monotone operator
equilibrium networks", NeurIPS 2020.
"""

from __future__ import annotations

import numpy as np

from refdeq.checks import check_integer, check_number
from refdeq.circular import compose, transpose_kernel
from refdeq.errors import DTypeError, ShapeError
from refdeq.graph import Cell, GraphBuilder
from refdeq.models.monotone import check_monotonicity

__all__ = ["monotone_conv", "monotone_conv_pullback", "monotone_kernel", "random_monotone_conv"]

Array = np.ndarray


def _normalised(kernel: Array, name: str) -> tuple[Array, float]:
    wide = kernel.astype(np.float64)
    norm = float(np.linalg.norm(wide))
    check_number(f"norm of {name}", norm, "a number > 0", low=0.0, open_low=True)
    return wide / norm, norm


def _check_kernels(a0: Array, b0: Array) -> None:
    if a0.ndim != 4 or a0.shape[0] != a0.shape[1] or a0.shape[2:] != (3, 3) or b0.shape != a0.shape:
        raise ShapeError("a0 and b0", expected="(C, C, 3, 3)", got=(a0.shape, b0.shape))
    if a0.dtype != b0.dtype:
        raise DTypeError("b0", expected=a0.dtype, got=b0.dtype)


def monotone_kernel(a0: Array, b0: Array, g: float = 1.0, h: float = 1.0, m: float = 1.0) -> Array:
    """Kernel of W: taps two sites away at most, formed in float64 and rounded once.

    Parameters
    ----------
    a0, b0 : (C, C, 3, 3) float32 or float64
        Of any norm > 0; only their directions matter.
    g, h : float
        Squared size of A, at least 0, and size of B.
    m : float
        Strong monotonicity of ``I - W``, > 0.

    Returns
    -------
    (C, C, 5, 5) array of the dtype of `a0`

    Examples
    --------
    >>> one = np.zeros((1, 1, 3, 3))
    >>> one[0, 0, 1, 1] = 7.0  # A and B are the identity: B - B^T vanishes
    >>> monotone_kernel(one, one, g=2.0, m=0.5)[0, 0, 2]
    array([ 0. ,  0. , -1.5,  0. ,  0. ])
    """
    _check_kernels(a0, b0)
    m = check_monotonicity(m)
    check_number("g", g, "a number >= 0", low=0.0, high=1e300)
    check_number("h", h, "a finite number", low=-1e300, high=1e300)
    a, _ = _normalised(a0, "a0")
    b, _ = _normalised(b0, "b0")
    kernel = 0.0 - g * compose(transpose_kernel(a), a)  # subtracted, so that no tap is -0
    kernel[:, :, 1:4, 1:4] += h * (b - transpose_kernel(b))
    kernel[:, :, 2, 2] += (1.0 - m) * np.eye(len(a0))
    return kernel.astype(a0.dtype)


def monotone_conv(
    a0: Array, b0: Array, u: Array, b: Array, size: tuple[int, int], *, g: float = 1.0, h: float = 1.0, m: float = 1.0
) -> Cell:
    """Build the cell ``z <- border * relu(W z + (U x + b))`` over an image, W circular (E-1).

    Parameters
    ----------
    a0, b0, g, h, m
        As for :func:`monotone_kernel`.
    u : (C, D, 3, 3) array
        Kernel of the injection, which sees the image padded by zeros.
    b : (C,) array
    size : (int, int)
        Height and width of the image.

    Returns
    -------
    Cell with state ``z`` (C, height + 2, width + 2), injection ``x`` (D, height, width) and parameters ``W`` (C, C, 5, 5),
    ``U``, ``b`` and ``interior``, which is 0 on the border and 1 inside

    Examples
    --------
    >>> import refdeq
    >>> rng = np.random.default_rng(0)
    >>> cell = monotone_conv(*random_monotone_conv(2, 1, rng), (4, 4))
    >>> sol = refdeq.solve(cell, rng.standard_normal((1, 1, 4, 4)), solver=refdeq.PeacemanRachford(alpha=1.0))
    >>> sol.converged, sol.z.shape
    (True, (1, 2, 6, 6))
    """
    for length in size:
        check_integer("size", length, low=1)
    kernel = monotone_kernel(a0, b0, g, h, m)
    if u.ndim != 4 or u.shape[2:] != (3, 3):
        raise ShapeError("u", expected="(C, D, 3, 3)", got=u.shape)
    height, width = size[0] + 2, size[1] + 2
    interior = np.zeros((1, height, width), a0.dtype)
    interior[:, 1:-1, 1:-1] = 1.0
    builder = GraphBuilder(str(a0.dtype))
    z, x = builder.state("z", (len(a0), height, width)), builder.injection("x", (u.shape[1], *size))
    weight, inward = builder.parameter("W", kernel), builder.parameter("U", u)
    bias, inside = builder.parameter("b", b), builder.parameter("interior", interior)
    # one pixel of zeros around the image, and the padding of the 3 x 3 kernel around that
    injected = builder.node("Conv", x, inward, bias, pads=(2, 2, 2, 2), name="injected")
    around = _wrap(builder, _wrap(builder, z, 2, height, "rows"), 3, width, "wrapped")
    recurrent = builder.node("Conv", around, weight, name="recurrent")
    positive = builder.node("Relu", builder.node("Add", recurrent, injected, name="total"), name="positive")
    builder.output(z, builder.node("Mul", positive, inside, name="f"))
    return builder.build()


def _wrap(builder: GraphBuilder, value: str, axis: int, length: int, name: str) -> str:
    """Two sites from the far end on either side of an axis."""
    end = builder.node("Slice", value, starts=(length - 2,), ends=(length,), axes=(axis,), name=f"{name}_end")
    start = builder.node("Slice", value, starts=(0,), ends=(2,), axes=(axis,), name=f"{name}_start")
    return builder.node("Concat", end, value, start, axis=axis, name=name)


def monotone_conv_pullback(
    a0: Array, b0: Array, gradient: Array, g: float = 1.0, h: float = 1.0
) -> tuple[Array, Array, float, float]:
    """Gradients of A0, B0, g and h from that of the 5 x 5 kernel of W.

    With ``P(G)`` the gradient of a kernel through its composition with its own transpose, ``dA = -g (P(G) + P(G^T))``; the
    norms contribute their projections, for only directions matter.

    Parameters
    ----------
    a0, b0 : (C, C, 3, 3) arrays
    gradient : (C, C, 5, 5) array
        ``dL/dW``.
    g, h : float

    Returns
    -------
    to_a0, to_b0 : (C, C, 3, 3) float64
    to_g, to_h : float
    """
    _check_kernels(a0, b0)
    a, a_norm = _normalised(a0, "a0")
    b, b_norm = _normalised(b0, "b0")
    wide = gradient.astype(np.float64)
    quadratic = np.zeros_like(a)
    both = wide + transpose_kernel(wide)
    for tap in np.ndindex(3, 3):
        for other in np.ndindex(3, 3):
            # tap `other` of A meets tap `tap` of the second A at offset other - tap of W
            offset = (2 + other[0] - tap[0], 2 + other[1] - tap[1])
            quadratic[(..., *other)] += a[(..., *tap)] @ both[(..., *offset)]
    to_g = float(-np.sum(a * quadratic) / 2)
    skew = (wide - transpose_kernel(wide))[:, :, 1:4, 1:4]
    to_h = float(np.sum(b * skew))
    return _projected(-g * quadratic, a, a_norm), _projected(h * skew, b, b_norm), to_g, to_h


def _projected(gradient: Array, direction: Array, norm: float) -> Array:
    """Gradient through a normalisation: what points along the direction is lost."""
    projected: Array = (gradient - np.sum(gradient * direction) * direction) / norm
    return projected


def random_monotone_conv(
    channels: int, inputs: int, rng: np.random.Generator, *, dtype: str = "float64"
) -> tuple[Array, Array, Array, Array]:
    """Draw A0, B0, U and b by the published defaults: each uniform within ``1 / sqrt(fan_in)``, fan-in 9 per input channel.

    Parameters
    ----------
    channels, inputs : int
        Channels of the state and of the image, at least 1.
    rng : numpy.random.Generator
    dtype : {"float64", "float32"}

    Returns
    -------
    a0, b0, u, b
        As :func:`monotone_conv` takes them.

    Examples
    --------
    >>> [array.shape for array in random_monotone_conv(4, 1, np.random.default_rng(0))]
    [(4, 4, 3, 3), (4, 4, 3, 3), (4, 1, 3, 3), (4,)]
    """
    check_integer("channels", channels, low=1)
    check_integer("inputs", inputs, low=1)

    def draw(fan_in: int, *shape: int) -> Array:
        return rng.uniform(-(fan_in**-0.5), fan_in**-0.5, shape).astype(dtype)

    inner, outer = (channels, channels, 3, 3), (channels, inputs, 3, 3)
    return draw(9 * channels, *inner), draw(9 * channels, *inner), draw(9 * inputs, *outer), draw(9 * inputs, channels)
