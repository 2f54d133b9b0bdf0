"""How far the activations of fast order are from the truth: every float32 there is, and many float64, hard ones among them.

    python benchmarks/activation_accuracy.py [--threads 2] [--json OUT]

float32: all 2^32 arguments of every function. The truth is the strict formula evaluated in float64, whose error is below 2^-27
of a float32 unit; for sine and cosine beyond 2^17, where that formula loses its argument, NumPy's in float64. NaN, infinities
and signs of zero have to be those of the truth; what is not counts as *wrong*, not as an error.

float64: arguments drawn in the ranges where something happens, and for sine and cosine those nearest to a multiple of pi/2 in
every binade, from continued fractions. The truth has 200 bits and comes from mpmath.

Errors are in units in the last place of the truth's binade, those of a correctly rounded function are up to 0.5. What the
backend declares (N-8) is beside them.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import json
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mpmath
import numpy as np
from numba import njit
from refdeq_numba.activation_rows import STRICT, row_function
from refdeq_numba.machine import bits, from_bits
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from refdeq.registry import load_backend

CHUNK, PIECE = 2**24, 2**14
EXACT = {
    "Tanh": mpmath.tanh,
    "Sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "Sin": mpmath.sin,
    "Cos": mpmath.cos,
    "Exp": mpmath.exp,
}
LIBRARY = {"Sin": np.sin, "Cos": np.cos}
REDUCED, TRIG_LIMIT = 2.0**17, 2.0**30
LARGEST = float(np.finfo(np.float32).max)


@njit(error_model="numpy", nogil=True)
def compare(got, truth, found):
    """Worst error, where, how many above half a unit and above one, how many wrong; into `found`."""
    for k in range(got.size):
        y, r = np.float64(got[k]), truth[k]
        rounded = np.float64(np.float32(r))
        if r != r or abs(rounded) > LARGEST or abs(y) > LARGEST or y != y:
            found[4] += not (y == rounded or (y != y and r != r))
            continue
        if rounded == 0.0 and (bits(y) ^ bits(r)) < 0:
            found[4] += 1
            continue
        exponent = max((bits(abs(r)) >> 52) - 1023, -126)
        error = abs(y - r) * from_bits((23 - exponent + 1023) << 52)
        found[2] += error > 0.5000001
        found[3] += error > 1.0
        if error > found[0]:
            found[0], found[1] = error, k


def apply(order: str, name: str, values: np.ndarray) -> np.ndarray:
    """The values of an activation, from the loop over a row that solves call."""
    out = values.copy()
    _callable(order, name, out.dtype.name)(out.ctypes.data, out.size)
    return out


@functools.cache
def _callable(order: str, name: str, dtype: str) -> Callable[[int, int], None]:
    loop = row_function(order, name, dtype)
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(loop.address)


def true_values(name: str, x: np.ndarray) -> np.ndarray:
    """Of float32 arguments, in float64."""
    truth = apply("strict", name, x.astype(np.float64))
    if name in LIBRARY:
        far = (np.abs(x) > REDUCED) & (np.abs(x) <= TRIG_LIMIT)
        if far.any():
            truth[far] = LIBRARY[name](x[far].astype(np.float64))
    return truth


def measure_chunk(name: str, start: int) -> tuple[np.ndarray, float]:
    """What :func:`compare` finds in one run of bit patterns, and the argument of the worst error; piece by piece, in cache."""
    total, at = np.zeros(5), 0.0
    offsets = np.arange(PIECE, dtype=np.uint32)
    for first in range(start, start + CHUNK, PIECE):
        x = (offsets + np.uint32(first)).view(np.float32)
        found = np.zeros(5)
        with np.errstate(all="ignore"):
            compare(apply("fast", name, x), true_values(name, x), found)
        if found[0] > total[0]:
            total[0], at = found[0], float(x[int(found[1])])
        total[2:] += found[2:]
    return total, at


def measure_single(name: str, pool: ThreadPoolExecutor, progress: Progress) -> dict[str, object]:
    """All arguments of float32."""
    parts = []
    task = progress.add_task(f"{name}, float32", total=2**32 // CHUNK)
    for part in pool.map(lambda start: measure_chunk(name, start), range(0, 2**32, CHUNK)):
        parts.append(part)
        progress.advance(task)
    found, at = np.array([part[0] for part in parts]), [part[1] for part in parts]
    worst = int(found[:, 0].argmax())
    return {
        "arguments": 2**32,
        "largest_error": float(found[worst, 0]),
        "at": at[worst],
        "not_correctly_rounded": int(found[:, 2].sum()),
        "above_one": int(found[:, 3].sum()),
        "wrong": int(found[:, 4].sum()),
    }


def nearest_to_quarter_turns() -> list[float]:
    """In every binade up to 2^30, float64 numbers very near to a multiple of pi/2."""
    hard = []
    with mpmath.workprec(400):
        for exponent in range(31):
            ratio = mpmath.ldexp(1, exponent - 52) / (mpmath.pi / 2)
            before, now, rest = 0, 1, ratio  # denominators of the convergents of the ratio
            while now < 2**53:
                rest = 1 / (rest - mpmath.floor(rest))
                before, now = now, int(mpmath.floor(rest)) * now + before
                scale = -(-(2**52) // now)
                if scale * now < 2**53:
                    hard.append(float(mpmath.ldexp(scale * now, exponent - 52)))
    return [x for x in hard if x <= TRIG_LIMIT]


def arguments(name: str, rng: np.random.Generator, count: int) -> np.ndarray:
    """Float64 arguments: all magnitudes, and uniform where the function bends."""
    sizes = np.exp(rng.uniform(-40.0, 6.6, count)) * rng.choice([-1.0, 1.0], count)
    parts = [sizes, rng.uniform(-0.7, 0.7, count), rng.uniform(-3.0, 3.0, count), rng.uniform(-25.0, 25.0, count)]
    if name in LIBRARY:
        turns = np.round(rng.uniform(0, 2**29, count)) * (np.pi / 2)
        hard = np.array(nearest_to_quarter_turns())
        parts += [rng.uniform(-TRIG_LIMIT, TRIG_LIMIT, count), turns, np.arange(1000) * (np.pi / 2), hard, -hard]
    else:
        edges = np.arange(-1074.0, 1025.0) * np.log(2.0) / (2.0 if name == "Tanh" else 1.0)
        parts += [rng.uniform(-745.0, 709.0, count), edges, edges + 0.5 * np.log(2.0)]
    x = np.concatenate(parts)
    return x[x < 709.0] if name == "Exp" else x


def measure_double(name: str, count: int) -> dict[str, object]:
    """A sample of float64."""
    x = arguments(name, np.random.default_rng(1), count)
    with np.errstate(all="ignore"):
        got = apply("fast", name, x)
    worst, at = 0.0, 0.0
    with mpmath.workprec(200):
        for argument, value in zip(x.tolist(), got.tolist(), strict=True):
            truth = EXACT[name](mpmath.mpf(argument))
            exponent = max(int(mpmath.frexp(truth)[1]) - 53, -1074) if truth else -1074
            error = float(abs(mpmath.mpf(value) - truth) * mpmath.mpf(2) ** -exponent)
            if not error <= worst:
                worst, at = error, argument
    return {"arguments": len(x), "largest_error": worst, "at": at}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=40_000, help="of float64, per range")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console = Console()
    results: dict[str, dict[str, object]] = {"float32": {}, "float64": {}}
    with ThreadPoolExecutor(options.threads) as pool, Progress(console=console) as progress:
        for name in STRICT:
            results["float32"][name] = measure_single(name, pool, progress)
        task = progress.add_task("float64", total=len(STRICT))
        for name in STRICT:
            results["float64"][name] = measure_double(name, options.samples)
            progress.advance(task)
    info = load_backend("numba").info
    table = Table(
        "dtype", "function", "arguments", "largest error, ulp", "at", "wrong", title=f"declared: {info.activation_ulp} ulp"
    )
    for dtype, functions in results.items():
        for name, row in functions.items():
            wrong = str(row.get("wrong", ""))
            table.add_row(dtype, name, f"{row['arguments']:,}", f"{row['largest_error']:.4f}", repr(row["at"]), wrong)
    console.print(table)
    if options.json is not None:
        report = {"machine": platform.machine(), "declared": info.activation_ulp, "results": results}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
