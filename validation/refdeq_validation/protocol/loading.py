"""From what a user types to an implementation: an installed one, a backend of refdeq, ``module:attribute``, a manifest."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from refdeq.errors import ArgumentError, BackendUnavailableError, FileFormatError, RefdeqError
from refdeq.registry import backend_names, load_backend
from refdeq_validation.protocol.adapter import BackendImplementation
from refdeq_validation.protocol.integrity import seal, watch
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.session import Implementation, Session

__all__ = ["GROUP", "claims_of", "implementation_names", "load_implementation", "read_manifest"]

GROUP = "refdeq.implementations"
"""Entry points of installed implementations: an object with ``manifest()`` and ``open(problem)``, or a factory of one."""

FORMS = "an installed implementation, backend[:order[:path]], module:attribute, or a path to a backend.toml"


def load_implementation(spec: str) -> Implementation:
    """Load what a user names.

    Parameters
    ----------
    spec : str
        Tried in this order: a path that ends in ``.toml``; the name of an entry point of the group ``refdeq.implementations``;
        an installed backend of refdeq, with order and path or the first it declares (``numba``, ``numba:fast:op``); and
        ``module:attribute``, importable from here.

    Returns
    -------
    Implementation

    Raises
    ------
    ArgumentError
        Nothing has that name, or what has it is no implementation.
    FileFormatError
        A manifest that cannot be read.
    BackendUnavailableError
        It is there and cannot run.

    Examples
    --------
    >>> load_implementation("reference").manifest()["backend"]["name"]
    'reference strict op'
    """
    seal()  # before anybody's code is imported
    if spec.endswith(".toml"):
        return _from_manifest(Path(spec))
    installed = _entries()
    if spec in installed:
        return _checked(_imported(spec, installed[spec].load), spec)
    name, *rest = spec.split(":")
    if name in backend_names():
        return _backend(spec, name, rest)
    if len(rest) == 1 and all(spec.split(":")):
        return _checked(_attribute(spec, lambda: importlib.import_module(name), rest[0]), spec)
    known = ", ".join([*installed, *backend_names()])
    raise ArgumentError("implementation", expected=f"{FORMS} (installed: {known})", got=repr(spec))


def implementation_names() -> tuple[str, ...]:
    """Names of installed implementations; nothing is imported."""
    return tuple(sorted(_entries()))


def claims_of(implementation: Implementation, spec: str = "manifest") -> Claims:
    """The claims an implementation makes, checked."""
    return Claims.from_manifest(implementation.manifest(), spec)


def read_manifest(path: Path) -> dict[str, Any]:
    """Contents of a manifest file.

    Raises
    ------
    FileFormatError
        Missing, or no TOML; the message names the file.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FileFormatError(f"{path}: cannot be read as a manifest: {error}") from error


class _Described:
    """An implementation whose manifest is a file."""

    def __init__(self, implementation: Implementation, claims: Claims) -> None:
        self.implementation, self.claims = implementation, claims

    def __getattr__(self, name: str) -> Any:
        return getattr(self.implementation, name)

    def manifest(self) -> Mapping[str, Any]:
        """What the file says."""
        return self.claims.manifest()

    def open(self, problem: Problem) -> Session:
        """Open a problem."""
        return self.implementation.open(problem)


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _backend(spec: str, name: str, rest: list[str]) -> Implementation:
    """A declaration of a backend of refdeq."""
    if len(rest) > 2:
        raise ArgumentError("implementation", expected="backend[:order[:path]]", got=repr(spec))
    backend = load_backend(name)
    order = rest[0] if rest else backend.info.orders[0]
    path = rest[1] if len(rest) == 2 else "fused" if backend.info.fused else "op"
    return BackendImplementation(backend, order, path)


