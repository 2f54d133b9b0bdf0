"""Whether the judge is still the judge: an implementation in the same process could exchange functions of it, or of NumPy.

A seal remembers, before any foreign code runs, which functions and classes the modules of the judge and NumPy hold, and which
instructions those functions have. It is looked at after every execution, before anything is judged.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

import refdeq_validation.cases
import refdeq_validation.judge
import refdeq_validation.protocol

__all__ = ["broken_seal", "seal", "watch"]

_RUNNERS = ("refdeq_validation.suites", "refdeq_validation.canary_run")
_SPARED = tuple(f"refdeq_validation.{name}" for name in ("designed", "holdout", "lab", "mutants", "packs", "reports"))
"""Packages that decide nothing about a live run."""

_OTHERS = ("numpy", "numpy.linalg", "refdeq.scalar", "refdeq.types")

_names: list[tuple[Mapping[str, Any], str, Any, str]] = []
_codes: list[tuple[FunctionType, CodeType, str]] = []
_watched: list[object] = []


def seal() -> None:
    """Remember the modules of the judge, and NumPy, as they are now: call it before foreign code is imported."""
    for package in (refdeq_validation.judge, refdeq_validation.cases, refdeq_validation.protocol):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)
    for runner in _RUNNERS:
        importlib.import_module(runner)
    _names.clear()
    _codes.clear()
    for module in list(_modules()):
        _remember(vars(module), module.__name__, module.__name__)


def _remember(space: Mapping[str, Any], module: str, path: str) -> None:
    known = {id(function) for function, _, _ in _codes}
    for name, value in list(space.items()):
        if isinstance(value, ModuleType) and value.__name__ == f"{module}.{name}":
            continue  # a submodule, set by whoever imports it
        if not callable(value) and not isinstance(value, ModuleType | property | staticmethod | classmethod):
            continue
        _names.append((space, name, value, f"{path}.{name}"))
        inner = getattr(value, "fget", None) or getattr(value, "__func__", None) or value
        if isinstance(inner, FunctionType) and id(inner) not in known:
            known.add(id(inner))
            _codes.append((inner, inner.__code__, f"{path}.{name}"))
        elif isinstance(value, type) and value.__module__ == module and not issubclass(value, BaseException):
            _remember(vars(value), "", f"{path}.{name}")


def _modules() -> Iterator[ModuleType]:
    for name, module in sys.modules.items():
        ours = name.partition(".")[0] == "refdeq_validation" and not name.startswith(_SPARED)
        if isinstance(module, ModuleType) and (ours or name in _OTHERS):
            yield module


def watch(implementation: Any) -> Any:
    """Foreign code, while which runs the seal must hold; returned as it is."""
    _watched.append(implementation)
    return implementation


def broken_seal(implementation: object) -> str:
    """What is no longer what was sealed when this implementation was loaded; empty when all is, or it is not a watched one.

    >>> broken_seal(object())
    ''
    """
    if not any(implementation is watched for watched in _watched):
        return ""
    for space, name, value, path in _names:
        if space.get(name) is not value:
            return path
    for function, code, path in _codes:
        if function.__code__ is not code:
            return path
    return ""
