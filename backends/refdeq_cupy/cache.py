"""Compiled code kept in the cache folder of the user, under a key of all it was made of."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from refdeq.errors import BackendUnavailableError

__all__ = ["cache_folder", "kept"]

_DIGEST = "sha256"
"""File beside the compiled one, with its digest."""


def cache_folder() -> Path:
    """Where compiled code is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refdeq" / "cupy"


def kept(name: str, ingredients: Iterable[str], make: Callable[[Path], None]) -> Path:
    """Path of a file that was made of `ingredients`, now or earlier.

    It is made aside and moved into place, so that several processes may do the same at once. What was damaged since is made
    anew.

    Parameters
    ----------
    name : str
        Of the file.
    ingredients : iterable of str
        All that it depends on.
    make : callable
        Gets an empty folder and puts the file there.

    Raises
    ------
    BackendUnavailableError
        The folder cannot be written.
    """
    digest = hashlib.sha256("\0".join([name, *ingredients]).encode()).hexdigest()[:24]
    folder = cache_folder() / digest
    if _is_whole(folder, name):
        return folder / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(dir=folder.parent)
    except OSError as error:
        hint = "set XDG_CACHE_HOME to a folder that can be written"
        raise BackendUnavailableError("cupy", f"no compiled code can be kept in {folder.parent}: {error}", hint) from error
    with work:
        room = Path(work.name) / "room"
        room.mkdir()
        make(room)
        (room / _DIGEST).write_text(_digest(room / name), encoding="utf-8")
        if folder.exists() and not _is_whole(folder, name):  # cut short or cleaned away: nobody can use it
            os.rename(folder, Path(work.name) / "broken")
        try:
            os.rename(room, folder)
        except OSError:
            if not _is_whole(folder, name):  # else another process was faster
                raise
    return folder / name


def _is_whole(folder: Path, name: str) -> bool:
    """Whether the file is there as it was made; a damaged library would take the process with it."""
    try:
        return (folder / _DIGEST).read_text(encoding="utf-8") == _digest(folder / name)
    except OSError:
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
