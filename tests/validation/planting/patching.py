"""Patches: a text that must occur once, and what replaces it; plain Python functions that run with patched code for a while."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

__all__ = ["DriftError", "Patch", "patched", "swapped"]


class DriftError(AssertionError):
    """A patch does not fit its source any more: the catalogue has to follow the code."""


@dataclass(frozen=True)
class Patch:
    """One planted bug.

    Attributes
    ----------
    name : str
    module : str
        ``gate`` of the Numba backend, or a whole name such as ``refdeq.reference``.
    old, new : str
        Text that occurs exactly once in the module, and what replaces it.
    breaks : str
        One sentence: what is wrong with the copy.
    order : {"strict", "fast"}
        Declaration under which the copy is judged.
    """

    name: str
    module: str
    old: str
    new: str
    breaks: str
    order: str = "strict"


def patched(source: str, patch: Patch) -> str:
    """Source with the patch applied; the old text must occur exactly once, and the result must be Python."""
    found = source.count(patch.old)
    if found != 1:
        raise DriftError(f"{patch.name}: its old text occurs {found} times in {patch.module}, not once:\n{patch.old}")
    text = source.replace(patch.old, patch.new)
    ast.parse(text)
    return text


def _functions(code: CodeType) -> Iterator[CodeType]:
    """Functions and methods of a module or class body; what is nested in a function belongs to it."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_flags & inspect.CO_OPTIMIZED:
                yield constant
            else:
                yield from _functions(constant)


def _text(code: CodeType) -> tuple[object, ...]:
    """What a function does, without the lines it stands on."""
    constants = [_text(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars


def _function(module: ModuleType, qualified: str) -> FunctionType:
    found = module
    for part in qualified.split("."):
        found = getattr(found, part)
    assert isinstance(found, FunctionType), qualified
    return found


@contextmanager
def swapped(patch: Patch) -> Iterator[None]:
    """Run with the patched code of a plain Python module; every function keeps its identity, whoever imported it."""
    module = importlib.import_module(patch.module)
    source = Path(str(module.__file__)).read_text()
    before, after = (list(_functions(compile(text, patch.module, "exec"))) for text in (source, patched(source, patch)))
    assert [code.co_qualname for code in before] == [code.co_qualname for code in after], f"{patch.name}: changes names"
    changed = {new.co_qualname: new for old, new in zip(before, after, strict=True) if _text(old) != _text(new)}
    assert changed, f"{patch.name}: changes no function"
    functions = {name: _function(module, name) for name in changed}
    originals = {name: function.__code__ for name, function in functions.items()}
    try:
        for name, function in functions.items():
            function.__code__ = changed[name]
        yield
    finally:
        for name, function in functions.items():
            function.__code__ = originals[name]
