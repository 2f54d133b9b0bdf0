"""K2: whole solves by tiles of rows that stay on chip, with products on tensor cores in declared precisions.

A block holds 64 rows (32 where rows are wider than 256) until they are final, and takes the next ones from a queue. The weight
is a sum of one, two or three bfloat16 parts; so much of it as shared memory holds is there, the rest is read from the
second-level cache in every evaluation. Differences are sent in bfloat16 with feedback (D-4): they have one part, and what
rounding drops is sent later. Without a delta rule the whole state is multiplied every time, in as many parts as the weight has:
the dense solve against which the gain of a rule is to be measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.fc_pattern import ACTIVATIONS, Pattern
from refdeq.registry import FusedResult, PlanRequest, Refusal
from refdeq.types import StopRule, Trace
from refdeq_gpu.device import Device
from refdeq_gpu.plans.rows_data import (
    FLAGS,
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
from refdeq_gpu.plans.rows_pack import pack_pieces, padded_width

__all__ = ["ACTIVATION_ULP", "PARTS", "Tile", "TileExecutor", "TilePlan", "tile_of", "tile_plan"]

PARTS = {"bfloat16": 1, "bfloat16x2": 2, "bfloat16x3": 3}
"""Declared precision to the parts of a weight."""

ACTIVATION_ULP = 2.75
"""Largest error of the activations of the tiles: the formulas of fast order of the CPU backend, in float32."""

WIDEST = 512
_SLOT_BYTES = 1024
"""Static shared memory of a block: what it knows of its rows."""


@dataclass(frozen=True)
class Tile:
    """How a tile lies in shared memory.

    Attributes
    ----------
    kernel : str
    rows, width : int
        Rows, and columns with the padding.
    resident : int
        Pieces of the weight (16 inner rows of one part) that stay in shared memory.
    pieces : int
        All of them.
    """

    kernel: str
    rows: int
    width: int
    resident: int
    pieces: int

    @property
    def shared(self) -> int:
        """Bytes of dynamic shared memory: pieces, tile of differences, arguments and references."""
        return 32 * self.width * self.resident + 10 * self.rows * self.width


def tile_of(n: int, parts: int, max_shared: int, resident: int | None = None) -> Tile | str:
    """The tile for rows of n elements, or why there is none.

    Parameters
    ----------
    n, parts : int
    max_shared : int
        Bytes of shared memory that a block may have.
    resident : int, optional
        Pieces to keep in shared memory, by default as many as fit; results do not depend on it.

    Examples
    --------
    >>> tile_of(256, 1, 232448).resident, tile_of(256, 3, 232448).pieces, tile_of(512, 1, 232448).rows
    (8, 48, 32)
    >>> tile_of(256, 1, 101376)
    'a tile of 64 rows of 256 columns takes 164864 bytes of shared memory, a block of this device has 101376'
    """
    if n > WIDEST:
        return f"rows of {n} elements; the tile holds at most {WIDEST}"
    width = padded_width(n)
    kernel, rows = ("row_tile", 64) if width <= 256 else ("row_tile_wide", 32)
    pieces = parts * width // 16
    room = max_shared - _SLOT_BYTES - 10 * rows * width
    if room < 0:
        needed = max_shared - room
        return (
            f"a tile of {rows} rows of {width} columns takes {needed} bytes of shared memory, "
            f"a block of this device has {max_shared}"
        )
    fitting = min(pieces, room // (32 * width))
    return Tile(kernel, rows, width, fitting if resident is None else min(resident, fitting), pieces)


def tile_plan(request: PlanRequest, pattern: Pattern, device: Device, precision: str) -> TilePlan | Refusal:
    """The plan of tiles for a request, or what keeps it from having one.

    The solver, what is returned and what rules have in common is looked at by :func:`refdeq_gpu.plans.rows.offer`.
    """
    if precision not in PARTS:
        return Refusal(
            "tiles are multiplied by tensor cores, which add up to three bfloat16 products for each of float32 and truncate: "
            f"that is not {precision} arithmetic; declare {', '.join(PARTS)}"
        )
    if device.language != "cupy":
        return Refusal("tiles need the matrix instructions of CUDA C++, which this backend has not")
    if request.graph.dtype != "float32":
        return Refusal(f"tiles hold float32, the cell is {request.graph.dtype}")
    if request.order != "fast":
        return Refusal("tensor cores have an order of summation of their own; the request asks for strict order")
    gate = request.gates.get(pattern.linear)
    if gate is not None and gate.delta_dtype is not None:
        return Refusal(f"tiles form differences in float32, not in {gate.delta_dtype}")
    if gate is not None and (gate.memory, gate.feedback_format) != ("feedback", "bfloat16"):
        return Refusal(f"tiles send differences in bfloat16 with feedback, the rule has memory {gate.memory!r}")
    if gate is not None and gate.granularity not in ("element", "channel"):
        return Refusal(f"tiles gate elements, not granularity {gate.granularity!r}")
    tile = tile_of(pattern.n, PARTS[precision], device.max_shared)
    return Refusal(tile) if isinstance(tile, str) else TilePlan(request, pattern, device, precision, tile)


@dataclass(frozen=True)
class TilePlan:
    """A whole solve by tiles.

    Attributes
    ----------
    request : PlanRequest
    pattern : Pattern
    device : Device
    precision : str
        Key of :data:`PARTS`.
    tile : Tile
    is_swapping : bool
        Whether a final row makes room for the next at once, or a block waits for all of its rows; no bit depends on it.
    blocks : int
        Of the grid; 0 is one per multiprocessor, no more than there are tiles. No bit depends on it.
    """

    request: PlanRequest
    pattern: Pattern
    device: Device
    precision: str
    tile: Tile
    is_swapping: bool = True
    blocks: int = 0

    @property
    def name(self) -> str:
        """Activation and precision."""
        return f"row tiles {self.pattern.activation.lower()}, {self.precision}"

    def bind(self, parameters: Mapping[str, np.ndarray], *, threads: int) -> TileExecutor:
        """Cut the weight into parts and pieces, once; `threads` of the host have no effect."""
        return TileExecutor(self, parameters)


class TileExecutor:
    """A plan with its weights on the device; it may be run many times.

    Parameters
    ----------
    plan : TilePlan
    parameters : dict of name to array
    """

    def __init__(self, plan: TilePlan, parameters: Mapping[str, np.ndarray]) -> None:
        pattern, device = plan.pattern, plan.device
        weight = parameters[pattern.weight]
        self._plan = plan
        self._is_finite = bool(np.isfinite(weight).all())
        inner_first = weight.T if pattern.is_transposed else weight
        self._pieces = device.upload(pack_pieces(inner_first, PARTS[plan.precision]))
        self._constants = constants_of(device, pattern, parameters, np.float32)

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
        z, numbers = z0[pattern.state], StopNumbers.of(stop)
        check_size(z, stop)
        operands = operands_of(plan.device, request, pattern, self._constants, hoisted, z, memory)
        outcome = outcome_of(plan.device, request, len(z), pattern.n, numbers.window)
        tracks = tracks_of(plan.device, pattern, trace, np.float32)
        if len(z):
            if request.gates and request.start == "dense" and (operands.evaluations == 0).any():
                self._start(operands, len(z))
            self._solve(operands, outcome, tracks, numbers, self._flags(memory, stop, trace), len(z))
        if trace is not None:
            tracks.bring(plan.device, pattern, trace)
        return outcome.result(plan.device, request, pattern, operands.evaluations, self._note())

    def _grid(self, batch: int) -> int:
        plan = self._plan
        return min(plan.blocks or plan.device.multiprocessors, -(-batch // plan.tile.rows))

    def _start(self, operands: Operands, batch: int) -> None:
        """Accumulators of the dense start; a negative step says that there is no entry."""
        plan, tile = self._plan, self._plan.tile
        step = operands.entry_step if plan.pattern.entry is not None else -1
        sizes = (batch, plan.pattern.n, tile.width, PARTS[plan.precision], tile.resident, int(self._is_finite))
        arrays = (self._pieces, operands.z, operands.entry, step, operands.before, operands.a)
        plan.device.launch(
            f"{tile.kernel}_start", self._grid(batch), tile.width, [*sizes, *arrays], dtype="float32", shared=tile.shared
        )

    def _solve(self, operands: Operands, outcome: Outcome, tracks: Tracks, stop: StopNumbers, flags: int, batch: int) -> None:
        plan, tile, pattern = self._plan, self._plan.tile, self._plan.pattern
        sizes = (batch, pattern.n, tile.width, PARTS[plan.precision], tile.resident, flags)
        choices = (ACTIVATIONS.index(pattern.activation), stop.max_eval, stop.window, pattern.slope)
        reads = (operands.threshold, self._pieces, operands.z, operands.entry, operands.entry_step, operands.bias,
                 operands.phase, operands.phase_step, operands.filter, operands.filter_step, operands.r, operands.a,
                 operands.before)  # fmt: skip
        queue = plan.device.upload(np.zeros(1, dtype=np.int32))
        factors = *relaxation(plan.request.solver), *stop.limits()
        arguments: list[Any] = [*sizes, *choices, *factors, *reads, queue, *outcome.arrays(), *tracks.arrays()]
        kernel = tile.kernel if plan.request.gates else f"{tile.kernel}_dense"
        plan.device.launch(kernel, self._grid(batch), tile.width, arguments, dtype="float32", shared=tile.shared)

    def _flags(self, memory: Any, stop: StopRule, trace: Trace | None) -> int:
        flags = flags_of(self._plan.request, self._plan.pattern, memory, stop, trace)
        own = {"swapping": self._plan.is_swapping, "finite": self._is_finite}
        return flags | sum(FLAGS[name] for name, is_so in own.items() if is_so)

    def _note(self) -> str:
        tile = self._plan.tile
        return (
            f"tiles of {tile.rows} rows, {self._plan.precision}, {tile.resident} of {tile.pieces} pieces of the weight on chip"
        )
