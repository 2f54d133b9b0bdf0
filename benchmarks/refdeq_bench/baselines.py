"""The dense paths to beat: NumPy on OpenBLAS as it comes, OpenBLAS told to use AVX-512, torch where it is installed.

A path that cannot run here is named with the reason, and a figure names the path it was divided by. All of them write the
product into memory they already have and add nothing to it, which is less than an accumulation does; layouts are made
outside of the times.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError

__all__ = ["CORE_VARIABLE", "THREAD_VARIABLES", "Dense", "convolutions", "has_avx512", "products", "threads_of_libraries"]

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Read by BLAS when it is loaded; see `refdeq_bench.worker`."""
CORE_VARIABLE = "REFDEQ_BENCH_FORCED_CORE"
"""Set by the worker when NumPy's OpenBLAS was told which kernels to take; SciPy has an OpenBLAS of its own, as it comes."""


@dataclass(frozen=True)
class Dense:
    """A dense path: what to call, and where its result can be read afterwards (in the layout of the primitive)."""

    name: str
    run: Callable[[], object]
    result: Callable[[], np.ndarray]


def has_avx512() -> bool:
    """Whether NumPy finds AVX-512 on this processor; OpenBLAS does not use it on all of those that have it."""
    config: Any = np.show_config(mode="dicts")
    extensions = config.get("SIMD Extensions", {})
    return any(name.startswith("AVX512") or name == "X86_V4" for name in extensions.get("found", []))


def torch_or_reason(threads: int) -> tuple[Any, str]:
    """Torch, set to that many threads, or None and why there is none."""
    try:
        import torch
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "torch"
        return None, "not installed" if missing else f"cannot be imported: {error}"
    torch.set_num_threads(threads)
    return torch, ""


@contextmanager
def threads_of_libraries(threads: int) -> Iterator[None]:
    """BLAS and torch on that many threads, where that can still be arranged.

    BLAS reads its number of threads when it is loaded. threadpoolctl changes it later; without it the environment must have
    said so from the start, as it does in the processes that ``refdeq bench`` starts. Torch stays at that number.

    Raises
    ------
    ArgumentError
        Neither is the case.
    """
    torch_or_reason(threads)
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        if os.environ.get("OPENBLAS_NUM_THREADS") != str(threads):
            raise ArgumentError(
                "threads",
                expected=f"BLAS on {threads} thread(s)",
                got=f"OPENBLAS_NUM_THREADS={os.environ.get('OPENBLAS_NUM_THREADS')}",
                hint=f"start Python with OPENBLAS_NUM_THREADS={threads}, or install threadpoolctl",
            ) from None
        yield
    else:
        with threadpool_limits(limits=threads, user_api="blas"):
            yield


def products(d: np.ndarray, weight: np.ndarray, threads: int) -> tuple[list[Dense], dict[str, str]]:
    """Dense paths for ``d @ weight.T``.

    Parameters
    ----------
    d : (B, K) array
    weight : (N, K) array
    threads : int

    Returns
    -------
    paths : list of Dense, whose results are (B, N)
    skipped : dict of name to reason

    Examples
    --------
    >>> one = np.ones((1, 1), dtype=np.float32)
    >>> paths, _ = products(2 * one, 3 * one, 1)
    >>> paths[0].run(), paths[0].result().item()
    (None, 6.0)
    """
    by_input = np.ascontiguousarray(weight.T)
    out = np.empty((len(d), len(weight)), dtype=d.dtype)
    skipped: dict[str, str] = {}
    if len(d) == 1:
        beside = np.empty_like(out)
        found = [
            Dense("numpy", lambda: _silent(np.dot(weight, d[0], out=out[0])), lambda: out),
            Dense("numpy, by columns", lambda: _silent(np.dot(d[0], by_input, out=beside[0])), lambda: beside),
        ]
    else:
        found = [Dense("numpy", lambda: _silent(np.matmul(d, by_input, out=out)), lambda: out)]
    found += _as_it_comes(d, by_input, skipped)
    torch, reason = torch_or_reason(threads)
    if torch is None:
        return found, {**skipped, "torch": reason}
    left, right = torch.from_numpy(d), torch.from_numpy(weight if len(d) == 1 else by_input)
    target = torch.empty((len(d), len(weight)), dtype=left.dtype)

    def multiply() -> None:
        torch.mv(right, left[0], out=target[0]) if len(d) == 1 else torch.mm(left, right, out=target)

    return [*found, Dense("torch", multiply, target.numpy)], skipped


