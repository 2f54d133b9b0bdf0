"""The baseline of whole solves: dense Picard by NumPy and BLAS, as fast as it can be made without the delta rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from refdeq_bench.workloads.plans import no_limit

__all__ = ["DensePicard"]

EPS = 1e-9
"""The guard of the relative residual (S-3)."""


class DensePicard:
    """``z <- act((z + p) A + q)`` for all samples, chunk by chunk so that a chunk stays in the cache.

    Buffers are made once per thread. The residual of every sample is taken at every evaluation.

    Parameters
    ----------
    weight : (n, n) array, as multiplied from the right
    entry, phase : (B, n) arrays, p and q
    activate : callable
        Works in place.
    evaluations : int
    chunk : int
        Samples solved together.
    rtol : float or None
        Relative residual at which a sample is finished and its row is taken out.
    threads : int
        Chunks solved at a time.
    limit : callable
        Context of a run: several chunks at a time want BLAS on one thread.
    """

    def __init__(
        self,
        weight: np.ndarray,
        entry: np.ndarray,
        phase: np.ndarray,
        activate: Callable[[np.ndarray], None],
        *,
        evaluations: int,
        chunk: int,
        rtol: float | None = None,
        threads: int = 1,
        limit: Callable[[], AbstractContextManager[Any]] = no_limit,
    ) -> None:
        self.weight, self.entry, self.phase, self.activate = np.ascontiguousarray(weight), entry, phase, activate
        self.evaluations, self.chunk, self.rtol, self.threads, self.limit = evaluations, chunk, rtol, threads, limit
        self.z, self.residual = np.empty_like(entry), np.empty(len(entry))
        self.n_eval = np.zeros(len(entry), dtype=np.int64)
        self._buffers = [[np.empty((chunk, len(weight)), dtype=entry.dtype) for _ in range(5)] for _ in range(threads)]

    def run(self) -> None:
        """Solve all samples: `z`, `residual` and `n_eval` are those of the last evaluation of each."""
        starts = range(0, len(self.entry), self.chunk)
        with self.limit():
            if self.threads == 1:
                self._run_chunks(starts, self._buffers[0])
                return
            with ThreadPoolExecutor(self.threads) as pool:
                turns = range(self.threads)
                parts = [pool.submit(self._run_chunks, starts[t :: self.threads], self._buffers[t]) for t in turns]
                for part in parts:
                    part.result()

    def _run_chunks(self, starts: Iterable[int], buffers: list[np.ndarray]) -> None:
        for start in starts:
            self._solve(slice(start, min(start + self.chunk, len(self.entry))), buffers)

    def _solve(self, samples: slice, buffers: list[np.ndarray]) -> None:
        rows = np.arange(samples.start, samples.stop)
        z, f, u, p, q = (buffer[: len(rows)] for buffer in buffers)
        p[...], q[...], z[...] = self.entry[samples], self.phase[samples], 0
        for k in range(1, self.evaluations + 1):
            np.add(z, p, out=u)
            np.matmul(u, self.weight, out=f)
            np.add(f, q, out=f)
            self.activate(f)
            np.subtract(f, z, out=u)
            residual = np.sqrt(np.einsum("ij,ij->i", u, u))
            scale = np.sqrt(np.einsum("ij,ij->i", f, f))
            ended = np.full(len(rows), k == self.evaluations)
            if self.rtol is not None:
                ended |= residual <= self.rtol * (scale + EPS)
            if not ended.any():
                z, f = f, z
                continue
            done, runs = rows[ended], ~ended
            self.z[done], self.residual[done], self.n_eval[done] = z[ended], residual[ended], k
            rows = rows[runs]
            if len(rows) == 0:
                return
            z, f, u = f, z, u[: len(rows)]
            for buffer in (z, p, q):
                buffer[: len(rows)] = buffer[runs]
            z, f, p, q = (buffer[: len(rows)] for buffer in (z, f, p, q))
