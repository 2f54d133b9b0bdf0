"""Gemm: one sample (*gemv*) and batches (*gemm*), through the public primitive ``accumulate_gemm``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from refdeq_bench.baselines import products, threads_of_libraries
from refdeq_bench.checking import expected_product
from refdeq_bench.workloads.case import Case, Contender, Workload
from refdeq_bench.workloads.kernels import accumulating, attributes, constant, dense_contenders, kernels_of, label
from refdeq_bench.workloads.patterns import pattern, values_of
from refdeq_bench.workloads.reading import reads

__all__ = ["GEMM", "GEMV", "prepare_gemm", "prepare_gemv"]

Shape = tuple[int, int, int]
"""Samples, inputs, outputs."""
MOST_INPUTS = 64
"""Vectors that gemv takes by turns, at most."""


@lru_cache(maxsize=1)
def _weight(outputs: int, inputs: int, dtype: str) -> np.ndarray:
    """(N, K) weight, as the cells store it."""
    return values_of((outputs, inputs), dtype, 1, 1.0 / math.sqrt(inputs))


@lru_cache(maxsize=1)
def _bound(backend: str, order: str, threads: int, outputs: int, inputs: int, dtype: str) -> tuple[Any, Any]:
    """Kernels and the weight that was handed over to them: kept from point to point."""
    kernels = kernels_of(backend, order, threads)
    return kernels, constant(kernels, _weight(outputs, inputs, dtype))


def prepare_gemv(
    backend: str,
    *,
    order: str = "fast",
    threads: int = 1,
    n: int = 2048,
    dtype: str = "float32",
    density: float = 0.1,
    bandwidth: bool = False,
) -> Case:
    """One sample of n inputs and n outputs: bound by memory.

    Of a matrix of which only some columns are read, those columns would stay in the cache from call to call. As many input
    vectors as it takes to read the whole matrix are therefore taken by turns (at most 64).

    With `bandwidth` the whole matrix is also just read, in a few ways; ``bytes`` is what a contender reads of it.
    """
    inputs = min(MOST_INPUTS, math.ceil(4 / density)) if density < 1 else 1
    masks = [pattern("random", (1, n), density, seed) for seed in range(inputs)]
    point = {"n": n, "dtype": dtype, "density": density}
    case = _case("gemv", backend, order, threads, point, (1, n, n), masks)
    if not bandwidth:
        return case
    weight = _weight(n, n, dtype)
    *dense, ours = case.contenders
    read = float(masks[0].sum()) * n * weight.itemsize
    ours = replace(ours, quality={**ours.quality, "bytes": read})
    return replace(case, contenders=(*dense, ours, *reads(weight, threads)))


def prepare_gemm(
    backend: str,
    *,
    order: str = "fast",
    threads: int = 1,
    samples: int = 4096,
    inputs: int = 256,
    outputs: int | None = None,
    dtype: str = "float32",
    density: float = 0.1,
    pattern: str = "random",
) -> Case:
    """A batch; `outputs` are as many as inputs unless said. The pattern ``none`` hands over no mask: a dense evaluation."""
    outputs = inputs if outputs is None else outputs
    masks = [_mask(pattern, (samples, inputs), density)]
    point = {"samples": samples, "inputs": inputs, "outputs": outputs, "dtype": dtype, "density": density, "pattern": pattern}
    return _case("gemm", backend, order, threads, point, (samples, inputs, outputs), masks)


def _mask(kind: str, shape: tuple[int, int], density: float) -> np.ndarray | None:
    return None if kind == "none" else pattern(kind, shape, density)


@lru_cache(maxsize=1)
def _dense(threads: int, shape: Shape, dtype: str) -> tuple[tuple[Contender, ...], dict[str, str]]:
    """The baselines and those that cannot run: kept from density to density."""
    samples, inputs, outputs = shape
    weight, drawn = _weight(outputs, inputs, dtype), values_of((samples, inputs), dtype, 2)
    zero = np.zeros((samples, outputs), dtype=dtype)
    with threads_of_libraries(threads):
        paths, skipped = products(drawn, weight, threads)
        return tuple(dense_contenders(paths, expected_product(drawn, np.ones_like(drawn, dtype=bool), weight, zero))), skipped


def _case(
    workload: str,
    backend: str,
    order: str,
    threads: int,
    point: dict[str, Any],
    shape: Shape,
    masks: Sequence[np.ndarray | None],
) -> Case:
    samples, inputs, outputs = shape
    dtype = point["dtype"]
    kernels, weight = _bound(backend, order, threads, outputs, inputs, dtype)
    drawn, start = values_of((samples, inputs), dtype, 2), values_of((samples, outputs), dtype, 3)
    sent = [(drawn if mask is None else np.where(mask, drawn, drawn.dtype.type(0)), mask) for mask in masks]
    first, mask = sent[0]
    mask = np.ones_like(first, dtype=bool) if mask is None else mask
    macs = int(mask.sum()) * outputs
    quality = {"density": float(mask.mean()), "macs": float(macs), "saved": 1.0 - macs / (samples * inputs * outputs)}
    contender = accumulating(
        label(backend, order),
        kernels,
        kernels.accumulate_gemm,
        sent,
        weight,
        attributes("Gemm", transB=1),
        start,
        expected_product(first, mask, _weight(outputs, inputs, dtype), start),
        quality,
    )
    dense, skipped = _dense(threads, shape, dtype)
    return Case(workload, backend, order, threads, point, (*dense, contender), skipped)


_DENSITIES = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.01)

GEMV = Workload(
    "gemv",
    "one sample, n inputs and outputs: accumulate_gemm against dense BLAS",
    prepare_gemv,
    tuple(
        {"n": n, "dtype": dtype, "density": density}
        for n in (1024, 2048, 4096, 8192)
        for dtype in ("float32", "float64")
        for density in _DENSITIES
    ),
    {"n": 256, "dtype": "float32", "density": 0.25},
)

GEMM = Workload(
    "gemm",
    "a batch: accumulate_gemm against dense BLAS",
    prepare_gemm,
    tuple(
        {"samples": samples, "inputs": inputs, "dtype": dtype, "density": density, "pattern": kind}
        for samples, inputs, dtype in ((65536, 256, "float32"), (4096, 512, "float32"), (4096, 256, "float64"))
        for kind in ("random", "mixed", "rows")
        for density in _DENSITIES[1:]
    ),
    {"samples": 256, "inputs": 64, "dtype": "float32", "density": 0.25, "pattern": "random"},
)