def _from_manifest(path: Path) -> Implementation:
    """What a manifest file describes."""
    data = read_manifest(path)
    claims = Claims.from_manifest(data, str(path))
    backend = data["backend"]
    ways = [key for key in ("python", "command") if key in backend]
    if len(ways) != 1:
        expected = "either python = 'module:attribute' or command = ['./program']"
        raise ArgumentError(f"{path}: [backend]", expected=expected, got=" and ".join(ways) or "neither")
    if ways == ["command"]:
        command = backend["command"]
        if not isinstance(command, list) or not command or not all(isinstance(part, str) and part for part in command):
            raise ArgumentError(f"{path}: backend.command", expected="a list of texts, the program first", got=repr(command))
        from refdeq_validation.packs.jsonl import JsonlImplementation

        remote: Implementation = JsonlImplementation(_found_beside(path, command), claims.manifest(), folder=path.parent)
        return remote
    target = backend["python"]
    if not isinstance(target, str) or target.count(":") != 1 or not all(target.split(":")):
        raise ArgumentError(f"{path}: backend.python", expected="'module:attribute'", got=repr(target))
    module, attribute = target.split(":")
    found = _attribute(f"{path}: backend.python", lambda: _module_beside(path, module), attribute)
    implementation = _checked(found, str(path), needs_manifest=False)
    own = getattr(implementation, "manifest", None)
    if own is not None and replace(claims_of(implementation, str(path)), version=claims.version) != claims:
        raise ArgumentError(f"{path}", hint="the implementation's own manifest() says something else than this file")
    described: Implementation = watch(_Described(implementation, claims))
    return described


def _found_beside(path: Path, command: list[str]) -> list[str]:
    """The command, its program looked for in the manifest's folder when it is a relative path."""
    program = Path(command[0])
    if not program.is_absolute() and (len(program.parts) > 1 or command[0].startswith(".")):
        return [str((path.parent / program).resolve()), *command[1:]]
    return command


def _module_beside(path: Path, module: str) -> Any:
    """A module in the manifest's folder, under a name of its own; otherwise an installed one.

    While it is imported its folder is searched first, so that it can import its neighbours.
    """
    folder = path.parent.resolve()
    file = folder.joinpath(*module.split(".")).with_suffix(".py")
    if not file.is_file():
        return importlib.import_module(module)
    name = f"refdeq_implementation_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    described = importlib.util.spec_from_file_location(name, file)
    assert described is not None
    assert described.loader is not None
    made = importlib.util.module_from_spec(described)
    sys.modules[name] = made
    sys.path.insert(0, str(folder))
    try:
        described.loader.exec_module(made)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(folder))
    return made


def _attribute(spec: str, load: Any, attribute: str) -> Any:
    module = _imported(spec, load)
    for part in attribute.split("."):
        if not hasattr(module, part):
            raise ArgumentError(spec, expected=f"an attribute of {getattr(module, '__name__', module)}", got=repr(attribute))
        module = getattr(module, part)
    return module


def _imported(spec: str, load: Any) -> Any:
    """Run somebody's import; whatever goes wrong there says that the implementation cannot run."""
    try:
        return load()
    except RefdeqError:
        raise
    except Exception as error:
        raise BackendUnavailableError(spec, f"{type(error).__name__}: {error}", "check that it can be imported") from error


def _checked(found: Any, spec: str, needs_manifest: bool = True) -> Implementation:
    """The implementation itself, made by a call when a class or a factory was named."""
    if isinstance(found, type) or not hasattr(found, "open"):
        if not callable(found):
            raise ArgumentError(
                spec, expected="an object with manifest() and open(problem), or a factory of one", got=repr(found)
            )
        found = _imported(spec, found)
    missing = [name for name in ("manifest", "open") if not callable(getattr(found, name, None))]
    if "open" in missing or (missing and needs_manifest):
        raise ArgumentError(spec, expected="an object with manifest() and open(problem)", got=f"none of {', '.join(missing)}")
    implementation: Implementation = watch(found)
    return implementation
