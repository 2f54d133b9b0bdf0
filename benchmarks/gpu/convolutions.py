"""Half a ConvGRU, 768 to 256 channels, 1 x 5, over lists of tiles (G12 to G14), against cuDNN."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from refdeq_gpu.plans.conv import TileConv

from benchmarks.gpu.comparing import Variant, compare
from benchmarks.gpu.records import Measurement, Run
from benchmarks.gpu.setup import Setup
from benchmarks.gpu.timing import ratio_of, spread_of

__all__ = ["measure_all"]

WORKLOAD = "convolution 768 -> 256, 1 x 5, 55 x 128"
SHARES = (1.0, 0.5, 0.25, 0.1, 0.05)
ATTRIBUTES = {"strides": None, "pads": (0, 2, 0, 2), "dilations": None, "group": 1, "kernel_shape": None}


def measure_all(setup: Setup, run: Run, seconds: float) -> None:
    """Every share of active (tile of sites, group of channels) that goals name."""
    start, crossing = time.monotonic(), {}
    for share in (0.25,) if setup.is_simulated else SHARES:
        if time.monotonic() - start > seconds:
            break
        try:
            ratio = _measure(setup, run, share)
        except Exception as error:
            run.failed(f"conv/gru/a{share:.2f}", error)
            continue
        if ratio is not None:
            crossing[share] = ratio
    _crossing(run, crossing)


def _measure(setup: Setup, run: Run, share: float) -> float | None:
    """All variants at one share; the ratio of the float32 class to cuDNN in TF32."""
    x, mask, weight = _inputs(setup.is_small, share)
    variants: list[Variant] = []
    try:
        variants += _torch(setup, x, weight)
    except Exception as error:
        run.failed(f"conv/gru/a{share:.2f}/torch", error)
    variants += _own(setup, run, x, mask, weight, share)
    if not variants:
        return None
    label = f"conv/gru/a{share:.2f}"
    samples = compare(setup, run, label, WORKLOAD, variants, "vs_library", {"active": share, "x": list(x.shape)})
    if setup.is_simulated or "cudnn float32" not in samples:
        return None
    for baseline, name, goal in (
        ("cudnn float32", "cupy K3 bf16x3", "G13"),
        ("cudnn tf32", "cupy K3 bf16x3", "G12"),
        ("cupy K3 float32 own dense", "cupy K3 float32", ""),
    ):
        if baseline in samples and name in samples:
            known: dict[str, Any] = {"baseline_id": f"{label}/{baseline}", "ratio": ratio_of(samples, baseline, name)}
            entry = f"{label}/{name} over {baseline}"
            run.add(
                Measurement(
                    entry, WORKLOAD, "cupy", name, goal=goal, spread=spread_of(samples), ratio_kind="vs_library", **known
                )
            )
    ratio = ratio_of(samples, "cudnn tf32", "cupy K3 bf16x3") if "cupy K3 bf16x3" in samples else None
    return None if ratio is None else ratio["median"]


def _inputs(is_small: bool, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differences that are bfloat16 numbers, active in whole tiles of 8 x 16 sites and groups of 32 channels; a weight."""
    rng = np.random.default_rng(3)
    channels, outputs, height, width = (32, 16, 3, 17) if is_small else (768, 256, 55, 128)
    values = rng.standard_normal((1, channels, height, width), dtype=np.float32)
    values = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    tiles = rng.random((channels // 32, -(-height // 8), -(-width // 16))) < share
    mask = tiles.repeat(32, 0).repeat(8, 1).repeat(16, 2)[None, :, :height, :width]
    weight = rng.standard_normal((outputs, channels, 1, 5), dtype=np.float32) / np.float32(np.sqrt(5 * channels))
    return np.where(mask, values, np.float32(0.0)), np.ascontiguousarray(mask), weight


def _torch(setup: Setup, x: np.ndarray, weight: np.ndarray) -> Iterator[Variant]:
    if not setup.has_torch:
        return
    from benchmarks.gpu.baselines import convolution

    for precision in ("tf32", "float32", "bfloat16"):
        flags = {"precision_flags": {"cudnn_tf32": precision == "tf32", "cudnn_benchmark": True}}
        yield Variant(f"cudnn {precision}", "torch", convolution(x, weight, (0, 2), precision), about=flags)


def _own(setup: Setup, run: Run, x: np.ndarray, mask: np.ndarray, weight: np.ndarray, share: float) -> Iterator[Variant]:
    """K3 of both backends, on tensor cores and on scalar units, each with its dense ablation."""
    kinds = (("float32", False), ("bfloat16x3", True))
    for backend, device in setup.devices.items():
        d, sent, kernel = (device.upload(part) for part in (x, mask, weight))
        rows = device.upload(np.zeros(1, dtype=np.int32))
        a = device.upload(np.zeros((1, len(weight), *x.shape[2:]), dtype=np.float32))
        for precision, is_narrow in kinds:
            if is_narrow and backend != "cupy":
                continue
            for name, everything in (("", False), (" own dense", True)):
                tiles = TileConv(device, precision=precision, everything=everything)

                def call(tiles: Any = tiles, is_narrow: bool = is_narrow, a: Any = a, rows: Any = rows, d: Any = d,
                         sent: Any = sent, kernel: Any = kernel) -> None:  # fmt: skip
                    tiles.accumulate(rows, 1, d, sent, kernel, ATTRIBUTES, a, "fast", is_narrow=is_narrow)

                try:
                    call()
                except Exception as error:
                    run.failed(f"conv/gru/a{share:.2f}/{backend} {precision}{name}", error)
                    continue
                about = {"density": {"requested": share, "listed": tiles.listed_share()}}
                yield Variant(f"{backend} K3 {precision.replace('bfloat', 'bf')}{name}", backend, call, about=about)


def _crossing(run: Run, ratios: dict[float, float]) -> None:
    """G14: the share at which cuDNN in TF32 is as fast, between the two measured shares around it."""
    shares = sorted(ratios)
    for low, high in itertools.pairwise(shares):
        if ratios[low] >= 1.0 > ratios[high]:
            at = low + (high - low) * (ratios[low] - 1.0) / (ratios[low] - ratios[high])
            figure = {"figure": at}
            run.add(Measurement("conv/gru/crossing", WORKLOAD, "cupy", "K3 bf16x3", goal="G14", error=figure))
            return
    if shares:  # faster everywhere: the largest share; nowhere: none
        figure = {"figure": shares[-1] if ratios[shares[-1]] >= 1.0 else 0.0}
        run.add(Measurement("conv/gru/crossing", WORKLOAD, "cupy", "K3 bf16x3", goal="G14", error=figure))
