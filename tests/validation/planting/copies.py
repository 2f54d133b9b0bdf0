"""Copies of the Numba backend with one module patched, that compile only what the patch reaches.

A copy is a package of a new name that holds the patched module and every module that imports it, directly or not; imports of
anything else lead to the original modules, whose machine code is on disk. Inside a copied module, compiled functions that do
not call a changed one are taken from the original too.

The fused solve is one routine that takes about a minute to compile, and the kernels over panels take ten seconds each. Their
copies are interpreted instead: the decorators are left out, and the same text runs as Python, calling the compiled vector
kernels and activations.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import itertools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numba
import numpy as np
import refdeq_numba
from numba.extending import _Intrinsic

from planting.patching import Patch, patched
from refdeq.registry import Backend

__all__ = ["load_copy"]

PACKAGE = "refdeq_numba"
FOLDER = Path(refdeq_numba.__file__).parent
FUSED = ("fused", "fused_residual", "fused_rows")
OVER_PANELS = ("accumulate", "column_sums", "conv", "dispatch", "gemm", "lists", "sums")
DECORATORS = ("compiled", "inlined", "spliced", "uncounted")

_numbers = itertools.count()


def load_copy(patch: Patch | None, folder: Path, *, fused: bool = False) -> Backend:
    """Copy what a patch reaches and return the backend of the copy.

    Parameters
    ----------
    patch : Patch or None
        None copies the text as it is, to be compiled or interpreted anew.
    folder : Path
        Where the files go.
    fused : bool
        Copy the fused solve too, to be interpreted.
    """
    originals = {path.stem: path.read_text() for path in FOLDER.glob("*.py") if path.stem != "__init__"}
    sources, changed = dict(originals), {"offer", *(FUSED if fused else ())}
    if patch is not None:
        sources[patch.module] = patched(sources[patch.module], patch)
        changed.add(patch.module)
    copied = _with_importers(changed, sources)
    touched = _touched(originals, sources, copied)
    interpreted = sorted(copied & {*OVER_PANELS, *(FUSED if fused else ())})
    package = f"planted_{next(_numbers)}"
    place = folder / package
    place.mkdir()
    (place / "__init__.py").write_text("")
    for name in copied:
        is_interpreted = name in interpreted
        text = _copy(name, sources[name], copied, package, set() if is_interpreted else touched, is_interpreted)
        (place / f"{name}.py").write_text(text)
    spec = importlib.util.spec_from_file_location(package, place / "__init__.py", submodule_search_locations=[str(place)])
    assert spec is not None
    sys.modules[package] = importlib.util.module_from_spec(spec)
    for name in interpreted:
        _make_callable(importlib.import_module(f"{package}.{name}"))
    for name in interpreted:
        module = sys.modules[f"{package}.{name}"]
        for kernel, node in _definitions(sources[name]).items():
            if _decorator(node) == "compiled":
                setattr(module, kernel, _without_warnings(getattr(module, kernel)))
    backend: Backend = importlib.import_module(f"{package}.offer").NumbaBackend()
    return backend


def _make_callable(module: ModuleType) -> None:
    """Let interpreted code call the intrinsics that its compiled original calls, its own and those of modules it names."""
    for name, value in list(vars(module).items()):
        if isinstance(value, _Intrinsic):
            setattr(module, name, _compiled_call(value))
        elif isinstance(value, ModuleType) and value.__name__.startswith(f"{PACKAGE}."):
            parts = vars(value).items()
            callable_ = {key: _compiled_call(part) if isinstance(part, _Intrinsic) else part for key, part in parts}
            setattr(module, name, SimpleNamespace(**callable_))


def _without_warnings(function: Callable[..., None]) -> Callable[..., None]:
    """Compiled code says nothing about overflow and NaN; its text as Python would."""

    @functools.wraps(function)
    def run(*arguments: Any) -> None:
        with np.errstate(all="ignore"):
            function(*arguments)

    return run


@functools.cache
def _compiled_call(intrinsic: Any) -> Any:
    @numba.njit
    def call(*arguments):  # type: ignore[no-untyped-def]
        return intrinsic(*arguments)

    def run(*arguments: Any) -> Any:
        result = call(*map(_as_word, arguments))
        return _as_word(result)

    return run


def _as_word(value: Any) -> Any:
    """A word of 64 bits leaves compiled code as an integer of Python, and does not get back in when its highest bit is set."""
    return np.uint64(value) if type(value) is int and value >= 2**63 else value


# ----------------------------------------------------------------------------------------------------- what a patch reaches


@functools.cache
def _imports(source: str) -> dict[str, tuple[str, str | None]]:
    """Names that a module takes from the backend, inside functions too: local name to (module, name there or None)."""
    found: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom):
            continue
        for alias in node.names:
            local = alias.asname or alias.name
            if node.module == PACKAGE:
                found[local] = (alias.name, None)
            elif (node.module or "").startswith(f"{PACKAGE}."):
                found[local] = (str(node.module).removeprefix(f"{PACKAGE}."), alias.name)
    return found


def _with_importers(changed: set[str], sources: Mapping[str, str]) -> set[str]:
    """The modules and all that import them, directly or not."""
    needs = {name: {module for module, _ in _imports(source).values()} for name, source in sources.items()}
    while more := {name for name in sources if name not in changed and needs[name] & changed}:
        changed = changed | more
    return changed


@functools.cache
def _definitions(source: str) -> dict[str, ast.FunctionDef]:
    """Compiled functions of a module."""
    return {
        node.name: node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and _decorator(node) in DECORATORS
    }


def _decorator(node: ast.FunctionDef) -> str:
    return ast.unparse(node.decorator_list[0]) if len(node.decorator_list) == 1 else ""


def _touched(originals: Mapping[str, str], sources: Mapping[str, str], copied: set[str]) -> set[tuple[str, str]]:
    """Compiled functions that differ from the original's, or call one that does."""
    definitions = {module: _definitions(sources[module]) for module in copied}
    imports = {module: _imports(sources[module]) for module in copied}
    touched = set()
    for module in copied:
        before = _definitions(originals[module])
        # what is left of a module without its compiled functions: constants that any of them may use
        everything = _without(originals[module], before) != _without(sources[module], definitions[module])
        for name, node in definitions[module].items():
            if everything or name not in before or ast.dump(node) != ast.dump(before[name]):
                touched.add((module, name))
    while True:
        more = {
            (module, name)
            for module in copied
            for name, node in definitions[module].items()
            if (module, name) not in touched and _calls(node, module, imports[module]) & touched
        }
        if not more:
            return touched
        touched |= more


