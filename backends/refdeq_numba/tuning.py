"""Crossovers of this machine: measured once by ``refdeq tune``, kept in a small file, shipped defaults without it (P9).

A record holds for one processor model, vector width and set of versions; with any other the defaults are used. Crossovers
change times, never bits, so a stale or foreign record can cost speed only.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np

from refdeq.errors import FileFormatError
from refdeq_numba import simd
from refdeq_numba.dispatch import DEFAULTS, Crossovers

__all__ = ["SCHEMA", "crossovers", "machine_key", "read", "record_path", "remove", "write"]

SCHEMA = "refdeq-tuning/1"


def record_path() -> Path:
    """Where the record lies: ``REFDEQ_TUNING``, else ``refdeq/tuning.json`` in the user's cache folder."""
    named = os.environ.get("REFDEQ_TUNING")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refdeq" / "tuning.json"


def machine_key() -> dict[str, str]:
    """What a record is true for.

    >>> sorted(machine_key())
    ['cpu', 'llvmlite', 'numba', 'numpy', 'vectors']
    """
    return {
        "cpu": f"{platform.machine()} {_model()} {llvm.get_host_cpu_name()}",
        "vectors": str(simd.vector_bytes()),
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": np.__version__,
    }


def _model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def read() -> dict[str, Any] | None:
    """Return the record, or None when there is none.

    Raises
    ------
    FileFormatError
        The file is not a record.
    """
    path = record_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        record = json.loads(text)
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema {record['schema']!r}")
        for dtype in ("float32", "float64"):
            found = Crossovers(**record["crossovers"][dtype])
            if not all(isinstance(share, float) and 0 <= share <= 1 for share in found):
                raise ValueError(f"shares between 0 and 1, got {tuple(found)}")
        dict(record["machine"])
    except (ValueError, KeyError, TypeError) as error:
        raise FileFormatError(
            f"{path}: not a tuning record ({error}); `refdeq tune` writes a new one, `refdeq tune --reset` removes it"
        ) from error
    return dict(record)


def write(found: dict[str, Crossovers], seconds: dict[str, Any]) -> Path:
    """Write a record for this machine, whole or not at all; return its path."""
    path = record_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    shares = {dtype: chosen._asdict() for dtype, chosen in found.items()}
    record = {"schema": SCHEMA, "machine": machine_key(), "crossovers": shares, "seconds": seconds}
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".tuning", delete=False, encoding="utf-8") as file:
        json.dump(record, file, indent=1)
    os.replace(file.name, path)
    crossovers.cache_clear()
    return path


def remove() -> bool:
    """Remove the record; return whether there was one."""
    crossovers.cache_clear()
    try:
        record_path().unlink()
    except FileNotFoundError:
        return False
    return True


@functools.cache
def crossovers(dtype: str) -> Crossovers:
    """Crossovers for one dtype: those of a record of this very machine, else the defaults.

    >>> 0 < crossovers("float32").whole <= 1
    True
    """
    record = read()
    if record is None or record["machine"] != machine_key():
        return DEFAULTS
    return Crossovers(**record["crossovers"][dtype])
