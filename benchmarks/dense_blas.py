"""The baseline of the image benchmark: dense Picard by NumPy and BLAS, as fast as it can be made without the delta rule."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit
from refdeq_numba.activations import sin as strict_sine

__all__ = ["EVALUATIONS", "DenseBlas", "sine"]

EVALUATIONS = 31
"""Protocol (P) of clause C-4."""


@njit(error_model="numpy", fastmath=False, nogil=True, cache=True)
def sine(values):
    """The strict sine of the fused plan over a whole array, in place."""
    flat = values.reshape(-1)
    for i in range(len(flat)):
        flat[i] = strict_sine(np.float64(flat[i]))


class DenseBlas:
    """``z <- sin((z + p) A + q)`` by NumPy and BLAS; (a) and (b) of the comparison.

    Parameters
    ----------
    weight : (n, n) array, as multiplied from the right
    entry, phase : (B, n) arrays
    chunk : int
        Samples solved together; buffers are this long and made once per thread.
    freeze : float
        Relative residual at which a sample is taken out; negative keeps all.
    threads : int
        Chunks solved at a time.
    """

    def __init__(self, weight, entry, phase, chunk, freeze=-1.0, threads=1):
        self.weight, self.entry, self.phase = np.ascontiguousarray(weight), entry, phase
        self.chunk, self.freeze, self.threads = chunk, freeze, threads
        self.out = np.empty_like(entry)
        self._buffers = [[np.empty((chunk, len(weight)), dtype=entry.dtype) for _ in range(5)] for _ in range(threads)]

    def run(self):
        """Solve all samples and return z of the last evaluation, as the fused plan does."""
        starts = range(0, len(self.entry), self.chunk)
        if self.threads == 1:
            self._run_chunks(starts, self._buffers[0])
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(lambda t: self._run_chunks(starts[t :: self.threads], self._buffers[t]), range(self.threads)))
        return self.out

    def _run_chunks(self, starts, buffers):
        for start in starts:
            self._solve(slice(start, min(start + self.chunk, len(self.entry))), buffers)

    def _solve(self, samples, buffers):
        rows = np.arange(samples.start, samples.stop)
        z, f, u, p, q = (buffer[: len(rows)] for buffer in buffers)
        p[...], q[...], z[...] = self.entry[samples], self.phase[samples], 0
        for k in range(EVALUATIONS):
            np.add(z, p, out=u)
            np.matmul(u, self.weight, out=f)
            np.add(f, q, out=f)
            sine(f)
            np.subtract(f, z, out=u)
            residual = np.sqrt(np.einsum("ij,ij->i", u, u))
            scale = np.sqrt(np.einsum("ij,ij->i", f, f))
            if k == EVALUATIONS - 1:
                break
            runs = residual > self.freeze * (scale + 1e-9)
            if runs.all():
                z, f = f, z
                continue
            self.out[rows[~runs]] = z[~runs]
            rows = rows[runs]
            if len(rows) == 0:
                return
            z, f, u = f, z, u[: len(rows)]
            for buffer in (z, p, q):
                buffer[: len(rows)] = buffer[runs]
            z, f, p, q = (buffer[: len(rows)] for buffer in (z, f, p, q))
        self.out[rows] = z
