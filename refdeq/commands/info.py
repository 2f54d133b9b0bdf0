"""``refdeq info``: what is installed here, what can run, and why something cannot."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["collect", "info"]

PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "numba-cuda",
    "cupy-cuda13x",
    "safetensors",
    "typer",
    "rich",
    "matplotlib",
    "onnx",
)
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMBA_THREADING_LAYER",
)


def info(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False) -> None:
    """List versions, processors, threads, backends and models."""
    facts = collect()
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _show(facts)


def collect() -> dict[str, Any]:
    """Facts of ``refdeq info`` as plain data; the schema is that of ``refdeq info --json``.

    Returns
    -------
    dict

    Examples
    --------
    >>> facts = collect()
    >>> facts["schema"], facts["backends"][0]["name"]
    ('refdeq-info/1', 'reference')
    """
    import refdeq
    from refdeq.types import SEMANTICS_VERSION

    return {
        "schema": "refdeq-info/1",
        "refdeq": refdeq.__version__,
        "semantics": SEMANTICS_VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpu": _cpu(),
        "threads": {name: os.environ.get(name) for name in THREAD_VARIABLES},
        "blas": _blas(),
        "backends": [_backend(name) for name in refdeq.backend_names()],
        "models": _models(),
        "cache_directory": _cache_directory(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> dict[str, Any]:
    """Processor model, cores of the machine, and cores this process may use."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines())
        model = next((value.strip() for key, _, value in lines if key.strip() == "model name"), model)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"model": model, "cores": os.cpu_count(), "usable_cores": usable, "simd": _simd()}


def _numpy_config(section: str) -> dict[str, Any]:
    import numpy as np

    config: Any = np.show_config(mode="dicts")
    found: dict[str, Any] = config.get(section, {})
    return found


def _simd() -> list[str]:
    """Vector extensions that NumPy found on this processor."""
    extensions = _numpy_config("SIMD Extensions")
    return [*extensions.get("baseline", []), *extensions.get("found", [])]


def _blas() -> dict[str, str | None]:
    """The BLAS that NumPy was built with."""
    blas = _numpy_config("Build Dependencies").get("blas", {})
    return {"name": blas.get("name"), "version": blas.get("version")}


def _backend(name: str) -> dict[str, Any]:
    """What one backend declares, or why it cannot run here."""
    from refdeq.errors import BackendUnavailableError
    from refdeq.registry import load_backend

    try:
        backend = load_backend(name)
    except BackendUnavailableError as error:
        return {"name": name, "available": False, "reason": error.reason, "hint": error.hint}
    declared, facts = backend.info, dict(backend.describe())
    return {
        "name": name,
        "available": True,
        "simulated": declared.simulated,
        "summary": declared.summary,
        "orders": list(declared.orders),
        "dtypes": list(declared.dtypes),
        "determinism": declared.determinism,
        "inactive_columns": declared.inactive_columns,
        "activation": declared.activation,
        "fast_activation": declared.fast_activation if "fast" in declared.orders else None,
        "activation_ulp": declared.activation_ulp,
        "fused": declared.fused,
        "facts": facts,
    }


def _models() -> list[dict[str, Any]]:
    """The shipped trained models."""
    from refdeq.models import load_trained, trained_names

    rows = []
    for name in trained_names():
        model = load_trained(name)
        size = sum(array.size for array in model.cell.parameters.values())
        rows.append({"name": name, "cell": repr(model.cell), "samples": len(model.x), "parameters": size})
    return rows


def _cache_directory() -> str | None:
    """Where numba keeps the compiled code of the backend: NUMBA_CACHE_DIR, else beside its source, else the user's cache."""
    asked = os.environ.get("NUMBA_CACHE_DIR")
    if asked:
        return str(Path(asked).resolve())
    package = sys.modules.get("refdeq_numba")
    if package is None or package.__file__ is None or _version("numba") is None:
        return None
    beside = Path(package.__file__).parent / "__pycache__"
    if os.access(beside if beside.exists() else beside.parent, os.W_OK):
        return str(beside)
    from numba.misc.appdirs import AppDirs

    return str(AppDirs(appname="numba", appauthor=False).user_cache_dir)  # type: ignore[no-untyped-call]


def _show(facts: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from refdeq.commands.console import result_console

    console = result_console()
    general = Table(show_header=False, box=None, pad_edge=False)
    for label, value in _general_rows(facts):
        general.add_row(Text(label), Text(value))
    backends = Table("backend", "state", "declares", title="Backends", title_justify="left")
    for entry in facts["backends"]:
        state = "cannot run" if not entry["available"] else "simulated" if entry["simulated"] else "available"
        backends.add_row(*(Text(text) for text in (entry["name"], state, _backend_text(entry))))
    models = Table("model", "samples", "cell", title="Trained models", title_justify="left")
    for model in facts["models"]:
        models.add_row(*(Text(text) for text in (model["name"], str(model["samples"]), model["cell"])))
    for table in (general, backends, models):
        console.print(table)
        console.print()


def _general_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    cpu, blas = facts["cpu"], facts["blas"]
    installed = ", ".join(f"{name} {number}" for name, number in facts["packages"].items() if number)
    absent = ", ".join(name for name, number in facts["packages"].items() if number is None)
    threads = ", ".join(f"{name}={value if value is not None else '(not set)'}" for name, value in facts["threads"].items())
    return [
        ("refdeq", f"{facts['refdeq']} (semantics {facts['semantics']})"),
        ("Python", f"{facts['python']} on {facts['platform']}"),
        ("packages", installed + (f"; not installed: {absent}" if absent else "")),
        ("processor", f"{cpu['model']}, {cpu['usable_cores']} of {cpu['cores']} cores usable"),
        ("vectors", " ".join(cpu["simd"]) or "unknown"),
        ("BLAS", f"{blas['name'] or 'unknown'} {blas['version'] or ''}".strip()),
        ("threads", threads),
        ("compiled code", facts["cache_directory"] or "nowhere (no compiled backend)"),
    ]


def _backend_text(entry: dict[str, Any]) -> str:
    if not entry["available"]:
        return f"{entry['reason']} ({entry['hint']})" if entry["hint"] else str(entry["reason"])
    fused = "yes" if entry["fused"] else "no"
    lines = [
        entry["summary"],
        f"orders: {', '.join(entry['orders'])}; dtypes: {', '.join(entry['dtypes'])}; determinism: {entry['determinism']}",
        f"inactive columns: {entry['inactive_columns']}; activations: {entry['activation']}; fused plans: {fused}",
    ]
    if entry["facts"]:
        lines.append(", ".join(f"{key}: {value}" for key, value in entry["facts"].items()))
    return "\n".join(lines)
