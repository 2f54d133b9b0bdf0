"""A Cell as one safetensors file: parameters as tensors, the graph as JSON in the header; no pickle, no code.

Extra tensors (inputs, targets, a readout) may ride along under ``extra.NAME``; free text under ``meta``.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, overload

import numpy as np

from refdeq.errors import ArgumentError, FileFormatError, RefdeqError
from refdeq.graph import Cell, Graph

__all__ = ["FORMAT", "load_cell", "save_cell"]

FORMAT = "refdeq-cell/1"
"""Written into every file, and required of it."""

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
    _write_whole(Path(path), save(tensors, metadata=header))


def _file_digest(cell: Cell, extras: Mapping[str, np.ndarray], meta: Mapping[str, str]) -> str:
    """SHA-256 of everything the file says."""
    sha = hashlib.sha256((cell.digest + json.dumps(meta, sort_keys=True)).encode())
    for name in sorted(extras):
        array = extras[name]
        sha.update(f"{name}\0{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return sha.hexdigest()


def _write_whole(target: Path, data: bytes) -> None:
    """Write beside the target, then move into place: an interrupted save leaves the old file, or none."""
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
        header, tensors = _read(Path(path))
        loaded = _contents(header, tensors)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from None
    except (RefdeqError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: not a refdeq cell ({error})") from error
    return loaded if with_extras else loaded[0]


def _read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileFormatError("no such file")
    try:
        with safe_open(str(path), framework="numpy") as file:
            header: dict[str, str] = file.metadata() or {}
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise FileFormatError(f"truncated or corrupt ({error})") from error


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
