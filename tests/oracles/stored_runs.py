"""The stored runs of published solvers (`tests/data/README.md`), each with the dialect that has to reproduce it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import refdeq as rd

AGREEMENT = 1e-10
"""What the project asks of its dialects on these runs, absolute, in float64."""

_DATA = Path(__file__).parents[1] / "data"
STORED = {}
for _name in ("solvers_torch.json", "solvers_jaxopt_scipy.json"):
    STORED |= json.loads((_DATA / _name).read_text(encoding="utf-8"))
Z_STAR = np.array(STORED["z_star"])
BATCH, UNKNOWNS, INPUTS = 3, 12, 5


def hashed(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Numbers in [-0.5, 0.5) that need no random generator."""
    k = np.arange(1, int(np.prod(shape)) + 1, dtype=np.float64)
    value = np.sin(12.9898 * k + 78.233 * seed) * 43758.5453
    return (value - np.floor(value) - 0.5).reshape(shape)


W = hashed((UNKNOWNS, UNKNOWNS), 1)
W = 0.95 * W / np.linalg.norm(W, 2)
U, B = hashed((UNKNOWNS, INPUTS), 2), hashed((UNKNOWNS,), 3)
X = 2.0 * hashed((BATCH, INPUTS), 4)
CELL = rd.models.rnn(W, U, B)
NEVER = 1e-14
"""A tolerance that none of the runs met."""


@dataclass(frozen=True)
class Stored:
    """One stored run: its key, the dialect and its options, and which part of the report each entry is."""

    key: str
    name: str
    method: str
    options: dict[str, Any]
    parts: dict[str, str]

    def dialect(self) -> rd.Dialect:
        return rd.dialect(self.name, self.method, **self.options)


_TRACES = {"abs": "abs_trace", "rel": "rel_trace", "result": "result", "nstep": "nstep"}
_V2 = {**_TRACES, "lowest": "lowest"}
_TORCHDEQ = {"max_iter": 12, "tol": NEVER, "mode": "rel"}
_JAXOPT = {"error": "abs_trace", "result": "result", "dist": "distances"}
_SCIPY = {"trace": "abs_trace", "result": "result"}
_ALPHA1 = {"iter": 12, "alpha": 1.0, "line_search": None}

RUNS = [
    Stored("locuslab_deq_v2_broyden_ls0", "locuslab-v2", "broyden", {"max_iter": 12, "tol": NEVER}, _V2),
    Stored("locuslab_deq_v2_broyden_ls1", "locuslab-v2", "broyden", {"max_iter": 12, "tol": NEVER, "ls": True}, _V2),
    Stored("locuslab_deq_v2_anderson", "locuslab-v2", "anderson", {"max_iter": 14, "tol": NEVER}, _V2),
    Stored(
        "locuslab_deq_v1_broyden",
        "locuslab-v1",
        "broyden",
        {"max_iter": 12, "tol": NEVER},
        {"trace": "abs_trace", "lowest_step": "lowest_step", "result": "result"},
    ),
    Stored("torchdeq_broyden", "torchdeq", "broyden", _TORCHDEQ, _TRACES),
    Stored("torchdeq_broyden_L4", "torchdeq", "broyden", {**_TORCHDEQ, "LBFGS_thres": 4}, _TRACES),
    Stored("torchdeq_anderson", "torchdeq", "anderson", _TORCHDEQ, _TRACES),
    Stored("torchdeq_fixed_point_iter", "torchdeq", "fixed_point_iter", _TORCHDEQ, _TRACES),
    Stored(
        "torchdeq_anderson_tau0.7_m3_lam1e-8",
        "torchdeq",
        "anderson",
        {**_TORCHDEQ, "tau": 0.7, "m": 3, "lam": 1e-8},
        {"rel": "rel_trace", "result": "result"},
    ),
    Stored("hopdeq_anderson_iter12", "hopdeq", "anderson", {"max_iter": 12}, {"result": "result", "err": "distance"}),
    Stored("hopdeq_picard_iter12", "hopdeq", "picard", {"max_iter": 12}, {"result": "result", "err": "distance"}),
    Stored("srs_anderson", "srs", "anderson", {"max_iter": 12, "tol": NEVER}, {"rel": "rel_trace", "final": "result"}),
    Stored("jaxopt_anderson_m5_ridge1e-5", "jaxopt", "anderson", {"max_iter": 12, "tol": 0.0}, _JAXOPT),
    Stored(
        "jaxopt_anderson_m6_ridge1e-4",
        "jaxopt",
        "anderson",
        {"max_iter": 12, "tol": 0.0, "history_size": 6, "ridge": 1e-4},
        _JAXOPT,
    ),
    Stored("jaxopt_fixedpoint", "jaxopt", "fixed_point", {"max_iter": 12, "tol": 0.0}, _JAXOPT),
    Stored("jaxopt_broyden_gamma-1_step1", "jaxopt", "broyden", {"max_iter": 12, "tol": 0.0}, _JAXOPT),
    Stored("jaxopt_broyden_of_z-f_gamma1_step1", "jaxopt", "broyden", {"max_iter": 12, "tol": 0.0}, _JAXOPT),
    Stored("scipy_broyden1_alpha1_nols", "scipy", "broyden1", _ALPHA1, _SCIPY),
    Stored("scipy_broyden2_alpha1_nols", "scipy", "broyden2", _ALPHA1, _SCIPY),
    Stored("scipy_anderson_alpha1_nols", "scipy", "anderson", _ALPHA1, _SCIPY),
]
BY_KEY = {run.key: run for run in RUNS}


def solve(dialect: rd.Dialect, **options: Any) -> rd.Solution:
    """Solve the stored problem."""
    return rd.solve(CELL, X, dialect=dialect, trace=True, **options)


def reported(solution: rd.Solution, part: str) -> np.ndarray:
    """One part of the report, or what the files derive from the points."""
    if part == "distance":
        return np.linalg.norm(solution.dialect.result - Z_STAR)
    if part == "distances":  # of what jaxopt calls params after each update
        trace = solution.trace
        points = trace.f["z"] if solution.dialect.dialect.rules.value == "f" else trace.z["z"][1:]
        return np.array([np.linalg.norm(point - Z_STAR) for point in points])
    return getattr(solution.dialect, part)


def furthest(solution: rd.Solution, run: Stored) -> float:
    """Largest deviation from a stored run over all its entries; infinite where the shapes differ."""
    worst = 0.0
    for entry, part in run.parts.items():
        stored, ours = np.asarray(STORED[run.key][entry]), np.asarray(reported(solution, part))
        if stored.shape != ours.shape:
            return np.inf
        worst = max(worst, float(np.abs(stored - ours).max(initial=0.0)))
    return worst