def _silent(_result: object) -> None:
    """Drop what NumPy returns beside `out`."""


def _as_it_comes(d: np.ndarray, by_input: np.ndarray, skipped: dict[str, str]) -> list[Dense]:
    """SciPy's OpenBLAS, as it comes, when NumPy's was told to take the widest vectors."""
    if CORE_VARIABLE not in os.environ:
        skipped["OpenBLAS with AVX-512"] = (
            "not asked for in this process: see refdeq bench" if has_avx512() else "this processor has no AVX-512"
        )
        return []
    from scipy.linalg import blas

    out = np.empty((len(d), by_input.shape[1]), dtype=d.dtype)
    if len(d) == 1:
        gemv = blas.sgemv if d.dtype == np.float32 else blas.dgemv
        return [Dense("scipy", lambda: _silent(gemv(1.0, by_input.T, d[0], y=out[0], overwrite_y=1)), lambda: out)]
    gemm = blas.sgemm if d.dtype == np.float32 else blas.dgemm
    return [Dense("scipy", lambda: _silent(gemm(1.0, by_input.T, d.T, c=out.T, overwrite_c=1)), lambda: out)]


def convolutions(d: np.ndarray, weight: np.ndarray, threads: int) -> tuple[list[Dense], dict[str, str]]:
    """Dense paths for a convolution of stride 1 that keeps the size: channels last in torch, columns of patches and BLAS.

    Parameters
    ----------
    d : (1, C, H, W) array
    weight : (M, C, h, w) array, h and w odd
    threads : int

    Returns
    -------
    paths : list of Dense, whose results are (1, M, H, W)
    skipped : dict of name to reason
    """
    found = [_by_patches(d, weight)]
    torch, reason = torch_or_reason(threads)
    if torch is None:
        return found, {"torch": reason}
    layout = {"memory_format": torch.channels_last}
    image, kernel = torch.from_numpy(d).contiguous(**layout), torch.from_numpy(weight).contiguous(**layout)
    around, results = (weight.shape[2] // 2, weight.shape[3] // 2), [image]

    def convolve() -> None:
        with torch.no_grad():  # torch has no convolution into given memory: it takes what the last call gave back
            results[0] = torch.nn.functional.conv2d(image, kernel, padding=around)

    return [Dense("torch", convolve, lambda: np.asarray(results[0].contiguous())), *found], {}


def _by_patches(d: np.ndarray, weight: np.ndarray) -> Dense:
    """Copy every patch into a row, then one product."""
    outputs, channels, high, wide = weight.shape
    rows, columns = d.shape[2:]
    around = ((high // 2, high // 2), (wide // 2, wide // 2), (0, 0))
    pixels = np.pad(np.moveaxis(d[0], 0, 2), around)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (high, wide), axis=(0, 1))  # rows, columns, channels, h, w
    windows = windows.transpose(0, 1, 3, 4, 2)
    patches = np.empty((rows, columns, high, wide, channels), dtype=d.dtype)
    by_tap = np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).reshape(-1, outputs)
    out = np.empty((rows * columns, outputs), dtype=d.dtype)

    def convolve() -> None:
        np.copyto(patches, windows)
        np.matmul(patches.reshape(rows * columns, -1), by_tap, out=out)

    return Dense("numpy, patches", convolve, lambda: np.moveaxis(out.reshape(rows, columns, outputs), 2, 0)[None])
