"""What plans of independent rows read and write on the device: operands, results, traces, and the numbers of a stop rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError
from refdeq.fc_pattern import Pattern
from refdeq.registry import FusedResult, PlanRequest
from refdeq.types import StopRule, Trace
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Device

__all__ = [
    "FLAGS",
    "LARGEST_BUDGET",
    "Operands",
    "Outcome",
    "StopNumbers",
    "Tracks",
    "check_size",
    "constants_of",
    "flags_of",
    "operands_of",
    "outcome_of",
    "relaxation",
    "tracks_of",
]

FLAGS = {
    "entry": 1,
    "bias": 2,
    "phase": 4,
    "filter": 8,
    "memory": 16,
    "dense start": 32,
    "ge": 64,
    "picard": 128,
    "linf": 256,
    "swapping": 512,
    "finite": 1024,
    "traced": 2048,
    "activation": 4096,
    "gated": 8192,
    "whole": 16384,
}
"""Bits of the word of choices that kernels get; the same numbers as in ``row_flags.cuh``."""

LARGEST_BUDGET = 2**31 - 1
"""Evaluations that kernels count to, and no further."""

_LARGEST_BATCH = 1 << 30
"""The queue of tiles counts rows in 32 bits, a little beyond the last."""


def check_size(z: np.ndarray, stop: StopRule) -> None:
    """Refuse what does not fit into the numbers of the kernels.

    >>> check_size(np.zeros((1, 3)), StopRule(max_eval=2**31))
    Traceback (most recent call last):
    ...
    refdeq.errors.ArgumentError: max_eval: expected at most 2147483647 in a solve by rows, got 2147483648
    """
    if len(z) > _LARGEST_BATCH:
        raise ArgumentError("z0", expected=f"at most {_LARGEST_BATCH} samples at a time", got=len(z))
    if stop.max_eval > LARGEST_BUDGET:
        raise ArgumentError("max_eval", expected=f"at most {LARGEST_BUDGET} in a solve by rows", got=stop.max_eval)


def constants_of(device: Device, pattern: Pattern, parameters: Mapping[str, np.ndarray], dtype: Any) -> dict[str, DeviceArray]:
    """Bias and operands that are parameters, as (1, n) arrays on the device."""
    rows = pattern.constants(parameters)
    if pattern.bias is not None:
        rows[pattern.bias] = np.broadcast_to(parameters[pattern.bias], (1, pattern.n))
    return {name: device.upload(np.array(row, dtype=dtype)) for name, row in rows.items()}


def relaxation(solver: Any) -> tuple[float, float]:
    """Factors of f(z) and z in the next argument (S-6).

    >>> from refdeq.solvers import KrasnoselskiiMann, Picard
    >>> relaxation(Picard()), relaxation(KrasnoselskiiMann(alpha=0.75))
    ((1.0, 0.0), (0.75, 0.25))
    """
    alpha = float(getattr(solver, "alpha", 1.0))
    return alpha, 1.0 - alpha


@dataclass(frozen=True)
class Operands:
    """Arrays that a solve reads; a step is the elements from one row to the next, 0 for a parameter that serves every row.

    What a cell does not have is an array of one element that nobody reads.
    """

    z: DeviceArray
    entry: DeviceArray
    entry_step: int
    bias: DeviceArray
    phase: DeviceArray
    phase_step: int
    filter: DeviceArray
    filter_step: int
    r: DeviceArray
    a: DeviceArray
    before: DeviceArray
    threshold: DeviceArray
    evaluations: np.ndarray


def operands_of(
    device: Device, request: PlanRequest, pattern: Pattern, constants: Mapping[str, DeviceArray], values: Mapping[str, Any],
    z: np.ndarray, memory: Any,
) -> Operands:  # fmt: skip
    """Bring what a solve reads to the device.

    Parameters
    ----------
    constants : dict of parameter name to (1, n) array on the device
    values : dict of name to (B, n) host array
        What depends on x only.
    z : (B, n) array
    memory : DeltaMemory or None
    """
    dtype, n = np.dtype(request.graph.dtype), pattern.n
    nothing = device.upload(np.zeros(1, dtype=dtype))

    def operand(name: str | None) -> tuple[DeviceArray, int]:
        if name is None:
            return nothing, 0
        if name in constants:
            return constants[name], 0
        value = values[name]
        rows = np.ascontiguousarray(value.reshape(-1, n))
        return device.upload(rows), n if len(rows) == len(z) and value.ndim > 1 and len(z) != 1 else 0

    (entry, entry_step), (phase, phase_step), (filtered, filter_step) = (operand(name) for name in pattern.operands)
    gate = request.gates.get(pattern.linear)
    before = np.zeros(len(z), dtype=np.int64) if memory is None else np.array(memory.count, dtype=np.int64)
    has_memory = memory is not None and gate is not None
    r = device.upload(np.ascontiguousarray(memory.r[pattern.watched])) if has_memory else nothing
    if has_memory:
        a = device.upload(np.ascontiguousarray(memory.a[pattern.linear]))
    else:
        a = device.empty(z.shape, dtype) if gate is not None and request.start == "dense" else nothing
    threshold = np.array(np.broadcast_to(0.0 if gate is None else gate.threshold, (n,)), dtype=dtype)
    bias = nothing if pattern.bias is None else constants[pattern.bias]
    return Operands(
        device.upload(np.ascontiguousarray(z)), entry, entry_step, bias, phase, phase_step, filtered, filter_step, r, a,
        device.upload(before), device.upload(threshold), before,
    )  # fmt: skip


@dataclass(frozen=True)
class StopNumbers:
    """A stop rule as kernels take it (S-3); negative numbers are not asked for, a window of 0 as well."""

    max_eval: int
    window: int
    rtol: float
    atol: float
    eps: float
    divergence: float
    ratio: float

    @classmethod
    def of(cls, stop: StopRule) -> StopNumbers:
        """Numbers of a rule.

        >>> StopNumbers.of(StopRule(rtol=0.5, max_eval=3)).window
        0
        """
        window, ratio = (0, 0.0) if stop.stagnation is None else stop.stagnation
        return cls(
            max_eval=int(stop.max_eval),
            window=int(window),
            rtol=-1.0 if stop.rtol is None else float(stop.rtol),
            atol=-1.0 if stop.atol is None else float(stop.atol),
            eps=float(stop.eps),
            divergence=-1.0 if stop.divergence is None else float(stop.divergence),
            ratio=float(ratio),
        )

    def limits(self) -> tuple[float, ...]:
        """What distances are compared with, in the order in which kernels take it."""
        return self.rtol, self.atol, self.eps, self.divergence, self.ratio


def flags_of(request: PlanRequest, pattern: Pattern, memory: Any, stop: StopRule, trace: Trace | None) -> int:
    """Choices of a request as the word of :data:`FLAGS`, but for those that are the plan's own."""
    gate, solver = request.gates.get(pattern.linear), request.solver
    chosen = {
        "entry": pattern.entry is not None,
        "bias": pattern.bias is not None,
        "phase": pattern.phase is not None,
        "filter": pattern.filter is not None,
        "memory": memory is not None and gate is not None,
        "dense start": request.start == "dense",
        "ge": gate is not None and gate.compare == "ge",
        "picard": getattr(solver, "alpha", 1.0) == 1.0,
        "linf": stop.norm == "linf",
        "traced": trace is not None,
        "activation": trace is not None and pattern.activated in trace.values,
        "gated": gate is not None,
        "whole": gate is not None and gate.granularity == "sample",
    }
    return sum(FLAGS[name] for name, is_so in chosen.items() if is_so)


