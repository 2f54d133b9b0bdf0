"""Checks at the API edge: every array a caller passes is looked at once, here, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError, DTypeError, ShapeError

__all__ = ["batch_of", "check_values"]


def _as_named(what: str, given: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Accept one array for one value, or a mapping by name."""
    if isinstance(given, Mapping):
        if set(given) != set(shapes):
            raise ArgumentError(what, expected=f"arrays named {sorted(shapes)}", got=sorted(given))
        return dict(given)
    if not shapes:
        if given is not None:
            raise ArgumentError(what, expected="None (the cell has no injection)", got=type(given).__name__)
        return {}
    if len(shapes) > 1:
        raise ArgumentError(what, expected=f"a mapping with {sorted(shapes)}", got=type(given).__name__)
    return {next(iter(shapes)): given}


def check_values(
    what: str, given: Any, shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype[Any], batch: int | None = None
) -> dict[str, np.ndarray]:
    """Validate one array per named value (E-2) and return contiguous arrays.

    Parameters
    ----------
    what : str
        Name of the argument, for messages.
    given : ndarray, or mapping of name to ndarray
    shapes : dict of name to per-sample shape
    dtype : dtype
        Required of every array; nothing is promoted.
    batch : int, optional
        Required length of axis 0.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError

    Examples
    --------
    >>> check_values("x", np.zeros((3, 2)), {"x": (2,)}, np.dtype("float64"))["x"].shape
    (3, 2)
    """
    arrays = {}
    for name, array in _as_named(what, given, shapes).items():
        label = what if name == what else f"{what}[{name!r}]"
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            raise ArgumentError(label, expected="a NumPy array", got=type(array).__name__)
        if array.dtype != dtype:
            hint = "byte order must be native" if array.dtype.newbyteorder("=") == dtype else "use .astype or Cell.astype"
            raise DTypeError(label, expected=dtype, got=array.dtype, hint=hint)
        wanted = (batch if batch is not None else "batch", *shapes[name])
        if array.shape[1:] != shapes[name] or array.ndim == 0 or (batch is not None and len(array) != batch):
            raise ShapeError(label, expected=f"shape ({', '.join(map(str, wanted))})", got=array.shape)
        arrays[name] = np.ascontiguousarray(array)
        batch = len(array)
    return {name: arrays[name] for name in shapes}  # declared order, whatever order was given (S-2)


def batch_of(*groups: Mapping[str, np.ndarray]) -> int:
    """Batch size of already validated arrays; ``ShapeError`` when they differ."""
    lengths = {len(array) for group in groups for array in group.values()}
    if len(lengths) != 1:
        raise ShapeError("batch", expected="one batch size, given by x, z0 or warm", got=sorted(lengths))
    return lengths.pop()
