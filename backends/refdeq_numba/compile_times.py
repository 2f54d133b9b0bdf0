"""What compiling cost: seconds per kernel, kept beside the machine code, and how much machine code there is.

Numba keeps no times with its cache. So whoever compiles a kernel appends a line of JSON to ``refdeq-compile-times.jsonl`` in
the folder that the machine code goes to: deleting the folder deletes both. Nothing is written when machine code is only loaded.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numba.core import event

__all__ = ["NAME", "Kept", "kept", "listen", "record"]

NAME = "refdeq-compile-times.jsonl"
PACKAGE = __name__.partition(".")[0]


class Kept:
    """Machine code in a folder.

    Attributes
    ----------
    kernels : int
        Compiled functions, one per function and types of arguments.
    size : int
        Bytes.
    seconds : float
        What those took that were timed, each when it was compiled last.
    timed : int
        How many were.
    """

    def __init__(self, folder: Path) -> None:
        files = [path for path in _files(folder) if path.suffix == ".nbc"]
        last: dict[tuple[str, str], float] = {}
        for line in _lines(folder / NAME):
            last[line["kernel"], line["types"]] = float(line["seconds"])
        self.kernels, self.size = len(files), sum(path.stat().st_size for path in files)
        self.seconds, self.timed = sum(last.values()), len(last)


def kept(folder: Path) -> Kept:
    """What a cache folder holds; all zero where there is none yet."""
    return Kept(folder)


def record(folder: Path, kernel: str, types: str, seconds: float) -> None:
    """Append one line to the times of a folder; a folder that cannot be written holds no machine code either."""
    digest = hashlib.sha256(types.encode()).hexdigest()[:16]  # the names of some types fill a page
    text = json.dumps({"kernel": kernel, "types": digest, "seconds": round(seconds, 3)})
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NAME).open("a", encoding="utf-8") as file:
        file.write(text + "\n")  # one write of one short line: processes that compile at once do not mix theirs


class _Listener(event.Listener):
    """Hears of compilations, not of machine code that is loaded; inside of one, those of inlined functions count to it."""

    def __init__(self) -> None:
        self._depth = 0
        self._began = 0.0

    def on_start(self, event: Any) -> None:
        if self._depth == 0:
            self._began = time.perf_counter()
        self._depth += 1

    def on_end(self, event: Any) -> None:
        self._depth -= 1
        dispatcher = event.data["dispatcher"]
        folder = dispatcher.stats.cache_path
        if self._depth == 0 and folder and dispatcher.py_func.__module__.partition(".")[0] == PACKAGE:
            seconds = time.perf_counter() - self._began
            record(Path(folder), dispatcher.py_func.__qualname__, str(event.data["args"]), seconds)


def listen() -> None:
    """From now on write down what compiling takes; Numba compiles under a lock, one function at a time."""
    event.register("numba:compile", _Listener())


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())
