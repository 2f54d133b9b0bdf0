"""Whole solves through :func:`refdeq.solve` where no dense path of another library does the same.

*flow*: the update block of optical-flow networks, every convolution gated, against the same solve without a delta rule.
*solvers*: every solver on one recurrent cell, to one tolerance. *gradients*: every method on one solution.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

import refdeq as rd
from refdeq.errors import ArgumentError
from refdeq.models.flow import FLOW_DENSE, flow_block
from refdeq.solvers import Solver
from refdeq_bench.checking import WrongResultError
from refdeq_bench.workloads.case import Case, Contender, Quality, Workload
from refdeq_bench.workloads.kernels import kernels_of, label
from refdeq_bench.workloads.patterns import values_of

__all__ = ["FLOW", "GRADIENTS", "METHODS", "SOLVERS", "SOLVER_NAMES", "prepare_flow", "prepare_gradients", "prepare_solvers"]

# made when they are needed: asv measures old versions of refdeq too, which lack some of them
SOLVER_NAMES: dict[str, Callable[[], Solver]] = {
    "picard": lambda: rd.Picard(),
    "km": lambda: rd.KrasnoselskiiMann(alpha=0.9),
    "anderson": lambda: rd.Anderson(),
    "anderson(5)": lambda: rd.Anderson(window=5),
    "broyden": lambda: rd.Broyden(),
}
METHODS: dict[str, Callable[[], Any]] = {
    "ift": lambda: rd.Ift(),
    "neumann": lambda: rd.Neumann(10),
    "phantom": lambda: rd.Phantom(5, damping=0.5),
    "jfb": lambda: rd.Jfb(),
    "unrolled": lambda: rd.Unrolled(10),
}


def _quality(name: str, solution: rd.Solution) -> Quality:
    """Figures of a solve that took the residual of the dense f as well.

    Raises
    ------
    WrongResultError
        A residual is not finite.
    """
    dense = solution.residual_dense
    if dense is None or not np.all(np.isfinite(dense)):
        raise WrongResultError(f"{name}: residuals that are not finite; it is not timed")
    kinds, counts = np.unique(solution.status, return_counts=True)
    status = ", ".join(f"{rd.Status(kind).name} {count}" for kind, count in zip(kinds, counts, strict=True))
    quality: dict[str, float | str] = {"evaluations": float(solution.n_eval.mean()), "status": status}
    quality["dense residual"] = float(np.max(dense / (solution.scale + 1e-9)))
    if solution.cost is not None:
        quality |= {"macs": float(solution.cost.macs), "saved": float(solution.cost.saved)}
    return quality


def _contender(name: str, role: str, solve: Callable[..., rd.Solution]) -> Contender:
    """A solve as a contender; only the one that is checked also takes the residual of the dense f."""
    return Contender(name, solve, role, _quality(name, solve(verify=True)))


@lru_cache(maxsize=1)
def _flow(channels: int, height: int, width: int, dtype: str) -> tuple[rd.Cell, dict[str, np.ndarray]]:
    """An update block with drawn weights, small enough to settle, and its injections."""
    c = channels
    shapes: dict[str, tuple[int, int, int, int]] = {
        "encoder.convc1": (c, c, 1, 1),
        "encoder.convc2": (c, c, 3, 3),
        "encoder.convf1": (c, 2, 7, 7),
        "encoder.convf2": (c, c, 3, 3),
        "encoder.conv": (c - 2, 2 * c, 3, 3),
        "flow_head.conv1": (c, c, 3, 3),
        "flow_head.conv2": (2, c, 3, 3),
    }
    for gate in "zrq":
        shapes |= {f"gru.conv{gate}1": (c, 3 * c, 1, 5), f"gru.conv{gate}2": (c, 3 * c, 5, 1)}
    weights = {}
    for seed, (name, shape) in enumerate(shapes.items()):
        fan_in = shape[1] * shape[2] * shape[3]
        weights[f"{name}.weight"] = values_of(shape, dtype, seed, 0.6 / np.sqrt(fan_in))
        weights[f"{name}.bias"] = values_of(shape[:1], dtype, 100 + seed, 0.1)
    cell = flow_block(weights, height, width)
    image = (1, c, height, width)
    x = {name: values_of(image, dtype, seed, 0.5) for seed, name in enumerate(("inp", "corr_base", "corr_slope"))}
    return cell, x


def prepare_flow(
    backend: str,
    *,
    order: str = "fast",
    threads: int = 1,
    tau: float = 0.01,
    channels: int = 48,
    height: int = 24,
    width: int = 32,
    evaluations: int = 16,
) -> Case:
    """Update block of optical flow, a fixed number of evaluations; the baseline is the backend's own solve without a rule."""
    cell, x = _flow(channels, height, width, "float32")
    kernels_of(backend, order, threads)
    common: dict[str, Any] = {"stop": rd.StopRule(max_eval=evaluations), "backend": backend, "order": order, "threads": threads}
    rules = {
        "dense, same backend": ("baseline", None),
        label(backend, order): ("ours", rd.DeltaRule(threshold=tau, dense=FLOW_DENSE)),
        "without sparsity": ("other", rd.DeltaRule(threshold=0.0, compare="ge", dense=FLOW_DENSE)),
    }
    found = []
    for name, (role, rule) in rules.items():

        def solve(rule: rd.DeltaRule | None = rule, **more: Any) -> rd.Solution:
            return rd.solve(cell, x, delta=rule, **common, **more)

        found.append(_contender(name, role, solve))
    point = {"tau": tau, "channels": channels, "height": height, "width": width, "evaluations": evaluations}
    return Case("flow", backend, order, threads, point, tuple(found))


