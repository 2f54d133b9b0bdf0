"""Ceilings of the device, measured first: what no kernel can beat, and what the libraries reach.

Needs CuPy; products, convolutions and graphs come from torch where it is there.
"""

from __future__ import annotations

import importlib.util
import time
from typing import Any, NamedTuple

import numpy as np

from benchmarks.gpu.records import Run
from benchmarks.gpu.timing import Clock

__all__ = ["FULL", "SMALL", "Sizes", "measure_ceilings"]


class Sizes(NamedTuple):
    """Bytes of a long copy; megabytes of the sweep; (m, k, n) of products by label; orders of matrices; height and width."""

    read_bytes: int
    sweep_mb: tuple[int, ...]
    products: dict[str, tuple[int, int, int]]
    vectors: tuple[int, ...]
    plane: tuple[int, int]


FULL = Sizes(
    4 << 30,
    (4, 8, 16, 24, 32, 40, 48, 64, 96, 128),
    {"8192": (8192, 8192, 8192), "65536x256": (65536, 256, 256), "65536x512": (65536, 512, 512)},
    (1024, 2048, 4096, 8192, 16384),
    (55, 128),
)
SMALL = Sizes(4 << 20, (4,), {"64": (64, 64, 64)}, (64,), (3, 5))


def measure_ceilings(clock: Clock, run: Run, seconds: float, sizes: Sizes = FULL) -> None:
    """Name to figure of a run: GB/s, TFLOP/s or microseconds, as its name ends.

    What the time did not suffice for is missing, and what failed is a problem of the run.

    Parameters
    ----------
    clock : Clock
        Of a real device.
    run : Run
    seconds : float
        No new measurement is begun after that.
    sizes : Sizes
    """
    import cupy

    start = time.monotonic()
    steps = [_copy_and_read, _cache_sweep, _launches, *([_products, _graph_gap, _convolutions] if _has_torch() else [])]
    for step in steps:
        if time.monotonic() - start > seconds:
            break
        try:
            step(cupy, clock, run.ceilings, sizes)
        except Exception as error:
            run.failed(f"ceilings/{step.__name__.strip('_')}", error)
        cupy.get_default_memory_pool().free_all_blocks()


def _has_torch() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def _best(clock: Clock, call: Any, replays: int = 10, times: int = 5) -> float:
    call()
    return min(clock.microseconds(call, replays) for _ in range(times))


def _copy_and_read(cupy: Any, clock: Clock, found: dict[str, float], sizes: Sizes) -> None:
    source = cupy.random.random(sizes.read_bytes // 4, dtype=np.float32)
    target = cupy.empty_like(source)
    found["copy_gbs"] = 2 * source.nbytes / _best(clock, lambda: cupy.copyto(target, source)) / 1e3
    found["read_gbs"] = source.nbytes / _best(clock, lambda: source.sum()) / 1e3


def _cache_sweep(cupy: Any, clock: Clock, found: dict[str, float], sizes: Sizes) -> None:
    for megabytes in sizes.sweep_mb:
        data = cupy.random.random((megabytes << 20) // 4, dtype=np.float32)
        found[f"read_{megabytes}mb_gbs"] = data.nbytes / _best(clock, lambda data=data: data.sum(), 50) / 1e3


def _launches(cupy: Any, clock: Clock, found: dict[str, float], sizes: Sizes) -> None:
    """Wall time of launching an empty kernel with ten arguments, and of reading one number back."""
    kernel = cupy.RawKernel(
        'extern "C" __global__ void nothing(' + ", ".join(f"float* p{i}" for i in range(10)) + ") {}", "nothing"
    )
    arguments = tuple(cupy.zeros(32, dtype=np.float32) for _ in range(10))
    stream = cupy.cuda.get_current_stream()
    kernel((1,), (32,), arguments)
    stream.synchronize()
    start = time.perf_counter()
    for _ in range(200):
        kernel((1,), (32,), arguments)
    found["launch_cupy_us"] = (time.perf_counter() - start) * 1e6 / 200
    stream.synchronize()
    start = time.perf_counter()
    for _ in range(200):
        float(arguments[0][0])
    found["scalar_to_host_us"] = (time.perf_counter() - start) * 1e6 / 200


def _products(cupy: Any, clock: Clock, found: dict[str, float], sizes: Sizes) -> None:
    import torch

    for label, (m, k, n) in sizes.products.items():
        for name, dtype, tf32 in (
            ("fp32", torch.float32, False),
            ("tf32", torch.float32, True),
            ("bf16", torch.bfloat16, False),
        ):
            torch.backends.cuda.matmul.allow_tf32 = tf32
            left = torch.randn(m, k, device="cuda", dtype=dtype)
            right = torch.randn(k, n, device="cuda", dtype=dtype)
            out = torch.empty(m, n, device="cuda", dtype=dtype)
            took = _best(clock, lambda left=left, right=right, out=out: torch.mm(left, right, out=out))
            found[f"gemm_{label}_{name}_tflops"] = 2.0 * m * k * n / took / 1e6
    torch.backends.cuda.matmul.allow_tf32 = False
    for n in sizes.vectors:
        weight, vector = torch.randn(n, n, device="cuda"), torch.randn(n, device="cuda")
        found[f"gemv_{n}_us"] = _best(clock, lambda weight=weight, vector=vector: torch.mv(weight, vector), 50)


def _graph_gap(cupy: Any, clock: Clock, found: dict[str, float], sizes: Sizes) -> None:
    """Time per node of a graph of kernels that do next to nothing."""
    import torch

    x = torch.zeros(32, device="cuda")
    x.add_(1.0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(200):
            x.add_(1.0)
    found["graph_node_us"] = _best(clock, graph.replay, 5) / 200


def _convolutions(cupy: Any, clock: Clock, found: dict[str, float], sizes: Sizes) -> None:
    import torch

    torch.backends.cudnn.benchmark = True
    for label, out, channels, kernel in (("gru", 256, 768, (1, 5)), ("head", 512, 256, (3, 3)), ("raft_b", 128, 384, (1, 5))):
        padding = tuple(size // 2 for size in kernel)
        for name, dtype, tf32 in (
            ("fp32", torch.float32, False),
            ("tf32", torch.float32, True),
            ("bf16", torch.bfloat16, False),
        ):
            torch.backends.cudnn.allow_tf32 = tf32
            x = torch.randn(1, channels, *sizes.plane, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)
            w = torch.randn(out, channels, *kernel, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)
            call = lambda x=x, w=w, padding=padding: torch.nn.functional.conv2d(x, w, padding=padding)  # noqa: E731
            found[f"conv_{label}_{name}_us"] = _best(clock, call)