@dataclass(frozen=True)
class Tracks:
    """Trace buffers on the device, (T, B, ...); of one element that nobody writes where there is no trace."""

    active: DeviceArray
    z: DeviceArray
    f: DeviceArray
    norms: DeviceArray
    r: DeviceArray
    mask: DeviceArray
    a: DeviceArray
    linear: DeviceArray
    activated: DeviceArray

    def arrays(self) -> tuple[DeviceArray, ...]:
        """In the order in which kernels take them."""
        return self.active, self.z, self.f, self.norms, self.r, self.mask, self.a, self.linear, self.activated

    def bring(self, device: Device, pattern: Pattern, trace: Trace) -> None:
        """Fill the host's trace."""
        trace.active[...] = device.download(self.active)
        norms = device.download(self.norms)
        trace.residual[...], trace.scale[...] = norms[..., 0], norms[..., 1]
        named = [(trace.z, pattern.state, self.z), (trace.f, pattern.state, self.f), (trace.r, pattern.watched, self.r)]
        named += [(trace.mask, pattern.watched, self.mask), (trace.a, pattern.linear, self.a)]
        named += [(trace.values, pattern.linear, self.linear), (trace.values, pattern.activated, self.activated)]
        for part, name, array in named:
            if name in part:
                part[name][...] = device.download(array)


