"""One validation session: which backends, cells and presets are judged, and what came out, row by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from refdeq.api import solve
from refdeq.errors import UnsupportedError
from refdeq.models import TrainedModel
from refdeq.registry import Backend
from refdeq.solution import Solution
from refdeq.types import DeltaRule, StopRule
from refdeq_validation.designed.families import PRESET_NAMES, Case
from refdeq_validation.judge.verdicts import Failure, Findings
from refdeq_validation.runner import judge_case, judge_solve

__all__ = ["Declaration", "Row", "declarations", "inputs_judged", "judge_designed", "judge_trained", "time_rows"]

CHUNK = 512
"""Samples judged at a time: they are independent, and a trace of 31 evaluations of 512 image samples is about 80 MB."""

STOP = StopRule(rtol=1e-3, max_eval=31)
"""Protocol (S) of clause C-4: the stop test of the DeltaDEQ paper's image experiment, per sample."""

OP_SAMPLES = 1024
"""Inputs on which an op-level path is judged where the backend has fused plans: those are what a solve uses, and see all."""

TIMED = 512
"""Inputs of the timed solve, at most."""

LONG = 0.05
"""Seconds beyond which a solve is timed once: what disturbs it is small beside it."""

THRESHOLDS = {"sine": 5e-3}
DEFAULT_THRESHOLD = 1e-2


@dataclass(frozen=True)
class Declaration:
    """One claim of a backend that is judged: an order of accumulation on one execution path."""

    backend: Backend
    order: str
    executor: str

    @property
    def name(self) -> str:
        """Text for tables, such as ``numba strict fused``."""
        simulated = " (simulated)" if self.backend.info.simulated else ""
        return f"{self.backend.info.name} {self.order} {self.executor}{simulated}"


@dataclass
class Row:
    """Result of judging one declaration on one cell with one preset."""

    declaration: str
    cell: str
    preset: str
    findings: Findings = field(default_factory=Findings)
    runs: int = 0
    inputs: int = 0
    macs_saved: float | None = None
    dense_residual: float | None = None
    quality: str = ""
    seconds: float | None = None
    seconds_dense: float | None = None
    error: str = ""

    @property
    def disposition(self) -> str:
        """``passed``, ``failed``, ``error`` (the backend broke) or ``missing`` (nothing was judged)."""
        if self.error:
            return "error"
        if self.findings.failed:
            return "failed"
        return "passed" if self.runs and self.findings.passed else "missing"


def declarations(backend: Backend, orders: Iterable[str] | None = None) -> list[Declaration]:
    """Every claim of a backend: each order at op level, and fused where it has plans."""
    chosen = backend.info.orders if orders is None else [o for o in backend.info.orders if o in set(orders)]
    paths = ("op", "fused") if backend.info.fused else ("op",)
    return [Declaration(backend, order, path) for order in chosen for path in paths]


# ------------------------------------------------------------------------------------------------------------ designed cases


def judge_designed(
    declaration: Declaration, cases: Iterable[Case], advance: Callable[[int], None], *, first_kill: bool = False
) -> list[Row]:
    """Judge a declaration on the designed cases; one row per preset, one for the other rules.

    Parameters
    ----------
    declaration : Declaration
    cases : iterable of Case
    advance : callable
        Told how many cases are done.
    first_kill : bool
        Stop at the first failing case.
    """
    rows: dict[str, Row] = {}
    for case in cases:
        if case.cell.graph.dtype not in declaration.backend.info.dtypes:
            advance(1)  # not declared, so not judged; what is declared and has no case is missing
            continue
        preset = next((name for name in PRESET_NAMES if f"-{name}-" in case.name), "other rules")
        row = rows.setdefault(preset, Row(declaration.name, "designed", preset))
        try:
            findings = judge_case(case, declaration.backend, declaration.order, declaration.executor)
        except UnsupportedError as refusal:
            if declaration.executor == "fused":
                advance(1)
                continue
            row.error = row.error or f"{case.name}: {refusal}"
        except Exception as error:  # a judged backend may break in any way; the row says how
            row.error = row.error or f"{case.name}: {type(error).__name__}: {error}"
        else:
            row.runs += 1
            row.inputs += len(case.z0) if isinstance(case.z0, np.ndarray) else len(next(iter(case.z0.values())))
            _name_failures(findings, case.name)
            row.findings.merge(findings)
        advance(1)
        if first_kill and (row.error or row.findings.failed):
            break
    return [rows[name] for name in (*PRESET_NAMES, "other rules") if name in rows]


def _name_failures(findings: Findings, case: str) -> None:
    """Put the case's name in front of the tensor that failed."""
    findings.failures = [Failure(**{**vars(f), "tensor": f"{case}: {f.tensor}"}) for f in findings.failures]


# ------------------------------------------------------------------------------------------------------------- trained cells


def judge_trained(
    declaration: Declaration,
    model: TrainedModel,
    presets: Iterable[str],
    advance: Callable[[int], None],
    *,
    samples: int | None = None,
    threads: int = 1,
    threshold: float | None = None,
) -> list[Row]:
    """Judge a declaration on a trained cell over its inputs, dense and with each preset.

    Parameters
    ----------
    samples : int, optional
        Evenly spread subset; all inputs by default.
    threads : int
        Chunks judged at the same time; it also bounds the peak memory.
    threshold : float, optional
        Of every preset; by default 5e-3 for the sine cell and 1e-2 otherwise.
    """
    picked = _spread(len(model.x), inputs_judged(declaration, model, samples))
    rows, dense = [], None
    for preset in (None, *presets):
        rule = _rule_of(preset, model, threshold)
        row = Row(declaration.name, model.name, preset or "dense")
        rows.append(row)
        try:
            z = _judge_chunks(declaration, model, picked, rule, row, advance, threads)
        except Exception as error:  # a judged backend may break in any way; the row says how
            row.error = f"{type(error).__name__}: {error}"
            continue
        dense = z if rule is None else dense
        row.quality = _quality(model, picked, z, dense)
    return rows


