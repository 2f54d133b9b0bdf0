"""The arrays of one fully connected solve: made on the host, filled by the kernels, taken apart again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from refdeq.fc_pattern import ACTIVATIONS, Pattern
from refdeq.kernels import GateSpec
from refdeq.registry import FusedResult, PlanRequest
from refdeq.solvers import KrasnoselskiiMann
from refdeq.types import StopRule, Trace
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Device
from refdeq_gpu.plans import fc_layout as at

__all__ = ["Arrays", "Shape", "fixed_part", "make_arrays", "result_of", "splits_of"]

_JOBS = 132
"""Jobs that a list of columns is cut into at most, together with the tiles of outputs: about what a large device runs at once.
It is the same for every device, because the cut decides how sums are rounded in fast order."""

_OUTPUTS = 1024
"""Outputs of one job, for the same reason whatever a kernel really takes at a time."""

_MOST_SPLITS = 33


def splits_of(n: int) -> int:
    """Parts that a list of columns may be cut into in fast order: a function of n alone, so that no result depends on a grid.

    >>> [splits_of(n) for n in (256, 4096, 16384, 10**6)]
    [33, 33, 8, 1]
    """
    return max(1, min(_MOST_SPLITS, _JOBS // -(-n // _OUTPUTS)))


@dataclass(frozen=True)
class Shape:
    """How the kernels are launched; nothing of it changes a bit.

    Attributes
    ----------
    blocks, threads : int
    width : int
        Neighbouring outputs of one thread.
    """

    blocks: int
    threads: int
    width: int

    def tile(self, n: int, is_fast: bool) -> int:
        """Outputs of one job: in strict order a job is all there is to do for an output, so that every block gets some.

        >>> Shape(132, 256, 4).tile(4096, True), Shape(132, 256, 1).tile(4096, False)
        (1024, 32)
        """
        if is_fast:
            return self.threads * self.width
        return min(self.threads, -(-n // (32 * max(1, self.blocks - 1))) * 32)  # one of several blocks has other work


@dataclass
class Arrays:
    """Arguments of the kernels, in the order of the table."""

    choice: DeviceArray
    limit: DeviceArray
    weight: DeviceArray
    fixed: DeviceArray
    state: DeviceArray
    flags: DeviceArray
    words: DeviceArray
    numbers: DeviceArray
    counts: DeviceArray
    trace: DeviceArray
    control: DeviceArray

    def arguments(self) -> list[DeviceArray | int | float]:
        """All of them."""
        return [getattr(self, field.name) for field in fields(self)]


def fixed_part(
    request: PlanRequest, pattern: Pattern, bias: np.ndarray | None, operands: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, int]]:
    """Everything of the cell but its weights, behind each other, and where it is.

    Parameters
    ----------
    bias : (n,) array or None
    operands : dict of name to (1, n) or (B, n) array
        Values that depend on x, and parameters, by the names in the pattern.
    """
    dtype, gate = np.dtype(request.graph.dtype), _gate(request, pattern)
    alpha = request.solver.alpha if isinstance(request.solver, KrasnoselskiiMann) else 1.0
    parts = [np.array([pattern.slope, alpha, 1.0 - alpha, 0.0], dtype=dtype)]
    threshold = np.broadcast_to(0.0 if gate is None else gate.threshold, (pattern.n,))
    parts.append(threshold.astype(dtype))
    where = {"THRESHOLD_AT": 4, "BIAS_AT": at.ABSENT}
    size = 4 + pattern.n
    if bias is not None:
        parts.append(np.broadcast_to(bias, (1, pattern.n)).reshape(-1))
        where["BIAS_AT"], size = size, size + pattern.n
    for label, name in zip(("ENTRY", "PHASE", "FILTER"), pattern.operands, strict=True):
        where[f"{label}_AT"], where[f"{label}_STEP"] = at.ABSENT, 0
        if name is not None:
            rows = operands[name]
            parts.append(rows.reshape(-1))
            where[f"{label}_AT"], where[f"{label}_STEP"] = size, pattern.n if len(rows) > 1 else 0
            size += rows.size
    return np.concatenate(parts).astype(dtype, copy=False), where


def make_arrays(
    device: Device,
    request: PlanRequest,
    pattern: Pattern,
    shape: Shape,
    weight: DeviceArray,
    fixed: tuple[np.ndarray, dict[str, int]],
    z0: np.ndarray,
    memory: Any,
    stop: StopRule,
    trace: Trace | None,
) -> Arrays:
    """Put everything of a solve on the device."""
    n, batch, dtype = pattern.n, len(z0), np.dtype(request.graph.dtype)
    chosen = _choices(request, pattern, shape, batch, stop) | fixed[1] | _places(request, pattern, batch, stop, trace)
    is_gated, splits = bool(request.gates), chosen["SPLITS"]
    counts = np.zeros((len(at.COUNTERS), batch), dtype=np.int64)
    state = np.full(chosen["WORK_AT"] + (at.WORK_ROWS + splits) * n, np.nan, dtype=dtype)
    state[: batch * n] = z0.reshape(-1)
    if is_gated:
        r, a = _memory(request, pattern, fixed, memory, z0.shape)
        state[chosen["R_AT"] : chosen["R_AT"] + batch * n], state[chosen["A_AT"] : chosen["A_AT"] + batch * n] = r, a
        if memory is not None:
            counts[at.COUNTERS.index("EVALUATIONS")] = memory.count
    limits = {"RTOL": stop.rtol, "ATOL": stop.atol, "EPS": stop.eps, "DIVERGENCE": stop.divergence}
    limits["RATIO"] = 0.0 if stop.stagnation is None else stop.stagnation[1]
    length = 0 if trace is None else stop.max_eval * batch
    control = np.zeros((at.SLOTS, len(at.CONTROLS)), dtype=np.int64)
    control[:, at.CONTROLS.index("SAMPLE")], control[:, at.CONTROLS.index("PHASE")] = -1, at.PHASES.index("NEXT")
    return Arrays(
        choice=device.upload(np.array([chosen[name] for name in at.CHOICES], dtype=np.int64)),
        limit=device.upload(np.array([-1.0 if limits[name] is None else limits[name] for name in at.LIMITS])),
        weight=weight,
        fixed=device.upload(fixed[0]),
        state=device.upload(state),
        flags=device.upload(np.zeros(chosen["FIRED_AT"] + n + (length * n if is_gated else 0), dtype=np.uint8)),
        words=device.upload(np.zeros(at.INDEX_AT + n, dtype=np.int32)),
        numbers=device.upload(np.full(chosen["MEASURE_AT"] + at.SLOTS * len(at.MEASURES) + 2 * length, np.nan)),
        counts=device.upload(counts),
        trace=device.empty((max(1, length * n * _tracks(request, pattern, trace)),), dtype),
        control=device.upload(control),
    )


def _window(stop: StopRule) -> int:
    return 0 if stop.stagnation is None else stop.stagnation[0]


def _gate(request: PlanRequest, pattern: Pattern) -> GateSpec | None:
    return request.gates.get(pattern.linear)


def _choices(request: PlanRequest, pattern: Pattern, shape: Shape, batch: int, stop: StopRule) -> dict[str, int]:
    gate, solver, is_fast = _gate(request, pattern), request.solver, request.order == "fast"
    return {
        "N": pattern.n,
        "BATCH": batch,
        "ACTIVATION": ACTIVATIONS.index(pattern.activation),
        "IS_FAST": is_fast,
        "IS_GATED": gate is not None,
        "IS_GE": gate is not None and gate.compare == "ge",
        "IS_ALWAYS": gate is not None and gate.memory == "always",
        "IS_DENSE_START": gate is not None and request.start == "dense",
        "IS_FOLDED": gate is not None and request.bias == "folded" and pattern.bias is not None,
        "BY_SAMPLE": gate is not None and gate.granularity == "sample",
        "REFRESH": request.refresh if gate is not None else 0,
        "IS_PICARD": not isinstance(solver, KrasnoselskiiMann) or solver.alpha == 1.0,
        "IS_LINF": stop.norm == "linf",
        "MAX_EVAL": stop.max_eval,
        "WINDOW": _window(stop),
        "WIDTH": shape.width,
        "TILE": shape.tile(pattern.n, is_fast),
        "SPLITS": splits_of(pattern.n) if is_fast else 1,
    }


def _places(request: PlanRequest, pattern: Pattern, batch: int, stop: StopRule, trace: Trace | None) -> dict[str, int]:
    """Where the parts of the arrays that are written begin."""
    n, is_gated = pattern.n, bool(request.gates)
    rows = batch if is_gated else 0  # without gates there is one accumulator, and nothing is remembered
    where = {"R_AT": batch * n, "A_AT": (batch + rows) * n, "ROW_STEP": n if is_gated else 0}
    where["WORK_AT"] = where["A_AT"] + max(rows, 1) * n
    where["FIRED_AT"] = batch * n
    where["TRACE_MASK"] = where["FIRED_AT"] + n if trace is not None and is_gated else at.ABSENT
    where["RECENT_AT"] = 2 * batch
    where["MEASURE_AT"] = where["RECENT_AT"] + _window(stop) + 1
    names = ("RESIDUAL", "SCALE", "Z", "F", "R", "A", "LINEAR", "ACTIVATED")
    where |= {f"TRACE_{name}": at.ABSENT for name in names}
    if trace is None:
        return where
    length = stop.max_eval * batch
    where["TRACE_RESIDUAL"] = where["MEASURE_AT"] + at.SLOTS * len(at.MEASURES)
    where["TRACE_SCALE"] = where["TRACE_RESIDUAL"] + length
    for position, name in enumerate(_tracked(request, pattern, trace)):
        where[f"TRACE_{name}"] = position * length * n
    return where


def _tracked(request: PlanRequest, pattern: Pattern, trace: Trace) -> list[str]:
    """Arrays of the cell's dtype that a trace has, in the order in which they lie on the device."""
    names = ["Z", "F"]
    names += ["R", "A"] if request.gates else []
    names += ["LINEAR"] if pattern.linear in trace.values else []
    return names + (["ACTIVATED"] if pattern.activated in trace.values else [])


