"""What a subcommand runs on when its options do not say: the backend and the number of threads."""

from __future__ import annotations

import os

from refdeq.registry import Backend

__all__ = ["choose_backend", "usable_cores"]


def usable_cores() -> int:
    """Cores that this process may use.

    >>> usable_cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_backend(name: str | None) -> tuple[Backend, str]:
    """Return the backend and the reason for it: numba is preferred, and a fallback is said aloud.

    Raises
    ------
    BackendUnavailableError
        The backend that was named cannot run here.

    Examples
    --------
    >>> backend, why = choose_backend("reference")
    >>> backend.info.name, why
    ('reference', 'asked for')
    """
    from refdeq.errors import BackendUnavailableError
    from refdeq.registry import load_backend

    if name is not None:
        return load_backend(name), "asked for"
    try:
        return load_backend("numba"), "the default"
    except BackendUnavailableError as error:
        return load_backend("reference"), f"instead of the default: {error}"
