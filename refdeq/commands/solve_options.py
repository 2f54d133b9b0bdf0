"""Option values of ``refdeq solve`` that have parts: ``name:key=value,key=value``, turned into solvers, rules and dialects.

Nothing here lists solvers or their parameters: the frozen dataclasses of :mod:`refdeq.solvers` say what exists, so a solver
that is added there can be asked for here.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from refdeq import solvers
from refdeq.errors import ArgumentError
from refdeq.solvers import Dialect, Solver, dialect
from refdeq.types import PRESETS, DeltaRule, GateOverride

__all__ = ["option_fields", "parse_delta", "parse_dialect", "parse_solver", "parse_stagnation", "solver_classes", "split_spec"]


def split_spec(option: str, text: str) -> tuple[str, dict[str, str]]:
    """Split ``name:key=value,key=value`` into the name and the texts of the values.

    Parameters
    ----------
    option : str
        For messages.
    text : str

    Raises
    ------
    ArgumentError
        A part is not ``key=value``, or a key comes twice.

    Examples
    --------
    >>> split_spec("--solver", "anderson:window=5,mixing=1")
    ('anderson', {'window': '5', 'mixing': '1'})
    """
    name, colon, rest = text.partition(":")
    values: dict[str, str] = {}
    for part in rest.split(",") if colon else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not key or not equals or not value:
            raise ArgumentError(option, expected="NAME or NAME:key=value,key=value", got=repr(text))
        if key in values:
            raise ArgumentError(option, expected=f"{key!r} once", got=repr(text))
        values[key] = value
    return name.strip(), values


def solver_classes() -> dict[str, type[Any]]:
    """Every solver that refdeq has, by the name it goes by on the command line.

    >>> sorted({"km", "krasnoselskii-mann", "picard"} & set(solver_classes()))
    ['km', 'krasnoselskii-mann', 'picard']
    """
    found: dict[str, type[Any]] = {}
    for name in solvers.__all__:
        kind = getattr(solvers, name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and hasattr(kind, "step"):
            words = re.findall(r"[A-Z][a-z0-9]*", name)
            found["-".join(words).lower()] = kind
            if len(words) > 1:
                found["".join(word[0] for word in words).lower()] = kind
    return found


def parse_solver(text: str) -> Solver:
    """Build a solver from ``name:key=value,...``.

    Raises
    ------
    ArgumentError
        There is no such solver or no such key, or a value is none the solver accepts; the message lists what there is.

    Examples
    --------
    >>> parse_solver("km:alpha=0.5")
    KrasnoselskiiMann(alpha=0.5)
    """
    name, texts = split_spec("--solver", text)
    known = solver_classes()
    kind = known.get(name.lower().replace("_", "-"))
    if kind is None:
        raise ArgumentError("--solver", expected=f"one of {', '.join(sorted(known))}", got=repr(name))
    built: Solver = kind(**_converted(f"--solver {name}", kind, texts))
    return built


def option_fields(kind: type[Any]) -> dict[str, Any]:
    """Fields of a frozen configuration that its constructor takes, with their types.

    >>> option_fields(solver_classes()["km"])
    {'alpha': <class 'float'>}
    """
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def _converted(option: str, kind: type[Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Values of a configuration's fields; ``field.key`` belongs to a configuration inside it."""
    fields, inner = option_fields(kind), dict[str, dict[str, str]]()
    values: dict[str, Any] = {}
    for key, text in texts.items():
        name, dot, rest = key.partition(".")
        if name not in fields or (dot and _configuration(fields[name]) is None):
            expected = f"a key out of {', '.join(fields)}" if fields else "no keys (there is nothing to set)"
            raise ArgumentError(option, expected=expected, got=repr(key))
        if dot:
            inner.setdefault(name, {})[rest] = text
        else:
            values[name] = _value(option, name, text, fields[name])
    for name, parts in inner.items():
        part = _configuration(fields[name])
        assert part is not None
        values[name] = part(**_converted(f"{option}: {name}", part, parts))
    return values


def _configuration(hint: Any) -> type[Any] | None:
    """The frozen configuration among the alternatives of a type, if there is one."""
    return next((kind for kind in _alternatives(hint) if isinstance(kind, type) and dataclasses.is_dataclass(kind)), None)


def _value(option: str, key: str, text: str, hint: Any) -> Any:
    """One value, by the first alternative of its type that can read the text; what it may be, the constructor checks."""
    for alternative in _alternatives(hint):
        try:
            return _read(text, alternative)
        except ValueError:
            continue
    raise ArgumentError(f"{option}: {key}", expected=_described(hint), got=repr(text))


