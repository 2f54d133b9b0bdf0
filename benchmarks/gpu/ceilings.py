"""Ceilings of the device, measured first: what no kernel can beat, and what the libraries reach.

Needs CuPy; products, convolutions and graphs come from torch where it is there.
"""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import numpy as np

from benchmarks.gpu.timing import Clock

__all__ = ["measure_ceilings"]

READ_BYTES = 4 << 30
SWEEP_MB = (4, 8, 16, 24, 32, 40, 48, 64, 96, 128)
GEMV_SIZES = (1024, 2048, 4096, 8192, 16384)


def measure_ceilings(clock: Clock, seconds: float) -> dict[str, float]:
    """Name to figure: GB/s, TFLOP/s or microseconds, as its name ends; what the time did not suffice for is missing.

    Parameters
    ----------
    clock : Clock
        Of a real device.
    seconds : float
        No new measurement is begun after that.
    """
    import cupy

    found: dict[str, float] = {}
    start = time.monotonic()
    steps = [_copy_and_read, _cache_sweep, _launches, *([_products, _graph_gap, _convolutions] if _has_torch() else [])]
    for step in steps:
        if time.monotonic() - start > seconds:
            break
        step(cupy, clock, found)
        cupy.get_default_memory_pool().free_all_blocks()
    return found


def _has_torch() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def _best(clock: Clock, call: Any, replays: int = 10, times: int = 5) -> float:
    call()
    return min(clock.microseconds(call, replays) for _ in range(times))


def _copy_and_read(cupy: Any, clock: Clock, found: dict[str, float]) -> None:
    source = cupy.random.random(READ_BYTES // 4, dtype=np.float32)
    target = cupy.empty_like(source)
    found["copy_gbs"] = 2 * source.nbytes / _best(clock, lambda: cupy.copyto(target, source)) / 1e3
    found["read_gbs"] = source.nbytes / _best(clock, lambda: source.sum()) / 1e3


def _cache_sweep(cupy: Any, clock: Clock, found: dict[str, float]) -> None:
    for megabytes in SWEEP_MB:
        data = cupy.random.random((megabytes << 20) // 4, dtype=np.float32)
        found[f"read_{megabytes}mb_gbs"] = data.nbytes / _best(clock, lambda data=data: data.sum(), 50) / 1e3


def _launches(cupy: Any, clock: Clock, found: dict[str, float]) -> None:
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


def _products(cupy: Any, clock: Clock, found: dict[str, float]) -> None:
    import torch

    shapes = {"8192": (8192, 8192, 8192), "65536x256": (65536, 256, 256), "65536x512": (65536, 512, 512)}
    for label, (m, k, n) in shapes.items():
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
    for n in GEMV_SIZES:
        weight, vector = torch.randn(n, n, device="cuda"), torch.randn(n, device="cuda")
        found[f"gemv_{n}_us"] = _best(clock, lambda weight=weight, vector=vector: torch.mv(weight, vector), 50)


def _graph_gap(cupy: Any, clock: Clock, found: dict[str, float]) -> None:
    """Time per node of a graph of kernels that do next to nothing."""
    import torch

    x = torch.zeros(32, device="cuda")
    x.add_(1.0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(200):
            x.add_(1.0)
    found["graph_node_us"] = _best(clock, graph.replay, 5) / 200


def _convolutions(cupy: Any, clock: Clock, found: dict[str, float]) -> None:
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
            x = torch.randn(1, channels, 55, 128, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)
            w = torch.randn(out, channels, *kernel, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)
            call = lambda x=x, w=w, padding=padding: torch.nn.functional.conv2d(x, w, padding=padding)  # noqa: E731
            found[f"conv_{label}_{name}_us"] = _best(clock, call)
