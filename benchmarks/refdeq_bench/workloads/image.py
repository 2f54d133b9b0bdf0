"""The trained image cell, whole: every pixel from z = 0, at most 31 evaluations (protocol (P) of C-4), real weights.

With `rtol` samples whose relative residual is at most that are finished and left out, for all contenders alike: in float32 the
residual of this cell levels off near 6e-7, so 1e-6 (the default) means that nothing but rounding is left. Without it all 31
evaluations are made. The baseline is :class:`~refdeq_bench.workloads.dense_picard.DensePicard` with the compiled sine of the
backend that it is compared with; x-only values, layouts and compiling are outside all times.

Ablations (``ablations=True``) switch one thing off at a time: *sparsity* (comparison "ge" at threshold 0: everything is sent),
*freezing* (no `rtol`), *fusion* (op level), *SIMD* (plain loops), *threads* (one).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

import refdeq as rd
from refdeq_bench.baselines import threads_of_libraries
from refdeq_bench.checking import WrongResultError
from refdeq_bench.workloads.case import Case, Contender, Quality, Workload
from refdeq_bench.workloads.dense_picard import DensePicard
from refdeq_bench.workloads.kernels import kernels_of, label
from refdeq_bench.workloads.plans import activation, bound_plan, one_thread_of_blas, x_only

__all__ = ["IMAGE", "prepare_image"]

EVALUATIONS = 31
"""Protocol (P)."""
CHUNKS = (128, 256, 512, 2048)
"""Samples per chunk that the baseline may choose from: it takes what is fastest here."""
SIMD_VARIABLE = "REFDEQ_NUMBA_SIMD"
LARGEST_STEP = 4.0
"""No element of the gated value changes by more: it is a sine plus a sine."""


@dataclass(frozen=True)
class _Work:
    """The trained model, some of its samples, and what a returned point is checked with."""

    model: rd.models.TrainedModel
    x: np.ndarray
    chosen: np.ndarray
    x_only: dict[str, np.ndarray]

    @property
    def weight(self) -> np.ndarray:
        """As multiplied from the right."""
        return self.model.cell.parameters["W"].T

    def check(self, name: str, z: np.ndarray, residual: np.ndarray, threshold: float) -> None:
        """Residual of the dense f in float64 at the returned points.

        It may exceed what the contender says by what its gates hold back (at most the threshold per element, through W; a sine
        does not enlarge it) and by rounding: every evaluation adds at most n terms to each sum (N-7), none larger than
        |w| times ``LARGEST_STEP``, and the last few roundings are those of u, of the sum with the phase and of the sine.
        """
        wide = {key: self.x_only[key].astype(np.float64) for key in ("entry", "phase")}
        weight = self.weight.astype(np.float64)
        found = np.linalg.norm(np.sin((z.astype(np.float64) + wide["entry"]) @ weight + wide["phase"]) - z, axis=1)
        n, unit = len(weight), float(np.finfo(z.dtype).eps) / 2
        rounding = EVALUATIONS * (n + 1) * unit * LARGEST_STEP * np.linalg.norm(np.abs(weight).sum(axis=0))
        rounding += 16 * unit * np.sqrt(n) * (1 + float(np.abs(wide["phase"]).max()))
        allowed = residual + threshold * np.linalg.norm(weight, 2) * np.sqrt(n) + rounding
        if not np.all(found <= allowed):
            worst = int(np.argmax(np.where(np.isfinite(found), found - allowed, np.inf)))
            raise WrongResultError(
                f"{name}: residual {found[worst]:.3g} of the dense f where at most {allowed[worst]:.3g} is allowed; not timed"
            )

    def psnr(self, z: np.ndarray) -> float:
        """Of the chosen pixels."""
        error = self.model.decode(z.astype(np.float64)) - self.model.target[self.chosen]
        return float(10.0 * np.log10(4.0 / np.mean(error**2)))


@lru_cache(maxsize=1)
def _work(backend: str, samples: int | None) -> _Work:
    model = rd.models.load_trained("image_siren")
    chosen = np.arange(len(model.x))
    if samples is not None:
        chosen = np.sort(np.random.default_rng(0).choice(len(model.x), samples, replace=False))
    values = x_only(model.cell, {"x": model.x[chosen]}, kernels_of(backend, "strict", 1))
    return _Work(model, model.x[chosen], chosen, values)


def prepare_image(
    backend: str,
    *,
    order: str = "fast",
    threads: int = 1,
    tau: float = 0.01,
    rtol: float | None = 1e-6,
    samples: int | None = None,
    ablations: bool = False,
) -> Case:
    """All 16,384 pixels, or some; `tau` is the threshold of the rule ``refdeq``."""
    work, stop = _work(backend, samples), rd.StopRule(rtol=rtol, max_eval=EVALUATIONS)
    with threads_of_libraries(threads):
        dense, skipped = _baselines(work, backend, order, threads, rtol)
    rule = rd.DeltaRule(threshold=tau)
    found = [_fused(work, label(backend, order), backend, rule, stop, order, threads)]
    if ablations:
        found += _ablations(work, backend, rule, stop, order, threads)
    point = {"tau": tau, "rtol": rtol, "samples": len(work.x), "ablations": ablations}
    return Case("image", backend, order, threads, point, (*dense, *found), skipped)


def _baselines(
    work: _Work, backend: str, order: str, threads: int, rtol: float | None
) -> tuple[list[Contender], dict[str, str]]:
    """Chunks on threads of their own, and BLAS on all threads; each with its fastest chunk."""
    activate, skipped = activation(kernels_of(backend, order, 1), "Sin"), {}
    limit = one_thread_of_blas()
    ways: dict[str, dict[str, Any]] = {"BLAS": {"activate": activation(kernels_of(backend, order, threads), "Sin")}}
    if threads > 1 and limit is None:
        skipped["BLAS, chunks on threads"] = "threadpoolctl is not installed"
    elif threads > 1 and limit is not None:
        ways["BLAS, chunks on threads"] = {"activate": activate, "threads": threads, "limit": limit}
    found = []
    for name, way in ways.items():

        def build(chunk: int, samples: int, way: dict[str, Any] = way) -> DensePicard:
            entry, phase = (work.x_only[key][:samples] for key in ("entry", "phase"))
            return DensePicard(work.weight, entry, phase, evaluations=EVALUATIONS, chunk=chunk, rtol=rtol, **way)

        chunk = min(CHUNKS, key=lambda chunk: _least_seconds(build(chunk, 2048 * way.get("threads", 1)).run))
        dense = build(chunk, len(work.x))
        dense.run()
        work.check(name, dense.z, dense.residual, 0.0)
        quality = {"evaluations": float(dense.n_eval.mean()), "saved": 0.0, "PSNR": work.psnr(dense.z), "chunk": float(chunk)}
        found.append(Contender(name, dense.run, "baseline", quality))
    return found, skipped


def _least_seconds(run: Callable[[], None]) -> float:
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def _fused(
    work: _Work, name: str, backend: str, rule: rd.DeltaRule, stop: rd.StopRule, order: str, threads: int, role: str = "ours"
) -> Contender:
    """A bound plan, run from z = 0; allocating its results is in the time."""
    cell = work.model.cell
    executor = bound_plan(backend, cell, rule, order=order, threads=threads)
    start = {"z": np.zeros_like(work.x_only["entry"])}

    def run() -> Any:
        return executor.run(start, work.x_only, None, stop, None)

    result = run()
    work.check(name, result.z["z"], result.residual, float(np.max(rule.threshold)))
    n = start["z"].shape[1]
    saved = 1.0 - sum(int(macs.sum()) for macs in result.macs.values()) / (int(result.n_eval.sum()) * n * n)
    return Contender(name, run, role, _quality(result.n_eval, saved, work.psnr(result.z["z"]), result.status))


def _quality(n_eval: np.ndarray, saved: float, psnr: float, status: np.ndarray) -> Quality:
    kinds, counts = np.unique(status, return_counts=True)
    named = ", ".join(f"{rd.Status(kind).name} {count}" for kind, count in zip(kinds, counts, strict=True))
    return {"evaluations": float(n_eval.mean()), "saved": saved, "PSNR": psnr, "status": named}


def _ablations(work: _Work, backend: str, rule: rd.DeltaRule, stop: rd.StopRule, order: str, threads: int) -> list[Contender]:
    everything = rd.DeltaRule(threshold=0.0, compare="ge")
    found = [_fused(work, "without sparsity", backend, everything, stop, order, threads, "other")]
    if stop.rtol is not None:
        unstopped = rd.StopRule(max_eval=EVALUATIONS)
        found.append(_fused(work, "without freezing", backend, rule, unstopped, order, threads, "other"))

    def op_level() -> rd.Solution:
        return rd.solve(
            work.model.cell, work.x, delta=rule, stop=stop, backend=backend, order=order, executor="op", threads=threads
        )

    solved = op_level()
    work.check("without fusion", solved.z, solved.residual, float(np.max(rule.threshold)))
    saved = solved.cost.saved if solved.cost is not None else float("nan")
    found.append(
        Contender("without fusion", op_level, "other", _quality(solved.n_eval, saved, work.psnr(solved.z), solved.status))
    )
    found.append(_without_simd(_fused(work, "without SIMD", backend, rule, stop, order, threads, "other")))
    if threads > 1:
        found.append(_fused(work, "without threads", backend, rule, stop, order, 1, "other"))
    return found


def _without_simd(contender: Contender) -> Contender:
    """The same, by the plain loops: the variable is read at every call."""

    def run() -> object:
        before = os.environ.get(SIMD_VARIABLE)
        os.environ[SIMD_VARIABLE] = "off"
        try:
            return contender.run()
        finally:
            if before is None:
                del os.environ[SIMD_VARIABLE]
            else:
                os.environ[SIMD_VARIABLE] = before

    return Contender(contender.name, run, contender.role, contender.quality)


IMAGE = Workload(
    "image",
    "whole solve of the trained image cell: fused delta Picard against dense Picard on BLAS",
    prepare_image,
    ({"tau": 0.01, "ablations": True}, {"tau": 0.01, "rtol": None}, {"tau": 0.0}),
    {"tau": 0.01, "samples": 256},
)
