"""Where and with what something was measured: what must agree before two files of figures may be compared."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["collect_facts", "differences"]

PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "torch", "threadpoolctl")
MUST_AGREE = ("machine", "cpu", "cores", "python", "blas", *PACKAGES)
"""Not refdeq itself: its versions are what is compared."""


def collect_facts() -> dict[str, Any]:
    """Machine, processor, versions.

    >>> sorted(collect_facts())[:4]
    ['blas', 'cores', 'cpu', 'llvmlite']
    """
    from refdeq.commands.info import collect

    info = collect()
    cpu, blas = info["cpu"], info["blas"]
    return {
        # tells machines apart without telling their names: results are published
        "machine": sha256(platform.node().encode()).hexdigest()[:8],
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu["model"],
        "cores": cpu["usable_cores"],
        "simd": cpu["simd"],
        "python": info["python"],
        "blas": f"{blas['name']} {blas['version']}",
        "refdeq": info["refdeq"],
        "semantics": info["semantics"],
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Facts that differ and would make a difference, as sentences.

    >>> differences({"numpy": "2.3"}, {"numpy": "2.4"})
    ["numpy: '2.3' there, '2.4' here"]
    """
    return [f"{name}: {old.get(name)!r} there, {new.get(name)!r} here" for name in MUST_AGREE if old.get(name) != new.get(name)]
