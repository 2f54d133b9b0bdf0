"""Mutants of the judge: one function of it gets other instructions, in this process, and gets its own back afterwards."""

from __future__ import annotations

import ast
import contextlib
import copy
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from refdeq_validation.holdout.operators import mutants_of


@dataclass(frozen=True)
class Mutant:
    """One changed function of the judge.

    Attributes
    ----------
    module, function : str
        Where; the function by its qualified name.
    what : str
        Kind of change, what was there and what is.
    key : str
        Name that survives edits elsewhere.
    definition : ast.FunctionDef
        The changed function, without decorators.
    """

    module: str
    function: str
    what: str
    key: str
    definition: ast.FunctionDef


def functions_of(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    """Functions and methods that a module defines, by qualified name."""
    for name, value in list(vars(module).items()):
        inner = _plain(value)
        if isinstance(inner, FunctionType) and inner.__module__ == module.__name__ and inner.__qualname__ == name:
            yield name, inner
        elif isinstance(value, type) and value.__module__ == module.__name__:
            for method, attribute in list(vars(value).items()):
                inner = _plain(attribute)
                if isinstance(inner, FunctionType) and inner.__module__ == module.__name__ and "<" not in inner.__qualname__:
                    yield f"{name}.{method}", inner


KINDS = ("compare", "boolean", "negate", "name", "loop", "delete", "unary")
"""Changes by which a judge loses a check; those of its arithmetic are left to the tests of what it computes."""


def _is_call(statement: str) -> bool:
    """Whether a statement does nothing but call: a check made, a failure recorded, a count taken."""
    node = ast.parse(statement).body[0]
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def _plain(value: Any) -> Any:
    for attribute in ("fget", "func", "__func__", "py_func", "__wrapped__"):
        if not isinstance(value, FunctionType | type) and isinstance(getattr(value, attribute, None), FunctionType):
            return getattr(value, attribute)
    return value.__wrapped__ if isinstance(getattr(value, "__wrapped__", None), FunctionType) else value


def mutants_in(module: ModuleType) -> Iterator[Mutant]:
    """Every automatic mutant of a module, function by function."""
    tree = ast.parse(inspect.getsource(module))
    for name, _ in functions_of(module):
        definition = _definition(tree, name)
        if definition is None:
            continue
        alone = copy.deepcopy(definition)
        alone.decorator_list = []
        source = ast.unparse(alone)
        for mutant in mutants_of(module.__name__, source):
            assert isinstance(mutant.tree.body[0], ast.FunctionDef)
            if mutant.operator not in KINDS or (mutant.operator == "delete" and not _is_call(mutant.before)):
                continue
            what = f"{mutant.operator}: {mutant.before!r} -> {mutant.after!r} ({mutant.occurrence})"
            key = mutant.key.rpartition(":")[2]
            yield Mutant(module.__name__, name, what, f"{module.__name__}:{name}:{key}", mutant.tree.body[0])
        yield from _of_a_judge(module.__name__, name, source)


def _definition(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    body: list[ast.stmt] = tree.body
    *outer, last = name.split(".")
    for part in outer:
        body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == part)
    return next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == last), None)


# ---------------------------------------------------------------------------------- mistakes that judges in particular make


def _of_a_judge(module: str, function: str, source: str) -> Iterator[Mutant]:
    """Comparisons that NaN passes, only the first element looked at, refusals not made, exceptions swallowed, wide bounds."""
    seen: dict[str, int] = {}
    for kind, before, tree in _judges_mistakes(module, source):
        definition = ast.fix_missing_locations(tree).body[0]
        assert isinstance(definition, ast.FunctionDef)
        place = f"{kind}: {before!r}"
        seen[place] = seen.get(place, -1) + 1
        what = f"{place} ({seen[place]})"
        yield Mutant(module, function, what, f"{module}:{function}:{what}", definition)


def _judges_mistakes(module: str, source: str) -> Iterator[tuple[str, str, ast.Module]]:
    kinds = ("nan passes", "first only", "no raise", "swallow", "twice the bound", "16 bounds")
    for number, candidate in enumerate(list(ast.walk(ast.parse(source)))):
        for kind in kinds:
            if _changed(kind, candidate, module) is None:
                continue
            tree = ast.parse(source)
            node = list(ast.walk(tree))[number]
            parent, field = next((p, f) for p in ast.walk(tree) for f, child in _children(p) if child is node)
            new = _changed(kind, node, module)
            assert new is not None
            before = ast.unparse(node).splitlines()[0]
            _replace(parent, field, node, new)
            yield kind, before, tree


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield field, child


def _replace(parent: ast.AST, field: str, old: ast.AST, new: ast.AST) -> None:
    value = getattr(parent, field)
    if isinstance(value, list):
        value[[item is old for item in value].index(True)] = new
    else:
        setattr(parent, field, new)


_CONTRARY: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.LtE: ast.Gt, ast.Lt: ast.GtE, ast.Gt: ast.LtE, ast.GtE: ast.Lt}


def _changed(kind: str, node: ast.AST, module: str) -> ast.AST | None:
    if kind == "nan passes" and isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _CONTRARY:
        contrary = ast.Compare(node.left, [_CONTRARY[type(node.ops[0])]()], node.comparators)
        return ast.Compare(contrary, [ast.Eq()], [ast.Constant(False)])
    if kind == "first only" and isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "all":
        values = node.args[0] if isinstance(node.func.value, ast.Name) and node.func.value.id == "np" else node.func.value
        return ast.parse(f"__import__('numpy').ravel({ast.unparse(values)})[:1].all()", mode="eval").body
    if kind == "no raise" and isinstance(node, ast.Raise):
        return ast.Pass()
    if kind == "swallow" and isinstance(node, ast.ExceptHandler):
        return ast.ExceptHandler(node.type, node.name, [ast.Pass()])
    if module.endswith(".bounds") and isinstance(node, ast.Return) and node.value is not None:
        factor = {"twice the bound": 2.0, "16 bounds": 16.0}.get(kind)
        return None if factor is None else ast.Return(ast.BinOp(ast.Constant(factor), ast.Mult(), node.value))
    return None


# ------------------------------------------------------------------------------------------------------------ putting in place


@contextlib.contextmanager
def in_place(mutant: Mutant) -> Iterator[None]:
    """The judge with this mutant, everywhere it is called from."""
    module = sys.modules[mutant.module]
    function = dict(functions_of(module))[mutant.function]
    scope = dict(vars(module))
    definition = ast.Module([mutant.definition], [])
    exec(compile(definition, str(module.__file__), "exec"), scope)
    changed = scope[mutant.definition.name]
    kept = function.__code__, function.__defaults__, function.__kwdefaults__
    try:
        function.__code__, function.__defaults__, function.__kwdefaults__ = (
            changed.__code__,
            changed.__defaults__,
            changed.__kwdefaults__,
        )
        yield
    finally:
        function.__code__, function.__defaults__, function.__kwdefaults__ = kept


def uncompiled(modules: list[ModuleType]) -> list[tuple[ModuleType, str, Any]]:
    """Put the Python functions in the place of compiled ones, in every given module; returns what to put back."""
    kept = []
    for module in modules:
        for name, value in list(vars(module).items()):
            if isinstance(getattr(value, "py_func", None), FunctionType):
                kept.append((module, name, value))
                setattr(module, name, value.py_func)
    return kept
