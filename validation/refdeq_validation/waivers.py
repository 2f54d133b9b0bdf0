"""Skips and expected failures: exact ids, each with a reason, an issue and an end. An entry that has gone stale is an error."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from refdeq.errors import ArgumentError, FileFormatError
from refdeq_validation.judge.verdicts import KINDS

__all__ = ["Waiver", "Waivers", "check_waivers", "read_waivers"]

_KEYS: Mapping[str, tuple[str, ...]] = {
    "skip": ("id", "reason", "issue", "expires"),
    "xfail": ("id", "reason", "issue", "expires", "kind"),
}
_OPTIONAL = ("platform",)

PLATFORMS = ("linux", "darwin", "win32")


@dataclass(frozen=True)
class Waiver:
    """One entry.

    Attributes
    ----------
    id : str
        Exact id of a case.
    reason, issue : str
    expires : date
        First day on which the entry is an error.
    kind : str
        Of the expected failure; empty for a skip.
    platform : str
        Where it holds, as ``sys.platform`` begins; empty for everywhere.
    source : str
        File, for messages.
    """

    id: str
    reason: str
    issue: str
    expires: date
    kind: str = ""
    platform: str = ""
    source: str = ""

    @property
    def holds_here(self) -> bool:
        """Whether the entry is for this platform."""
        return sys.platform.startswith(self.platform)


@dataclass(frozen=True)
class Waivers:
    """What is skipped and what is expected to fail here, by id."""

    skips: Mapping[str, Waiver] = field(default_factory=dict)
    xfails: Mapping[str, Waiver] = field(default_factory=dict)


def read_waivers(path: Path, table: str) -> list[Waiver]:
    """Read ``[[skip]]`` or ``[[xfail]]`` entries.

    Parameters
    ----------
    path : Path
    table : {"skip", "xfail"}

    Raises
    ------
    FileFormatError
        The file cannot be read as TOML.
    ArgumentError
        An entry lacks a key, has one too many or a value of another kind; the message names file, entry and key.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FileFormatError(f"{path}: cannot be read: {error}") from error
    for key in data:
        if key != table:
            raise ArgumentError(f"{path}: {key}", expected=f"tables [[{table}]] only", got="an unknown key")
    entries = data.get(table, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ArgumentError(f"{path}: {table}", expected=f"tables [[{table}]]", got=type(entries).__name__)
    return [_entry(f"{path}: {table} {i + 1}", entry, table) for i, entry in enumerate(entries)]


def _entry(where: str, entry: Mapping[str, Any], table: str) -> Waiver:
    for key in _KEYS[table]:
        if key not in entry:
            raise ArgumentError(f"{where}: {key}", expected=f"keys {', '.join(_KEYS[table])}", got="nothing")
    for key, value in entry.items():
        if key not in (*_KEYS[table], *_OPTIONAL):
            raise ArgumentError(
                f"{where}: {key}", expected=f"one of {', '.join((*_KEYS[table], *_OPTIONAL))}", got="an unknown key"
            )
        if key == "expires":
            if type(value) is not date:
                raise ArgumentError(f"{where}: expires", expected="a date such as 2027-03-01", got=repr(value))
        elif not isinstance(value, str) or not value.strip():
            raise ArgumentError(f"{where}: {key}", expected="text", got=repr(value))
    if not entry["issue"].startswith(("https://", "http://")):
        raise ArgumentError(f"{where}: issue", expected="the address of an issue", got=repr(entry["issue"]))
    if entry.get("kind", "value") not in KINDS:
        raise ArgumentError(f"{where}: kind", expected=f"one of {', '.join(KINDS)}", got=repr(entry["kind"]))
    if entry.get("platform", "linux") not in PLATFORMS:
        raise ArgumentError(f"{where}: platform", expected=f"one of {', '.join(PLATFORMS)}", got=repr(entry["platform"]))
    return Waiver(**entry, source=where)


def check_waivers(
    skips: Collection[Waiver], xfails: Collection[Waiver], known: Collection[str], required: Collection[str], today: date
) -> Waivers:
    """Refuse entries that are expired, unmatched, duplicated or required, and return those that hold here.

    Parameters
    ----------
    skips, xfails : collection of Waiver
    known : collection of str
        Ids of the suite.
    required : collection of str
        Ids of the cases of requested profiles: they can never be waived.
    today : date

    Raises
    ------
    ArgumentError
        Naming the entry.
    """
    seen: dict[str, str] = {}
    for waiver in (*skips, *xfails):
        if waiver.id not in known:
            raise ArgumentError(f"{waiver.source}: id", expected="an exact id of this suite", got=repr(waiver.id))
        if waiver.expires <= today:
            raise ArgumentError(f"{waiver.source}: expires", expected=f"a day after {today}", got=str(waiver.expires))
        if waiver.id in seen:
            raise ArgumentError(
                f"{waiver.source}: id", expected="one entry per case", got=f"{waiver.id}, also in {seen[waiver.id]}"
            )
        if waiver.id in required:
            hint = "a case that a requested profile requires cannot be waived"
            raise ArgumentError(f"{waiver.source}: id", hint=f"{hint}: {waiver.id}")
        seen[waiver.id] = waiver.source
    here = ({entry.id: entry for entry in entries if entry.holds_here} for entries in (skips, xfails))
    return Waivers(*here)
