"""The planted bugs: text files of patches, easier to read and to compare with the sources than strings in code.

A patch is ``== name | module`` (``| fast`` where it is judged as fast), one sentence on what it breaks, ``-- old`` and the text
that must occur once, ``-- new`` and what replaces it, an empty line. What precedes the first patch is a note.
"""

from __future__ import annotations

import re
from pathlib import Path

from planting.patching import Patch

__all__ = [
    "EQUIVALENT",
    "FUSED_BUGS",
    "FUSED_EQUIVALENT",
    "HISTORY_BUGS",
    "HISTORY_EQUIVALENT",
    "NUMBA_BUGS",
    "REFERENCE_BUGS",
    "THREAD_BUGS",
    "read",
]

_PATCH = re.compile(r"== (.+?) \| (\S+)( \| fast)?\n(.+)\n-- old\n((?:.*\n)+?)-- new\n((?:.*\n)+?)(?:\n(?=== )|\Z)")


def read(text: str) -> tuple[Patch, ...]:
    """Patches of a catalogue; text that is not one is an error."""
    start = text.index("== ")
    found, end = [], start
    for match in _PATCH.finditer(text, start):
        if match.start() != end:
            break
        name, module, fast, breaks, old, new = match.groups()
        found.append(Patch(name, module, old[:-1], new[:-1], breaks, "fast" if fast else "strict"))
        end = match.end()
    if end != len(text):
        raise ValueError(f"not a patch: {text[end : end + 80]!r}")
    return tuple(found)


def _load(name: str) -> tuple[Patch, ...]:
    return read((Path(__file__).parent / "bugs" / f"{name}.txt").read_text())


NUMBA_BUGS = _load("op_level")
FUSED_BUGS = _load("fused")
HISTORY_BUGS = _load("history")
REFERENCE_BUGS = _load("reference")
THREAD_BUGS = _load("threads")
EQUIVALENT = _load("op_level_equivalent")
FUSED_EQUIVALENT = _load("fused_equivalent")
HISTORY_EQUIVALENT = _load("history_equivalent")