def _without(source: str, definitions: Mapping[str, ast.FunctionDef]) -> str:
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if getattr(node, "name", None) not in definitions]
    return ast.dump(tree)


def _calls(node: ast.FunctionDef, module: str, imports: Mapping[str, tuple[str, str | None]]) -> set[tuple[str, str]]:
    """Functions of the backend that a function names."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            origin, name = imports.get(part.id, (module, part.id))
            found.add((origin, name or ""))
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in imports:
            found.add((imports[part.value.id][0], part.attr))
    return found


# ------------------------------------------------------------------------------------------------------- the text of a copy


def _copy(name: str, source: str, copied: set[str], package: str, touched: set[tuple[str, str]], interpreted: bool) -> str:
    """Text of one copied module: imports led to the copies, untouched compiled functions to the originals."""
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGE):
            _redirect(lines, node, copied, package)
    for function, definition in _definitions(source).items():
        first = definition.decorator_list[0].lineno - 1
        if interpreted:
            lines[first] = ""
        elif (name, function) not in touched:
            end = definition.end_lineno or first
            lines[first:end] = [f"from {PACKAGE}.{name} import {function}", *[""] * (end - first - 1)]
    return "\n".join(lines)


def _redirect(lines: list[str], node: ast.ImportFrom, copied: set[str], package: str) -> None:
    line, module = node.lineno - 1, str(node.module)
    if module == PACKAGE:
        assert node.lineno == node.end_lineno
        groups = ((PACKAGE, False), (package, True))
        parts = [(origin, [ast.unparse(a) for a in node.names if (a.name in copied) is inside]) for origin, inside in groups]
        statements = [f"from {origin} import {', '.join(names)}" for origin, names in parts if names]
        lines[line] = " " * node.col_offset + "; ".join(statements)
    elif module.removeprefix(f"{PACKAGE}.") in copied:
        lines[line] = lines[line].replace(module, f"{package}.{module.removeprefix(f'{PACKAGE}.')}", 1)
