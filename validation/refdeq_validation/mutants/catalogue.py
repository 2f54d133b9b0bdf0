"""The catalogue of mutants: realistic bugs of kernels, as text patches of the plain implementation.

A file of ``bugs/`` is a family. It begins with a note; then come entries::

    == name | module | BUG_TYPE | variant
    One sentence: what is wrong.
    -- old
    text that occurs exactly once in the module
    -- new
    what replaces it

``module`` is one of :mod:`refdeq_validation.lab`; ``variant`` is the legal implementation whose bug it is (its name in
:data:`refdeq_validation.lab.variants.VARIANTS`), ``strict`` when it is left out. ``-- in MODULE`` before a further ``-- old``
patches another module too. An entry whose sentence begins with ``Equivalent:`` is no bug, and its sentence is the argument why.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

from refdeq.errors import ArgumentError
from refdeq_validation.cases.bug_types import BUG_TYPES
from refdeq_validation.lab.variants import VARIANTS

__all__ = ["EQUIVALENT", "FAMILIES", "MUTANTS", "DriftError", "Edit", "Mutant", "read", "source_of"]

FAMILIES = (
    "comparator",
    "masks",
    "special_values",
    "memory",
    "active_lists",
    "precision",
    "accumulator",
    "ordering",
    "contracts",
    "reset",
    "solver",
    "warm_start",
    "gradient",
    "convolution",
)
"""Families, in the order of the tables; each is a file of ``bugs/``."""

_EQUIVALENT = "Equivalent: "

_REMEMBERS = re.compile(r"^[A-Z]+: (list|dict)\[|LabSession\.node", re.MULTILINE)
"""State of a module or of a class in a patch."""


class DriftError(ArgumentError):
    """A patch does not fit its source any more: the catalogue has to follow the code."""


@dataclass(frozen=True)
class Edit:
    """One replacement: `old` occurs exactly once in the module."""

    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One planted bug.

    Attributes
    ----------
    name : str
    family : str
        One of ``FAMILIES``.
    bug_type : str
        Key of :data:`refdeq_validation.cases.bug_types.BUG_TYPES`.
    summary : str
        One sentence; of an equivalent entry the argument.
    patch : tuple of Edit
    variant : str
        Legal implementation that is patched; its claims are what the mutant claims.
    equivalent : bool
        Whether no input that the contract allows tells it from the original.

    Examples
    --------
    >>> MUTANTS["strictly above"].bug_type
    'TIE_RULE'
    """

    name: str
    family: str
    bug_type: str
    summary: str
    patch: tuple[Edit, ...]
    variant: str = "strict"
    equivalent: bool = False

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that are patched, each once."""
        return tuple(dict.fromkeys(edit.module for edit in self.patch))

    def patched(self, module: str) -> str:
        """Source of a module with this mutant's edits applied.

        Raises
        ------
        DriftError
            When an old text does not occur exactly once.
        """
        text = source_of(module)
        for edit in self.patch:
            if edit.module == module:
                found = text.count(edit.old)
                if found != 1:
                    raise DriftError(
                        f"mutant {self.name!r}", expected=f"its old text once in {module}", got=f"{found} times: {edit.old}"
                    )
                text = text.replace(edit.old, edit.new)
        return text

    @property
    def remembers(self) -> bool:
        """Whether the copy has state beyond its sessions, so that an earlier case may change a later one."""
        return self.variant in ("tuned", "column-slices") or any(_REMEMBERS.search(edit.new) for edit in self.patch)

    @cached_property
    def diff(self) -> str:
        """Unified diff of the patched modules."""
        lines: list[str] = []
        for module in self.modules:
            before, after = source_of(module).splitlines(), self.patched(module).splitlines()
            lines += difflib.unified_diff(before, after, f"lab/{module}.py", f"lab/{module}.py", lineterm="", n=1)
        return "\n".join(lines)


@cache
def source_of(module: str) -> str:
    """Source of a module of the plain implementation."""
    return resources.files("refdeq_validation.lab").joinpath(f"{module}.py").read_text(encoding="utf-8")


def read(text: str, family: str) -> tuple[Mutant, ...]:
    """Entries of one file; text that is not one is an error."""
    found: list[Mutant] = []
    for entry in text.split("\n== ")[1:]:
        head, *lines = entry.rstrip("\n").split("\n")
        fields = [field.strip() for field in head.split("|")]
        if len(fields) not in (3, 4) or not lines:
            raise ArgumentError(f"mutants/bugs/{family}.txt", expected="name | module | BUG_TYPE | variant", got=head)
        name, module, bug_type = fields[:3]
        variant = fields[3] if len(fields) == 4 else "strict"
        if bug_type not in BUG_TYPES or variant not in VARIANTS:
            raise ArgumentError(f"mutant {name!r}", expected="a known bug type and a known variant", got=(bug_type, variant))
        equivalent = lines[0].startswith(_EQUIVALENT)
        first = next((i for i, line in enumerate(lines) if line.startswith("-- ")), len(lines))
        summary = " ".join(lines[:first]).removeprefix(_EQUIVALENT)
        found.append(Mutant(name, family, bug_type, summary, _edits(name, module, lines[first:]), variant, equivalent))
    return tuple(found)


def _edits(name: str, module: str, lines: list[str]) -> tuple[Edit, ...]:
    edits: list[Edit] = []
    parts: dict[str, list[str]] = {}
    section = ""
    for line in [*lines, "-- end"]:
        if line.startswith("-- "):
            section, closing = line[3:].strip(), bool(parts.get("new") is not None)
            if closing:
                edits.append(Edit(module, "\n".join(parts.pop("old")), "\n".join(parts.pop("new"))))
            if section.startswith("in "):
                module = section[3:]
            elif section in ("old", "new"):
                parts[section] = []
        elif section in ("old", "new"):
            parts[section].append(line)
    edits = [Edit(edit.module, edit.old, edit.new.rstrip("\n")) for edit in edits]
    if not edits or parts or any(edit.old == edit.new for edit in edits):
        raise ArgumentError(f"mutant {name!r}", expected="pairs of -- old and -- new that differ", got=f"{len(edits)} pairs")
    return tuple(edits)


def _load() -> tuple[Mutant, ...]:
    folder = resources.files("refdeq_validation.mutants").joinpath("bugs")
    found: list[Mutant] = []
    for family in FAMILIES:
        found += read(folder.joinpath(f"{family}.txt").read_text(encoding="utf-8"), family)
    names = [mutant.name for mutant in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ArgumentError("mutants", expected="distinct names", got=twice[0])
    return tuple(found)


_ALL = _load()

MUTANTS: Mapping[str, Mutant] = {mutant.name: mutant for mutant in _ALL if not mutant.equivalent}
"""Bugs, by name, in the order of the files."""

EQUIVALENT: Mapping[str, Mutant] = {mutant.name: mutant for mutant in _ALL if mutant.equivalent}
"""Entries that no allowed input tells from the original, with the argument as their summary."""
