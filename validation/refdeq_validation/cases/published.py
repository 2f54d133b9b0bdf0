"""What is published with the package: every id, the retired ones, the smoke tier, and a digest per profile."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["digest_of", "published", "smoke_ids"]


def digest_of(ids: Iterable[str]) -> str:
    """``sha256:`` and the digest of the sorted ids, one per line.

    >>> digest_of(["b", "a"]) == digest_of(["a", "b"])
    True
    """
    return "sha256:" + hashlib.sha256("".join(f"{name}\n" for name in sorted(ids)).encode()).hexdigest()


@cache
def published() -> dict[str, Any]:
    """The stored lists (``profiles.json``).

    Returns
    -------
    dict
        ``cases``: all ids, sorted; ``smoke``: those of the smoke tier; ``profiles``: per name its ``count`` and ``digest``.
    """
    text = resources.files("refdeq_validation.cases").joinpath("profiles.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


@cache
def smoke_ids() -> frozenset[str]:
    """Ids of the smoke tier."""
    return frozenset(published()["smoke"])
