"""The files that ``refdeq solve`` writes: refused before any work is done where they cannot be, and whole or not at all."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from refdeq import __version__
from refdeq.commands.solve_input import Problem
from refdeq.commands.solve_report import describe_options
from refdeq.commands.solve_run import Request
from refdeq.errors import ArgumentError
from refdeq.io import save_trace, write_whole
from refdeq.types import SEMANTICS_VERSION, Trace

__all__ = ["check_targets", "write_solution", "write_trace"]

KINDS = {"--plot": (".png", ".svg"), "--trace": (".safetensors",), "--out": (".safetensors", ".npz")}


def check_targets(targets: Mapping[str, Path | None], inputs: list[str]) -> None:
    """Refuse files of the wrong kind, in folders that cannot be written to, named twice, or that would replace the input.

    Parameters
    ----------
    targets : dict of option to path or None
    inputs : list of str
        Files that are read.

    Raises
    ------
    ArgumentError
    """
    taken = {Path(name).resolve() for name in inputs}
    for option, path in targets.items():
        if path is None:
            continue
        if path.suffix not in KINDS[option]:
            raise ArgumentError(option, expected=f"a file that ends in {' or '.join(KINDS[option])}", got=path)
        if path.resolve() in taken:
            raise ArgumentError(option, expected="a file that this call does not use otherwise", got=path)
        taken.add(path.resolve())
        if path.is_dir():
            raise ArgumentError(option, expected="a file", got=f"the folder {path}")
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            expected = "a file in a folder that can be written to"
            raise ArgumentError(option, expected=expected, got=path, hint=str(error)) from error


def write_trace(path: Path, trace: Trace, problem: Problem, request: Request) -> None:
    """Write every array of a trace (S-10) with what it is a trace of."""
    save_trace(path, trace, meta=_origin(problem, request))


def write_solution(path: Path, states: Mapping[str, np.ndarray], problem: Problem, request: Request) -> None:
    """Write the returned point, one array per state under its name."""
    buffer = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(buffer, **states)  # type: ignore[arg-type]
        write_whole(path, buffer.getvalue())
        return
    from safetensors.numpy import save

    header = {"semantics": SEMANTICS_VERSION, **_origin(problem, request)}
    write_whole(path, save({name: np.array(array, order="C") for name, array in states.items()}, metadata=header))


def _origin(problem: Problem, request: Request) -> dict[str, str]:
    return {
        "refdeq": __version__,
        "cell": problem.source,
        "cell_digest": problem.cell.digest,
        "input": problem.input_source,
        "options": json.dumps(describe_options(request), allow_nan=False),
    }
