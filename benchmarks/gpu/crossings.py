"""What each way of forming a sum costs next to the dense way (K4), and the record of it that a device is served by.

Costs are facts of a run, in its file; ``python -m benchmarks.gpu.crossings FILE`` makes them the record of that device on this
machine (see :mod:`refdeq_gpu.plans.crossovers`). There are none where nothing was timed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from refdeq_gpu.plans.conv import TileConv
from refdeq_gpu.plans.crossovers import DTYPES, Cost, fitted, write
from refdeq_gpu.sums import Sums
from refdeq_gpu.workspace import Workspace

from benchmarks.gpu.comparing import Variant, compare
from benchmarks.gpu.records import Run, load
from benchmarks.gpu.setup import Setup
from benchmarks.gpu.timing import summary
from refdeq.errors import UnsupportedError

__all__ = ["FULL", "SMALL", "Sizes", "install", "measure_all"]

SHARES = (0.0, 0.05, 0.1, 0.3, 1.0)
Ways = dict[str, dict[float, Callable[[], Any]]]


class Sizes(NamedTuple):
    """Rows and columns of a Gemm; channels, height and width of a Conv of 3 x 3."""

    rows: int
    columns: int
    channels: int
    height: int
    width: int


FULL, SMALL = Sizes(1024, 1024, 256, 56, 128), Sizes(4, 16, 32, 8, 16)


def measure_all(setup: Setup, run: Run, seconds: float) -> None:
    """Every way in every dtype for which there is time, in CUDA C++: a device has one record."""
    start, sizes, backend = time.monotonic(), SMALL if setup.is_small else FULL, "cupy"
    device = setup.devices.get(backend)
    found: dict[str, dict[str, Any]] = {}
    if device is None:
        return
    for dtype in DTYPES:
        if time.monotonic() - start > seconds:
            break
        for ways in _ways(device, dtype, sizes):
            for way, cost in _costs(setup, run, backend, dtype, ways):
                found.setdefault(dtype, {})[way] = asdict(cost)
    if found:
        run.facts["crossovers"] = {"device": device.describe()["device"], "costs": found}


def install(path: Path) -> Path:
    """Make the costs of a run the record of its device; return where that is.

    Raises
    ------
    UnsupportedError
        The run has none.
    """
    facts = load(path)["facts"]
    found = facts.get("crossovers")
    if found is None:
        raise UnsupportedError(f"{path}: nothing was timed for a record of crossovers; run the phase 'crossings' on a device")
    costs = {dtype: {way: Cost(**line) for way, line in ways.items()} for dtype, ways in found["costs"].items()}
    return write(found["device"], f"the run of {facts['started']}, commit {facts['commit']}", costs)


def _costs(setup: Setup, run: Run, backend: str, dtype: str, ways: Ways) -> Iterator[tuple[str, Cost]]:
    """Cost of every way but the dense one, which they are timed by turns with."""
    dense = next(iter(ways.pop("dense").values()))
    for way, calls in ways.items():
        variants = [Variant("dense", backend, dense)]
        variants += [
            Variant(f"{share:.2f}", backend, call, about={"density": {"requested": share}}) for share, call in calls.items()
        ]
        label = f"crossing/{backend}/{dtype}/{way}"
        samples = compare(setup, run, label, f"{way} next to dense", variants, "vs_own_dense", {})
        medians = {name: summary(values) for name, values in samples.items()}
        times = {share: median["median"] for share in calls if (median := medians[f"{share:.2f}"]) is not None}
        if len(times) == len(calls) and (reference := medians["dense"]) is not None:
            yield way, fitted(times, reference["median"])


def _ways(device: Any, dtype: str, sizes: Sizes) -> Iterator[Ways]:
    """Calls by way and share: of a Gemm, then of a Conv."""
    yield _gemm(device, dtype, sizes)
    yield _conv(device, dtype, sizes)


def _gemm(device: Any, dtype: str, sizes: Sizes) -> Ways:
    rng = np.random.default_rng(0)
    shape = sizes.rows, sizes.columns
    sums = Sums(device, Workspace(device), "fast")
    d, weight = (device.upload(rng.standard_normal(own).astype(dtype)) for own in (shape, (sizes.columns,) * 2))
    a = device.upload(np.zeros(shape, dtype=dtype))
    everyone = np.ones(sizes.rows, dtype=bool)
    full = device.upload(np.ones(shape, dtype=bool))
    ways: Ways = {"dense": {1.0: partial(sums.gemm_dense, everyone, d, full, weight, a)}, "row": {}, "axpy": {}}
    for share in SHARES:
        active = np.arange(sizes.rows) < round(share * sizes.rows)
        ways["row"][share] = partial(sums.gemm, active, d, None, weight, False, a)
        mask = device.upload(rng.random(shape) < share)
        ways["axpy"][share] = partial(sums.gemm_listed, everyone, d, mask, weight, a)
    return ways


def _conv(device: Any, dtype: str, sizes: Sizes) -> Ways:
    """Tiles of 8 x 16 sites and words of 32 channels are active or not as a whole."""
    rng = np.random.default_rng(0)
    shape = 1, sizes.channels, sizes.height, sizes.width
    attributes = {"strides": None, "pads": (1, 1, 1, 1), "dilations": None, "group": 1, "kernel_shape": None}
    rows = device.upload(np.zeros(1, dtype=np.int32))
    d = device.upload(rng.standard_normal(shape).astype(dtype))
    weight = device.upload(rng.standard_normal((sizes.channels, sizes.channels, 3, 3)).astype(dtype))
    a = device.upload(np.zeros(shape, dtype=dtype))

    def call(conv: TileConv, mask: Any) -> None:
        conv.accumulate(rows, 1, d, mask, weight, attributes, a, "fast")

    ways: Ways = {"dense": {1.0: partial(call, TileConv(device), None)}, "tile": {}}
    for share in SHARES:
        words = rng.random((sizes.channels // 32, -(-sizes.height // 8), -(-sizes.width // 16))) < share
        sent = words.repeat(32, 0).repeat(8, 1).repeat(16, 2)[None, :, : sizes.height, : sizes.width]
        ways["tile"][share] = partial(call, TileConv(device), device.upload(np.ascontiguousarray(sent)))
    return ways


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(install(Path(name)))
