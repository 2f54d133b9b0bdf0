"""K2b and K2c: solves of independent rows, evaluation by evaluation, over a list of the rows that go on.

Each evaluation is three kernels: gate and list, sums, value and decision. The sums are the *lists* of K2c (the columns that a
row sent, from slices of the weight in shared memory; in strict order bit for bit) or the *product* of K2b (what the listed rows
send, gathered into a matrix that a library multiplies). Every fourth evaluation the list is shortened to the rows that are not
final, in ascending order, and the host reads how many there are: the only thing it waits for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.errors import BackendUnavailableError
from refdeq.fc_pattern import ACTIVATIONS, Pattern
from refdeq.kernels import GateSpec
from refdeq.registry import FusedResult, PlanRequest, Refusal
from refdeq.types import StopRule, Trace
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.choices import COMPARE, DELTA_DTYPE, FEEDBACK_FORMAT, MEMORY
from refdeq_gpu.device import Device
from refdeq_gpu.plans.rows_data import (
    Operands,
    Outcome,
    StopNumbers,
    Tracks,
    check_size,
    constants_of,
    flags_of,
    operands_of,
    outcome_of,
    relaxation,
    tracks_of,
)

__all__ = ["EVALUATIONS_PER_LIST", "StepsExecutor", "StepsPlan", "slice_of", "steps_plan"]

EVALUATIONS_PER_LIST = 4
"""Evaluations between two looks at how many rows go on: a look waits, a final row in the list costs one read of a flag."""

_BLOCK_COLUMNS = 128
_LIST_THREADS = 256
_WARP_THREADS = 128
_SUM_THREADS = 256
_MOST_BLOCKS = 1 << 16


def slice_of(n: int, itemsize: int, device: Device) -> tuple[int, int]:
    """How a weight is cut: neighbouring outputs per lane, and blocks of 128 inner rows at a time. No bit depends on it.

    CUDA C++ takes slices of 128 outputs (64 where a block has little memory), and as many inner rows as fit; Numba-CUDA slices
    of 32 outputs and 128 rows (32 KB of float64), because its kernels get no more than 48 KB.
    """
    blocks = -(-n // _BLOCK_COLUMNS)
    if device.language == "cuda":
        return 1, 1
    for wide in (4, 2, 1):
        fitting = device.max_shared // (_BLOCK_COLUMNS * 32 * wide * itemsize)
        if fitting >= 1:
            return wide, min(blocks, fitting)
    return 1, 1


def steps_plan(request: PlanRequest, pattern: Pattern, device: Device, *, by_library: bool = False) -> StepsPlan | Refusal:
    """The plan of lists (K2c) or of compacted products (K2b), or what keeps a request from having it.

    The solver, what is returned and what rules have in common is looked at by :func:`refdeq_gpu.plans.rows.offer`.

    Parameters
    ----------
    by_library : bool
        Products of a library on gathered rows, in fast order. It multiplies what was not sent by zero (D-7, ``"read"``), and
        how it sums may depend on how many rows there are: results are those of the same batch again, no more (R1).
    """
    gate = request.gates.get(pattern.linear)
    if gate is not None and gate.granularity not in ("element", "channel", "sample"):
        return Refusal(f"rows gate elements or whole samples, not granularity {gate.granularity!r}")
    if by_library and request.order != "fast":
        return Refusal("a library multiplies in an order of its own; the request asks for strict order")
    return StepsPlan(request, pattern, device, by_library)


@dataclass(frozen=True)
class StepsPlan:
    """Solves of rows, evaluation by evaluation.

    Attributes
    ----------
    request : PlanRequest
    pattern : Pattern
    device : Device
    by_library : bool
        K2b in the place of K2c.
    blocks : int
        Most blocks of a grid; 0 is as many as there is work for. No bit depends on it.
    """

    request: PlanRequest
    pattern: Pattern
    device: Device
    by_library: bool = False
    blocks: int = 0

    @property
    def name(self) -> str:
        """Activation, and how sums are formed."""
        return f"row {'products' if self.by_library else 'lists'} {self.pattern.activation.lower()}"

    def bind(self, parameters: Mapping[str, np.ndarray], *, threads: int) -> StepsExecutor:
        """Put the weights on the device, once; `threads` of the host have no effect."""
        return StepsExecutor(self, parameters)


@dataclass(frozen=True)
class _Room:
    """What evaluations write and read again: list of rows, lists of what they send, values, flags of rows that go on."""

    rows: DeviceArray
    live: DeviceArray
    counts: DeviceArray
    total: DeviceArray
    index: DeviceArray
    values: DeviceArray
    ends: DeviceArray
    f: DeviceArray
    gathered: DeviceArray
    sums: DeviceArray


class StepsExecutor:
    """A plan with its weights on the device; it may be run many times.

    Parameters
    ----------
    plan : StepsPlan
    parameters : dict of name to array
    """

    def __init__(self, plan: StepsPlan, parameters: Mapping[str, np.ndarray]) -> None:
        pattern, device = plan.pattern, plan.device
        weight = parameters[pattern.weight]
        self._plan, self._dtype = plan, np.dtype(plan.request.graph.dtype)
        self._weight = device.upload(np.ascontiguousarray(weight.T if pattern.is_transposed else weight))
        self._constants = constants_of(device, pattern, parameters, self._dtype)

    def run(
        self,
        z0: Mapping[str, np.ndarray],
        hoisted: Mapping[str, np.ndarray],
        memory: Any,
        stop: StopRule,
        trace: Trace | None,
    ) -> FusedResult:
        """Solve every sample (see :class:`refdeq.registry.Executor`)."""
        plan, request, pattern = self._plan, self._plan.request, self._plan.pattern
        device, z, numbers = plan.device, z0[pattern.state], StopNumbers.of(stop)
        check_size(z, stop)
        operands = operands_of(device, request, pattern, self._constants, hoisted, z, memory)
        outcome = self._outcome(z, memory, numbers.window)
        tracks = tracks_of(device, pattern, trace, self._dtype)
        if len(z):
            flags = flags_of(request, pattern, memory, stop, trace)
            self._iterate(operands, outcome, tracks, numbers, flags, len(z))
        if trace is not None:
            tracks.bring(device, pattern, trace)
        return outcome.result(device, request, pattern, operands.evaluations, "")

    def _outcome(self, z: np.ndarray, memory: Any, window: int) -> Outcome:
        """Results, which are also what the solve works on: arguments, references and accumulators in place."""
        plan, device, pattern = self._plan, self._plan.device, self._plan.pattern
        blank = outcome_of(device, plan.request, len(z), pattern.n, window)
        shape = (max(1, len(z)), pattern.n)
        if len(z):
            device.write(np.ascontiguousarray(z), blank.z)
        if memory is not None and plan.request.gates and len(z):
            device.write(np.ascontiguousarray(memory.r[pattern.watched]), blank.r)
            device.write(np.ascontiguousarray(memory.a[pattern.linear]), blank.a)
        elif plan.request.gates:
            device.write(np.zeros(shape, dtype=self._dtype), blank.r)
            device.write(np.zeros(shape, dtype=self._dtype), blank.a)
        else:
            blank = Outcome(blank.z, blank.r, device.empty(shape, self._dtype), *blank.arrays()[3:])
        return blank

    def _room(self, batch: int) -> _Room:
        plan, device, n = self._plan, self._plan.device, self._plan.pattern.n
        gathered = (batch, n) if plan.by_library else (1, 1)
        return _Room(
            rows=device.upload(np.arange(batch, dtype=np.int32)),
            live=device.upload(np.ones(batch, dtype=np.bool_)),
            counts=device.empty((-(-batch // _LIST_THREADS),), np.int32),
            total=device.empty((1,), np.int32),
            index=device.empty((batch, n), np.int32),
            values=device.empty((batch, n), self._dtype),
            ends=device.empty((batch, -(-n // _BLOCK_COLUMNS) + 1), np.int32),
            f=device.empty((batch, n), self._dtype),
            gathered=device.empty(gathered, self._dtype),
            sums=device.empty(gathered, self._dtype),
        )

    def _iterate(self, operands: Operands, outcome: Outcome, tracks: Tracks, stop: StopNumbers, flags: int, batch: int) -> None:
        room, count = self._room(batch), batch
        for k in range(stop.max_eval):
            if k % EVALUATIONS_PER_LIST == 0 and k > 0:
                count = self._shorten(room, batch)
            if count == 0:
                return
            self._gate(operands, outcome, room, flags, k, count)
            if self._plan.by_library:
                self._multiply(room, outcome, count)
            else:
                self._add(room, outcome, count)
            self._finish(operands, outcome, tracks, room, stop, flags, k, count, batch)

    def _launch(self, kernel: str, grid: int | tuple[int, int], block: int, arguments: list[Any], shared: int = 0) -> None:
        self._plan.device.launch(kernel, grid, block, arguments, dtype=self._dtype, shared=shared)

    def _grid(self, items: int) -> int:
        return max(1, min(items, self._plan.blocks or _MOST_BLOCKS))

    def _shorten(self, room: _Room, batch: int) -> int:
        """List the rows that go on, and return how many there are."""
        blocks = -(-batch // _LIST_THREADS)
        self._launch("row_count", blocks, _LIST_THREADS, [room.live, batch, room.counts])
        self._launch("row_scan", 1, _LIST_THREADS, [blocks, room.counts, room.total])
        self._launch("row_write", blocks, _LIST_THREADS, [room.live, batch, room.counts, room.rows])
        return int(self._plan.device.download(room.total)[0])

    def _gate(self, operands: Operands, outcome: Outcome, room: _Room, flags: int, k: int, count: int) -> None:
        choices = _gate_choices(self._plan.request.gates.get(self._plan.pattern.linear))
        state = [outcome.z, operands.entry, operands.entry_step, operands.threshold, operands.before, room.live, outcome.r]
        lists = [outcome.a, outcome.mask, room.index, room.values, room.ends, outcome.sent, outcome.nonzero]
        arguments = [room.rows, count, self._plan.pattern.n, flags, *choices, k, *state, *lists]
        self._launch("row_gate", self._grid(-(-count * 32 // _WARP_THREADS)), _WARP_THREADS, arguments)

    def _add(self, room: _Room, outcome: Outcome, count: int) -> None:
        """Sums over lists (K2c)."""
        n, device = self._plan.pattern.n, self._plan.device
        wide, span = slice_of(n, self._dtype.itemsize, device)
        slices = -(-n // (32 * wide))
        useful = -(-count // (_SUM_THREADS // 32))
        per_slice = self._plan.blocks or max(1, 2 * device.multiprocessors // slices)
        kernel = "row_axpy_fma" if self._plan.request.order == "fast" else "row_axpy"
        arguments = [room.rows, count, n, wide, span, room.live, room.index, room.values, room.ends, self._weight, outcome.a]
        is_dynamic = device.language == "cupy"
        shared = span * _BLOCK_COLUMNS * 32 * wide * self._dtype.itemsize if is_dynamic else 0
        self._launch(kernel, (slices, min(useful, per_slice)), _SUM_THREADS, arguments, shared)

    def _multiply(self, room: _Room, outcome: Outcome, count: int) -> None:
        """Gather, multiply by the library, add to the accumulators of the listed rows (K2b)."""
        n = self._plan.pattern.n
        sent = [room.live, room.index, room.values, room.ends, room.gathered]
        self._launch("row_spread", self._grid(count), _WARP_THREADS, [room.rows, count, n, *sent])
        _library_product(self._plan.device, room.gathered, self._weight, room.sums, count)
        self._launch("row_add", self._grid(count), _WARP_THREADS, [room.rows, count, n, room.live, room.sums, outcome.a])

    def _finish(
        self, operands: Operands, outcome: Outcome, tracks: Tracks, room: _Room, stop: StopNumbers, flags: int, k: int,
        count: int, batch: int,
    ) -> None:  # fmt: skip
        pattern, solver = self._plan.pattern, self._plan.request.solver
        sizes = [room.rows, count, batch, pattern.n, flags, k]
        choices = [ACTIVATIONS.index(pattern.activation), stop.max_eval, stop.window]
        factors = [pattern.slope, *relaxation(solver), *stop.limits()]
        reads = [operands.bias, operands.phase, operands.phase_step, operands.filter, operands.filter_step]
        state = [room.live, outcome.z, room.f, outcome.r, outcome.a, outcome.mask]
        writes = [outcome.status, outcome.n_eval, outcome.norms, outcome.history]
        arguments = [*sizes, *choices, *factors, *reads, *state, *writes, *tracks.arrays()]
        self._launch("row_finish", self._grid(-(-count * 32 // _WARP_THREADS)), _WARP_THREADS, arguments)


def _gate_choices(gate: GateSpec | None) -> tuple[int, int, int, int]:
    """Compare, memory, dtype of the difference, format of the feedback, as numbers."""
    if gate is None:
        return 0, 0, 0, 0
    formats = DELTA_DTYPE[gate.delta_dtype], FEEDBACK_FORMAT[gate.feedback_format]
    return COMPARE[gate.compare], MEMORY[gate.memory], *formats


def _library_product(device: Device, left: DeviceArray, right: DeviceArray, out: DeviceArray, count: int) -> None:
    """``out[:count] = left[:count] @ right`` by CuPy's library on a device, by NumPy's where one is simulated."""
    if device.is_simulated:
        n = right.shape[0]
        rows, sums = (array.buffer[: count * n].reshape(count, n) for array in (left, out))
        np.matmul(rows, right.buffer[: n * n].reshape(n, n), out=sums)
        return
    try:
        import cupy
    except ImportError as error:
        raise BackendUnavailableError(
            device.language, "the product of gathered rows needs CuPy", "pip install cupy-cuda13x"
        ) from error
    arrays = left, right, out
    if device.language == "cupy":  # its own arrays: asked through the interface, each would wait for the stream
        rows, weight, sums = (array.buffer[: array.size].reshape(array.shape) for array in arrays)
    else:
        rows, weight, sums = (cupy.asarray(array).reshape(array.shape) for array in arrays)
    cupy.matmul(rows[:count], weight, out=sums[:count])
