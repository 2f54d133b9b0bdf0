"""Decisions of legal variants in lockstep: how many fall the other way, and whether the margin rule explains every one.

Each evaluation starts from one state for all (teacher forcing): reference, accumulator, gated difference. The golden argument
is formed in a wider format; each variant forms it in the dtype, in its own order, and decides. A decision may differ from
golden's only where its margin lies within the bound that the judge computes from the state alone. On half of the states the
references are moved so that differences lie on the threshold, to within a few units of that bound.

    python benchmarks/judge/decisions.py

writes ``benchmarks/results/judge/decisions.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shlex
import sys
import time
from pathlib import Path

import numpy as np
from refdeq_validation.judge import bounds
from refdeq_validation.judge.bounds_solver import wide
from refdeq_validation.judge.hidden import cell_value
from refdeq_validation.judge.models import plain
from refdeq_validation.judge.nodes import LinearNode
from refdeq_validation.provenance import judge_hash

RESULT = Path(__file__).resolve().parents[1] / "results" / "judge" / "decisions.json"
NEEDED = 100_000_000
BATCH, SIZE, EVALUATIONS = 256, 192, 12
NATIVE = 4.0
"""Units in the last place that NumPy's tanh is declared to keep within."""


def _columns(a, d, weight, order):
    for j in order:
        a = a + weight[:, j] * d[:, j, None]
    return a


def _fused(a, d, weight):
    """Multiply-adds of one rounding: products of float32 are exact in float64; of float64, in the wider format."""
    above = np.float64 if a.dtype == np.float32 else np.longdouble
    for j in range(d.shape[1]):
        a = (a.astype(above) + weight[:, j].astype(above) * d[:, j, None].astype(above)).astype(a.dtype)
    return a


def _kahan(a, d, weight):
    rest = np.zeros_like(a)
    for j in range(d.shape[1]):
        term = weight[:, j] * d[:, j, None] - rest
        total = a + term
        rest, a = (total - a) - term, total
    return a


def _split(a, d, weight, parts):
    sums = [_columns(np.zeros_like(a), d, weight, range(i, d.shape[1], parts)) for i in range(parts)]
    while len(sums) > 1:
        sums = [sums[i] + sums[i + 1] if i + 1 < len(sums) else sums[i] for i in range(0, len(sums), 2)]
    return a + sums[0]


VARIANTS = {
    "ascending": lambda a, d, w: _columns(a, d, w, range(d.shape[1])),
    "descending": lambda a, d, w: _columns(a, d, w, reversed(range(d.shape[1]))),
    "scattered": lambda a, d, w: _columns(a, d, w, [(j * 77) % d.shape[1] for j in range(d.shape[1])]),
    "fused": _fused,
    "compensated": _kahan,
    "split-3": lambda a, d, w: _split(a, d, w, 3),
    "split-16": lambda a, d, w: _split(a, d, w, 16),
    "library": lambda a, d, w: a + d @ w.T,
    "library-apart": lambda a, d, w: np.add(d @ w.T, a),
    "blocks-of-library": lambda a, d, w: a + d[:, :64] @ w[:, :64].T + d[:, 64:] @ w[:, 64:].T,
    "from-a-sum": lambda a, d, w: a + _columns(np.zeros_like(a), d, w, range(d.shape[1])),
}
"""Sums of ``a + A d``, each with NumPy's own tanh behind it."""


def golden(a, d, node, x, dtype):
    """Argument of the next evaluation, and how far a legal one may be from it."""
    above = np.float64 if dtype == np.float32 else np.longdouble
    weight = node.weight.T
    products = np.abs(d).astype(np.float64) @ np.abs(weight).T.astype(np.float64) * (1.0 + 2.0**-40)
    total = a.astype(above) + (d.astype(above) @ weight.astype(above).T)
    terms = np.broadcast_to((d != 0).sum(axis=1, keepdims=True).astype(np.float64), a.shape)
    limit = bounds.accumulate(plain(np.dtype(dtype).name), terms, np.abs(a).astype(np.float64), products).limit
    # the sum here is itself rounded, in the wider format
    limit = limit + (terms + 2.0) * float(np.finfo(above).eps) * (np.abs(a).astype(np.float64) + products)
    return cell_value(node, wide(total), limit, x, "Tanh", dtype, NATIVE)