def _recurrent(width: int, batch: int, dtype: str) -> tuple[rd.Cell, np.ndarray]:
    """A contraction by about 0.9 and its injections."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((width, width))
    weight *= 0.9 / np.linalg.norm(weight, 2)
    arrays = weight, rng.standard_normal((width, 8)), rng.standard_normal(width)
    cell = rd.models.rnn(*(array.astype(dtype) for array in arrays))
    return cell, rng.standard_normal((batch, 8)).astype(dtype)


def prepare_solvers(
    backend: str,
    *,
    order: str = "fast",
    threads: int = 1,
    solver: str | None = None,
    tau: float | None = None,
    width: int = 256,
    batch: int = 256,
    dtype: str = "float32",
    rtol: float = 1e-3,
) -> Case:
    """One recurrent cell to one tolerance by each solver, or by the one that is named; dense unless `tau` is given."""
    if solver is not None and solver not in SOLVER_NAMES:
        raise ArgumentError("solver", expected=f"one of {', '.join(SOLVER_NAMES)}", got=repr(solver))
    kernels_of(backend, order, threads)
    cell, x = _recurrent(width, batch, dtype)
    rule, stop = None if tau is None else rd.DeltaRule(threshold=tau), rd.StopRule(rtol=rtol, max_eval=200)
    common: dict[str, Any] = {"stop": stop, "delta": rule, "backend": backend, "order": order, "threads": threads}
    found = []
    for name in SOLVER_NAMES if solver is None else [solver]:
        chosen = SOLVER_NAMES[name]()

        def solve(how: Solver = chosen, **more: Any) -> rd.Solution:
            return rd.solve(cell, x, solver=how, **common, **more)

        found.append(_contender(name, "ours", solve))
    point = {"solver": solver, "tau": tau, "width": width, "batch": batch, "dtype": dtype, "rtol": rtol}
    return Case("solvers", backend, order, threads, point, tuple(found))


def prepare_gradients(
    backend: str,
    *,
    order: str = "fast",
    threads: int = 1,
    method: str | None = None,
    width: int = 64,
    batch: int = 128,
    dtype: str = "float64",
) -> Case:
    """Gradients at one solution by each method, or by the one that is named.

    The solve is the backend's; products with the Jacobian are the reference's, whatever the backend, and so say these times.
    """
    if method is not None and method not in METHODS:
        raise ArgumentError("method", expected=f"one of {', '.join(METHODS)}", got=repr(method))
    kernels_of(backend, order, threads)
    cell, x = _recurrent(width, batch, dtype)
    stop = rd.StopRule(rtol=1e-8, max_eval=400)
    solution = rd.solve(cell, x, stop=stop, backend=backend, order=order, threads=threads)
    solution.raise_for_status()
    exact = rd.gradient(cell, solution, 2 * solution.z, method=rd.Ift()).parameters["W"]
    found = []
    for name in METHODS if method is None else [method]:
        how = METHODS[name]()

        def run(how: Any = how) -> Any:
            return rd.gradient(cell, solution, 2 * solution.z, method=how)

        gradient = run().parameters["W"]
        if not np.all(np.isfinite(gradient)):
            raise WrongResultError(f"{name}: a gradient that is not finite; it is not timed")
        cosine = float(np.sum(gradient * exact) / np.sqrt(np.sum(gradient**2) * np.sum(exact**2)))
        found.append(Contender(name, run, "ours", {"cosine": cosine}))
    point = {"method": method, "width": width, "batch": batch, "dtype": dtype}
    return Case("gradients", backend, order, threads, point, tuple(found))


FLOW = Workload(
    "flow",
    "whole solve of an optical-flow update block (13 convolutions), delta rule against dense on the same backend",
    prepare_flow,
    ({"tau": 0.01}, {"tau": 0.05}),
    {"tau": 0.01, "channels": 4, "height": 6, "width": 5, "evaluations": 4},
)
SOLVERS = Workload(
    "solvers",
    "one recurrent cell to rtol 1e-3 by each solver: evaluations and time",
    prepare_solvers,
    ({}, {"tau": 0.001}),
    {"width": 16, "batch": 4},
)
GRADIENTS = Workload(
    "gradients",
    "gradients of one solution by each method",
    prepare_gradients,
    ({},),
    {"width": 8, "batch": 4},
)
