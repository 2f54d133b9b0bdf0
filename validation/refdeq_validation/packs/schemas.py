"""The JSON Schemas of packs, and a validator of the part of the language they use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["first_problem", "problems"]

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "null": (type(None),),
}
_KNOWN = {"$schema", "$id", "$ref", "type", "enum", "const", "pattern", "minimum", "items", "minItems", "required"}
_KNOWN |= {"properties", "additionalProperties", "minProperties", "maxProperties"}


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    folder = resources.files("refdeq_validation.packs") / "schema"
    texts = [entry.read_text(encoding="utf-8") for entry in folder.iterdir() if entry.name.endswith(".json")]
    return {schema["$id"]: schema for schema in map(json.loads, texts)}


def first_problem(data: Any, schema: str) -> str:
    """First thing wrong with `data`, in words; empty when it conforms.

    Parameters
    ----------
    data : JSON-able value
    schema : str
        ``$id`` of a schema in ``packs/schema``.

    Examples
    --------
    >>> first_problem({"case": "x", "call": -1}, "refdeq-response/1")
    '$.call: expected a number >= 0, got -1'
    """
    return next(problems(data, _schemas()[schema]), "")


def problems(data: Any, schema: Mapping[str, Any], at: str = "$") -> Iterator[str]:
    """All that is wrong, place by place; a keyword that this validator does not know is an error of the schema."""
    unknown = set(schema) - _KNOWN
    if unknown:
        raise KeyError(f"schema keyword {sorted(unknown)[0]!r} is not supported")
    if "$ref" in schema:
        yield from problems(data, _schemas()[schema["$ref"]], at)
        return
    names = schema.get("type")
    if names is not None and not _is_one_of(data, [names] if isinstance(names, str) else names):
        yield f"{at}: expected {names}, got {_short(data)}"
        return
    if "const" in schema and data != schema["const"]:
        yield f"{at}: expected {schema['const']!r}, got {_short(data)}"
    if "enum" in schema and data not in schema["enum"]:
        yield f"{at}: expected one of {schema['enum']}, got {_short(data)}"
    if isinstance(data, str) and "pattern" in schema and not re.search(schema["pattern"], data):
        yield f"{at}: expected text like {schema['pattern']}, got {_short(data)}"
    if isinstance(data, int) and data < schema.get("minimum", data):
        yield f"{at}: expected a number >= {schema['minimum']}, got {data}"
    if isinstance(data, list):
        yield from _list_problems(data, schema, at)
    if isinstance(data, dict):
        yield from _object_problems(data, schema, at)


def _is_one_of(data: Any, names: list[str]) -> bool:
    return any(isinstance(data, _TYPES[name]) and (name == "boolean" or not isinstance(data, bool)) for name in names)


def _list_problems(data: list[Any], schema: Mapping[str, Any], at: str) -> Iterator[str]:
    if len(data) < schema.get("minItems", 0):
        yield f"{at}: expected at least {schema['minItems']} items, got {len(data)}"
    if "items" in schema:
        for i, item in enumerate(data):
            yield from problems(item, schema["items"], f"{at}[{i}]")


def _object_problems(data: dict[str, Any], schema: Mapping[str, Any], at: str) -> Iterator[str]:
    for name in schema.get("required", ()):
        if name not in data:
            yield f"{at}: {name!r} is missing"
    if not schema.get("minProperties", 0) <= len(data) <= schema.get("maxProperties", len(data)):
        yield f"{at}: expected {schema.get('minProperties', 0)} to {schema.get('maxProperties')} fields, got {len(data)}"
    inner, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, value in data.items():
        if name in inner:
            yield from problems(value, inner[name], f"{at}.{name}")
        elif rest is False:
            yield f"{at}: {name!r} is not a field"
        elif isinstance(rest, dict):
            yield from problems(value, rest, f"{at}.{name}")


def _short(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 60 else text[:57] + "..."
