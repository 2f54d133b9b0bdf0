"""Bugs planted in kernels, one line each: in some order of threads a check of the simulator catches every one."""

import importlib.util
import inspect

import pytest
from kernel_checks import CHECKS
from refdeq_cuda.arguments import kernel_function, kernel_record
from refdeq_cuda.simulated_device import SimulatedDevice

from refdeq.errors import LaunchError

BARRIER = "cuda.syncthreads()"

# module, check, (what, text that is there, text instead, which occurrence)
BUGS = [
    ("moves", "transpose", ("missing barrier", BARRIER, "pass", 0)),
    ("moves", "transpose", ("divergent barrier", BARRIER, f"if first_row < 4: {BARRIER}", 0)),
    ("moves", "transpose", ("tile too narrow", "left + lane < width", "left + lane < width - 1", 0)),
    ("moves", "transpose", ("tile not turned", "tile[lane, i]", "tile[i, lane]", 0)),
    ("moves", "moves", ("last element missed", "count * n, cuda", "count * n - 1, cuda", 2)),
    ("moves", "moves", ("other sample", "rows[entry]", "entry", 2)),
    ("moves", "scatter", ("wrong width", "b * width", "b * n", 1)),
    ("elementwise", "operators", ("zero kept", "x[at] <= zero", "x[at] < zero", 0)),
    ("elementwise", "operators", ("term missed", "(k + 1) * terms", "(k + 1) * terms - 1", 0)),
    ("elementwise", "biases", ("other order", "plus(plus(s[at], bias[k]), a[at])", "plus(s[at], plus(bias[k], a[at]))", 0)),
    ("activations", "activations", ("not widened", "strict_exp(float64(x[at]))", "strict_exp(x[at])", 0)),
    ("activations", "activations", ("other function", "strict_cos(", "strict_sin(", 0)),
    ("gates", "gate", ("NaN kept back", "not (abs(difference) <= threshold)", "abs(difference) > threshold", 0)),
    ("gates", "gate", ("sum instead of bits", "r[at] = u[at]", "r[at] = plus(r[at], difference)", 1)),
    ("gates", "counts", ("first barrier missing", BARRIER, "pass", 0)),
    ("gates", "counts", ("second barrier missing", BARRIER, "pass", 1)),
    ("gates", "counts", ("stale total", "total[0] = 0", "pass", 1)),
    ("gates", "lists", ("missing barrier", BARRIER, "pass", 4)),
    ("gates", "lists", ("lane counts itself", "(1 << lane) - 1", "(2 << lane) - 1", 0)),
    ("gates", "lists", ("half a mask", "_FULL = 0xFFFFFFFF", "_FULL = 0x0000FFFF", 0)),
    ("gates", "lists", ("one buffer", "turn = 1 - turn", "turn = 0", 0)),
    ("gates", "lists", ("divergent vote", "k < n and mask", "n > 0 and mask", 0)),
    ("sums", "gemm_kernels", ("first barrier missing", BARRIER, "pass", 0)),
    ("sums", "gemm_kernels", ("stale stage", BARRIER, "pass", 1)),
    ("sums", "gemm_kernels", ("stage too short", "min(_THREADS, many - first)", "min(_THREADS - 1, many - first)", 0)),
    ("sums", "gemm_kernels", ("tile's barrier missing", BARRIER, "pass", 2)),
    ("sums", "gemm_kernels", ("stale tile", BARRIER, "pass", 3)),
    ("sums", "gemm_kernels", ("tile too short", "min(_SIDE, inner - first)", "min(_SIDE - 1, inner - first)", 0)),
    ("sums", "gemm_kernels", ("divergent barrier", BARRIER, f"if is_own: {BARRIER}", 3)),
    ("sums", "gemm", ("mask ignored", "has_mask == 0 or mask[at] != 0", "has_mask < 2", 0)),
    ("sums", "fused", ("rounded twice", "return fma(w, d, a)", "return plus(a, times(w, d))", 0)),
    ("sums", "conv", ("border read", "y < 0 or y >= height", "y < 0 or y > height", 0)),
    ("sums", "conv", ("not sent, read", "mask[of_d] != 0", "mask[of_d] >= 0", 0)),
    ("sums", "operators", ("other product", "left_pick[p]", "p", 0)),
    ("norms", "trees", ("missing barrier", BARRIER, "pass", 0)),
    ("norms", "trees", ("zero weight read", "weight != float64(0.0)", "weight == weight", 0)),
    ("norms", "norms", ("wrong lane", "(lane - offset % _LANES + _LANES) % _LANES", "lane", 0)),
    ("norms", "norms", ("NaN loses", "size > total or size != size", "size > total", 0)),
]  # fmt: skip


def planted(folder, module, old, new, which):
    """The module with its `which`-th `old` replaced, imported from a file of its own."""
    source = inspect.getsource(importlib.import_module(f"refdeq_cuda.{module}"))
    parts = source.split(old)
    assert len(parts) > which + 1, f"{old!r} occurs {len(parts) - 1} times in {module}"
    path = folder / f"{module}.py"
    path.write_text(old.join(parts[: which + 1]) + new + old.join(parts[which + 1 :]), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"refdeq_cuda_with_a_bug_{module}", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize(("module", "check", "bug"), BUGS, ids=lambda value: value[0] if isinstance(value, tuple) else value)
def test_planted_bugs_are_caught(module, check, bug, tmp_path):
    _, old, new, which = bug
    wrong = planted(tmp_path, module, old, new, which)

    def find(name):
        return getattr(wrong, name) if kernel_record(name).module == module else kernel_function(name)

    for seed in (0, 1, 3):
        try:
            CHECKS[check](SimulatedDevice(seed=seed, find=find))
        except (AssertionError, LaunchError):
            return
    pytest.fail("no order of threads shows it")
