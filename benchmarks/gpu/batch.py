"""Batches of rows (G7 to G11, G15, G17): the trained image cell on a fine grid, by tiles on chip, by lists, by the library."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from refdeq_gpu.plans import rows, rows_steps

from benchmarks.gpu.comparing import Variant, compare
from benchmarks.gpu.records import Measurement, Run
from benchmarks.gpu.setup import Setup
from benchmarks.gpu.timing import ratio_of, spread_of
from benchmarks.gpu.workloads import Solve, image, small
from refdeq.fc_pattern import match

__all__ = ["measure_all"]

WORKLOAD = "image cell, rows"
ROWS, BUDGET, THRESHOLD = 65536, 30, 0.01
PRECISIONS = {"bf16": "bfloat16", "bf16x2": "bfloat16x2", "bf16x3": "bfloat16x3"}


def measure_all(setup: Setup, run: Run, seconds: float) -> None:
    """Errors of every precision against float64 first, then times by turns."""
    start = time.monotonic()
    count, budget = (9, 3) if setup.is_small else (ROWS, BUDGET)
    try:
        _errors(setup, run)
    except Exception as error:
        run.failed("rows/error", error)
    if time.monotonic() - start > seconds:
        return
    variants: list[Variant] = []
    for make in (_torch, _tiles, _lists):
        try:
            for variant in make(setup, run, count, budget):
                variants.append(variant)  # one by one: what is made before a failure stays
        except Exception as error:
            run.failed(f"rows/{make.__name__}", error)
    if not variants:
        return
    shape = {"rows": count, "K": 256, "N": 256}
    samples = compare(setup, run, f"rows/n256/{count}", WORKLOAD, variants, "vs_graph_dense", shape)
    if samples and not setup.is_simulated:
        _goals(run, samples, f"rows/n256/{count}")


def _work(setup: Setup, count: int, budget: int, threshold: float | None, memory: str) -> Solve:
    """The image cell; for a try a small one."""
    return (small if setup.is_small else image)(count, budget, threshold, memory)


def _torch(setup: Setup, run: Run, count: int, budget: int) -> Iterator[Variant]:
    """Graphs of dense evaluations in three precisions."""
    if not setup.has_torch:
        return
    from benchmarks.gpu.baselines import Dense, graph_solve

    solve = _work(setup, count, budget, None, "sent")
    pattern = match(solve.cell.graph)
    assert pattern.phase is not None
    for precision in ("tf32", "float32", "bfloat16"):
        weight = solve.cell.parameters[pattern.weight]
        model = Dense(weight if pattern.is_transposed else weight.T, _added(solve, pattern), pattern.activation, precision)
        flags = {"precision_flags": {"matmul_tf32": precision == "tf32"}, "dtype": {"W": precision}}
        yield Variant(f"graph {precision}", "torch", graph_solve(model, budget), per=budget, about=flags)


def _added(solve: Solve, pattern: Any) -> np.ndarray:
    """What every evaluation adds to the product."""
    values = {**solve.cell.parameters, **solve.values()}
    whole: np.ndarray = np.broadcast_to(values[pattern.phase], (solve.batch, pattern.n)).astype(np.float32)
    return whole if pattern.bias is None else whole + values[pattern.bias]


def _tiles(setup: Setup, run: Run, count: int, budget: int) -> Iterator[Variant]:
    """K2 in every precision, the same without swapping of rows, and its dense ablation."""
    device = setup.devices.get("cupy")
    if device is None:
        return
    solve, dense = _work(setup, count, budget, THRESHOLD, "feedback"), _work(setup, count, budget, None, "feedback")
    for name, precision in PRECISIONS.items():

        def offer(request: Any, device: Any, precision: str = precision) -> Any:
            return rows.offer(request, device, precision)

        yield from _variant(run, f"cupy K2 {name}", "cupy", solve, offer, device, budget)
        if name == "bf16" or setup.is_small:
            yield from _variant(run, f"cupy K2 {name} waiting", "cupy", solve, offer, device, budget, is_swapping=False)
            yield from _variant(run, f"cupy K2 {name} own dense", "cupy", dense, offer, device, budget)


def _lists(setup: Setup, run: Run, count: int, budget: int) -> Iterator[Variant]:
    """K2c and K2b of both backends."""
    solve = _work(setup, count, budget, THRESHOLD, "sent")
    for backend, device in setup.devices.items():
        for name, by_library in (("K2c", False), ("K2b", True)):
            if by_library and backend == "cuda" and not setup.is_simulated:
                continue  # its products are those of the library of the other backend

            def offer(request: Any, device: Any, by_library: bool = by_library) -> Any:
                return rows_steps.steps_plan(request, match(request.graph), device, by_library=by_library)

            yield from _variant(run, f"{backend} {name}", backend, solve, offer, device, budget)


def _variant(
    run: Run,
    name: str,
    backend: str,
    solve: Solve,
    offer: Any,
    device: Any,
    budget: int,
    **changes: Any,
) -> Iterator[Variant]:
    try:
        made = solve.replay(offer, device, **changes)
    except Exception as error:
        run.failed(f"rows/{name}", error)
        return
    if isinstance(made, str):
        print(f"  {name}: {made}", flush=True)
        return
    replay, result = made
    sent = sum(int(count.sum()) for count in result.sent.values())
    about = {
        "launches": replay.launches,
        "host_syncs": replay.reads,
        "density": {"elements": sent / (solve.batch * match(solve.cell.graph).n * budget)},
        "notes": result.note,
    }
    yield Variant(name, backend, replay, per=budget, about=about)


def _goals(run: Run, samples: Any, label: str) -> None:
    """Ratios that goals ask for, each over its own baseline."""
    spread = spread_of(samples)
    wanted = (
        ("graph tf32", "cupy K2 bf16", "vs_graph_dense", "G7", "bf16"),
        ("graph float32", "cupy K2 bf16x3", "vs_graph_dense", "G8", "bf16x3"),
        ("cupy K2 bf16 own dense", "cupy K2 bf16", "vs_own_dense", "", "own"),
        ("cupy K2 bf16 waiting", "cupy K2 bf16", "vs_own_dense", "", "swapping alone"),
        ("graph float32", "cuda K2c", "vs_graph_dense", "G11", "rows"),
        ("graph float32", "cupy K2b", "vs_graph_dense", "", "library"),
    )
    for baseline, name, kind, goal, point in wanted:
        if baseline in samples and name in samples:
            known: dict[str, Any] = {"baseline_id": f"{label}/{baseline}", "ratio_kind": kind}
            known["error"] = next((dict(entry.error) for entry in run.measurements if entry.id == f"rows/error/{point}"), {})
            known["error"].pop("figure", None)  # that of another goal
            known["ratio"] = ratio_of(samples, baseline, name)
            run.add(Measurement(f"{label}/{point}/{name} over {baseline}", WORKLOAD, name.split()[0], name, goal=goal,
                                spread=spread, **known))  # fmt: skip
    if {"cupy K2 bf16 own dense", "cupy K2 bf16"} <= set(samples):
        _swapping(run, samples, label)


def _swapping(run: Run, samples: Any, label: str) -> None:
    """G10: the gain over the kernel that freezes nothing, as a share of what the rows that go on would allow."""
    import json

    from benchmarks.gpu.checkout import ROOT

    stored = json.loads((ROOT / "benchmarks/results/gpu_traces.json").read_text(encoding="utf-8"))
    [share] = [row["mean"]["rows"] for row in stored["rows"] if (row["model"], row["threshold"]) == ("image_siren", THRESHOLD)]
    gain = float(np.median(samples["cupy K2 bf16 own dense"] / samples["cupy K2 bf16"]))
    figure = {"figure": gain * share, "gain": gain, "mean share of rows": share}
    run.add(Measurement(f"{label}/swapping", WORKLOAD, "cupy", "K2 bf16", goal="G10", error=figure))


def _errors(setup: Setup, run: Run) -> None:
    """G17: the fixed point of every precision against float64, beside that of dense float32."""
    device = setup.devices.get("cupy")
    if device is None:
        return
    from refdeq.registry import Refusal

    count, steps = (9, 6) if setup.is_small else (4096, 60)
    exact = _float64(_work(setup, count, steps, None, "sent"))
    norm = float(np.linalg.norm(exact))
    dense = rows.offer(_work(setup, count, steps, None, "sent").request(), device, "float32")
    of_dense = float("nan")
    if not isinstance(dense, Refusal):
        of_dense = float(np.linalg.norm(_state(_work(setup, count, steps, None, "sent").run(dense)) - exact)) / norm
    for name, precision in PRECISIONS.items():
        solve = _work(setup, count, steps, 0.0, "feedback")
        plan = rows.offer(solve.request(), device, precision)
        if isinstance(plan, Refusal):
            continue
        error = float(np.linalg.norm(_state(solve.run(plan)) - exact)) / norm
        is_goal = name == "bf16x3"
        about = {"vs_f64_fixedpoint": error, "dense_float32": of_dense} | ({"figure": error / of_dense} if is_goal else {})
        run.add(Measurement(f"rows/error/{name}", WORKLOAD, "cupy", f"K2 {name}", goal="G17" if is_goal else "", error=about))


def _float64(solve: Solve) -> np.ndarray:
    """The same iteration in float64 on the host."""
    pattern = match(solve.cell.graph)
    weight = solve.cell.parameters[pattern.weight].astype(np.float64)
    product = weight.T if pattern.is_transposed else weight
    values = {**solve.cell.parameters, **solve.values()}
    entry, multiplier = (0.0 if name is None else values[name].astype(np.float64) for name in (pattern.entry, pattern.filter))
    z, added = np.zeros((solve.batch, pattern.n)), _added(solve, pattern).astype(np.float64)
    function = {"Sin": np.sin, "Tanh": np.tanh, "Identity": np.positive}[pattern.activation]
    for _ in range(solve.stop.max_eval - 1):
        z = function((z + entry) @ product + added)
        z = z * multiplier if pattern.filter is not None else z
    return z


def _state(result: Any) -> np.ndarray:
    [state] = result.z.values()
    return np.asarray(state, dtype=np.float64)
