"""The numbers of a demonstration: as tables on the console, or as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refdeq.commands.convergence import CONVERGED_BELOW, SETTLED_RTOL, Observed, Run
from refdeq.cost_official import OFFICIAL_NOTE
from refdeq.models import TrainedModel

__all__ = ["Summary", "print_json", "print_tables"]


@dataclass(frozen=True)
class Summary:
    """Everything a demonstration found out.

    Attributes
    ----------
    kind : {"sine", "image"}
    model : TrainedModel
    preset : str
    backend, why : str
        Which backend ran, and the reason for the choice.
    evaluations : int
        Per sample, in every run.
    dense, exact, delta : Run
        Without a rule, at threshold 0, and at the threshold asked for.
    """

    kind: str
    model: TrainedModel
    preset: str
    backend: str
    why: str
    evaluations: int
    dense: Run
    exact: Run
    delta: Run

    @property
    def runs(self) -> tuple[Run, Run, Run]:
        """All runs, the dense one first."""
        return (self.dense, self.exact, self.delta)

    @property
    def seen_dense(self) -> Observed:
        """What was seen of the dense run."""
        return _watched(self.dense)

    @property
    def seen_delta(self) -> Observed:
        """What was seen of the run with the threshold asked for."""
        return _watched(self.delta)

    def shown_iterates(self) -> list[int]:
        """Powers of two, and the returned iterate last."""
        last = self.evaluations - 1
        return [*(2**i for i in range(6) if 2**i < last), last]

    def mse_by_iterate(self, seen: Observed) -> np.ndarray:
        """Mean squared error of the readout of ``z_0 ... z_(T-1)`` against the target."""
        errors: np.ndarray = np.mean((seen.decoded - self.model.target) ** 2, axis=(1, 2))
        return errors

    def psnr_by_iterate(self, seen: Observed) -> np.ndarray:
        """Peak signal-to-noise ratio in dB of the readout of ``z_0 ... z_(T-1)``, clipped to the range [-1, 1]."""
        errors = np.mean((np.clip(seen.decoded, -1.0, 1.0) - self.model.target) ** 2, axis=(1, 2))
        ratios: np.ndarray = -10.0 * np.log10(errors / 4.0)
        return ratios

    def to_dict(self, files: Sequence[Path]) -> dict[str, Any]:
        """Plain data; the schema is that of ``refdeq demo --json``."""
        seen, settled = self.seen_delta, self.seen_dense.settled
        return {
            "schema": "refdeq-demo/1",
            "kind": self.kind,
            "model": self.model.name,
            "samples": len(self.model.x),
            "backend": self.backend,
            "backend_reason": self.why,
            "executor": self.delta.executor,
            "preset": self.preset,
            "protocol": "P: a fixed budget of evaluations from z = 0, no stop test",
            "evaluations": self.evaluations,
            "runs": [self._run_data(run) for run in self.runs],
            "official_note": OFFICIAL_NOTE,
            "by_iterate": {
                "converged_dimensions": [None, *np.median(self.seen_dense.converged, axis=1).tolist()],
                "sent_share": seen.sent.tolist(),
                "mse_dense": self.mse_by_iterate(self.seen_dense).tolist(),
                "mse_delta": self.mse_by_iterate(seen).tolist(),
            },
            "settled": {
                "rtol": SETTLED_RTOL,
                "min": int(settled.min()),
                "mean": float(settled.mean()),
                "max": int(settled.max()),
                "never": int((settled >= self.evaluations).sum()),
            },
            "figures": [str(path) for path in files],
        }

    def _run_data(self, run: Run) -> dict[str, Any]:
        official = self.delta.official
        dense_flops = official.flops_dense if official is not None else None
        return {
            "threshold": run.threshold,
            "macs": run.macs,
            "macs_dense": run.macs_dense,
            "official_flops": run.official.flops if run.official is not None else dense_flops,
            "official_flops_dense": dense_flops,
            "mse_target": self.model.mse(run.z),
            "mse_dense": _mse_between(self.model, run, self.dense),
            "psnr_target": self.model.psnr(run.z) if self.kind == "image" else None,
            "psnr_dense": _psnr_between(self.model, run, self.dense) if self.kind == "image" else None,
        }


def _watched(run: Run) -> Observed:
    if run.observed is None:
        raise RuntimeError("this run was not watched")
    return run.observed


def _decoded(model: TrainedModel, run: Run) -> np.ndarray:
    return model.decode(run.z.astype(np.float64))


def _mse_between(model: TrainedModel, run: Run, other: Run) -> float:
    return float(np.mean((_decoded(model, run) - _decoded(model, other)) ** 2))


def _psnr_between(model: TrainedModel, run: Run, other: Run) -> float | None:
    """PSNR in dB of one run's picture against another's; None (infinite) when they are equal."""
    pictures = (np.clip(_decoded(model, each), -1.0, 1.0) for each in (run, other))
    error = float(np.mean(np.subtract(*pictures) ** 2))
    return -10.0 * math.log10(error / 4.0) if error else None


def print_json(summary: Summary, files: Sequence[Path]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(summary.to_dict(files), indent=2, allow_nan=False))


def print_tables(summary: Summary, files: Sequence[Path]) -> None:
    """Print what ran, the cost and error of each run, and how the iterates develop."""
    from rich.text import Text

    from refdeq.commands.console import result_console

    console = result_console()
    data = summary.to_dict(files)
    lines = [
        f"model {data['model']}: {summary.model.cell!r}, {data['samples']} samples",
        f"backend {data['backend']} ({data['backend_reason']}); delta rule: preset {data['preset']}; {data['executor']}",
        f"protocol {data['protocol']}; {data['evaluations']} evaluations per sample in every run",
    ]
    for line in lines:
        console.print(Text(line))
    console.print()
    console.print(_run_table(summary.kind, data))
    console.print(Text(f"MACs are exact, the first evaluation included. {OFFICIAL_NOTE[0].upper()}{OFFICIAL_NOTE[1:]}."))
    console.print()
    console.print(_iterate_table(summary))
    settled = data["settled"]
    console.print(
        Text(
            f"dense relative residual at or below {settled['rtol']:g} after {settled['min']} to {settled['max']} iterations "
            f"(mean {settled['mean']:.2f}; {settled['never']} samples never)"
        )
    )
    for path in files:
        console.print(Text(f"wrote {path}"), soft_wrap=True)


def _run_table(kind: str, data: dict[str, Any]) -> Any:
    from rich.table import Table

    quality = ("MSE to target", "MSE to dense") if kind == "sine" else ("PSNR to target", "PSNR to dense")
    table = Table("run", title="Cost and error of the returned point", title_justify="left")
    for title in ("evaluations", "MACs", "saved", "official FLOPs", "saved", *quality):
        table.add_column(title, justify="right")
    samples, evaluations = data["samples"], data["evaluations"]
    for run in data["runs"]:
        label = "dense" if run["threshold"] is None else f"threshold {run['threshold']:g}"
        table.add_row(
            label,
            f"{samples * evaluations:,}",
            f"{run['macs']:,}",
            _saved(run["macs"], run["macs_dense"]),
            f"{run['official_flops']:,.0f}",
            _saved(run["official_flops"], run["official_flops_dense"]),
            *_qualities(kind, run),
        )
    return table


def _saved(spent: float, dense: float) -> str:
    return f"{100 * (1 - spent / dense):.1f} %"


def _qualities(kind: str, run: dict[str, Any]) -> tuple[str, str]:
    if kind == "sine":
        return f"{run['mse_target']:.3e}", f"{run['mse_dense']:.3e}"
    to_dense = "equal" if run["psnr_dense"] is None else f"{run['psnr_dense']:.2f} dB"
    return f"{run['psnr_target']:.3f} dB", to_dense


def _iterate_table(summary: Summary) -> Any:
    from rich.table import Table

    dimensions = summary.model.readout_weight.shape[1]
    unit, values = ("MSE", summary.mse_by_iterate) if summary.kind == "sine" else ("PSNR", summary.psnr_by_iterate)
    style = "{:.3e}" if unit == "MSE" else "{:.2f} dB"
    table = Table("iteration", title="Iterates, against the target", title_justify="left")
    for title in (f"dimensions below {CONVERGED_BELOW:g} (of {dimensions})", "sent", f"{unit} dense", f"{unit} delta rule"):
        table.add_column(title, justify="right")
    dense, delta = values(summary.seen_dense), values(summary.seen_delta)
    converged = np.median(summary.seen_dense.converged, axis=1)
    for k in summary.shown_iterates():
        share = f"{100 * summary.seen_delta.sent[k]:.1f} %"
        table.add_row(str(k), f"{converged[k - 1]:g}", share, style.format(dense[k]), style.format(delta[k]))
    return table
