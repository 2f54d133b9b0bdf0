"""A Cell as one safetensors file: parameters as tensors, the graph as JSON in the header; no pickle, no code.

Extra tensors (inputs, targets, a readout) may ride along under ``extra.NAME``; free text under ``meta``.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from refdeq.errors import FileFormatError, GraphError, RefdeqError
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

    tensors = {f"parameter.{name}": array for name, array in cell.parameters.items()}
    tensors |= {f"extra.{name}": np.ascontiguousarray(array) for name, array in (extras or {}).items()}
    header = {
        "format": FORMAT,
        "graph": json.dumps(cell.graph.to_dict(), sort_keys=True),
        "meta": json.dumps(dict(meta or {}), sort_keys=True),
        "digest": cell.digest,
    }
    data = save(tensors, metadata=header)
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


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
        cell = _cell_of(header, tensors)
        meta: dict[str, str] = json.loads(header["meta"])
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from None
    except (GraphError, RefdeqError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: not a refdeq cell ({error})") from error
    if not with_extras:
        return cell
    extras = {name.removeprefix("extra."): array for name, array in tensors.items() if name.startswith("extra.")}
    return cell, extras, meta


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


def _cell_of(header: Mapping[str, str], tensors: Mapping[str, Any]) -> Cell:
    if header.get("format") != FORMAT:
        raise FileFormatError(f"not a refdeq cell: format is {header.get('format')!r}, expected {FORMAT!r}")
    graph = Graph.from_dict(json.loads(header["graph"]))
    prefix = "parameter."
    parameters = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
    cell = Cell(graph, parameters)
    if cell.digest != header.get("digest"):
        raise FileFormatError("parameters or graph differ from the digest in the file: it was changed or damaged")
    return cell
