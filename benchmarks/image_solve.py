"""How fast is the image solve? The fused Numba plan against dense BLAS Picard, interleaved in one run.

The work: every pixel of the trained SIREN-like image cell (16384 samples, 256 hidden units, float32) from z = 0 under
protocol (P) of clause C-4, that is 31 evaluations without a stop test. Contenders:

- *fused ORDER TAU*: the fused plan with the recommended delta rule (no rule: ``dense``; (c) is ``every``: comparison "ge" at
  tau = 0, so that every element is sent through the delta machinery);
- (b) *BLAS*: dense Picard with preallocated buffers, the same compiled strict sine, and the residual of every sample at every
  evaluation, run chunk by chunk so that a chunk stays in cache (the fastest of several chunk lengths is taken);
- (a) *BLAS frozen 1e-6*: the same, but a sample whose relative residual is at most 1e-6 stops and its row is taken out;
- *BLAS frozen 1e-3*, *fused ORDER 0.01 rtol 1e-3*: both under that stop rule, which is protocol (S), another question.

About freezing. Protocol (P) has no stop test, so strictly a dense solve may freeze nothing. In float32 this cell's residual
levels off near 6e-7, so 1e-6 means "stop when nothing but rounding is left"; 1e-3 gives a cruder answer for less work, and
so it is to be compared with the fused plan under the same rule. The fused plan freezes nothing under (P): it leaves out only
work that cannot change a bit. Hoisting the x-only nodes, packing weights and compiling are outside all times; allocating the
results is inside those of the fused plan.

    python benchmarks/image_solve.py                     # one and two threads, a few minutes
    python benchmarks/image_solve.py --threads 1 --rounds 5 --json out.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from dense_blas import EVALUATIONS, DenseBlas
from refdeq_numba.plan import make_plan
from rich.console import Console
from rich.table import Table

import refdeq as rd
from refdeq.delta import resolve_gates
from refdeq.evaluation import Evaluator
from refdeq.registry import PlanRequest, load_backend

TAUS = (0.0, 1e-3, 1e-2, 3e-2, 1e-1)
LOSS = 0.05
CHUNKS = (128, 256, 512, 2048)
PROTOCOL_P = rd.StopRule(max_eval=EVALUATIONS)


@dataclass
class Contender:
    """One thing to time: `run` returns z; the rest describes it."""

    name: str
    run: object
    group: str
    tau: float | None = None
    macs: float = 1.0
    psnr: float = float("nan")
    times: tuple[float, ...] = ()

    @property
    def median(self):
        """Median seconds."""
        return float(np.median(self.times))


class Workload:
    """The trained image cell, its x-only values, and bound fused plans."""

    def __init__(self):
        self.model = rd.models.load_trained("image_siren")
        self.cell, self.x = self.model.cell, {"x": self.model.x}
        self.n, self.batch = self.cell.graph.states["z"][0], len(self.model.x)
        self.start = {"z": np.zeros((self.batch, self.n), dtype=self.cell.dtype)}
        kernels = load_backend("numba").kernels(order="strict", threads=1)
        self.x_only = Evaluator(self.cell, kernels, self.x, self.batch).values

    def fused(self, rule, order, threads, solver=None, graph=None):
        """Executor of the fused plan."""
        gates, cell = {}, self.cell
        if rule is not None:
            [(_, gate)] = resolve_gates(cell.graph, rule)[0].items()
            gates = {cell.graph.linear_nodes[0].name: gate}
        request = PlanRequest(
            graph=graph or cell.graph,
            solver=solver or rd.Picard(),
            gates=gates,
            start="dense",
            bias="separate",
            refresh=0,
            returned="last",
            order=order,
        )
        return make_plan(request).bind(cell.parameters, threads=threads)

    def solve(self, executor, stop=PROTOCOL_P):
        """Run a bound plan from z = 0."""
        return executor.run(self.start, self.x_only, None, stop, None)

    def share_of_macs(self, result):
        """Multiply-accumulates spent, first evaluation included, as a share of the dense 31 evaluations (C-1)."""
        spent = sum(int(macs.sum()) for macs in result.macs.values())
        return spent / (self.batch * self.n * self.n * EVALUATIONS)


def contenders(work, threads, chunk):
    """Everything that is timed, in the order of the table."""
    weight = work.cell.parameters["W"].T
    entry, phase = work.x_only["entry"], work.x_only["phase"]
    found = []
    for name, freeze in (("BLAS", -1.0), ("BLAS again", -1.0), ("BLAS frozen 1e-6", 1e-6), ("BLAS frozen 1e-3", 1e-3)):
        dense = DenseBlas(weight, entry, phase, chunk, freeze, threads)
        found.append(Contender(name, dense.run, "BLAS"))
    loose = rd.StopRule(rtol=1e-3, max_eval=EVALUATIONS)
    for order in ("strict", "fast"):
        rules = [("dense", None), ("every", rd.DeltaRule(threshold=0.0, compare="ge"))]
        rules += [(f"{tau:g}", rd.DeltaRule(threshold=tau)) for tau in TAUS]
        for label, rule in rules:
            executor = work.fused(rule, order, threads)
            tau = rule.threshold if rule is not None and rule.compare == "gt" else None
            found.append(_fused_contender(work, f"fused {order} {label}", executor, PROTOCOL_P, order, tau))
        executor = work.fused(rd.DeltaRule(threshold=1e-2), order, threads)
        found.append(_fused_contender(work, f"fused {order} 0.01 rtol 1e-3", executor, loose, order, None))
    for contender in found:  # warm: compiles, touches memory, and gives the check values
        contender.psnr = work.model.psnr(contender.run())
    return found


def _fused_contender(work, name, executor, stop, group, tau):
    result = work.solve(executor, stop)
    macs = work.share_of_macs(result) if result.macs else 1.0
    return Contender(name, lambda: work.solve(executor, stop).z["z"], group, tau, macs)


def time_interleaved(found, rounds):
    """Time every contender once per round, each round starting at another one."""
    for contender in found:
        contender.times = ()
    for r in range(rounds):
        shift = r * len(found) // rounds
        for contender in [*found[shift:], *found[:shift]]:
            begin = time.perf_counter()
            contender.run()
            contender.times += (time.perf_counter() - begin,)


def fastest_chunk(work, threads):
    """Chunk length at which dense BLAS is fastest here: the baseline gets the benefit."""
    weight = work.cell.parameters["W"].T
    seconds = {}
    for chunk in (*CHUNKS, work.batch // threads):
        dense = DenseBlas(weight, work.x_only["entry"], work.x_only["phase"], chunk, -1.0, threads)
        dense.run()
        repeats = []
        for _ in range(3):
            begin = time.perf_counter()
            dense.run()
            repeats.append(time.perf_counter() - begin)
        seconds[chunk] = min(repeats)
    return min(seconds, key=seconds.get), seconds


def where_time_goes(work, order, rounds):
    """Seconds per row and evaluation of each part, by leaving parts out, and how many rows of the solve need each.

    ``every`` minus ``every`` with the identity in place of the sine is the activation; a damped solve at infinite threshold
    sends nothing after its start, so gate, residual and step are all it does; the rest of the solve is accumulation.
    """
    every = rd.DeltaRule(threshold=0.0, compare="ge")
    nodes = tuple(replace(node, op="Identity") if node.name == "f" else node for node in work.cell.graph.nodes)
    linear = replace(work.cell.graph, nodes=nodes)
    nearly_one = rd.KrasnoselskiiMann(alpha=1.0 - 2.0**-20)
    quiet = work.fused(rd.DeltaRule(threshold=np.inf), order, 1, solver=nearly_one)
    solves = {
        "every": (work.fused(every, order, 1), PROTOCOL_P),
        "identity": (work.fused(every, order, 1, graph=linear), PROTOCOL_P),
        "quiet": (quiet, PROTOCOL_P),
        "start": (quiet, rd.StopRule(max_eval=1)),
    }
    runs = {name: Contender(name, lambda solve=solve: work.solve(*solve), order) for name, solve in solves.items()}
    time_interleaved(list(runs.values()), rounds)
    rows = work.batch * EVALUATIONS
    least = {name: min(run.times) for name, run in runs.items()}  # differences of medians would be differences of noise
    activation = max(0.0, least["every"] - least["identity"]) / rows
    gate = max(0.0, least["quiet"] - least["start"]) / (rows - work.batch)
    return activation, gate


def rows_by_kind(work, rule, sample=1024):
    """Of all rows and evaluations: the share whose f is computed, and the share that is gated and measured at all."""
    chosen = np.random.default_rng(0).choice(work.batch, sample, replace=False)
    solved = rd.solve(
        work.cell, work.model.x[chosen], delta=rule, stop=PROTOCOL_P, backend="numba", executor="fused", trace=True
    )
    [mask] = solved.trace.mask.values()
    sends = mask.any(axis=2)
    last = len(sends) - 1 - sends[::-1].argmax(axis=0)
    return float(sends.mean()), float(((last + 2) / EVALUATIONS).clip(max=1).mean())


def report(console, work, found, threads, blas_threads, chunk, parts):
    """Print one table and what limits the solve."""
    by_name = {contender.name: contender for contender in found}
    dense, frozen, loose = (by_name[name] for name in ("BLAS", "BLAS frozen 1e-6", "BLAS frozen 1e-3"))
    title = f"image solve, {work.batch} samples, n = {work.n}, threads {threads}"
    title += f" (BLAS threads {blas_threads}, {chunk} samples per chunk)"
    table = Table(title=title, title_justify="left")
    columns = "contender", "median ms", "IQR ms", "MACs", "PSNR dB", "over (a) 1e-6", "over (b)", "over frozen 1e-3"
    for column in columns:
        table.add_column(column, justify="left" if column == "contender" else "right")
    for c in found:
        low, high = np.percentile(c.times, [25, 75])
        ratios = [f"{float(np.median(np.divide(base.times, c.times))):.2f}" for base in (frozen, dense, loose)]
        table.add_row(c.name, f"{1e3 * c.median:.1f}", f"{1e3 * (high - low):.1f}", f"{c.macs:.3f}", f"{c.psnr:.3f}", *ratios)
    console.print(table)
    noise = np.divide(dense.times, by_name["BLAS again"].times)
    console.print(
        f"A/A: BLAS against itself, ratio {np.median(noise):.3f}, quartiles {np.percentile(noise, [25, 75]).round(3)}"
    )
    for order in ("strict", "fast"):
        point = point_of_interest(found, order)
        sparse = float(np.median(np.divide(by_name[f"fused {order} every"].times, point.times)))
        ratio_a, ratio_b = (float(np.median(np.divide(base.times, point.times))) for base in (frozen, dense))
        console.print(
            f"{order}: tau = {point.tau:g} is the largest with at most {LOSS} dB lost; {1 - point.macs:.1%} of the MACs saved; "
            f"{ratio_a:.2f}x over (a), {ratio_b:.2f}x over (b), {sparse:.2f}x over (c), the same kernel sending everything"
        )
    if parts is not None:
        console.print(parts)


def point_of_interest(found, order):
    """The fused contender of the largest threshold that loses at most ``LOSS`` dB against tau = 0."""
    swept = [c for c in found if c.group == order and c.tau is not None]
    best = next(c.psnr for c in swept if c.tau == 0.0)
    return max((c for c in swept if best - c.psnr <= LOSS), key=lambda c: c.tau)


def limits(work, found, order, rounds):
    """Where the time of the point of interest goes, as shares and in words."""
    point = point_of_interest(found, order)
    activation, gate = where_time_goes(work, order, rounds)
    computed, gated = rows_by_kind(work, rd.DeltaRule(threshold=point.tau))
    rows, total = work.batch * EVALUATIONS, min(point.times)
    for_activation, for_gate = activation * computed * rows / total, gate * gated * rows / total
    rest = 1.0 - for_activation - for_gate
    rate = point.macs * rows * work.n**2 / max(rest * total, 1e-9) / 1e9
    text = (
        f"{order}, tau {point.tau:g}: activation {for_activation:.0%} ({1e9 * activation:.0f} ns per row and evaluation, "
        f"{computed:.0%} compute f), gate, residual and step {for_gate:.0%} ({1e9 * gate:.0f} ns, {gated:.0%} gate), "
        f"accumulate and the rest {rest:.0%} ({rate:.0f} GMAC/s on the {point.macs:.1%} of MACs left)"
    )
    return {"order": order, "activation": for_activation, "gate_residual": for_gate, "accumulate": rest, "text": text}


def measure(threads, blas_threads, rounds):
    """Run one configuration in this process and return what was found."""
    console = Console(width=150)
    work = Workload()
    chunk, tried = fastest_chunk(work, threads if blas_threads == 1 else 1)
    found = contenders(work, threads, chunk)
    if blas_threads > 1:  # BLAS itself uses the threads, chunks follow one another
        for contender in found:
            if contender.group == "BLAS":
                contender.run.__self__.threads = 1
    time_interleaved(found, rounds)
    parts = [limits(work, found, order, max(3, rounds // 3)) for order in ("strict", "fast")] if threads == 1 else []
    text = "\n".join(part["text"] for part in parts) or None
    report(console, work, found, threads, blas_threads, chunk, text)
    rows = [
        {"name": c.name, "tau": c.tau, "macs": c.macs, "psnr": c.psnr, "median_s": c.median, "times_s": c.times} for c in found
    ]
    return {
        "threads": threads,
        "blas_threads": blas_threads,
        "chunk": chunk,
        "chunks_s": {str(k): v for k, v in tried.items()},
        "contenders": rows,
        "shares": parts,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="1,2", help="thread counts, separated by commas (default 1,2)")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (default 9)")
    parser.add_argument("--json", type=Path, help="write all times to this file")
    parser.add_argument("--measure", nargs=3, metavar=("THREADS", "BLAS", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        threads, blas_threads, out = options.measure
        Path(out).write_text(json.dumps(measure(int(threads), int(blas_threads), options.rounds)))
        return
    results = []
    counts = [int(count) for count in options.threads.split(",")]
    for threads in counts:
        # with several threads the baseline may use them for chunks or inside BLAS: both are measured
        for blas_threads in sorted({1, threads}):
            results.append(_in_subprocess(threads, blas_threads, options.rounds))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def _in_subprocess(threads, blas_threads, rounds):
    """Measure in a fresh process: BLAS reads its thread count when it is loaded."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(blas_threads))}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, __file__, "--rounds", str(rounds), "--measure", str(threads), str(blas_threads), str(out)]
        subprocess.run(command, env=environment, check=True)
        return json.loads(out.read_text())


if __name__ == "__main__":
    main()
