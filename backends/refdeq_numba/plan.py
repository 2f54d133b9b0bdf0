"""Which solves have a fused plan, and how one runs: weights packed at bind, samples shared among threads."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from refdeq.fc_pattern import Pattern, gate_refusal, recognise
from refdeq.registry import FusedResult, PlanRequest, Refusal
from refdeq.solvers import Anderson, KrasnoselskiiMann, Picard
from refdeq.types import StopRule, Trace
from refdeq_numba import simd
from refdeq_numba.fused_data import Inputs, Results, Settings, Tracks, Weights, Work, pack, rows_per_block, workspace
from refdeq_numba.fused_rows import ACTIVATIONS
from refdeq_numba.tuning import crossovers

__all__ = ["FusedExecutor", "FusedPlan", "make_plan"]

_SOLVERS = {"Picard": Picard, "Krasnoselskii-Mann": KrasnoselskiiMann, "Anderson": Anderson}

_SERIAL_MACS = 1 << 20
"""Dense multiply-accumulates of a whole evaluation below which a second thread costs more than it brings."""

_BLOCKS_PER_TURN = 8
"""Blocks of samples a thread takes at a time: enough to hide the call, few enough to share the work evenly."""


def make_plan(request: PlanRequest) -> FusedPlan | Refusal:
    """Return the fused plan of a solve, or say what keeps it from having one.

    Parameters
    ----------
    request : PlanRequest

    Returns
    -------
    FusedPlan or Refusal

    Examples
    --------
    >>> import refdeq
    >>> cell = refdeq.models.rnn(np.eye(2), np.ones((2, 1)), np.zeros(2))
    >>> ask = dict(graph=cell.graph, gates={}, start="dense", bias="separate", refresh=0, returned="last", order="strict")
    >>> make_plan(PlanRequest(solver=Picard(), **ask)).name
    'fc tanh'
    """
    solver = request.solver
    pattern = recognise(request, _SOLVERS)
    if isinstance(pattern, Refusal):
        return pattern
    if isinstance(solver, Anderson) and solver.coupled:
        return Refusal("the fused solve treats every sample for itself, and coupled Anderson sums over the batch")
    if isinstance(solver, Anderson) and solver.form != "differences":
        return Refusal(f"the fused solve has Anderson in the form of differences, not of {solver.form}")
    refused = gate_refusal(request.gates.values())
    return FusedPlan(f"fc {pattern.activation.lower()}", request, pattern) if refused is None else refused


@dataclass(frozen=True)
class FusedPlan:
    """A whole solve of one fully connected cell in one compiled routine.

    Attributes
    ----------
    name : str
    request : PlanRequest
    pattern : Pattern
    """

    name: str
    request: PlanRequest
    pattern: Pattern

    def bind(self, parameters: Mapping[str, np.ndarray], *, threads: int) -> FusedExecutor:
        """Pack the weights, once for any number of runs."""
        pattern = self.pattern
        weight = parameters[pattern.weight]
        bias = None if pattern.bias is None else parameters[pattern.bias]
        weights = pack(weight.T if pattern.is_transposed else weight, bias)
        return FusedExecutor(self, weights, pattern.constants(parameters), threads)


class FusedExecutor:
    """A fused plan with its weights; it may be run many times, also from several threads.

    Parameters
    ----------
    plan : FusedPlan
    weights : Weights
    constants : dict of parameter operand to (1, n) array
    threads : int
        At most so many work on one solve; results do not depend on it.
    """

    def __init__(self, plan: FusedPlan, weights: Weights, constants: dict[str, np.ndarray], threads: int) -> None:
        self._plan, self._weights, self._constants, self._threads = plan, weights, constants, threads
        self._dtype = np.dtype(plan.request.graph.dtype)
        self._rooms: dict[int, list[Work]] = {}

    def run(
        self,
        z0: Mapping[str, np.ndarray],
        hoisted: Mapping[str, np.ndarray],
        memory: Any,
        stop: StopRule,
        trace: Trace | None,
    ) -> FusedResult:
        """Solve every sample (see :class:`refdeq.registry.Executor`)."""
        pattern, is_gated = self._plan.pattern, bool(self._plan.request.gates)
        settings = self._settings(stop, memory is None)
        inputs = self._inputs(z0[pattern.state], hoisted, memory)
        results = _results(len(inputs.z), pattern.n, self._dtype, is_gated)
        tracks = _tracks(trace, pattern, self._dtype, is_gated)
        chosen = self._solve(settings, inputs, results, tracks)
        gate = {pattern.watched} if is_gated else set()
        node = {pattern.linear} if is_gated else set()
        return FusedResult(
            z={pattern.state: results.z},
            status=results.status,
            n_eval=results.n_eval,
            residual=results.residual,
            scale=results.scale,
            r=dict.fromkeys(gate, results.r),
            mask=dict.fromkeys(gate, results.mask),
            a=dict.fromkeys(node, results.a),
            count=results.evaluations,
            sent=dict.fromkeys(gate, results.sent),
            nonzero=dict.fromkeys(gate, results.nonzero),
            macs=dict.fromkeys(node, results.macs),
            note=_note(chosen) if is_gated else "",
        )

    def _solve(self, settings: Settings, inputs: Inputs, results: Results, tracks: Tracks) -> np.ndarray:
        """Run the compiled solve over all samples, by turns on several threads when that pays; count what was chosen."""
        from refdeq_numba.fused import solve_samples  # compiling machinery only when something is solved

        batch, n = inputs.z.shape
        solver, rows = self._plan.request.solver, rows_per_block(n, self._dtype)
        blocks = -(-batch // rows)
        threads = 1 if batch * n * n < _SERIAL_MACS else min(self._threads, blocks)
        length = rows * max(1, min(_BLOCKS_PER_TURN, blocks // (4 * threads)))
        turns = count(step=length)

        def take_turns() -> np.ndarray:
            free = self._rooms.setdefault(settings.window, [])
            try:  # runs at the same time have one each
                work = free.pop()
            except IndexError:
                work = workspace(n, self._dtype, settings.window)
            work.chosen[:] = 0
            own = work
            if isinstance(solver, Anderson):
                from refdeq_numba.fused_anderson import memory_of

                memory = memory_of(solver, rows, n, work.z.shape[1], self._dtype, settings.max_eval)
                work = work._replace(table=memory.table)
            while (first := next(turns)) < batch:
                solve_samples(settings, self._weights, inputs, results, tracks, work, first, min(first + length, batch))
            free.append(own)
            return own.chosen.copy()

        if threads == 1:
            return take_turns()
        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(take_turns) for _ in range(threads)]
            return np.sum([future.result() for future in futures], axis=0)

    def _settings(self, stop: StopRule, is_reset: bool) -> Settings:
        request, pattern, dtype = self._plan.request, self._plan.pattern, self._dtype
        gate = request.gates.get(pattern.linear)
        alpha = request.solver.alpha if isinstance(request.solver, KrasnoselskiiMann) else 1.0
        threshold = np.array(np.broadcast_to(0.0 if gate is None else gate.threshold, (pattern.n,)), dtype=dtype)
        is_ge, by_sample = gate is not None and gate.compare == "ge", gate is not None and gate.granularity == "sample"
        is_folded = gate is not None and request.bias == "folded" and pattern.bias is not None
        step = _step_of(request.solver, dtype)
        window, ratio = (0, 0.0) if stop.stagnation is None else stop.stagnation
        return Settings(
            n=pattern.n,
            activation=ACTIVATIONS[pattern.activation],
            row_function=_row_function(request.order, pattern.activation, dtype),
            slope=np.array([pattern.slope], dtype=dtype),
            is_gated=gate is not None,
            threshold=threshold,
            is_ge=is_ge,
            is_always=gate is not None and gate.memory == "always",
            is_dense_start=request.start == "dense",
            is_folded=is_folded,
            is_by_sample=by_sample,
            may_send_zeros=by_sample or (is_ge and bool((threshold == 0).any())),
            refresh=request.refresh,
            may_rest=gate is not None and alpha == 1.0 and request.refresh == 0 and not is_folded and step == 0,
            is_picard=alpha == 1.0 and step == 0,
            step=step,
            alpha=np.array([alpha], dtype=dtype),
            beta=np.array([1.0 - alpha], dtype=dtype),
            is_simd=simd.is_enabled(),
            may_fill=simd.is_enabled() and self._weights.is_finite and is_reset,
            crossovers=crossovers(dtype.name),
            is_fused_add=request.order == "fast",
            rtol=-1.0 if stop.rtol is None else float(stop.rtol),
            atol=-1.0 if stop.atol is None else float(stop.atol),
            max_eval=int(stop.max_eval),
            is_linf=stop.norm == "linf",
            eps=float(stop.eps),
            divergence=-1.0 if stop.divergence is None else float(stop.divergence),
            window=int(window),
            ratio=float(ratio),
        )

    def _inputs(self, z: np.ndarray, hoisted: Mapping[str, np.ndarray], memory: Any) -> Inputs:
        pattern = self._plan.pattern
        absent = np.zeros((0, pattern.n), dtype=self._dtype)
        values = {**hoisted, **self._constants}
        entry, phase, multiplier = (absent if name is None else _own(values[name]) for name in pattern.operands)
        if memory is None or not self._plan.request.gates:
            r, a = absent, absent
        else:
            r, a = _own(memory.r[pattern.watched]), _own(memory.a[pattern.linear])
        counts = np.zeros(0, dtype=np.int64) if memory is None else _own(memory.count)
        return Inputs(_own(z), entry, phase, multiplier, r, a, counts)


def _row_function(order: str, activation: str, dtype: np.dtype) -> int:
    """Address of the compiled loop of an activation over a row (N-8); 0 for those that the solve has in itself."""
    from refdeq_numba.activation_rows import STRICT, row_function

    return int(row_function(order, activation, dtype.name).address) if activation in STRICT else 0


def _note(chosen: np.ndarray) -> str:
    """What the kernels did, as shares of all evaluations of samples."""
    whole, listed, quiet = chosen / max(1, chosen.sum())
    return f"sums {whole:.0%} whole, {listed:.0%} by lists, {quiet:.0%} none"


def _step_of(solver: Any, dtype: np.dtype) -> int:
    """Address of the compiled step of a solver with a memory; 0 for the others, which the solve steps for itself."""
    if not isinstance(solver, Anderson):
        return 0
    from refdeq_numba.fused_anderson import compiled_step

    return int(compiled_step(dtype.name).address)


def _own(array: np.ndarray) -> np.ndarray:
    """The array as compiled code wants it: contiguous and writable (read-only arrays are another type to the compiler)."""
    return array if array.flags.c_contiguous and array.flags.writeable else np.array(array, order="C")


def _results(batch: int, n: int, dtype: np.dtype, is_gated: bool) -> Results:
    rows = batch if is_gated else 0
    integers = [np.zeros(batch, dtype=np.int64) for _ in range(6)]
    status, n_eval, counted, sent, nonzero, macs = integers
    return Results(
        z=np.empty((batch, n), dtype=dtype),
        r=np.empty((rows, n), dtype=dtype),
        mask=np.empty((rows, n), dtype=np.bool_),
        a=np.empty((rows, n), dtype=dtype),
        status=status,
        n_eval=n_eval,
        residual=np.full(batch, np.nan),
        scale=np.full(batch, np.nan),
        evaluations=counted,
        sent=sent,
        nonzero=nonzero,
        macs=macs,
    )


def _tracks(trace: Trace | None, pattern: Pattern, dtype: np.dtype, is_gated: bool) -> Tracks:
    none, no_mask = np.zeros((0, 0, 0), dtype=dtype), np.zeros((0, 0, 0), dtype=np.bool_)
    if trace is None:
        empty = np.zeros((0, 0))
        return Tracks(np.zeros((0, 0), dtype=np.bool_), none, none, empty, empty, none, no_mask, none, none, none)
    return Tracks(
        active=trace.active,
        z=trace.z[pattern.state],
        f=trace.f[pattern.state],
        residual=trace.residual,
        scale=trace.scale,
        r=trace.r[pattern.watched] if is_gated else none,
        mask=trace.mask[pattern.watched] if is_gated else no_mask,
        a=trace.a[pattern.linear] if is_gated else none,
        linear=none if is_gated else trace.values[pattern.linear],
        activated=trace.values.get(pattern.activated, none),
    )
