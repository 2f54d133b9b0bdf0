"""Fully connected solves of one sample at forced densities (G1 to G6, G15, G16): the plans K1 and K1b against dense graphs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from refdeq_gpu.plans import fc

from benchmarks.gpu.comparing import Variant, compare
from benchmarks.gpu.records import Measurement, Run
from benchmarks.gpu.setup import Setup
from benchmarks.gpu.timing import ratio_of, spread_of
from benchmarks.gpu.workloads import Solve, forced, recurrent
from refdeq.registry import Refusal

__all__ = ["measure_all", "repeat_headlines"]

WORKLOAD = "fully connected, one sample"
BUDGET = 30
DENSITIES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.0)
SIZES = (16384, 8192, 4096, 2048, 1024)
GOALS = {16384: "G1", 8192: "G2", 4096: "G3"}
NAMED = (0.1, 0.02)
"""Densities at which ratios count for a goal."""
SHRINK = 256
"""Sizes of a try are so many times smaller."""
ALWAYS = {16384: (0.25, 0.1, 0.02, 0.0), 8192: (0.1, 0.02), 4096: (0.1,), 2048: (0.1,), 1024: (0.1,)}
"""Densities that goals name; the others are measured while there is time."""


def measure_all(setup: Setup, run: Run, seconds: float) -> None:
    """All sizes at the densities that goals name, then the sweep while there is time."""
    start = time.monotonic()
    try:
        _agreement(setup, run)
    except Exception as error:
        run.failed("single/equal", error)
    rest: list[tuple[int, float]] = []
    for n in SIZES[2:3] if setup.is_simulated else SIZES:
        _sweep(setup, run, "single", [(n, density) for density in ALWAYS[n]], start + seconds)
        rest += [] if setup.is_small else [(n, density) for density in DENSITIES if density not in ALWAYS[n]]
    _sweep(setup, run, "single", rest, start + 0.8 * seconds)


def _sweep(setup: Setup, run: Run, label: str, cases: list[tuple[int, float]], end: float) -> None:
    """Sizes and densities until the time is up; what fails leaves the others."""
    made, cell = 0, None
    weights: dict[str, Any] = {}
    for n, density in cases:
        if time.monotonic() > end:
            return
        if n != made:
            made, cell, weights = n, recurrent(n // SHRINK if setup.is_small else n), {}
        try:
            _measure(setup, run, f"{label}/n{n}/d{density:.2f}", n, density, cell, weights)
        except Exception as error:
            run.failed(f"{label}/n{n}/d{density:.2f}", error)


def repeat_headlines(setup: Setup, run: Run, seconds: float) -> None:
    """The densities of G1 to G3 once more, in reverse order: how far a whole measurement repeats."""
    start = time.monotonic()
    cases = [(4096, 0.1), (8192, 0.1), (16384, 0.1)]
    _sweep(setup, run, "again", cases[:1] if setup.is_simulated else cases, start + seconds)


def _offer(request: Any, device: Any) -> Any:
    return fc.offer(request, device)


def _measure(setup: Setup, run: Run, label: str, n: int, density: float, cell: Any, weights: dict[str, Any]) -> None:
    """Every variant at one size and density; `weights` keeps those of the cell on the devices, `n` is the size meant."""
    budget = 3 if setup.is_small else BUDGET
    solve = forced(cell, density, budget)
    dense = Solve(cell, solve.x, None, solve.stop)
    variants: list[Variant] = []
    if setup.has_torch:
        try:
            if "torch" not in weights:  # the input is the same at every density
                weights["torch"] = _torch_variants(setup, cell, dense, n, budget)
            variants += weights["torch"]
        except Exception as error:
            run.failed(f"{label}/torch", error)
    has_baseline = bool(variants) or not setup.has_torch
    for name, device in setup.devices.items():
        for kind, work in (("delta", solve), ("own dense", dense)):
            for variant, changes in (("K1", {}), ("K1b", {"by_pairs": True})):
                try:
                    variants.append(_own(name, device, work, kind, variant, changes, n, density, budget, weights))
                except Exception as error:
                    run.failed(f"{label}/{name} {variant} {kind}", error)
    if not variants:
        return
    kind = "vs_graph_dense" if has_baseline else ""
    samples = compare(setup, run, label, WORKLOAD, variants, kind, {"n": n, "density": density})
    if setup.is_simulated or not samples:
        return
    _other_ratios(run, samples, label, density)
    _bandwidth(run, samples, label, n, density, variants)
    _fixed_cost(run, samples, label, density, budget)


def _torch_variants(setup: Setup, cell: Any, dense: Solve, n: int, budget: int) -> list[Variant]:
    """The faster of two graphs, by products of matrices and with a vector, and the loop of small solves."""
    from benchmarks.gpu.baselines import Dense, eager_solve, graph_solve

    [name] = [value for value in dense.values() if value not in cell.graph.injections]
    weight, u = cell.parameters["W"], dense.values()[name]
    flags: dict[str, Any] = {"precision_flags": {"matmul_tf32": False}}
    graphs = {kind: graph_solve(Dense(weight, u, "Tanh", "float32", kind == "addmv"), budget) for kind in ("addmm", "addmv")}
    took = {kind: min(setup.clock.microseconds(call, 3) for _ in range(3)) for kind, call in graphs.items()}
    faster = min(took, key=lambda kind: took[kind])
    notes = ", ".join(f"{kind} {time:.4g} us" for kind, time in took.items())
    found = [Variant("graph", "torch", graphs[faster], per=budget, about={**flags, "notes": f"by {faster}: {notes}"})]
    if n <= 2048:
        other = Dense(weight, u, "Tanh", "float32", faster == "addmv")
        found.append(Variant("eager", "torch", eager_solve(other, budget, 0.0), per=budget, about=flags))
    return found


def _own(
    backend: str,
    device: Any,
    solve: Solve,
    kind: str,
    variant: str,
    changes: dict[str, bool],
    n: int,
    density: float,
    budget: int,
    weights: dict[str, Any],
) -> Variant:
    """K1 or K1b of one backend."""
    made = solve.replay(_offer, device, weights, **changes)
    if isinstance(made, str):
        raise RuntimeError(f"{backend} {variant}: {made}")
    replay, result = made
    sent = sum(int(count.sum()) for count in result.sent.values())
    [own] = {array.shape[1] for array in result.z.values()}
    about = {
        "density": {"requested": density, "measured": sent / (own * budget), "read_bytes": 4.0 * own * sent},
        "launches": replay.launches,
        "host_syncs": replay.reads,
        "dtype": {"W": "float32", "delta": "float32", "C": "float32"},
        "semantics": {"memory": "sent", "compare": "gt", "start": "zero"} if kind == "delta" else {},
    }
    is_goal = kind == "delta" and backend == "cupy" and variant == "K1"
    goal = GOALS.get(n, "G4") if is_goal and density in NAMED else ""
    point = {"G4": "graph"}.get(goal, f"d{density:.2f}") if goal else ""
    return Variant(f"{backend} {variant} {kind}", backend, replay, goal, point, budget, about)


def _other_ratios(run: Run, samples: Any, label: str, density: float) -> None:
    """K1 over the eager loop (G4), over our own dense kernel (no goal, but every claim needs it), and G15 at every density."""
    name, spread = "cupy K1 delta", spread_of(samples)
    if name not in samples:
        return
    for baseline, kind, goal, point in (
        ("eager", "vs_eager", "G4" if density in NAMED else "", "eager"),
        ("cupy K1 own dense", "vs_own_dense", "", "own"),
        ("graph", "vs_graph_dense", "G15", "dispatch"),
    ):
        if baseline in samples:
            known: dict[str, Any] = {
                "baseline_id": f"{label}/{baseline}",
                "ratio": ratio_of(samples, baseline, name),
                "ratio_kind": kind,
            }
            run.add(Measurement(f"{label}/{point}/K1", WORKLOAD, "cupy", "K1", goal=goal, spread=spread, **known))


def _bandwidth(run: Run, samples: Any, label: str, n: int, density: float, variants: list[Variant]) -> None:
    """G5: bytes of weights read per second, as a share of what a plain reduction reads; from zero nothing is sent at first."""
    name, ceiling = "cupy K1 delta", run.ceilings.get("read_gbs")
    if n != 16384 or density not in (0.25, 0.1) or name not in samples or not ceiling:
        return
    [read] = [variant.about["density"]["read_bytes"] for variant in variants if variant.name == name]
    per_second = read / float(np.median(samples[name])) / 1e3
    figure = {"figure": per_second / ceiling, "gbs": per_second}
    run.add(Measurement(f"{label}/bandwidth", WORKLOAD, "cupy", name, goal="G5", error=figure))


def _fixed_cost(run: Run, samples: Any, label: str, density: float, budget: int) -> None:
    """G6: microseconds of an evaluation at which nothing is sent."""
    if density != 0.0:
        return
    for backend in ("cupy", "cuda"):
        if f"{backend} K1 delta" in samples:
            figure = {"figure": float(np.median(samples[f"{backend} K1 delta"])) / budget}
            run.add(Measurement(f"{label}/{backend}/fixed", WORKLOAD, backend, "K1", goal="G6", error=figure))


def _agreement(setup: Setup, run: Run) -> None:
    """G16: equal bits over repeated runs, grids, and both backends."""
    from dataclasses import replace

    n, budget = (24, 3) if setup.is_small else (4096, 30)
    solve = forced(recurrent(n), 0.1, budget)
    found: dict[str, bytes] = {}
    for name, device in setup.devices.items():
        plan = fc.offer(solve.request(), device)
        if isinstance(plan, Refusal):
            raise RuntimeError(f"{name}: {plan.reason}")
        blocks = (0, 0, 3) if setup.is_small else (0, 0, 0, 7, 66)
        for i, grid in enumerate(blocks):
            result = solve.run(replace(plan, blocks=grid))
            found[f"{name} run {i}, grid {grid or 'own'}"] = b"".join(part.tobytes() for part in result.z.values())
    if not found:
        return
    first = next(iter(found.values()))
    equal = {name: bits == first for name, bits in found.items()}
    run.add(
        Measurement(
            "single/equal/K1",
            WORKLOAD,
            "+".join(setup.devices),
            "K1 fast",
            goal="G16",
            shape={"n": n},
            deterministic=equal,
            error={"figure": float(all(equal.values()))} if len(setup.devices) == 2 else {},  # it asks for both backends
        )
    )