def _tracks(request: PlanRequest, pattern: Pattern, trace: Trace | None) -> int:
    return 0 if trace is None else len(_tracked(request, pattern, trace))


def _memory(
    request: PlanRequest, pattern: Pattern, fixed: tuple[np.ndarray, dict[str, int]], memory: Any, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """References and accumulators to begin from: after a reset (D-5), or those of `memory` (D-9)."""
    if memory is not None:
        return memory.r[pattern.watched].reshape(-1), memory.a[pattern.linear].reshape(-1)
    a = np.zeros(shape, dtype=fixed[0].dtype)
    if request.bias == "folded" and pattern.bias is not None:
        first = fixed[1]["BIAS_AT"]
        a += fixed[0][first : first + pattern.n]
    return np.zeros(a.size, dtype=a.dtype), a.reshape(-1)


def result_of(
    device: Device, request: PlanRequest, pattern: Pattern, arrays: Arrays, batch: int, stop: StopRule, trace: Trace | None
) -> FusedResult:
    """Take the arrays of a finished solve apart; fill the trace."""
    n, is_gated = pattern.n, bool(request.gates)
    state, flags, numbers = (device.download(part) for part in (arrays.state, arrays.flags, arrays.numbers))
    counts = dict(zip(at.COUNTERS, device.download(arrays.counts).reshape(len(at.COUNTERS), batch), strict=True))
    where = _places(request, pattern, batch, stop, trace)

    def rows(first: int) -> np.ndarray:
        return state[first : first + batch * n].reshape(batch, n).copy()

    if trace is not None:
        _fill(trace, request, pattern, where, counts["N_EVAL"], flags, numbers, device.download(arrays.trace))
    gate, node = ({pattern.watched}, {pattern.linear}) if is_gated else (set(), set())
    return FusedResult(
        z={pattern.state: rows(0)},
        status=counts["STATUS"].copy(),
        n_eval=counts["N_EVAL"].copy(),
        residual=numbers[:batch].copy(),
        scale=numbers[batch : 2 * batch].copy(),
        r={name: rows(where["R_AT"]) for name in gate},
        mask={name: flags[: batch * n].reshape(batch, n).astype(np.bool_) for name in gate},
        a={name: rows(where["A_AT"]) for name in node},
        count=counts["EVALUATIONS"].copy(),
        sent=dict.fromkeys(gate, counts["SENT"].copy()),
        nonzero=dict.fromkeys(gate, counts["NONZERO"].copy()),
        macs=dict.fromkeys(node, counts["MACS"].copy()),
        note=_note(counts) if is_gated else "",
    )


def _fill(
    trace: Trace,
    request: PlanRequest,
    pattern: Pattern,
    where: Mapping[str, int],
    n_eval: np.ndarray,
    flags: np.ndarray,
    numbers: np.ndarray,
    recorded: np.ndarray,
) -> None:
    """Copy what was recorded of the evaluations that were made (S-10); the rest of a trace stays as it was."""
    length, batch = trace.active.shape
    trace.active[...] = np.arange(length)[:, None] < n_eval
    made = trace.active

    def part(array: np.ndarray, first: int, *shape: int) -> np.ndarray:
        return array[first : first + int(np.prod(shape))].reshape(shape)

    for name, target in (("RESIDUAL", trace.residual), ("SCALE", trace.scale)):
        target[made] = part(numbers, where[f"TRACE_{name}"], length, batch)[made]
    targets: dict[str, np.ndarray | None] = {"Z": trace.z[pattern.state], "F": trace.f[pattern.state]}
    if request.gates:
        targets |= {"R": trace.r[pattern.watched], "A": trace.a[pattern.linear]}
        mask = part(flags, where["TRACE_MASK"], length, batch, pattern.n)
        trace.mask[pattern.watched][made] = mask[made] != 0
    targets |= {"LINEAR": trace.values.get(pattern.linear), "ACTIVATED": trace.values.get(pattern.activated)}
    for name, array in targets.items():
        if array is not None:
            array[made] = part(recorded, where[f"TRACE_{name}"], length, batch, pattern.n)[made]


def _note(counts: Mapping[str, np.ndarray]) -> str:
    """What the kernels did, as shares of all evaluations of samples."""
    made, whole, quiet = (int(counts[name].sum()) for name in ("N_EVAL", "WHOLE", "QUIET"))
    shares = (part / max(1, made) for part in (whole, made - whole - quiet, quiet))
    return "sums {:.0%} whole, {:.0%} by lists, {:.0%} none".format(*shares)
