"""Conv: one image through the public primitive ``accumulate_conv``, in the layout of ONNX (batch, channels, height, width)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError
from refdeq_bench.baselines import convolutions, threads_of_libraries
from refdeq_bench.checking import expected_convolution
from refdeq_bench.workloads.case import Case, Contender, Workload
from refdeq_bench.workloads.kernels import accumulating, attributes, constant, dense_contenders, kernels_of, label
from refdeq_bench.workloads.patterns import pattern, values_of

__all__ = ["CONV", "prepare_conv"]


@lru_cache(maxsize=1)
def _weight(outputs: int, inputs: int, kernel: tuple[int, int], dtype: str) -> np.ndarray:
    return values_of((outputs, inputs, *kernel), dtype, 1, 1.0 / math.sqrt(inputs * kernel[0] * kernel[1]))


@lru_cache(maxsize=1)
def _bound(
    backend: str, order: str, threads: int, outputs: int, inputs: int, kernel: tuple[int, int], dtype: str
) -> tuple[Any, Any]:
    kernels = kernels_of(backend, order, threads)
    return kernels, constant(kernels, _weight(outputs, inputs, kernel, dtype))


def prepare_conv(
    backend: str,
    *,
    order: str = "fast",
    threads: int = 1,
    kernel: str = "3x3",
    height: int = 48,
    width: int = 128,
    inputs: int = 256,
    outputs: int = 128,
    dtype: str = "float32",
    density: float = 0.1,
    pattern: str = "random",
) -> Case:
    """One image, stride 1, padded to keep its size; the pattern ``rows`` sends whole pixels.

    The baselines have their images with channels last beforehand; what the backend does to the layout of ONNX is in its time.
    """
    high, wide = _lengths(kernel)
    shape, lengths = (inputs, height, width), (high, wide)
    kernels, weight = _bound(backend, order, threads, outputs, inputs, lengths, dtype)
    mask = _image_mask(pattern, height, width, inputs, density)
    d = np.where(mask, values_of((1, *shape), dtype, 2), np.dtype(dtype).type(0))
    start = values_of((1, outputs, height, width), dtype, 3)
    macs, dense_macs = (_macs(m, high, wide) * outputs for m in (mask, np.ones_like(mask)))
    contender = accumulating(
        label(backend, order),
        kernels,
        kernels.accumulate_conv,
        [(d, mask)],
        weight,
        attributes("Conv", pads=(high // 2, wide // 2, high // 2, wide // 2)),
        start,
        expected_convolution(d, mask, _weight(outputs, inputs, lengths, dtype), start),
        {"density": float(mask.mean()), "macs": float(macs), "saved": 1.0 - macs / dense_macs},
    )
    dense, skipped = _dense(threads, shape, outputs, lengths, dtype)
    named = {"height": height, "width": width, "inputs": inputs, "outputs": outputs}
    point = {"kernel": kernel, **named, "dtype": dtype, "density": density, "pattern": pattern}
    return Case("conv", backend, order, threads, point, (*dense, contender), skipped)


@lru_cache(maxsize=1)
def _dense(
    threads: int, shape: tuple[int, int, int], outputs: int, kernel: tuple[int, int], dtype: str
) -> tuple[tuple[Contender, ...], dict[str, str]]:
    """The baselines and those that cannot run: kept from density to density."""
    weight, drawn = _weight(outputs, shape[0], kernel, dtype), values_of((1, *shape), dtype, 2)
    zero = np.zeros((1, outputs, *shape[1:]), dtype=dtype)
    with threads_of_libraries(threads):
        paths, skipped = convolutions(drawn, weight, threads)
        expected = expected_convolution(drawn, np.ones_like(drawn, dtype=bool), weight, zero)
        return tuple(dense_contenders(paths, expected)), skipped


def _lengths(kernel: str) -> tuple[int, int]:
    """Height and width of a kernel such as ``3x3``; both odd, so that padding can keep the size."""
    high, x, wide = kernel.partition("x")
    if not (x and high.isdecimal() and wide.isdecimal() and int(high) % 2 and int(wide) % 2):
        raise ArgumentError("kernel", expected="HEIGHTxWIDTH, both odd, as in 3x3", got=repr(kernel))
    return int(high), int(wide)


def _image_mask(kind: str, height: int, width: int, inputs: int, density: float) -> np.ndarray:
    """(1, C, H, W) mask: pixels are the samples of the pattern, channels its features."""
    by_pixel = pattern(kind, (height * width, inputs), density)
    return np.ascontiguousarray(by_pixel.T).reshape(1, inputs, height, width)


def _macs(mask: np.ndarray, high: int, wide: int) -> int:
    """Multiply-accumulates per output channel: every sent element times the taps that meet it inside the image (C-1)."""
    _, _, rows, columns = mask.shape
    reach_y = np.convolve(np.ones(rows, dtype=np.int64), np.ones(high, dtype=np.int64), "same")
    reach_x = np.convolve(np.ones(columns, dtype=np.int64), np.ones(wide, dtype=np.int64), "same")
    return int((mask[0].sum(axis=0) * np.outer(reach_y, reach_x)).sum())


CONV = Workload(
    "conv",
    "one image, stride 1: accumulate_conv against torch (channels last) and patches with BLAS",
    prepare_conv,
    tuple(
        {"kernel": kernel, "dtype": "float32", "density": density, "pattern": kind}
        for kernel in ("1x5", "5x1", "3x3")
        for kind in ("random", "mixed", "rows")
        for density in (0.5, 0.25, 0.1, 0.05, 0.01)
    ),
    {"kernel": "3x3", "height": 9, "width": 12, "inputs": 16, "outputs": 8, "density": 0.25},
)
