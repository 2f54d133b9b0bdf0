"""The CuPy backend of refdeq."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refdeq.registry import Backend

__all__ = ["backend"]


def backend() -> Backend:
    """Entry point ``refdeq.backends``."""
    from refdeq_cupy.offer import offer

    return offer()
