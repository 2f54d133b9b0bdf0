"""Where a pack comes from: the licence it carries, and the state of the sources that made it."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

__all__ = ["license_text", "source_state"]


def license_text() -> str:
    """Text of the project's licence, from the installed distribution or the source tree."""
    try:
        for name in distribution("refdeq").files or ():
            if name.name == "LICENSE":
                return Path(str(name.locate())).read_text(encoding="utf-8")
    except PackageNotFoundError:
        pass
    return (_root() / "LICENSE").read_text(encoding="utf-8")


def _root() -> Path:
    """Root of the source tree, when the package is used from one."""
    return Path(__file__).resolve().parents[3]


def source_state() -> dict[str, Any]:
    """Commit of the source tree, and whether it has no changes; both None when the package is installed without one.

    >>> sorted(source_state())
    ['clean', 'commit']
    """
    root = _root()
    if not (root / ".git").exists() or not (root / "validation" / "refdeq_validation").is_dir():
        return {"commit": None, "clean": None}
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", "refdeq", "backends", "validation")
    return {"commit": commit, "clean": None if changes is None else changes == ""}


def _git(root: Path, *arguments: str) -> str | None:
    """Output of a git command; None where there is no git that can read this tree."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
