"""Fresh processes: what importing costs, and a whole warm ``refdeq validate --quick`` (*start*)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from refdeq.errors import ArgumentError
from refdeq.registry import load_backend
from refdeq_bench.checking import WrongResultError
from refdeq_bench.workloads.case import Case, Contender, Workload

__all__ = ["START", "prepare_start"]

STATEMENTS = {"python": "pass", "numpy and scipy": "import numpy, scipy.linalg", "import refdeq": "import refdeq"}
COMMAND = "from refdeq.cli import main; main()"
KINDS = ("import", "validate")


def prepare_start(backend: str, *, order: str = "fast", threads: int = 1, what: str = "import") -> Case:
    """``import``: a bare interpreter, what refdeq needs, refdeq, and refdeq with the backend. ``validate``: ``refdeq validate
    --quick BACKEND`` with compiled code on disk, which the first, untimed, run puts there.
    """
    if what not in KINDS:
        raise ArgumentError("what", expected=f"one of {', '.join(KINDS)}", got=repr(what))
    load_backend(backend)
    if what == "validate":
        contenders = [Contender("refdeq validate --quick", _validate(backend), "ours", {"status": "granted"})]
    else:
        named = {**STATEMENTS, f"with {backend}": f"import refdeq; refdeq.load_backend({backend!r})"}
        roles = {"python": "other", "numpy and scipy": "other", "import refdeq": "ours", f"with {backend}": "other"}
        contenders = [Contender(name, _python(code), roles[name]) for name, code in named.items()]
    return Case("start", backend, order, threads, {"what": what}, tuple(contenders))


def _python(code: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def _validate(backend: str) -> Callable[[], object]:
    def run() -> object:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", COMMAND, "validate", backend, "--quick"]
            ended = subprocess.run(command, cwd=Path(folder), capture_output=True, text=True)
        if ended.returncode != 0:
            raise WrongResultError(f"refdeq validate --quick {backend} ended with {ended.returncode}: {ended.stderr[-300:]}")
        return ended

    return run


START = Workload(
    "start",
    "fresh processes: import refdeq, and a warm refdeq validate --quick",
    prepare_start,
    ({"what": "import"}, {"what": "validate"}),
    {"what": "import"},
)
