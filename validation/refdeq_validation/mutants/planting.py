"""A mutated copy of the plain implementation, in memory: fresh modules that nothing else sees."""

from __future__ import annotations

import ast
import builtins
import importlib
from collections.abc import Callable, Mapping
from functools import cache
from types import CodeType, ModuleType
from typing import Any

from refdeq_validation.lab.variants import VARIANTS
from refdeq_validation.mutants.catalogue import Mutant, source_of
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.session import Implementation

__all__ = ["LAB_MODULES", "Planted", "load", "plant", "planted"]

_PACKAGE = "refdeq_validation.lab."


def load(mutant: Mutant) -> Implementation:
    """Return a fresh implementation with one bug planted.

    Parameters
    ----------
    mutant : Mutant

    Returns
    -------
    Implementation
        Its manifest is that of the legal variant which the mutant is a bug of.

    Raises
    ------
    DriftError
        When the patch does not fit the sources.

    Examples
    --------
    >>> from refdeq_validation.mutants.catalogue import MUTANTS
    >>> load(MUTANTS["strictly above"]).manifest()["claims"]["order"]
    'strict'
    """
    return planted(mutant).implementation()


def planted(mutant: Mutant) -> Planted:
    """The copy itself: every implementation made from it shares its modules."""
    return plant({module: mutant.patched(module) for module in mutant.modules}, mutant.variant)


class Planted:
    """Modules of one copy, and how to make an implementation of them."""

    def __init__(self, modules: Mapping[str, ModuleType], variant: str) -> None:
        self.modules, self.variant = modules, variant

    def implementation(self) -> Implementation:
        """A fresh implementation of the variant."""
        original = VARIANTS[self.variant]
        lab: Callable[[Claims, Any], Implementation] = self.modules["session"].Lab
        return lab(original.claims, original.style)


def plant(sources: Mapping[str, str], variant: str = "strict") -> Planted:
    """Execute all modules of the plain implementation anew, some of them from other sources.

    Parameters
    ----------
    sources : mapping of module name to source text
    variant : str
    """
    modules = {name: ModuleType(_PACKAGE + name) for name in LAB_MODULES}
    done: set[str] = set()

    def bring(name: str, *arguments: Any) -> Any:
        """Import as the copy sees it: modules of the plain implementation are those of the copy."""
        if not name.startswith(_PACKAGE):
            return builtins.__import__(name, *arguments)
        execute(name.removeprefix(_PACKAGE))
        return modules[name.removeprefix(_PACKAGE)]

    def execute(name: str) -> None:
        if name in done:
            return
        done.add(name)
        module = modules[name]
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": bring}
        code = compile(sources[name], f"<mutant of lab/{name}.py>", "exec") if name in sources else _original(name)
        exec(code, module.__dict__)

    execute("session")
    return Planted(modules, variant)


@cache
def _original(name: str) -> CodeType:
    """Compiled source of an unpatched module."""
    module = importlib.import_module(_PACKAGE + name)
    return compile(source_of(name), str(module.__file__), "exec")


def _imports(name: str) -> set[str]:
    """Modules of the plain implementation that a module imports."""
    nodes = ast.walk(ast.parse(source_of(name)))
    found = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {module.removeprefix(_PACKAGE) for module in found if module.startswith(_PACKAGE)}


def _reachable(name: str) -> list[str]:
    found, todo = [name], [name]
    while todo:
        new = sorted(_imports(todo.pop()) - set(found))
        found += new
        todo += new
    return found


LAB_MODULES = tuple(_reachable("session"))
"""Modules that make up the plain implementation, found by its imports."""