def inputs_judged(declaration: Declaration, model: TrainedModel, samples: int | None) -> int:
    """How many inputs of a model a declaration is judged on: all, unless `samples` or ``OP_SAMPLES`` says otherwise."""
    is_second_path = declaration.executor == "op" and declaration.backend.info.fused
    limit = OP_SAMPLES if samples is None and is_second_path else samples
    return len(model.x) if limit is None else min(limit, len(model.x))


def _spread(count: int, samples: int | None) -> np.ndarray:
    if samples is None or samples >= count:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, samples).astype(np.int64))


def _judge_chunks(
    declaration: Declaration,
    model: TrainedModel,
    picked: np.ndarray,
    rule: DeltaRule | None,
    row: Row,
    advance: Callable[[int], None],
    threads: int,
) -> np.ndarray:
    """Solve and judge chunk by chunk; returns the solutions of all picked samples."""
    chunks = [picked[i : i + CHUNK] for i in range(0, len(picked), CHUNK)]

    def judge(chunk: np.ndarray) -> tuple[Solution, Findings]:
        return judge_solve(
            model.cell,
            model.x[chunk],
            rule=rule,
            stop=STOP,
            backend=declaration.backend,
            order=declaration.order,
            executor=declaration.executor,
            verify=True,
        )

    states, macs, macs_dense, worst = [], 0, 0, 0.0
    for solution, findings in _in_order(judge, chunks, threads):
        assert solution.cost is not None
        assert solution.residual_dense is not None
        states.append(solution.z)
        row.findings.merge(findings)
        row.runs += 1
        macs, macs_dense = macs + solution.cost.macs, macs_dense + solution.cost.macs_dense
        worst = max(worst, float((solution.residual_dense / (solution.scale + STOP.eps)).max()))
        advance(len(solution.z))
    row.macs_saved, row.dense_residual = 1.0 - macs / macs_dense, worst
    row.inputs = len(picked)
    return np.concatenate(states)


def _in_order(
    judge: Callable[[np.ndarray], tuple[Solution, Findings]], chunks: list[np.ndarray], threads: int
) -> Iterator[tuple[Solution, Findings]]:
    """Judge chunks in a pool, at most `threads` in memory at a time, results in order."""
    with ThreadPoolExecutor(threads) as pool:
        pending = [pool.submit(judge, chunk) for chunk in chunks[:threads]]
        for following in [*chunks[threads:], *[None] * threads]:
            if not pending:
                return
            result = pending.pop(0).result()
            if following is not None:
                pending.append(pool.submit(judge, following))
            yield result


def _rule_of(preset: str | None, model: TrainedModel, threshold: float | None) -> DeltaRule | None:
    if preset is None:
        return None
    default = THRESHOLDS.get(model.name, DEFAULT_THRESHOLD)
    return DeltaRule.preset(preset, threshold=default if threshold is None else threshold)


def time_rows(
    declaration: Declaration, model: TrainedModel, rows: Iterable[Row], threshold: float | None, inputs: int = TIMED
) -> None:
    """Time an untraced solve per row that ran: of evenly spread inputs, on one thread, the better of two unless it is long.

    Compiled code is loaded before, by a solve of one input.
    """
    dense = None
    for row in rows:
        if row.error:
            continue
        rule = _rule_of(None if row.preset == "dense" else row.preset, model, threshold)
        x = model.x[_spread(len(model.x), min(inputs, row.inputs))]
        _solve(declaration, model, x[:1], rule)
        first = _seconds(declaration, model, x, rule)
        row.seconds = first if first > LONG else min(first, _seconds(declaration, model, x, rule))
        dense = row.seconds if rule is None else dense
        row.seconds_dense = dense


def _seconds(declaration: Declaration, model: TrainedModel, x: np.ndarray, rule: DeltaRule | None) -> float:
    began = time.perf_counter()
    _solve(declaration, model, x, rule)
    return time.perf_counter() - began


def _solve(declaration: Declaration, model: TrainedModel, x: np.ndarray, rule: DeltaRule | None) -> Solution:
    return solve(
        model.cell,
        x,
        stop=STOP,
        delta=rule,
        backend=declaration.backend,
        order=declaration.order,
        executor=declaration.executor,
    )


def _quality(model: TrainedModel, picked: np.ndarray, z: np.ndarray, dense: np.ndarray | None) -> str:
    """PSNR (image) or mean squared error (others) against the target, and its change from the dense solve."""

    def mse(states: np.ndarray) -> float:
        return float(np.mean((model.decode(states.astype(np.float64)) - model.target[picked]) ** 2))

    reached = mse(z)
    if not model.name.startswith("image"):
        return f"MSE {reached:.2e}" if dense is None or dense is z else f"MSE {reached:.2e} ({mse(dense):.2e})"
    psnr = 10.0 * np.log10(4.0 / reached)
    if dense is None or dense is z:
        return f"{psnr:.2f} dB"
    return f"{psnr:.2f} dB ({psnr - 10.0 * np.log10(4.0 / mse(dense)):+.3f})"
