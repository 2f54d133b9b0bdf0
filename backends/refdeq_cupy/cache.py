"""Compiled code kept in the cache folder of the user, under a key of all it was made of."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["cache_folder", "kept"]


def cache_folder() -> Path:
    """Where compiled code is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refdeq" / "cupy"


def kept(name: str, ingredients: Iterable[str], make: Callable[[Path], None]) -> Path:
    """Path of a file that was made of `ingredients`, now or earlier.

    It is made aside and moved into place, so that several processes may do the same at once.

    Parameters
    ----------
    name : str
        Of the file.
    ingredients : iterable of str
        All that it depends on.
    make : callable
        Gets an empty folder and puts the file there.
    """
    digest = hashlib.sha256("\0".join([name, *ingredients]).encode()).hexdigest()[:24]
    folder = cache_folder() / digest
    if (folder / name).is_file():
        return folder / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        room = Path(work) / "room"
        room.mkdir()
        make(room)
        try:
            os.rename(room, folder)
        except OSError:
            if not (folder / name).is_file():  # else another process was faster
                raise
    return folder / name
