"""What a stored study was made with: a hash of the sources that decide its outcome."""

from __future__ import annotations

import hashlib
from importlib import resources

__all__ = ["judge_hash"]

FOLDERS = ("cases", "judge", "lab", "protocol")


def judge_hash() -> str:
    """SHA-256 over the sources of cases, judge, plain implementation and protocol, in the order of their names.

    >>> len(judge_hash())
    64
    """
    digest = hashlib.sha256()
    for folder in FOLDERS:
        files = resources.files(f"refdeq_validation.{folder}").iterdir()
        for file in sorted((file for file in files if file.name.endswith(".py")), key=lambda file: file.name):
            digest.update(f"{folder}/{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()
