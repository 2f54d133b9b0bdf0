"""Bugs that are typical of kernels, planted in copies of the sources: each must be found, by a wrong result or by an error."""

from __future__ import annotations

import shutil

import cupy_cases_elements
import cupy_cases_sums
import numpy as np
import pytest
from cupy_cases import run
from refdeq_cupy.loader import SOURCES
from refdeq_cupy.simulated import ShimDevice

from refdeq.errors import LaunchError

CASES = cupy_cases_elements.CASES | cupy_cases_sums.CASES

OUTSIDE = "reads outside of all arrays: at byte "
LISTED_LOOP = "            if (i < n)\n                for (int t = 0; t < here; t++) total = add_product<FUSED>(total, weight["
EXP_RESULT = "const double y = 1.0 + 2.0 * (p / (q - p));"

# Changes (file, old, new) to one copy of the sources, and the kernels that they break with what is said: "" for a wrong result.
VARIANTS = {
    "transpose without barrier, a position beyond the last": (
        [
            ("moves.cu", "    __syncthreads();\n    const int out_column", "    const int out_column"),
            ("moves.cu", "x_step + position[element.k]]", "x_step + position[element.k + 1]]"),
        ],
        {"transpose": "", "gather": "uses an address that cannot be"},
    ),
    "transpose without last column": (
        [("moves.cu", "column < width)", "column < width - 1)")],
        {"transpose": ""},
    ),
    "lists stale, wrong mask, NaN swallowed, a row beyond the last": (
        [
            ("gates.cu", "sent = any[element.sample * groups", "sent = any[(element.sample + 2) * groups"),
            ("gates.cu", "__syncthreads();  // the counts", "// the counts"),
            ("lists.cuh", "__shfl_down_sync(0xFFFFFFFFu", "__shfl_down_sync(0x0000FFFFu"),
            ("gate_rule.cuh", "!(size <= threshold)", "size > threshold"),
        ],
        {
            "list_sent": "",
            "count_sent": "does not name it",
            "count_nonzero": "does not name it",
            "gate": "",
            "gate_share": OUTSIDE,
        },
    ),
    "own lane counted, sums without barrier": (
        [
            ("gates.cu", "(1u << lane) - 1", "(2u << lane) - 1"),
            ("lists.cuh", "    __syncthreads();\n    if (threadIdx.x == 0)", "    if (threadIdx.x == 0)"),
        ],
        {"list_sent": "", "count_sent": "", "count_nonzero": ""},
    ),
    "barrier in a branch": (
        [("gates.cu", "__syncthreads();  // the counts", "if (sent) __syncthreads();  // the counts")],
        {"list_sent": "barrier divergence"},
    ),
    "listed columns read too early, tile too short": (
        [
            ("sums.cu", "            __syncthreads();\n" + LISTED_LOOP, LISTED_LOOP),
            ("sums.cu", "static_cast<int>(inner - first) : 32", "static_cast<int>(inner - first) : 31"),
        ],
        {"gemm_listed": "", "gemm_dense": ""},
    ),
    "listed columns overwritten, rows leave early": (
        [
            ("sums.cu", "__syncthreads();  // all have read", "// all have read"),
            ("sums.cu", "const bool is_there = top + y < count;", "const bool is_there = true; if (top + y >= count) return;"),
        ],
        {"gemm_listed": "", "gemm_dense": "barrier divergence"},
    ),
    "values staged once, a tap too many, rows of the weight read beyond their end": (
        [
            ("sums.cu", "if (is_there && x < here)", "if (is_there && x < here && first == 0)"),
            ("sums.cu", "tap < taps", "tap <= taps"),
            ("sums.cu", LISTED_LOOP, LISTED_LOOP.replace("if (i < n)\n", "\n")),
        ],
        {"gemm_dense": "", "conv": OUTSIDE, "gemm_listed": OUTSIDE},
    ),
    "mask ignored": ([("sums.cu", "(!has_mask || mask[sample * inner + first + x])", "true")], {"gemm_dense": ""}),
    "a lane left out, lanes not continued, a wrong stride": (
        [
            ("norms.cu", "total[at]);", "total[2 * at]);"),
            ("norms.cu", "__shfl_sync(0xFFFFFFFFu", "__shfl_sync(0x7FFFFFFFu"),
            ("norms.cu", "(threadIdx.x - offset) & 31", "threadIdx.x"),
        ],
        {"inner": "does not name it", "residual_part": "", "combine_round": OUTSIDE},
    ),
    "one rounding too few, one term too many": (
        [
            ("elementwise.cu", "beta * z[at] + alpha * f[at]", "fma(beta, z[at], alpha * f[at])"),
            ("elementwise.cu", "j < terms", "j <= terms"),
        ],
        {"relax": "", "mean": OUTSIDE},
    ),
    "a digit lost in a formula": ([("strict.cuh", EXP_RESULT, EXP_RESULT.replace("2.0 *", "2.0000001 *"))], {"exp": ""}),
}


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_planted_bugs_are_found(variant, tmp_path):
    changes, broken = VARIANTS[variant]
    for path in SOURCES.iterdir():
        shutil.copy(path, tmp_path)
    for name, old, new in changes:
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new), encoding="utf-8")
    device = ShimDevice(tmp_path)
    for kernel, message in broken.items():
        found = [outcome(device, kernel, seed) for seed in range(4)]
        assert any(text is not None and message in text for text in found), (kernel, found)


def outcome(device, kernel, seed):
    """None where all is right, else what went wrong, in any of the cases of a kernel."""
    device.seed = seed
    for number, make in enumerate(CASES[kernel]):
        with np.errstate(all="ignore"):
            case = make(np.random.default_rng(number), "float32")
        try:
            results = run(device, kernel, case, "float32")
        except LaunchError as error:
            return str(error)
        if any(
            not np.array_equal(result, case.expected[place], equal_nan=result.dtype.kind == "f")
            for place, result in results.items()
        ):
            return "a wrong result"
    return None


def test_without_a_bug_nothing_is_found():
    device = ShimDevice()
    for _, broken in VARIANTS.values():
        assert all(outcome(device, kernel, seed) is None for kernel in broken for seed in (0, 3))
