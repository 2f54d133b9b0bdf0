"""Judging a planted bug: the designed cases, the most telling ones first, then the sine cell, up to the first kill."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refdeq_validation.designed.families import PRESET_NAMES, Case, designed_cases
from refdeq_validation.session import Declaration, Row, judge_designed, judge_trained

from planting.patching import Patch
from refdeq.models import load_trained
from refdeq.registry import Backend

__all__ = ["FIRST", "Kill", "judge", "killer_first", "telling_cases"]

FIRST: tuple[str, ...] = (
    "tie-0.25-zero-paper-float64",
    "tie-0.25-zero-deltadeq-code-float64",
    "tie-0.25-zero-delta-network-float64",
    "terms-1-paper-float64",
    "terms-2-delta-network-float64",
    "terms-5-paper-float64",
    "terms-33-paper-float64",
    "terms-65-paper-float64",
    "special-0-deltadeq-code-float64",
    "special-0-paper-float64",
    "special-inactive-columns-paper-float64",
    "special-infinite-weights-paper-float64",
    "special-infinite-weights-delta-network-float64",
    "sequence-sine-paper-float64",
    "sequence-either-paper-float64",
    "sequence-atol-paper-float64",
    "sequence-resting-paper-float64",
    "sequence-linf-nonfinite-paper-float64",
    "decision-atol-paper-float64",
    "decision-rtol-paper-float64",
    "decision-divergence-paper-float64",
    "decision-stagnation-paper-float64",
    "decision-order-paper-float64",
    "rule-refresh-float64",
    "rule-sample-float64",
    "rule-per-channel-float64",
    "rule-feedback-float16-float64",
    "rule-delta-float16-float64",
    "shape-7x130-delta-network-float64",
    "shape-70x9-paper-float64",
    "special-argument-relu-float64",
    "special-argument-exp-float64",
    "special-inf-deltadeq-code-float64",
    "decision-stagnation-flat-lowest-paper-float64",
    "decision-divergence-first-paper-float64",
    "decision-stagnation-never-lowest-paper-float64",
    "warm-deltadeq-code-float64",
    "block-rows-paper-float64",
    "block-few-paper-float64",
    "block-signs-paper-float64",
    "block-poisoned-paper-float64",
    "block-poisoned-start-delta-network-float64",
    "block-sites-paper-float64",
    "block-channels-paper-float64",
    "block-site-signs-paper-float64",
    "block-poisoned-sites-paper-float64",
    "block-skewed-paper-float64",
    "graph-fourier-paper-float64",
    "graph-conv1d-element-paper-float64",
    "graph-conv2d-element-paper-float64",
    "graph-skewed-paper-float64",
    "graph-conv1d-pixel-paper-float64",
    "graph-conv2d-tile-paper-float64",
    "graph-operators-paper-float64",
    "block-rows-paper-float32",
    "terms-33-paper-float32",
    "sequence-either-paper-float32",
    "tie-0.1-zero-deltadeq-code-float32",
    "special-argument-sin-float64",
    "special-argument-sin-float32",
    "special-argument-cos-float32",
    "special-argument-tanh-float32",
    "special-argument-sigmoid-float32",
    "special-argument-exp-float32",
    "special-injected-tanh-float32",
    "special-injected-sin-float32",
)
"""Cases that kill most, as measured over the catalogue; those of float32 last, so that one dtype is compiled first."""


KILLERS: dict[str, str] = json.loads(Path(__file__).with_name("killers.json").read_text(encoding="utf-8"))
"""Which case killed a bug when all of them were last judged in the order of ``FIRST``: taken from ``kill_table.json``."""


@dataclass(frozen=True)
class Kill:
    """What rejected a planted bug.

    Attributes
    ----------
    bug : Patch
    path : {"op", "fused"}
        Path on which it was judged.
    case, kind, sentence : str
        Designed case or trained cell, kind of the first failure, and the failure in words.
    """

    bug: Patch
    path: str
    case: str
    kind: str
    sentence: str

    def line(self) -> str:
        """One line of the kill table."""
        return f"{self.bug.module:18} {self.path:5} {self.bug.order:6} {self.bug.name:42} {self.kind:9} {self.case}"


def telling_cases() -> list[Case]:
    """The cases of ``FIRST`` and a spread of the others, float64 before float32: bugs and controls are judged on the same."""
    cases = {case.name: case for case in designed_cases()}
    front = [cases.pop(name) for name in FIRST]
    others = sorted(list(cases.values())[::SPREAD], key=lambda case: str(case.cell.dtype), reverse=True)
    return front + others


def killer_first(bug: Patch, path: str, cases: Sequence[Case]) -> list[Case]:
    """The cases, the known killer of a bug before the others: what they do not reach need not be compiled.

    The others follow, so that a bug whose killer is not known, or kills no longer, is judged on all of them.
    """
    known = KILLERS.get(f"{bug.module} {path}: {bug.name}")
    return sorted(cases, key=lambda case: case.name != known)


def judge(backend: Backend, cases: Sequence[Case], order: str = "strict", path: str = "op") -> tuple[str, str, str] | None:
    """Return (case, kind, sentence) of the first failure on the designed cases and the sine cell; None if there is none.

    An error that leaves the backend is no verdict of the judge: it is raised.
    """
    declaration = Declaration(backend, order, path)
    rows = judge_designed(declaration, cases, lambda steps: None, first_kill=True)
    if not any(row.findings.failed or row.error for row in rows):
        sine = load_trained("sine")
        rows += judge_trained(declaration, sine, PRESET_NAMES, lambda steps: None, samples=SAMPLES, threads=1)
    return _first(rows)


SPREAD = 25
"""Of the cases that are not in ``FIRST``, every so many; every bug dies in ``FIRST``, so that only controls get that far."""

SAMPLES = 40
"""Of the 200 inputs of the sine cell, evenly spread."""


def _first(rows: Sequence[Row]) -> tuple[str, str, str] | None:
    errors = [row.error for row in rows if row.error]
    if errors:
        raise RuntimeError(f"the backend broke instead of being judged: {errors[0]}")
    assert all(row.disposition in ("passed", "failed") for row in rows if row.runs)
    for row in rows:
        if row.findings.failures:
            failure = row.findings.failures[0]
            case = failure.tensor.partition(":")[0] if row.cell == "designed" else f"{row.cell} {row.preset}"
            return case, failure.kind, failure.sentence()
    return None
