"""Equilibrium classifiers of handwritten digits, trained with each gradient method: accuracy, time, memory, evaluations.

    python benchmarks/digits_classifier.py [--quick] [--json OUT] [--validation] [--backend numba]

Two networks with 64 state variables, one split of the data, three seeds (initial weights, order, noise); every run is a process
of its own, one after the other, with one thread. `digits_training.py` says what the data and the networks are.

- *CPU seconds*: processor time of the training alone, without start, compilation (a warm-up step comes first) and evaluation.
  Wall clock time, which depends on what else the machine does, is in the JSON.
- *peak memory*: of one training step after the training, during its forward solve and during its gradient: the largest size
  of Python objects and NumPy arrays beyond what was held before the step, by `tracemalloc`. Memory that compiled code takes
  for itself is not seen; the arrays it works on are.
- *evaluations* per sample and step: of f forwards; backwards products with J^T, and the evaluations of f that are
  differentiated one by one for `phantom` and `unrolled`.
- *met*: share of samples whose forward solve, and adjoint solve where there is one, met its tolerance, over the training.

The second table solves the test images with delta rules, protocol (S) of clause C-4: rtol 1e-3 per sample, against the dense
solve under the same stop; networks trained with `ift`, all seeds.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import platform
import time
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: what runs here is small, and is to be timed

import numpy as np
import sklearn
from digits_training import NETWORKS, Settings, Training, load, predict
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sklearn.linear_model import LogisticRegression

import refdeq as rd

ADJOINT = rd.StopRule(rtol=1e-3, max_eval=100)
METHODS = {
    # ||W|| exceeds 1 in the monotone network: Picard steps need damping there, and the adjoint a splitting
    "tanh": {
        "ift": rd.Ift(stop=ADJOINT),
        "phantom": rd.Phantom(5, 0.5),
        "jfb": rd.Jfb(),
        "unrolled": rd.Unrolled(20),
    },
    "monotone": {
        "ift": rd.Ift(solver=rd.PeacemanRachford(), stop=ADJOINT),
        "phantom": rd.Phantom(5, 0.3),
        "jfb": rd.Jfb(),
        "unrolled": rd.Unrolled(30, 0.3),
    },
}
# forward-backward is sure to converge below alpha = 0.07 or so here; 0.3, found on the validation part, takes a seventh of the
# evaluations
DELTA_SOLVERS = {"tanh": (rd.Picard(),), "monotone": (rd.PeacemanRachford(), rd.ForwardBackward(alpha=0.3))}
THRESHOLDS = (0.0, 1e-3, 1e-2, 3e-2, 1e-1)
DELTA_STOP = rd.StopRule(rtol=1e-3, max_eval=200)


def train(network_name, method_name, seed, settings, validation, report):
    """One run; `report` is called with (epochs done, loss). Returns a row of results."""
    rng = np.random.default_rng(seed)
    digits = load(validation)
    network = NETWORKS[network_name](rng)
    method = METHODS[network_name][method_name]
    training = Training(network, method, digits, settings, rng)
    few = slice(settings.batch)
    training.differentiate(
        *training.solve(digits.held_out[few]), digits.held_out_labels[few]
    )  # compiles, loads, changes nothing
    steps, wall, busy = [], time.perf_counter(), time.process_time()
    for epoch in range(settings.epochs):
        steps += training.epoch()
        report(epoch + 1, steps[-1].loss)
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    return {
        "network": network_name,
        "method": method_name,
        "configured": method.name,
        "seed": seed,
        "seconds": busy,
        "seconds_wall": wall,
        "steps": len(steps),
        "loss_first": steps[0].loss,
        "loss_last_epoch": float(np.mean([step.loss for step in steps[-(len(steps) // settings.epochs) :]])),
        "forward": float(np.mean([step.forward.mean() for step in steps])),
        "backward": float(np.mean([step.backward.mean() for step in steps])),
        "met": float(np.mean([step.converged.mean() for step in steps])),
        **peak_memory(training),
        **judged(training),
        "delta": delta_rows(training) if method_name == "ift" else [],
    }


def peak_memory(training):
    """Largest number of bytes beyond what was held before the step: during its solve, and during its gradient."""
    rows = np.arange(training.settings.batch)
    x, labels = training.draw(rows), training.digits.labels[rows]
    gc.collect()
    tracemalloc.start()
    held, _ = tracemalloc.get_traced_memory()
    solved = training.solve(x)
    _, in_solve = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    training.differentiate(*solved, labels)
    _, in_gradient = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"peak_solve": in_solve - held, "peak_gradient": in_gradient - held}


def judged(training):
    """Accuracy on the held-out images, by the solver and tolerance of the training."""
    digits, network, settings = training.digits, training.network, training.settings
    cell = network.cell()
    sol = rd.solve(cell, digits.held_out, solver=network.solver, stop=settings.stop, backend=settings.backend)
    accuracy = float(np.mean(predict(network.params, sol.z) == digits.held_out_labels))
    return {
        "accuracy": accuracy,
        "held_out_converged": sol.converged,
        "norm_W": float(np.linalg.norm(cell.parameters["W"], 2)),
    }


def delta_rows(training):
    """Test images under delta rules: accuracy, evaluations and multiply-accumulates saved, per solver and threshold."""
    digits, network = training.digits, training.network
    cell, rows = network.cell(), []
    for solver in DELTA_SOLVERS[network.name]:
        common = {"solver": solver, "stop": DELTA_STOP, "backend": training.settings.backend, "verify": True}
        dense = rd.solve(cell, digits.held_out, **common)
        for threshold in (None, *THRESHOLDS):
            rule = None if threshold is None else rd.DeltaRule(threshold=threshold)
            sol = rd.solve(cell, digits.held_out, delta=rule, **common)
            met = sol.residual_dense <= DELTA_STOP.rtol * (sol.scale + DELTA_STOP.eps)
            rows.append(
                {
                    "solver": solver.name,
                    "threshold": threshold,
                    "accuracy": float(np.mean(predict(network.params, sol.z) == digits.held_out_labels)),
                    "agreement": float(np.mean(predict(network.params, sol.z) == predict(network.params, dense.z))),
                    "evaluations": float(sol.n_eval.mean()),
                    "evaluations_dense": float(dense.n_eval.mean()),
                    "macs": sol.cost.macs / len(digits.held_out),
                    "saved_same_evaluations": 0.0 if rule is None else sol.cost.saved,
                    "saved_against_dense_solve": 1 - sol.cost.macs / dense.cost.macs,
                    "converged_dense": float(np.mean(met)),
                }
            )
    return rows


def linear_accuracy(validation):
    """Multinomial logistic regression on the same split: what needs no equilibrium."""
    digits = load(validation)
    classifier = LogisticRegression(max_iter=5000).fit(digits.standardise(digits.images), digits.labels)
    return float(classifier.score(digits.held_out, digits.held_out_labels))


def _in_process(connection, *arguments):
    connection.send(("done", train(*arguments, report=lambda *progress: connection.send(("epoch", progress)))))


def run_all(seeds, settings, validation, console):
    """Every network, method and seed, each in a process of its own, one at a time."""
    context = multiprocessing.get_context("spawn")
    # seeds outermost, so that what else the machine does meets every method alike
    runs = [(network, method, seed) for seed in range(seeds) for network in METHODS for method in METHODS[network]]
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn())
    rows = []
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("start", total=len(runs) * settings.epochs)
        for number, (network, method, seed) in enumerate(runs):
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_in_process, args=(there, network, method, seed, settings, validation))
            process.start()
            there.close()
            kind = ""
            while kind != "done":
                try:
                    kind, content = here.recv()
                except EOFError:
                    process.join()
                    raise SystemExit(f"{network} {method} seed {seed} ended with code {process.exitcode}") from None
                if kind == "epoch":
                    done, loss = content
                    text = f"{network} {method} seed {seed}: loss {loss:.3f}"
                    progress.update(bar, completed=number * settings.epochs + done, description=text)
            process.join()
            rows.append(content)
            if not console.is_terminal:  # where the bar is not drawn
                console.print(f"{network} {method} seed {seed}: {content['seconds_wall']:.0f} s")
    return rows


def spread(values, scale=1.0, digits=1):
    values = scale * np.asarray(values)
    return f"{values.mean():.{digits}f} ({values.min():.{digits}f}..{values.max():.{digits}f})"


def show_training(rows, linear, validation, console):
    part = "validation" if validation else "test"
    table = Table(title=f"digits, {len({row['seed'] for row in rows})} seeds: mean (least to most)", title_justify="left")
    for title in (
        "network",
        "gradient",
        f"{part} accuracy, %",
        "CPU seconds",
        "MB, solve",
        "MB, gradient",
        "forward",
        "backward",
        "met, %",
    ):
        table.add_column(title, justify="right")
    table.add_row("linear", "", f"{100 * linear:.1f}", *[""] * 6)
    for network, method in dict.fromkeys((row["network"], row["method"]) for row in rows):
        found = [row for row in rows if (row["network"], row["method"]) == (network, method)]
        column = {name: [row[name] for row in found] for name in found[0]}
        table.add_row(
            network,
            column["configured"][0],
            spread(column["accuracy"], 100),
            spread(column["seconds"]),
            f"{np.max(column['peak_solve']) / 1e6:.2f}",
            f"{np.max(column['peak_gradient']) / 1e6:.2f}",
            f"{np.mean(column['forward']):.1f}",
            f"{np.mean(column['backward']):.1f}",
            f"{100 * np.mean(column['met']):.2f}",
        )
    console.print(table)


def show_delta(rows, console):
    table = Table(title="delta rules at test time: (S) rtol 1e-3 per sample, networks trained with ift", title_justify="left")
    titles = ("network", "solver", "threshold", "accuracy, %", "as dense, %", "evaluations", "dense", "MACs per image")
    for title in (*titles, "saved, %", "vs dense solve, %", "dense rtol met, %"):
        table.add_column(title, justify="right")
    found = [{"network": row["network"], **delta} for row in rows for delta in row["delta"]]
    for key in dict.fromkeys((row["network"], row["solver"], row["threshold"]) for row in found):
        same = [row for row in found if (row["network"], row["solver"], row["threshold"]) == key]

        def mean(name, same=same):
            return np.mean([row[name] for row in same])

        table.add_row(
            *key[:2],
            "dense" if key[2] is None else f"{key[2]:g}",
            f"{100 * mean('accuracy'):.1f}",
            f"{100 * mean('agreement'):.1f}",
            f"{mean('evaluations'):.1f}",
            f"{mean('evaluations_dense'):.1f}",
            f"{mean('macs'):,.0f}",
            f"{100 * mean('saved_same_evaluations'):.1f}",
            f"{100 * mean('saved_against_dense_solve'):.1f}",
            f"{100 * mean('converged_dense'):.1f}",
        )
    console.print(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one seed, three epochs: does it run?")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--validation", action="store_true", help="hold out a part of the training images instead of the test")
    parser.add_argument("--backend", default="numba", help="of the forward solves")
    parser.add_argument("--json", type=Path, help="also write every run there")
    args = parser.parse_args()
    if args.seeds < 1:
        parser.error("--seeds: expected at least 1")
    if args.json and not args.json.parent.is_dir():
        parser.error(f"--json: {args.json.parent} is not a folder")
    settings = replace(Settings(), backend=args.backend, **({"epochs": 3} if args.quick else {}))
    console = Console(width=150)
    linear, began, load_before = linear_accuracy(args.validation), time.perf_counter(), os.getloadavg()[0]
    rows = run_all(1 if args.quick else args.seeds, settings, args.validation, console)
    took = time.perf_counter() - began
    show_training(rows, linear, args.validation, console)
    show_delta(rows, console)
    console.print(f"{took:.0f} s, one thread, forward solves on {args.backend}, products with J^T on the reference")
    if args.json:
        environment = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
            "refdeq": rd.__version__,
            "threads": 1,
            "cores": os.cpu_count(),
            "load_before": load_before,
            "load_after": os.getloadavg()[0],
        }
        facts = {
            "environment": environment,
            "settings": asdict(settings),
            "held_out": "validation" if args.validation else "test",
        }
        args.json.write_text(json.dumps({**facts, "seconds": took, "linear_accuracy": linear, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