def run(dtype, compare, adversarial, seed, counts):
    """One solve of a random cell from a random state, in lockstep; adds to the counts."""
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((SIZE, SIZE)) * (0.9 / (2.0 * SIZE**0.5))).astype(dtype)
    bias, x = rng.standard_normal(SIZE).astype(dtype), rng.standard_normal((BATCH, SIZE)).astype(dtype)
    node = LinearNode("z", np.ascontiguousarray(weight.T), bias, 1.0, 1.0, None)
    tau, unit = np.dtype(dtype).type(0.01), np.dtype(dtype).type
    z = np.tanh(rng.standard_normal((BATCH, SIZE))).astype(dtype)
    r, a = z.copy(), VARIANTS["ascending"](np.zeros((BATCH, SIZE), dtype), z, weight)
    d = np.where(rng.random((BATCH, SIZE)) < 0.3, unit(0.1) * rng.standard_normal((BATCH, SIZE)).astype(dtype), unit(0))
    for _ in range(EVALUATIONS):
        value, error = golden(a, d, node, x, dtype)
        if adversarial:  # differences on the threshold, give or take a few bounds
            near = np.sign(rng.standard_normal(z.shape)) * (tau + error * rng.uniform(-3, 3, z.shape))
            r = np.where(rng.random(z.shape) < 0.5, (value - near).astype(dtype), r)
        # section 3.4, with known references and thresholds
        centre = (value - r).astype(np.float64)
        spread = error * (1.0 + bounds.unit_roundoff(np.dtype(dtype)))
        spread = (spread + bounds.unit_roundoff(np.dtype(dtype)) * np.abs(centre)).astype(np.float64)
        ambiguous = ~(np.abs(np.abs(centre) - float(tau)) > spread)
        expected = np.abs(centre) >= float(tau) if compare == "ge" else np.abs(centre) > float(tau)
        following = None
        for name, accumulate in VARIANTS.items():
            after = accumulate(a, d, weight)
            argument = np.tanh(after + bias + x)
            size = np.abs(argument - r)
            sent = ~(size < tau) if compare == "ge" else ~(size <= tau)
            flipped = sent != expected
            counts["decisions"] += sent.size
            counts["ambiguous"] += int(ambiguous.sum())
            counts["flipped"] += int(flipped.sum())
            counts["unexplained"] += int((flipped & ~ambiguous).sum())
            counts["up"] += int((flipped & sent).sum())
            counts["variants"][name] = counts["variants"].get(name, 0) + int(flipped.sum())
            if following is None:
                following = after, argument, sent
        a, z, sent = following
        d, r = np.where(sent, z - r, unit(0)), np.where(sent, z, r)


def measure(needed):
    """Solves until the decisions are as many as asked for; counts per dtype and kind of state."""
    found, began, seed = {}, time.perf_counter(), 0
    kinds = [(dtype, kind) for dtype in (np.float32, np.float64) for kind in ("random", "adversarial")]
    share = {"float32": 0.46, "float64": 0.04}  # sums in the wider format of float64 are slow
    for dtype, kind in kinds:
        name = np.dtype(dtype).name
        counts = {"decisions": 0, "ambiguous": 0, "flipped": 0, "unexplained": 0, "up": 0, "variants": {}}
        while counts["decisions"] < needed * share[name]:
            seed += 1
            run(dtype, ("gt", "ge")[seed % 2], kind == "adversarial", seed, counts)
        counts["ambiguous_fraction"] = counts["ambiguous"] / counts["decisions"]
        counts["down"] = counts["flipped"] - counts["up"]
        found[f"{name} {kind}"] = counts
    total = sum(counts["decisions"] for counts in found.values())
    unexplained = sum(counts["unexplained"] for counts in found.values())
    return {"decisions": total, "unexplained": unexplained, "seconds": time.perf_counter() - began, "by_kind": found}


def main(arguments: list[str]) -> int:
    """Count, and write what was counted; the exit status is 1 when a flip is not explained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON file to write")
    parser.add_argument("--decisions", type=int, default=NEEDED, help="how many decisions to make at least")
    options = parser.parse_args(arguments)
    with np.errstate(all="ignore"):
        found = measure(options.decisions)
    result = {
        "schema": "refdeq-decisions/1",
        "command": shlex.join(["python", "benchmarks/judge/decisions.py", *arguments]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "source_hash": judge_hash(),
        "machine": {"python": platform.python_version(), "numpy": np.__version__, "processor": platform.machine()},
        "variants": list(VARIANTS),
        "batch": BATCH,
        "size": SIZE,
        **found,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(f"{result['decisions']} decisions, {result['unexplained']} unexplained, {result['seconds']:.0f} s\n")
    return int(result["unexplained"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
