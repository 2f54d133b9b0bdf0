"""The trained sine cell, one sample, 20 units: what an evaluation costs when there is next to nothing to compute.

A call makes many evaluations, so that the call itself weighs little; per evaluation is the median divided by `evaluations`.
That is all of it, product and tanh included, so the overhead is less. The other side is the same loop in Python: gate,
product, tanh, residual and stop test with NumPy, into preallocated arrays, as one would write it without a compiler.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import refdeq as rd
from refdeq_bench.checking import WrongResultError
from refdeq_bench.workloads.case import Case, Contender, Workload
from refdeq_bench.workloads.kernels import kernels_of, label
from refdeq_bench.workloads.plans import bound_plan, x_only

__all__ = ["SINE", "prepare_sine"]

SAMPLE = 37
"""Any but the symmetric ones."""


class PythonLoop:
    """Delta Picard on one sample, evaluation by evaluation in Python."""

    def __init__(self, cell: rd.Cell, injected: np.ndarray, threshold: float, evaluations: int, rtol: float) -> None:
        self.weight, self.injected = cell.parameters["W"], injected
        self.threshold, self.evaluations, self.rtol = threshold, evaluations, rtol
        self.z, self.n_eval = np.zeros_like(injected), 0

    def run(self) -> None:
        """Solve from z = 0."""
        weight, z = self.weight, np.zeros_like(self.injected)
        r, a, d = np.zeros_like(z), np.zeros_like(z), np.zeros_like(z)
        for k in range(1, self.evaluations + 1):
            np.subtract(z, r, out=d)
            sent = np.abs(d) >= self.threshold
            d *= sent
            r += d
            a += weight @ d
            f = np.tanh(a + self.injected)
            residual, scale = math.sqrt(float((f - z) @ (f - z))), math.sqrt(float(f @ f))
            self.z, self.n_eval = z, k
            if residual <= self.rtol * (scale + 1e-9):
                return
            z = f


def prepare_sine(backend: str, *, order: str = "fast", threads: int = 1, tau: float = 0.0, evaluations: int = 1000) -> Case:
    """Every element is sent at every evaluation with ``tau=0`` (comparison "ge"); nothing stops the solve early."""
    model = rd.models.load_trained("sine")
    cell, x = model.cell, {"x": model.x[SAMPLE : SAMPLE + 1]}
    rule = rd.DeltaRule(threshold=tau, compare="ge")
    values = x_only(cell, x, kernels_of(backend, "strict", 1))
    executor = bound_plan(backend, cell, rule, order=order, threads=threads)
    start, stop, name = {"z": np.zeros((1, 20))}, rd.StopRule(max_eval=evaluations), label(backend, order)

    def run() -> Any:
        return executor.run(start, values, None, stop, None)

    loop = PythonLoop(cell, np.ascontiguousarray(values["injected"][0]), tau, evaluations, -1.0)
    loop.run()
    result = run()
    if result.n_eval[0] != evaluations or loop.n_eval != evaluations:
        raise WrongResultError(f"{name}: {result.n_eval[0]} evaluations, Python {loop.n_eval}, {evaluations} expected")
    _check(cell, name, result.z["z"][0], loop.z, tau)
    macs = sum(int(spent.sum()) for spent in result.macs.values())
    quality = {"evaluations": float(evaluations), "macs": float(macs), "saved": 1.0 - macs / (400 * evaluations)}
    quality["MSE"] = float(((model.decode(result.z["z"]) - model.target[SAMPLE]) ** 2).item())
    python = Contender("Python loop", loop.run, "baseline", {"evaluations": float(evaluations)})
    point = {"tau": tau, "evaluations": evaluations}
    return Case("sine", backend, order, threads, point, (python, Contender(name, run, "ours", quality)))


def _check(cell: rd.Cell, name: str, z: np.ndarray, other: np.ndarray, tau: float) -> None:
    """Both are near the one fixed point: W contracts by its norm c < 1, so a gate that holds back tau per element keeps
    each within ``c tau sqrt(n) / (1 - c)`` of it, and so does rounding, of n + 8 operations on numbers below the row sums
    of W.
    """
    weight = cell.parameters["W"]
    n, c = len(weight), float(np.linalg.norm(weight, 2))
    rounding = (n + 8) * 2.0**-53 * (1.0 + np.linalg.norm(np.abs(weight).sum(axis=1)))
    allowed = 2.0 * (c * tau * math.sqrt(n) + 1000 * rounding) / (1.0 - c)
    if not float(np.linalg.norm(z - other)) <= allowed:
        away = np.linalg.norm(z - other)
        raise WrongResultError(f"{name}: {away:.3g} away from the Python loop, at most {allowed:.3g} is allowed")


SINE = Workload(
    "sine",
    "trained sine cell, batch 1, hidden 20: an evaluation of a fused solve against a Python loop",
    prepare_sine,
    ({"tau": 0.0}, {"tau": 0.01}),
    {"tau": 0.0, "evaluations": 50},
)
