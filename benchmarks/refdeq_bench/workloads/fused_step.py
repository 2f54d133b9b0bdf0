"""One evaluation of a fused solve at a given density: gate, accumulate, activation, residual and step (*fused*).

What a solve sends depends on its iterates, so a cell is made whose iterates never settle: ``z <- act(W z)`` with -2 on the
diagonal of W has a stable cycle of two points for tanh and for sin. Units that start on the cycle send at every evaluation;
units that start near 0 would leave it, but their first step is below the threshold, so the gate keeps them where they are.
The density is therefore the same at every evaluation, in the pattern that was asked for, for as many evaluations as wanted.

Both sides go on from the same state (reference, accumulator, argument) and make the same evaluations: the fused plan in one
call, NumPy in preallocated passes over chunks of samples that stay in the cache. Neither allocates inside an evaluation;
the plan allocates its results once per call, which is in its time.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import refdeq as rd
from refdeq.errors import ArgumentError
from refdeq_bench.baselines import threads_of_libraries
from refdeq_bench.checking import WrongResultError, units
from refdeq_bench.workloads.case import Case, Contender, Workload
from refdeq_bench.workloads.kernels import label
from refdeq_bench.workloads.patterns import pattern, values_of
from refdeq_bench.workloads.plans import bound_plan, memory_of, no_limit, one_thread_of_blas, require_macs

__all__ = ["FUSED", "oscillating_cell", "prepare_fused"]

FLIP = 2.0
"""Minus the diagonal of W."""
CYCLE = {"Tanh": 0.957504024, "Sin": 0.947747134}
"""Where ``act(FLIP z) = z``: ends of the cycle."""
COUPLING = 1e-4
"""Sum over a row of the other weights, at most: what one unit feels of all others."""
THRESHOLD = 0.25
RESTING = 0.04
"""Size of the units that never send: their first step, from z to about -2 z, is below the threshold, and there is no other."""
NUMPY = {"Tanh": np.tanh, "Sin": np.sin}
CHUNKS = (128, 256, 512, 4096)


def oscillating_cell(n: int, activation: str, dtype: str) -> rd.Cell:
    """``z <- act(W z)`` whose units flip for ever, or rest for ever under a threshold."""
    if activation not in CYCLE:
        raise ArgumentError("activation", expected=f"one of {', '.join(CYCLE)}", got=repr(activation))
    weight = values_of((n, n), dtype, 1, COUPLING / (2 * n))
    np.fill_diagonal(weight, -FLIP)
    builder = rd.GraphBuilder(dtype)
    z = builder.state("z", (n,))
    linear = builder.node("Gemm", z, builder.parameter("W", weight), transB=1, name="linear")
    builder.output(z, builder.node(activation, linear, name="f"))
    return builder.build()


class Passes:
    """The same evaluations by NumPy: tuned passes with preallocated buffers, chunk by chunk.

    Parameters
    ----------
    weight : (n, n) array, as multiplied from the right
    z, r, a : (B, n) arrays
        Argument, reference and accumulator to begin with.
    """

    def __init__(
        self, weight: np.ndarray, z: np.ndarray, r: np.ndarray, a: np.ndarray, activation: str, evaluations: int, **how: Any
    ) -> None:
        self.weight, self.start, self.function, self.evaluations = weight, (z, r, a), NUMPY[activation], evaluations
        self.chunk, self.threads, self.limit = how["chunk"], how.get("threads", 1), how.get("limit", no_limit)
        self.sent = np.zeros(len(z), dtype=np.int64)
        self.r, self.a, self.residual = np.empty_like(r), np.empty_like(a), np.empty(len(z))
        shape = (self.chunk, z.shape[1])
        dtypes = [z.dtype] * 5 + [np.dtype(bool)]
        self._buffers = [[np.empty(shape, dtype=dtype) for dtype in dtypes] for _ in range(self.threads)]

    def run(self) -> None:
        """Make all evaluations of all samples."""
        starts = range(0, len(self.sent), self.chunk)
        with self.limit():
            if self.threads == 1:
                self._run_chunks(starts, self._buffers[0])
                return
            with ThreadPoolExecutor(self.threads) as pool:
                turns = range(self.threads)
                parts = [pool.submit(self._run_chunks, starts[t :: self.threads], self._buffers[t]) for t in turns]
                for part in parts:
                    part.result()

    def _run_chunks(self, starts: range, buffers: list[np.ndarray]) -> None:
        for start in starts:
            self._evaluate(slice(start, min(start + self.chunk, len(self.sent))), buffers)

    def _evaluate(self, samples: slice, buffers: list[np.ndarray]) -> None:
        z, f, d, r, t, mask = (buffer[: samples.stop - samples.start] for buffer in buffers)
        first, reference, accumulator = (array[samples] for array in self.start)
        a = self.a[samples]
        z[...], r[...], a[...] = first, reference, accumulator
        self.sent[samples] = 0
        threshold = z.dtype.type(THRESHOLD)
        for _ in range(self.evaluations):
            np.subtract(z, r, out=d)
            np.abs(d, out=t)
            np.greater(t, threshold, out=mask)
            np.multiply(d, mask, out=d)
            np.add(r, d, out=r)
            self.sent[samples] += np.count_nonzero(mask, axis=1)
            np.matmul(d, self.weight, out=t)
            np.add(a, t, out=a)
            self.function(a, out=f)
            np.subtract(f, z, out=t)
            self.residual[samples] = np.sqrt(np.einsum("ij,ij->i", t, t))
            z, f = f, z
        self.r[samples] = r


def prepare_fused(
    backend: str,
    *,
    order: str = "fast",
    threads: int = 1,
    samples: int = 4096,
    hidden: int = 256,
    activation: str = "Tanh",
    dtype: str = "float32",
    density: float = 0.1,
    pattern: str = "mixed",
    evaluations: int = 16,
) -> Case:
    """`evaluations` of `samples` at one density, on from a state in which that density has set in."""
    cell = oscillating_cell(hidden, activation, dtype)
    mask, weight = _mask(pattern, (samples, hidden), density), cell.parameters["W"]
    begin = values_of(mask.shape, dtype, 2, RESTING)
    begin[mask] = np.copysign(begin.dtype.type(CYCLE[activation]), begin[mask])
    executor = bound_plan(backend, cell, rd.DeltaRule(threshold=THRESHOLD), order=order, threads=threads)
    settled = executor.run({"z": begin}, {}, None, rd.StopRule(max_eval=2), None)
    memory, stop = memory_of(settled), rd.StopRule(max_eval=evaluations)
    [r], [a] = memory.r.values(), memory.a.values()
    z = NUMPY[activation](a)
    kept = r.copy(), a.copy(), z.copy()
    macs, name = int(mask.sum()) * hidden * evaluations, label(backend, order)

    def run() -> Any:
        return executor.run({"z": z}, {}, memory, stop, None)

    result = run()
    if any(now.tobytes() != then.tobytes() for now, then in zip((r, a, z), kept, strict=True)):
        raise WrongResultError(f"{name}: the state it goes on from was changed, so every call would do other work")
    require_macs(name, sum(int(spent.sum()) for spent in result.macs.values()), macs)
    [end_r], [end_a] = result.r.values(), result.a.values()
    share = _check(name, weight, mask, kept, (end_r, end_a), evaluations)
    sent = float(mask.mean())
    quality = {"density": sent, "macs": float(macs), "saved": 1.0 - sent, "evaluations": float(evaluations)}
    ours = Contender(name, run, "ours", {**quality, "err/bound": share})
    with threads_of_libraries(threads):
        dense, skipped = _baselines(weight, mask, kept, activation, evaluations, threads)
    point = {"samples": samples, "hidden": hidden, "activation": activation, "dtype": dtype, "density": density}
    point |= {"pattern": pattern, "evaluations": evaluations}
    return Case("fused", backend, order, threads, point, (*dense, ours), skipped)


def _mask(kind: str, shape: tuple[int, int], density: float) -> np.ndarray:
    return pattern(kind, shape, density)


def _check(
    name: str,
    weight: np.ndarray,
    mask: np.ndarray,
    begin: tuple[np.ndarray, ...],
    end: tuple[np.ndarray, np.ndarray],
    evaluations: int,
) -> float:
    """The accumulator went from where it was by W times what the reference went, but for rounding, as a share of its bound
    (N-7).

    Every evaluation adds as many terms as are sent, none larger than |w| times twice the cycle; the reference is rounded once
    per evaluation, which is one more rounding of every term.
    """
    r, a, _ = begin
    wide = weight.astype(np.float64).T
    expected = a.astype(np.float64) + (end[0].astype(np.float64) - r) @ wide
    size = evaluations * 2.0 * (mask @ np.abs(wide)) + np.abs(a)
    terms = evaluations * (mask.sum(axis=1)[:, None] + 2.0) + 1
    share = float(np.max(np.abs(end[1] - expected) / (terms * units(str(a.dtype)) * size)))
    if not share <= 1.0:
        raise WrongResultError(f"{name}: wrong accumulator, {share:.3g} times the error that N-7 allows; it is not timed")
    return share


def _baselines(
    weight: np.ndarray, mask: np.ndarray, begin: tuple[np.ndarray, ...], activation: str, evaluations: int, threads: int
) -> tuple[list[Contender], dict[str, str]]:
    """Passes over the whole batch and over the fastest of some chunks, the latter also on threads of their own."""
    r, a, z = begin
    by_input, limit, skipped = np.ascontiguousarray(weight.T), one_thread_of_blas(), {}
    ways: dict[str, dict[str, Any]] = {"numpy passes": {}}
    if threads > 1 and limit is None:
        skipped["numpy passes, chunks on threads"] = "threadpoolctl is not installed"
    elif threads > 1:
        ways["numpy passes, chunks on threads"] = {"threads": threads, "limit": limit}
    found = []
    for name, way in ways.items():
        seconds = {}
        for chunk in sorted({min(chunk, len(z)) for chunk in CHUNKS}):
            passes = Passes(by_input, z, r, a, activation, evaluations, chunk=chunk, **way)
            passes.run()
            begin_at = time.perf_counter()
            passes.run()
            seconds[chunk] = time.perf_counter() - begin_at
        chunk = min(seconds, key=lambda chunk: seconds[chunk])
        passes = Passes(by_input, z, r, a, activation, evaluations, chunk=chunk, **way)
        passes.run()
        require_macs(name, int(passes.sent.sum()), int(mask.sum()) * evaluations)
        share = _check(name, weight, mask, begin, (passes.r, passes.a), evaluations)
        quality = {"err/bound": share, "chunk": float(chunk), "evaluations": float(evaluations)}
        found.append(Contender(name, passes.run, "baseline", quality))
    return found, skipped


FUSED = Workload(
    "fused",
    "evaluations of a fused solve at a given density against tuned NumPy passes",
    prepare_fused,
    tuple(
        {"activation": activation, "density": density}
        for activation in ("Tanh", "Sin")
        for density in (0.5, 0.2, 0.1, 0.05, 0.01)
    ),
    {"samples": 128, "hidden": 64, "activation": "Tanh", "density": 0.2, "evaluations": 4},
)
