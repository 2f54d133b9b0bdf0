"""Digests of packs: files, the Merkle root that is the pack's digest, and the digest of the questions alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

__all__ = ["file_digest", "merkle_root", "prompt_digest", "sums_text"]


def file_digest(data: bytes) -> str:
    """SHA-256 in hexadecimal.

    >>> file_digest(b"")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(data).hexdigest()


def merkle_root(files: Mapping[str, str]) -> str:
    """Root of the tree over ``path -> SHA-256``: leaves in order of path, neighbours joined, an odd one carried up.

    A leaf is ``SHA-256(00 path 00 digest)`` and a node ``SHA-256(01 left right)``, digests as 32 bytes, so that no leaf can be
    taken for a node.

    >>> merkle_root({"a": "00" * 32})[:15]
    'sha256:00ca3f97'
    """
    row = [hashlib.sha256(b"\0" + path.encode() + b"\0" + bytes.fromhex(files[path])).digest() for path in sorted(files)]
    while len(row) > 1:
        pairs = [hashlib.sha256(b"\1" + row[i] + row[i + 1]).digest() for i in range(0, len(row) - 1, 2)]
        row = pairs + row[2 * len(pairs) :]
    return "sha256:" + (row[0] if row else hashlib.sha256(b"").digest()).hex()


def prompt_digest(cases: Iterable[tuple[str, str]]) -> str:
    """Digest of the questions of a pack, from ids and digests of its cases: the same with and without expected values.

    >>> prompt_digest([("b", "1"), ("a", "2")]) == prompt_digest([("a", "2"), ("b", "1")])
    True
    """
    lines = sorted(f"{name} {digest}\n" for name, digest in cases)
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def sums_text(files: Mapping[str, str]) -> str:
    """``SHA256SUMS``, as ``sha256sum --check`` reads it."""
    return "".join(f"{files[path]}  {path}\n" for path in sorted(files))