def tracks_of(device: Device, pattern: Pattern, trace: Trace | None, dtype: Any) -> Tracks:
    """Buffers for a trace, NaN and False until written; small ones without a trace."""
    if trace is None:
        real, flag, double = (device.upload(np.zeros(1, dtype=kind)) for kind in (dtype, np.bool_, np.float64))
        return Tracks(flag, real, real, double, real, flag, real, real, real)

    def buffer(part: Mapping[str, np.ndarray], name: str, kind: Any = dtype) -> DeviceArray:
        return device.upload(part[name] if name in part else np.zeros(1, dtype=kind))

    return Tracks(
        device.upload(trace.active),
        buffer(trace.z, pattern.state),
        buffer(trace.f, pattern.state),
        device.upload(np.stack([trace.residual, trace.scale], axis=-1)),
        buffer(trace.r, pattern.watched),
        buffer(trace.mask, pattern.watched, np.bool_),
        buffer(trace.a, pattern.linear),
        buffer(trace.values, pattern.linear),
        buffer(trace.values, pattern.activated),
    )


@dataclass(frozen=True)
class Outcome:
    """Arrays that a solve writes, per row; r, a and mask have one element without a gate. `history` is the stop rule's."""

    z: DeviceArray
    r: DeviceArray
    a: DeviceArray
    mask: DeviceArray
    status: DeviceArray
    n_eval: DeviceArray
    norms: DeviceArray
    sent: DeviceArray
    nonzero: DeviceArray
    history: DeviceArray

    def arrays(self) -> tuple[DeviceArray, ...]:
        """In the order in which kernels take them."""
        integers = (self.status, self.n_eval, self.norms, self.sent, self.nonzero)
        return self.z, self.r, self.a, self.mask, *integers, self.history

    def result(self, device: Device, request: PlanRequest, pattern: Pattern, before: np.ndarray, note: str) -> FusedResult:
        """Everything on the host; every sent element is multiplied with n weights (C-1)."""
        is_gated = bool(request.gates)
        gate, node = ({pattern.watched}, {pattern.linear}) if is_gated else (set(), set())
        batch = len(before)

        def host(array: DeviceArray) -> np.ndarray:
            return device.download(array)[:batch]

        n_eval, norms, sent = host(self.n_eval), host(self.norms), host(self.sent)
        return FusedResult(
            z={pattern.state: host(self.z)},
            status=host(self.status),
            n_eval=n_eval,
            residual=norms[:, 0].copy(),
            scale=norms[:, 1].copy(),
            r={name: host(self.r) for name in gate},
            mask={name: host(self.mask) for name in gate},
            a={name: host(self.a) for name in node},
            count=before + n_eval,
            sent=dict.fromkeys(gate, sent),
            nonzero={name: host(self.nonzero) for name in gate},
            macs={name: sent * pattern.n for name in node},
            note=note,
        )


def outcome_of(device: Device, request: PlanRequest, batch: int, n: int, window: int) -> Outcome:
    """Room for the results of a batch; at least one row, so that nothing is empty."""
    dtype, rows = np.dtype(request.graph.dtype), max(1, batch)
    gated = (rows, n) if request.gates else (1, 1)
    integers = [device.upload(np.zeros(rows, dtype=np.int64)) for _ in range(4)]
    return Outcome(
        device.empty((rows, n), dtype),
        device.empty(gated, dtype),
        device.empty(gated, dtype),
        device.empty(gated, np.bool_),
        integers[0],
        integers[1],
        device.upload(np.full((rows, 2), np.nan)),
        integers[2],
        integers[3],
        device.empty((rows, window + 2), np.float64),
    )
