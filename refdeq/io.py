"""Cells and traces as safetensors files: arrays as tensors, everything else as JSON in the header; no pickle, no code.

A cell's parameters are ``parameter.NAME``; extra tensors (inputs, targets, a readout) may ride along under ``extra.NAME``; free
text under ``meta``. A trace's arrays are named after its fields, ``z.STATE``, ``r.GATE``, ``a.NODE`` and so on.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from refdeq.errors import ArgumentError, FileFormatError, RefdeqError
from refdeq.graph import Cell, Graph
from refdeq.types import Trace

__all__ = ["FORMAT", "TRACE_FORMAT", "load_cell", "load_trace", "read_safetensors", "save_cell", "save_trace", "write_whole"]

FORMAT = "refdeq-cell/1"
"""Written into every cell file, and required of it."""
TRACE_FORMAT = "refdeq-trace/1"
"""The same of a trace file."""

_TRACE_ARRAYS = ("active", "residual", "scale")
_TRACE_GROUPS = ("z", "f", "r", "mask", "a", "values", "hoisted")

Loaded = tuple[Cell, dict[str, np.ndarray], dict[str, str]]


def save_cell(
    path: str | os.PathLike[str],
    cell: Cell,
    *,
    extras: Mapping[str, np.ndarray] | None = None,
    meta: Mapping[str, str] | None = None,
) -> None:
    """Write a cell; the file appears complete or not at all.

    Parameters
    ----------
    path : path-like
    cell : Cell
    extras : dict of name to ndarray, optional
        Tensors that belong to the cell's use, not to its definition.
    meta : dict of str to str, optional

    Raises
    ------
    ArgumentError
        An extra has a dtype that the file cannot hold (native byte order, no objects).
    FileFormatError
        The file cannot be written; nothing is left behind.

    Examples
    --------
    >>> import tempfile, refdeq
    >>> cell = refdeq.models.rnn(np.zeros((2, 2)), np.ones((2, 1)), np.zeros(2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_cell(f"{folder}/cell.safetensors", cell)
    ...     load_cell(f"{folder}/cell.safetensors").digest == cell.digest
    True
    """
    from safetensors.numpy import save

    if not isinstance(cell, Cell):
        raise ArgumentError("cell", expected="a Cell, after the path", got=type(cell).__name__)
    kept = {name: np.array(array, order="C") for name, array in (extras or {}).items()}
    for name, array in kept.items():
        if array.dtype.kind not in "biuf" or not array.dtype.isnative:
            raise ArgumentError(f"extras[{name!r}]", expected="numbers or bools in native byte order", got=array.dtype)
    notes = dict(meta or {})
    tensors = {f"parameter.{name}": array for name, array in cell.parameters.items()}
    tensors |= {f"extra.{name}": array for name, array in kept.items()}
    header = {
        "format": FORMAT,
        "graph": json.dumps(cell.graph.to_dict(), ensure_ascii=False),
        "meta": json.dumps(notes, ensure_ascii=False),
        "digest": _file_digest(cell, kept, notes),
    }
    write_whole(Path(path), save(tensors, metadata=header))


def _file_digest(cell: Cell, extras: Mapping[str, np.ndarray], meta: Mapping[str, str]) -> str:
    """SHA-256 of everything the file says."""
    sha = hashlib.sha256((cell.digest + json.dumps(meta, sort_keys=True)).encode())
    for name in sorted(extras):
        array = extras[name]
        sha.update(f"{name}\0{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return sha.hexdigest()


def write_whole(target: Path, data: bytes) -> None:
    """Write beside the target, then move into place: an interrupted save leaves the old file, or none.

    Raises
    ------
    FileFormatError
        The file cannot be written; nothing is left behind.
    """
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        part.write_bytes(data)
        os.replace(part, target)
    except OSError as error:
        raise FileFormatError(f"{target}: cannot be written ({error})") from error
    finally:
        part.unlink(missing_ok=True)


@overload
def load_cell(path: str | os.PathLike[str]) -> Cell: ...
@overload
def load_cell(path: str | os.PathLike[str], *, with_extras: Literal[True]) -> Loaded: ...


def load_cell(path: str | os.PathLike[str], *, with_extras: bool = False) -> Cell | Loaded:
    """Read a cell written by :func:`save_cell`.

    Parameters
    ----------
    path : path-like
    with_extras : bool
        Also return the extra tensors and the meta data.

    Returns
    -------
    Cell, or (Cell, dict of ndarray, dict of str)

    Raises
    ------
    FileFormatError
        The file is missing, truncated, corrupt, not a refdeq cell, or its bits differ from the digest it carries.
    """
    try:
        header, tensors = read_safetensors(Path(path))
        loaded = _contents(header, tensors)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from None
    except (RefdeqError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: not a refdeq cell ({error})") from error
    return loaded if with_extras else loaded[0]


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Header texts and tensors of any safetensors file; ``FileFormatError`` when it is missing, truncated or corrupt."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileFormatError("no such file")
    try:
        with safe_open(str(path), framework="numpy") as file:
            header: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise FileFormatError(f"truncated or corrupt ({error})") from error
    except TypeError as error:
        raise FileFormatError(f"holds a dtype that NumPy has not ({error})") from error
    for name, array in tensors.items():
        if array.dtype.isbuiltin != 1:  # such as bfloat16, where another package has taught it to NumPy
            raise FileFormatError(f"holds a dtype that NumPy has not ({name}: {array.dtype})")
    return header, tensors


def _contents(header: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> Loaded:
    if header.get("format") != FORMAT:
        raise FileFormatError(f"not a refdeq cell: format is {header.get('format')!r}, expected {FORMAT!r}")
    groups: dict[str, dict[str, np.ndarray]] = {"parameter": {}, "extra": {}}
    for full_name, array in tensors.items():
        group, _, name = full_name.partition(".")
        groups[group][name] = array
    cell = Cell(Graph.from_dict(json.loads(header["graph"])), groups["parameter"])
    meta: dict[str, str] = json.loads(header["meta"])
    if _file_digest(cell, groups["extra"], meta) != header["digest"]:
        raise FileFormatError("contents differ from the digest in the file: it was changed or damaged")
    return cell, groups["extra"], meta


def save_trace(path: str | os.PathLike[str], trace: Trace, *, meta: Mapping[str, str] | None = None) -> None:
    """Write every array of a trace (S-10); the file appears complete or not at all.

    Parameters
    ----------
    path : path-like
    trace : Trace
    meta : dict of str to str, optional
        What the trace is of: the cell's digest, the options of the solve.

    Raises
    ------
    FileFormatError
        The file cannot be written; nothing is left behind.

    Examples
    --------
    >>> import tempfile, refdeq
    >>> cell = refdeq.models.rnn(np.array([[0.5]]), np.array([[1.0]]), np.zeros(1))
    >>> trace = refdeq.solve(cell, np.ones((3, 1)), trace=True).trace
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_trace(f"{folder}/trace.safetensors", trace, meta={"cell": cell.digest})
    ...     again, meta = load_trace(f"{folder}/trace.safetensors")
    >>> np.array_equal(again.z["z"], trace.z["z"], equal_nan=True), meta["cell"] == cell.digest
    (True, True)
    """
    from safetensors.numpy import save

    tensors = {name: np.array(getattr(trace, name), order="C") for name in _TRACE_ARRAYS}
    for group in _TRACE_GROUPS:
        tensors |= {f"{group}.{name}": np.array(array, order="C") for name, array in getattr(trace, group).items()}
    header = {
        "format": TRACE_FORMAT,
        "semantics": trace.semantics_version,
        "meta": json.dumps(dict(meta or {}), ensure_ascii=False),
    }
    write_whole(Path(path), save(tensors, metadata=header))


def load_trace(path: str | os.PathLike[str]) -> tuple[Trace, dict[str, str]]:
    """Read a trace written by :func:`save_trace`, with its meta data.

    Raises
    ------
    FileFormatError
        The file is missing, truncated, corrupt, or not a trace.
    """
    try:
        header, tensors = read_safetensors(Path(path))
        return _trace_of(header, tensors)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: not a refdeq trace ({error!r})") from error


def _trace_of(header: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> tuple[Trace, dict[str, str]]:
    if header.get("format") != TRACE_FORMAT:
        raise FileFormatError(f"not a refdeq trace: format is {header.get('format')!r}, expected {TRACE_FORMAT!r}")
    groups: dict[str, Any] = {group: {} for group in _TRACE_GROUPS}
    for full_name, array in tensors.items():
        group, dot, name = full_name.partition(".")
        if dot:
            groups[group][name] = array
    single: dict[str, Any] = {name: tensors[name] for name in _TRACE_ARRAYS}
    meta: dict[str, str] = json.loads(header["meta"])
    return Trace(**single, **groups, semantics_version=header["semantics"]), meta
