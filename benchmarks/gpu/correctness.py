"""Results before times: every plan against the reference or float64, with poisoned memory and repeated runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import refdeq as rd
from benchmarks.gpu.records import Measurement, Run
from benchmarks.gpu.setup import Setup
from refdeq.errors import RefdeqError
from refdeq.graph import Cell

__all__ = ["check"]


def check(setup: Setup, run: Run, seconds: float) -> None:
    """Strict solves bit for bit against the reference, fast ones twice; a difference fails the phase when all have run."""
    start, wrong = time.monotonic(), []
    for device in setup.devices.values():
        _poison(device, 1 << 16 if setup.is_small else 1 << 30)
    for label, cell, x, rule in _cases(setup.is_small):
        if time.monotonic() - start > seconds:
            break
        stop = rd.StopRule(rtol=1e-5, max_eval=12)
        reference = rd.solve(cell, x, stop=stop, delta=rule)
        for backend in setup.backends:
            for executor in ("op", "fused"):
                try:
                    strict = [rd.solve(cell, x, stop=stop, delta=rule, backend=backend, executor=executor) for _ in range(2)]
                    fast = [
                        rd.solve(cell, x, stop=stop, delta=rule, backend=backend, executor=executor, order="fast")
                        for _ in range(2)
                    ]
                except Exception as error:
                    if not isinstance(error, RefdeqError):
                        run.failed(f"correct/{label}/{backend}/{executor}", error)
                    run.add(
                        Measurement(f"correct/{label}/{backend}/{executor}", "correctness", backend, executor, notes=str(error))
                    )
                    continue
                equal = {
                    "strict equals the reference": _same(strict[0], reference),
                    "strict twice": _same(*strict),
                    "fast twice": _same(*fast),
                }
                entry = Measurement(
                    f"correct/{label}/{backend}/{executor}", "correctness", backend, executor, deterministic=equal
                )
                run.add(entry)
                wrong += [f"{entry.id}: {name}" for name, holds in equal.items() if not holds]
    if wrong:
        raise AssertionError(f"{len(wrong)} differences, the first: {wrong[0]}")


def _cases(is_small: bool) -> Iterator[tuple[str, Cell, np.ndarray, Any]]:
    """Odd sizes, one row, nothing sent, everything sent, NaN."""
    rng = np.random.default_rng(11)
    sizes = (5,) if is_small else (5, 33, 256, 1000, 4097)
    for n in sizes:
        weight = rng.standard_normal((n, n)).astype(np.float32) * np.float32(0.7 / np.sqrt(n))
        cell = rd.models.rnn(weight, rng.standard_normal((n, 2)).astype(np.float32), np.zeros(n, dtype=np.float32))
        x = rng.standard_normal((1 if n > 1000 else 3, 2)).astype(np.float32)
        yield f"n{n}/sent", cell, x, rd.DeltaRule(threshold=1e-3)
        if n <= 256:
            yield f"n{n}/dense", cell, x, None
            yield f"n{n}/never", cell, x, rd.DeltaRule(threshold=np.inf)
            yield f"n{n}/paper", cell, x, rd.DeltaRule.preset("paper", threshold=1e-3)
            broken = x.copy()
            broken[0, 0] = np.nan
            yield f"n{n}/nan", cell, broken, rd.DeltaRule(threshold=0.0)


def _poison(device: Any, size: int) -> None:
    """Fill memory with NaN and give it back, so that what is allocated next is not zero by chance."""
    filled = device.upload(np.full(size // 8, np.nan))
    device.synchronize()
    del filled


def _same(left: rd.Solution, right: rd.Solution) -> bool:
    """Equal bits of states, residuals and counts; NaN is NaN."""
    pairs = [*zip(left.states.values(), right.states.values(), strict=True), (left.residual, right.residual)]
    pairs += [(left.status, right.status), (left.n_eval, right.n_eval)]
    return all(np.array_equal(_bits(a), _bits(b)) for a, b in pairs)


def _bits(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":
        return array
    return np.where(np.isnan(array), np.array(np.nan, dtype=array.dtype), array).view(f"u{array.dtype.itemsize}")
