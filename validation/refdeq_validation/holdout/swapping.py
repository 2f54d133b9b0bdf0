"""Putting a mutant in place of loaded code: functions keep their identity and get other instructions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from refdeq_validation.holdout.operators import Mutant

__all__ = ["put_in_place"]


def put_in_place(mutant: Mutant) -> None:
    """Change the loaded module as the mutant says; every reference to its functions sees the change.

    There is no way back: call it in a process of its own. Results that were cached before are forgotten.
    """
    module = sys.modules[mutant.module]
    scratch = ModuleType(mutant.module)
    scratch.__dict__.update({name: value for name, value in vars(module).items() if name.startswith("__")})
    exec(compile(mutant.tree, str(module.__file__), "exec"), scratch.__dict__)
    new = dict(_functions(vars(scratch), mutant.module))
    for name, function in _functions(vars(module), mutant.module):
        if name in new:
            function.__code__ = new[name].__code__
            function.__defaults__, function.__kwdefaults__ = new[name].__defaults__, new[name].__kwdefaults__
    _forget_caches()


def _functions(namespace: Any, module: str, prefix: str = "") -> Iterator[tuple[str, FunctionType]]:
    """Functions that a module defines, methods and properties included, by qualified name."""
    for name, value in list(namespace.items()):
        inner = _unwrapped(value)
        if isinstance(inner, FunctionType) and inner.__module__ == module:
            yield prefix + name, inner
        elif isinstance(value, type) and value.__module__ == module and not prefix:
            yield from _functions(vars(value), module, f"{name}.")


def _unwrapped(value: Any) -> Any:
    if isinstance(value, property):
        return value.fget
    if isinstance(value, staticmethod | classmethod):
        return value.__func__
    if hasattr(value, "func") and hasattr(value, "attrname"):  # functools.cached_property
        return value.func
    return getattr(value, "__wrapped__", value)


def _forget_caches() -> None:
    for name, module in list(sys.modules.items()):
        if name == "refdeq" or name.startswith("refdeq."):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear") and hasattr(value, "__wrapped__"):
                    value.cache_clear()
