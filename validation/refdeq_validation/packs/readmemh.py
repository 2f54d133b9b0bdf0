"""Cases as ``$readmemh`` files with a SystemVerilog bench: stimuli and expected bits for hardware, one folder per case."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError
from refdeq.types import DeltaRule
from refdeq_validation.cases.model import Case
from refdeq_validation.packs.c_arrays import fits_c
from refdeq_validation.packs.expected import expected_steps

__all__ = ["fits_hardware", "readmemh_files"]

Array = np.ndarray[Any, Any]

LARGEST = 1 << 16
"""Numbers of one memory: larger cases are left out."""

_MEMORIES = {"sent": 0, "always": 1}


def fits_hardware(case: Case) -> bool:
    """Whether a case can be put to the bench: one session of a Gemm, decisions per element, memory ``sent`` or ``always``."""
    rule = case.problem.gate_rule
    if not fits_c(case) or rule is None or case.problem.op != "Gemm" or case.problem.weight.size > LARGEST:
        return False
    plain = rule.granularity in ("element", "channel") and rule.memory in _MEMORIES and rule.delta_dtype is None
    one = all(int(call.options.get("session", 0)) == 0 for call in case.calls) and not rule.refresh
    first = [call.name for call in case.calls].count("step") == len(case.calls) - 1 and case.calls[0].name != "step"
    return plain and one and first and rule.bias == "separate"


def readmemh_files(cases: Sequence[Case], *, strict: bool = False) -> dict[str, bytes]:
    """Files of the folder ``hex/``: the bench, one top module per case, and its memories.

    Parameters
    ----------
    cases : sequence of Case
        Those that do not fit (:func:`fits_hardware`) are left out; how many is said in ``hex/cases.txt``.
    strict : bool
        Compare accumulators and outputs in every case, for hardware in strict order (N-6); otherwise only in cases that expect
        ``exact``, where every order gives the same bits. Masks and references are compared in all.

    Raises
    ------
    ArgumentError
        When no case fits.
    """
    chosen = [case for case in cases if fits_hardware(case)]
    if not chosen:
        raise ArgumentError("--readmemh", expected="a profile with unit steps of a Gemm", got=f"{len(cases)} cases")
    bench = resources.files("refdeq_validation.packs") / "c" / "refdeq_bench.sv"
    files = {"hex/refdeq_bench.sv": bench.read_bytes()}
    listing = [f"# {len(chosen)} cases; {len(cases) - len(chosen)} are no steps of a Gemm that this bench can ask for."]
    for number, case in enumerate(chosen):
        name = f"case_{number:04d}"
        memories, sizes = _memories(case)
        files |= {f"hex/{name}/{key}.hex": text.encode() for key, text in memories.items()}
        files[f"hex/{name}.sv"] = _top(case, name, sizes, strict=strict).encode()
        listing.append(f"{name} {case.id}")
    files["hex/cases.txt"] = ("\n".join(listing) + "\n").encode()
    return files


def _memories(case: Case) -> tuple[dict[str, str], dict[str, int]]:
    """Memories of a case, one number per line, and its sizes."""
    problem, first = case.problem, case.calls[0]
    steps = [step for step in expected_steps(case) if step is not None]
    inputs = [call.arrays["u"] for call in case.calls if call.name == "step"]
    outputs, width = problem.weight.shape
    batch, rule = len(inputs[0]), problem.gate_rule
    assert rule is not None
    zero = np.zeros(1, problem.dtype)
    given = first.arrays if first.name == "set_state" else {"r": np.zeros((batch, width)), "a": np.zeros((batch, outputs))}
    threshold = np.broadcast_to(np.asarray(rule.threshold, np.float64).astype(problem.dtype), (width,))
    arrays = {
        "weight": problem.weight,
        "bias": zero if problem.bias is None else problem.bias,
        "threshold": threshold,
        "r0": np.asarray(given["r"], problem.dtype),
        "a0": np.asarray(given["a"], problem.dtype),
        "count0": np.asarray(given.get("count", np.zeros(batch)), np.int64),
        "u": np.stack(inputs),
        **{name: np.stack([step[name] for step in steps]) for name in ("mask", "r", "a", "y")},
    }
    sizes = {"K": width, "N": outputs, "BATCH": batch, "STEPS": len(inputs)}
    return {name: _hex(array) for name, array in arrays.items()}, sizes


def _hex(array: Array) -> str:
    """Bits in hexadecimal, one number per line."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype == bool:
        return "".join(f"{int(value)}\n" for value in flat)
    return "".join(f"{int(value):0{2 * flat.itemsize}x}\n" for value in flat.view(f"u{flat.itemsize}"))


def _top(case: Case, name: str, sizes: dict[str, int], *, strict: bool) -> str:
    """Top module of one case: the bench with its parameters."""
    rule: DeltaRule | None = case.problem.gate_rule
    assert rule is not None
    values = {
        **sizes,
        "WIDTH": 32 if case.problem.dtype == "float32" else 64,
        "GE": int(rule.compare == "ge"),
        "ALWAYS": _MEMORIES[rule.memory],
        "DENSE_START": int(rule.start == "dense"),
        "BIAS": int(case.problem.bias is not None),
        "VALUES": int(strict or case.expect == "exact"),
    }
    parameters = ",\n    ".join(f".{key}({value})" for key, value in values.items())
    return (
        f'// {case.id}\nmodule {name};\n  refdeq_bench #(\n    {parameters},\n    .FOLDER("{name}")\n  ) bench ();\nendmodule\n'
    )
