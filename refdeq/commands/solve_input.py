"""What ``refdeq solve`` is asked to solve: the cell, and the arrays that go into it."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError, DTypeError, FileFormatError, ShapeError
from refdeq.graph import Cell
from refdeq.io import load_cell, read_safetensors
from refdeq.models import load_trained, trained_names

__all__ = ["Problem", "load_problem", "read_arrays", "wanted"]

_DAMAGE: tuple[type[Exception], ...] = (OSError, ValueError, EOFError, KeyError, RuntimeError, SyntaxError, MemoryError)
_DAMAGE += (zipfile.BadZipFile, zlib.error, tokenize.TokenError)
"""What NumPy and zipfile raise on damaged files; a damaged length may ask for any amount of memory."""
SUFFIXES = (".safetensors", ".npz", ".npy")


@dataclass(frozen=True)
class Problem:
    """A cell with everything that goes into one solve.

    Attributes
    ----------
    source, input_source : str
        Where the cell and its input came from.
    cell : Cell
    x : dict of injection name to (B, ...) ndarray
    z0 : dict of state name to (B, ...) ndarray, or None
    samples : int
        B.
    """

    source: str
    input_source: str
    cell: Cell
    x: dict[str, np.ndarray]
    z0: dict[str, np.ndarray] | None
    samples: int


def load_problem(cell_name: str, input_name: str | None, batch: int | None) -> Problem:
    """Read the cell and its input, and see that they fit.

    Parameters
    ----------
    cell_name : str
        A file written by :func:`refdeq.save_cell`, or the name of a shipped model.
    input_name : str or None
        A file of :func:`read_arrays`; None or ``-`` takes the inputs that are stored with the cell, if there are any.
    batch : int or None
        Number of samples of a cell without injections that starts from zero.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError, FileFormatError
        Each says what the cell wants.

    Examples
    --------
    >>> load_problem("sine", None, None).samples
    200
    """
    cell, extras = _load_cell(cell_name)
    if input_name in (None, "-"):
        source = f"the inputs stored with {cell_name}"
        x = {name: extras[name] for name in cell.graph.injections if name in extras}
        if len(x) < len(cell.graph.injections):
            raise ArgumentError("INPUT", expected=wanted(cell), got="no file, and the cell's own file holds no inputs")
        named = x
    else:
        source = str(input_name)
        named = _named(cell, read_arrays(Path(source)), source)
    _check(cell, named, source)
    x = {name: named[name] for name in cell.graph.injections}
    z0 = {name: named[name] for name in cell.graph.states if name in named} or None
    if named:
        if batch is not None:
            raise ArgumentError("--batch", hint=f"only where no array says how many samples there are; {source} does")
        return Problem(cell_name, source, cell, x, z0, len(next(iter(named.values()))))
    if batch is None or batch < 1:
        hint = "the cell has no injections: say how many samples start from zero, or give z0 as INPUT"
        raise ArgumentError("--batch", expected="an integer >= 1", got=batch, hint=hint)
    zeros = {name: np.zeros((batch, *shape), dtype=cell.dtype) for name, shape in cell.graph.states.items()}
    return Problem(cell_name, f"zeros, --batch {batch}", cell, {}, zeros, batch)


def _load_cell(name: str) -> tuple[Cell, Mapping[str, np.ndarray]]:
    if name in trained_names() and not Path(name).exists():
        model = load_trained(name)
        return model.cell, {"x": model.x}
    if not Path(name).is_file() and Path(name).suffix == "":
        expected = f"a file written by refdeq.save_cell, or one of {', '.join(trained_names())}"
        raise ArgumentError("CELL", expected=expected, got=repr(name))
    cell, extras, _ = load_cell(name, with_extras=True)
    return cell, extras


def wanted(cell: Cell) -> str:
    """What a cell's input file has to hold, and how to write one.

    >>> print(wanted(load_trained("sine").cell))
    a file with x: float64 (batch, 1); write one by numpy.savez("input.npz", x=numpy.zeros((8, 1), "float64"))
    """
    shapes = cell.graph.injections or cell.graph.states
    arrays = ", ".join(f"{name}: {_signature(cell, name)}" for name in shapes)
    if all(name.isidentifier() for name in shapes):
        zeros = ", ".join(f'{name}=numpy.zeros({(8, *shape)}, "{cell.dtype}")' for name, shape in shapes.items())
        return f'a file with {arrays}; write one by numpy.savez("input.npz", {zeros})'
    return f"a file with {arrays}; write one by safetensors.numpy.save_file"


def _signature(cell: Cell, name: str) -> str:
    shape = {**cell.graph.states, **cell.graph.injections}[name]
    return f"{cell.dtype} ({', '.join(('batch', *map(str, shape)))})"


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a ``.safetensors``, ``.npz`` or ``.npy`` file by name; the one of a ``.npy`` file has the empty name.

    Raises
    ------
    FileFormatError
        The file is missing, truncated, corrupt, of another kind, or holds Python objects.
    """
    if path.suffix not in SUFFIXES:
        raise FileFormatError(f"INPUT {path}: expected a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise FileFormatError(f"INPUT {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return read_safetensors(path)[1]
        # The format is that of the name: numpy.load would guess from the contents.
        with open(path, "rb") as file:
            if path.suffix == ".npy":
                return {"": np.lib.format.read_array(file, allow_pickle=False)}
            if not zipfile.is_zipfile(file):
                raise FileFormatError("no archive")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except _DAMAGE as error:
        raise FileFormatError(f"INPUT {path}: truncated, corrupt or not of its kind ({error})") from error


def _named(cell: Cell, arrays: dict[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Arrays by the names of the cell; a lone array, whatever its name, is the lone injection (or state, without one)."""
    injections, states = cell.graph.injections, cell.graph.states
    lone = list(injections or states)
    strange = [name for name in arrays if name not in injections and name not in states]
    if len(strange) == 1 and len(lone) == 1 and lone[0] not in arrays:
        arrays = {lone[0] if name == strange[0] else name: array for name, array in arrays.items()}
        strange = []
    missing = [name for name in injections if name not in arrays]
    given = [name for name in states if name in arrays]
    if given and len(given) < len(states):
        missing += [name for name in states if name not in arrays]
    if strange or missing or not arrays:
        names = sorted(arrays) or "no array"
        got = "one array without a name" if names == [""] else f"{names}"
        optional = (
            f"; optionally {', '.join(f'{n}: {_signature(cell, n)}' for n in states)} to start from" if injections else ""
        )
        raise ArgumentError(f"INPUT {source}", expected=wanted(cell) + optional, got=got)
    return arrays


def _check(cell: Cell, named: Mapping[str, np.ndarray], source: str) -> None:
    """Refuse arrays of another shape, dtype or batch before anything is computed (E-2)."""
    shapes = {**cell.graph.states, **cell.graph.injections}
    batches = {name: array.shape[:1] for name, array in named.items()}
    for name, array in named.items():
        what = f"{name} of INPUT {source}"
        if array.dtype != cell.dtype:
            swapped = array.dtype.newbyteorder("=") == cell.dtype
            hint = "byte order must be native" if swapped else f'nothing is converted: use .astype("{cell.dtype}")'
            raise DTypeError(what, expected=_signature(cell, name), got=_got(array), hint=hint)
        if array.ndim == 0 or array.shape[1:] != shapes[name]:
            raise ShapeError(what, expected=_signature(cell, name), got=_got(array), hint=f"wanted is {wanted(cell)}")
    if len(set(batches.values())) > 1:
        lengths = ", ".join(f"{name} {length[0]}" for name, length in batches.items())
        raise ShapeError(f"INPUT {source}", expected="one batch size", got=lengths)


def _got(array: Any) -> str:
    return f"{array.dtype} {array.shape}"
