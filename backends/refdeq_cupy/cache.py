"""Compiled code kept in the cache folder of the user, under a key of all it was made of."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from refdeq.errors import BackendUnavailableError

__all__ = ["cache_folder", "kept"]

_DIGEST = "sha256"
"""File beside the compiled one, with its digest."""
_LOG = logging.getLogger("refdeq.cupy")
_LOCK, _AGE, _GREAT_AGE = "lock", 60.0, 86400.0
"""File that is locked while its folder is worked in; seconds after which a folder is left behind: unlocked, in any case."""


def cache_folder() -> Path:
    """Where compiled code is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refdeq" / "cupy"


def kept(name: str, ingredients: Iterable[str], make: Callable[[Path], None], what: str = "") -> Path:
    """Path of a file that was made of `ingredients`, now or earlier.

    It is made aside and moved into place, so that several processes may do the same at once. What was damaged since is made
    anew, and what processes left behind that were killed is removed. Making is announced: to the log ``refdeq.cupy``, and on
    stderr if that is a terminal.

    Parameters
    ----------
    name : str
        Of the file.
    ingredients : iterable of str
        All that it depends on.
    make : callable
        Gets an empty folder and puts the file there.
    what : str, optional
        What is compiled, for the announcement; by default the name.

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
        _sweep(folder.parent)
        work = tempfile.TemporaryDirectory(dir=folder.parent)
    except OSError as error:
        hint = "set XDG_CACHE_HOME to a folder that can be written"
        raise BackendUnavailableError("cupy", f"no compiled code can be kept in {folder.parent}: {error}", hint) from error
    _announce(f"compiling {what or name}, once; it is kept in {folder.parent}")
    with work, _lock(Path(work.name) / _LOCK) or contextlib.nullcontext():
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


def _announce(text: str) -> None:
    _LOG.info(text)
    if sys.stderr.isatty() and not _LOG.isEnabledFor(logging.INFO):
        print(f"refdeq: {text}", file=sys.stderr, flush=True)


def _lock(path: Path) -> IO[str] | None:
    """A file that is locked until it is closed or the process ends; None where another process has it, or nobody can say."""
    try:
        import fcntl
    except ImportError:
        return None
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _sweep(parent: Path) -> None:
    """Remove the folders of processes that were killed while they compiled."""
    for folder in parent.glob("tmp*"):
        with contextlib.suppress(OSError):  # another process removes it too
            age = time.time() - folder.stat().st_mtime
            if age > _GREAT_AGE or (age > _AGE and _is_left(folder / _LOCK)):
                shutil.rmtree(folder)


def _is_left(lock: Path) -> bool:
    if not lock.exists():
        return False
    with _lock(lock) or contextlib.nullcontext() as file:
        return file is not None


def _is_whole(folder: Path, name: str) -> bool:
    """Whether the file is there as it was made; a damaged library would take the process with it."""
    try:
        return (folder / _DIGEST).read_text(encoding="utf-8") == _digest(folder / name)
    except OSError:
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
