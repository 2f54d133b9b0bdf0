"""K1: the whole solve of one fully connected cell on the device, sample by sample, its columns shared out among all blocks.

Two ways to run the same halves of a round. *One launch* (K1): blocks that are on the device together wait for each other by a
barrier, and the host hears of nothing before the end. *Pairs* (K1b): each half is a kernel, the host launches them in turn and
looks only now and then whether everything is done; rounds after the end do nothing. Both give the same bits, on any grid.

Without a delta rule every column is listed: the same kernels then are the dense solve, against which the gain of a rule is
to be measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.errors import LaunchError
from refdeq.fc_pattern import Pattern, gate_refusal, recognise
from refdeq.registry import FusedResult, PlanRequest, Refusal
from refdeq.types import StopRule, Trace
from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.choices import SOLVERS
from refdeq_gpu.device import Device
from refdeq_gpu.plans import fc_layout
from refdeq_gpu.plans.fc_data import Arrays, Shape, fixed_part, make_arrays, result_of, splits_of

__all__ = ["FcExecutor", "FcPlan", "offer"]

_THREADS = 256
_BLOCKS_OF_SINGLE_LOADS = 2
"""Blocks per multiprocessor where a thread loads one number at a time instead of four (not measured)."""
_ROUNDS_PER_LOOK = 8
"""Rounds between two looks at whether a solve by pairs is done: a look waits, a round too many is two launches."""


def offer(request: PlanRequest, device: Device, precision: str = "float32") -> FcPlan | Refusal:
    """Return the plan of a fully connected solve, or say what keeps it from having one.

    Parameters
    ----------
    request : PlanRequest
    device : Device
    precision : str
        ``float32`` computes in the dtype of the cell; anything narrower is refused.
    """
    pattern = recognise(request, SOLVERS)
    if isinstance(pattern, Refusal):
        return pattern
    if precision != "float32":
        return Refusal(f"the solve over the whole device computes in the dtype of the cell, not in {precision}")
    return gate_refusal(request.gates.values()) or FcPlan(request, pattern, device)


@dataclass(frozen=True)
class FcPlan:
    """A whole solve of one fully connected cell on the device.

    Attributes
    ----------
    request : PlanRequest
    pattern : Pattern
    device : Device
    by_pairs : bool
        Two kernels per evaluation in the place of one launch for all.
    blocks, threads : int
        Grid and block; 0 blocks is as many as the cell keeps busy and the device runs at once. They change no bit.
    """

    request: PlanRequest
    pattern: Pattern
    device: Device
    by_pairs: bool = False
    blocks: int = 0
    threads: int = _THREADS

    @property
    def name(self) -> str:
        """Activation, and how it is launched."""
        return f"fc {self.pattern.activation.lower()}, {'two launches an evaluation' if self.by_pairs else 'one launch'}"

    def bind(self, parameters: Mapping[str, np.ndarray], *, threads: int) -> FcExecutor:
        """Put the weights on the device, the outputs of a column next to each other; `threads` of the host have no effect."""
        return FcExecutor(self, parameters)

    def shape(self) -> Shape:
        """How the kernels are launched."""
        n, dtype = self.pattern.n, np.dtype(self.request.graph.dtype)
        is_wide = self.request.order == "fast" and dtype == np.float32 and n % 4 == 0 and self.device.language == "cupy"
        useful = max(-(-n // 32), -(-n // 1024) * splits_of(n) if self.request.order == "fast" else 1)
        blocks = self.blocks or min(useful, self.device.multiprocessors * (1 if is_wide else _BLOCKS_OF_SINGLE_LOADS))
        blocks = min(blocks, fc_layout.LARGEST_GRID)
        if not self.by_pairs and not self.blocks:
            blocks = min(blocks, max(1, self.device.resident_blocks("fc_solve", self.threads, dtype=dtype)))
        return Shape(blocks, self.threads, 4 if is_wide else 1)


class FcExecutor:
    """A plan with its weights on the device; it may be run many times.

    Parameters
    ----------
    plan : FcPlan
    parameters : dict of name to array
    """

    def __init__(self, plan: FcPlan, parameters: Mapping[str, np.ndarray]) -> None:
        pattern = plan.pattern
        weight = parameters[pattern.weight]
        self._plan = plan
        self._bias = None if pattern.bias is None else parameters[pattern.bias]
        self._constants = pattern.constants(parameters)
        columns = np.ascontiguousarray(weight.T if pattern.is_transposed else weight)
        self._weight: DeviceArray = plan.device.upload(columns)

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
        z, operands = z0[pattern.state], {**hoisted, **self._constants}
        fixed = fixed_part(request, pattern, self._bias, operands)
        shape = plan.shape()
        arrays = make_arrays(plan.device, request, pattern, shape, self._weight, fixed, z, memory, stop, trace)
        if len(z):
            if plan.by_pairs:
                self._run_pairs(arrays, shape, len(z) * (stop.max_eval + 1) + 1)
            else:
                self._launch("fc_solve", arrays, shape, is_cooperative=True)
        return result_of(plan.device, request, pattern, arrays, len(z), stop, trace)

    def _launch(self, kernel: str, arrays: Arrays, shape: Shape, is_cooperative: bool = False) -> None:
        dtype = np.dtype(self._plan.request.graph.dtype)
        self._plan.device.launch(
            kernel, shape.blocks, shape.threads, arrays.arguments(), dtype=dtype, is_cooperative=is_cooperative
        )

    def _run_pairs(self, arrays: Arrays, shape: Shape, most_rounds: int) -> None:
        """Launch both halves in turn until the device says that all samples are done; there are at most so many rounds."""
        phase, done = fc_layout.CONTROLS.index("PHASE"), fc_layout.PHASES.index("DONE")
        self._launch("fc_step", arrays, shape)
        for first in range(0, most_rounds, _ROUNDS_PER_LOOK):
            for _ in range(min(_ROUNDS_PER_LOOK, most_rounds - first)):
                self._launch("fc_add", arrays, shape)
                self._launch("fc_step", arrays, shape)
            if self._plan.device.download(arrays.control).reshape(fc_layout.SLOTS, -1)[1, phase] == done:
                return
        raise LaunchError(f"kernels fc_step and fc_add: the solve is not done after {most_rounds} rounds")
