"""Turn stored asv results into the site: asv's own pages, made to work offline, behind a start page of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks.site import goals, offline, start, stored
from refdeq.errors import ArgumentError, FileFormatError, UnsupportedError

__all__ = ["publish"]

PAGES = "asv"
"""Folder of asv's pages in the site."""


def publish(out: Path, config: Path, goals_file: Path) -> Path:
    """Write the site.

    Parameters
    ----------
    out : Path
        Folder to write to: new, empty, or an earlier site, which is replaced.
    config : Path
        ``asv.conf.json``; its results are published.
    goals_file : Path
        What ``refdeq bench --goals --json`` wrote; it may be missing, and then no goal has a figure.

    Returns
    -------
    Path
        The start page.

    Raises
    ------
    ArgumentError
        `out` holds something else.
    FileFormatError
        There are no results, or asv could not publish them.
    UnsupportedError
        asv is not installed.
    """
    if find_spec("asv") is None:
        raise UnsupportedError("asv is not installed, and only it can read its results (pip install '.[bench]')")
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / PAGES / "offline.js").is_file():
        raise ArgumentError("OUT", expected="a new or empty folder, or an earlier site", got=out)
    results = stored.load(config)
    if not results.runs:
        raise FileFormatError(f"{results.folder}: no results; `asv run --config {config}` makes some (benchmarks/README.md)")
    figures = goals.load(goals_file)
    page = start.render(results, figures)
    shutil.rmtree(out / PAGES, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    _run_asv(config, out / PAGES)
    offline.localise(out / PAGES)
    index = out / "index.html"
    index.write_text(page, encoding="utf-8")
    return index


def _run_asv(config: Path, folder: Path) -> None:
    """Let asv publish, and hold it to its word: its exit code does not tell whether there is anything on its pages."""
    command = [
        sys.executable,
        "-m",
        "asv",
        "--config",
        str(config),
        "publish",
        "--no-pull",
        "--html-dir",
        str(folder.absolute()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    said = (done.stdout + done.stderr).strip()
    if done.returncode != 0 or not (folder / "index.json").is_file():
        raise FileFormatError(f"asv could not publish (exit code {done.returncode}):\n{said}")
    if not any((folder / "graphs").rglob("*.json")):
        raise FileFormatError(f"asv published no graph; are the commits of the results part of the history here?\n{said}")