def _alternatives(hint: Any) -> list[Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [each for part in typing.get_args(hint) for each in _alternatives(part)]
    if typing.get_origin(hint) is Literal:
        return [Literal[value] for value in typing.get_args(hint)]
    return [hint]


def _read(text: str, kind: Any) -> Any:
    """Read a text as one plain type; ``ValueError`` when it is not of that type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal and text == str(arguments[0]):
        return arguments[0]
    if kind is type(None) and text.lower() == "none":
        return None
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind in (int, float, str):
        return kind(text)
    if origin is tuple and arguments:
        parts = text.split("/")
        kinds = [arguments[0]] * len(parts) if arguments[-1] is Ellipsis else list(arguments)
        return tuple(_read(part, each) for part, each in zip(parts, kinds, strict=True))
    raise ValueError(text)


def _described(hint: Any) -> str:
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a name", type(None): "none"}
    words = []
    for kind in _alternatives(hint):
        if typing.get_origin(kind) is Literal:
            words.append(str(typing.get_args(kind)[0]).lower() if kind == Literal[None] else str(typing.get_args(kind)[0]))
        elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
            words.append(f"its parts ({', '.join(f'.{name}=' for name in option_fields(kind))})")
        elif typing.get_origin(kind) is tuple:
            words.append("values joined by '/'")
        else:
            words.append(names.get(kind, str(kind)))
    return " or ".join(words)


def parse_dialect(text: str) -> Dialect:
    """Build a dialect from ``peer/method:key=value,...``; the method may be left out.

    Raises
    ------
    ArgumentError
        There is no such peer, method or option, or a value is none the peer could use; the message lists what there is.

    Examples
    --------
    >>> parse_dialect("torchdeq/anderson:max_iter=12,mode=rel")
    Dialect(torchdeq/anderson: max_iter=12, tol=0.001, mode='rel', m=6, lam=0.0001, tau=1.0, return_final=False)
    """
    label, texts = split_spec("--dialect", text)
    name, slash, method = label.partition("/")
    # The tables of the dialects check the types: here a text only becomes what it looks like.
    values = {key: _value("--dialect", key, value, None | bool | int | float | str) for key, value in texts.items()}
    return dialect(name, method if slash else None, **values)


def parse_delta(text: str) -> DeltaRule:
    """Build a delta rule from a threshold, or from ``preset:threshold=...,key=value``.

    Tuples are joined by ``/``: ``tile=2/2/3``, ``dense=c1/c2``. One gate is overridden by ``gates.NAME.threshold=0.1``.

    Raises
    ------
    ArgumentError

    Examples
    --------
    >>> parse_delta("0.01") == DeltaRule.preset("refdeq", threshold=0.01)
    True
    >>> parse_delta("paper:threshold=0.1,gates.z.threshold=0.5").gates["z"].threshold
    0.5
    """
    try:
        return DeltaRule(threshold=float(text))
    except ArgumentError:
        raise
    except ValueError:
        name, texts = split_spec("--delta", text)
    if name not in PRESETS:
        raise ArgumentError(
            "--delta", expected=f"a threshold, or one of {', '.join(PRESETS)} with :threshold=...", got=repr(text)
        )
    overrides = {key: texts.pop(key) for key in list(texts) if key.startswith("gates.")}
    changes = _converted(f"--delta {name}", DeltaRule, texts)
    if "threshold" not in changes:
        raise ArgumentError("--delta", expected=f"a threshold, as in {name}:threshold=0.01", got=repr(text))
    if overrides:
        changes["gates"] = _gates(overrides)
    return DeltaRule.preset(name, **changes)


def _gates(overrides: Mapping[str, str]) -> dict[str, GateOverride]:
    by_gate: dict[str, dict[str, str]] = {}
    for key, text in overrides.items():
        gate, dot, field = key.removeprefix("gates.").rpartition(".")
        if not dot or not gate:
            raise ArgumentError("--delta", expected="gates.NAME.threshold=... (or granularity, tile)", got=repr(key))
        by_gate.setdefault(gate, {})[field] = text
    return {gate: GateOverride(**_converted(f"--delta gates.{gate}", GateOverride, texts)) for gate, texts in by_gate.items()}


def parse_stagnation(text: str) -> tuple[int, float]:
    """Read ``window,ratio``.

    >>> parse_stagnation("20,0.99")
    (20, 0.99)
    """
    window, _, ratio = text.partition(",")
    try:
        return int(window), float(ratio)
    except ValueError:
        raise ArgumentError("--stagnation", expected="WINDOW,RATIO, as in 20,0.99", got=repr(text)) from None
