"""The file a run on a device writes: facts, one object per measurement, rewritten whole after every phase."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
import subprocess
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.checkout import ROOT

__all__ = ["SCHEMA", "Measurement", "Run", "load"]

SCHEMA = "refdeq-gpu/1"


@dataclass
class Measurement:
    """One variant at one point, or one fact about correctness.

    Attributes
    ----------
    id : str
        Unique in its file.
    goal : str
        ``"G1"`` to ``"G17"``; empty for what no goal asks for.
    workload, backend, variant : str
        ``backend`` is ``cupy``, ``cuda``, ``torch`` or ``own`` for a ceiling.
    shape, dtype, semantics, density, precision_flags : dict
    iterations : int
    time_us : dict or None
        ``median, p10, p90, samples, replays`` in microseconds; None where nothing was timed.
    floor_us : float or None
        Least time by the measured ceilings.
    baseline_id : str
        Measurement of the same file that ratios are formed with; no ratio without one.
    ratio : dict or None
        ``median, low, high`` of baseline over this, sample by sample of the same round.
    ratio_kind : str
        ``vs_graph_dense``, ``vs_eager``, ``vs_own_dense`` or ``vs_library``.
    spread : float
        A/A of the baseline; a ratio stands only where a third of its gain is more than that.
    error : dict
        Against float64.
    deterministic : dict
        Which repetitions gave equal bits.
    notes : str
    """

    id: str
    workload: str
    backend: str
    variant: str
    goal: str = ""
    shape: dict[str, Any] = field(default_factory=dict)
    dtype: dict[str, str] = field(default_factory=dict)
    semantics: dict[str, Any] = field(default_factory=dict)
    density: dict[str, Any] = field(default_factory=dict)
    precision_flags: dict[str, Any] = field(default_factory=dict)
    iterations: int = 0
    time_us: dict[str, float] | None = None
    floor_us: float | None = None
    baseline_id: str = ""
    ratio: dict[str, float] | None = None
    ratio_kind: str = ""
    spread: float = 0.0
    cold_or_hot: str = "hot"
    launches: int = 0
    host_syncs: int = 0
    error: dict[str, float] = field(default_factory=dict)
    deterministic: dict[str, bool] = field(default_factory=dict)
    notes: str = ""


class Run:
    """What is known so far, and the file it goes to.

    Parameters
    ----------
    path : Path
    facts : dict
        Device, driver, versions, precision flags, whether it is simulated.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self._path = path
        self.facts = facts | {"commit": _commit(), "script_sha256": _sources(), "started": _now()}
        self.phases: list[dict[str, Any]] = []
        self.ceilings: dict[str, float] = {}
        self.build: list[dict[str, Any]] = []
        self.measurements: list[Measurement] = []
        self.failures: list[str] = []

    @property
    def name(self) -> str:
        """Of the file, without its suffix."""
        return self._path.stem

    def add(self, measurement: Measurement) -> Measurement:
        """Append a measurement; its id must be new."""
        if any(known.id == measurement.id for known in self.measurements):
            raise ValueError(f"measurement {measurement.id!r} is there already")
        self.measurements.append(measurement)
        return measurement

    def failed(self, label: str, error: Exception) -> None:
        """Show what a part of a phase died of; the phase goes on, and its problem says so in the end."""
        traceback.print_exception(error)
        self.failures.append(f"{label}: {type(error).__name__}: {error}"[:500])

    def finish_phase(self, name: str, seconds: float, problem: str = "") -> None:
        """Note that a phase has ended, well or not, and write everything there is."""
        problem = "; ".join(filter(None, [*self.failures, problem]))
        self.failures.clear()
        self.phases.append({"name": name, "seconds": round(seconds, 2), "problem": problem})
        self.write()

    def write(self) -> None:
        """Write the whole file under another name and move it into place, so that a kill leaves the one before."""
        content = {
            "schema": SCHEMA,
            "facts": self.facts,
            "phases": self.phases,
            "ceilings": self.ceilings,
            "build": self.build,
            "measurements": [dataclasses.asdict(measurement) for measurement in self.measurements],
        }
        beside = self._path.with_suffix(".part")
        beside.write_text(json.dumps(_plain(content), indent=1, allow_nan=False), encoding="utf-8")
        beside.replace(self._path)


def _plain(value: Any) -> Any:
    """The same without NaN, infinities and numbers of NumPy, which JSON has not: a wrong result must not cost the file.

    >>> _plain({"a": [1.5, float("nan")], "b": (True, None)})
    {'a': [1.5, None], 'b': [True, None]}
    """
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load(path: Path) -> dict[str, Any]:
    """Read a file of a run, checked for its schema."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content.get("schema") != SCHEMA:
        raise ValueError(f"{path}: expected schema {SCHEMA}, got {content.get('schema')!r}")
    return content


def _commit() -> str:
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def _sources() -> str:
    """Digest of everything that was measured: scripts, backends, core."""
    digest = hashlib.sha256()
    folders = [ROOT / "benchmarks/gpu", ROOT / "backends", ROOT / "refdeq"]
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".cu", ".cuh", ".hpp"))
    for path in files:
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
