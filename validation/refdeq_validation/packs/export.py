"""Writing packs: cases, expected values and digests as files that are the same bytes wherever they are written."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

import refdeq
from refdeq.errors import ArgumentError
from refdeq.types import SEMANTICS_VERSION
from refdeq_validation.cases.model import Case
from refdeq_validation.packs.digests import file_digest, merkle_root, prompt_digest, sums_text
from refdeq_validation.packs.expected import expected_steps
from refdeq_validation.packs.provenance import license_text, source_state
from refdeq_validation.packs.rows import ROW_SCHEMA, canonical, digest_of, row_of_case, value_of
from refdeq_validation.packs.tensors import pack_tensors

__all__ = ["PACK_SCHEMA", "Contents", "contents_of", "export_pack", "place_files", "stored_names"]

Array = np.ndarray[Any, Any]

PACK_SCHEMA = "refdeq-pack/1"

LARGE = 4096
"""Elements of a mask or reference beyond which a pack carries its digest only."""


@dataclass
class Contents:
    """Files of a pack by path, and its manifest."""

    files: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)


def export_pack(
    out: Path,
    cases: Sequence[Case],
    profile: str,
    *,
    blind: bool = False,
    command: str = "",
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Write a pack; nothing appears when it fails.

    Parameters
    ----------
    out : Path
        A folder that does not exist or is empty.
    cases : sequence of Case
    profile : str
        Name of the profile, and of the pack.
    blind : bool
        Leave the expected values out.
    command : str
        How the pack was made, for its manifest.
    advance : callable
        Called once per case.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    ArgumentError
        Without cases, with two cases of one id, or when the folder holds something.
    """
    contents = contents_of(cases, profile, blind=blind, command=command, advance=advance)
    place_files(out, contents.files)
    return contents.manifest


def contents_of(
    cases: Sequence[Case],
    profile: str,
    *,
    blind: bool = False,
    command: str = "",
    more: Mapping[str, bytes] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Contents:
    """All files of a pack, in memory; `more` are files of other forms (C arrays, memories) to put beside the cases."""
    names = [case.id for case in cases]
    if not names or len(set(names)) != len(names):
        raise ArgumentError("cases", expected="at least one, with distinct ids", got=f"{len(names)} cases")
    rows: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    tensors: dict[tuple[str, str], dict[str, Array]] = defaultdict(dict)
    for case in sorted(cases, key=lambda case: case.id):
        group = (case.problem.op.lower(), case.family)
        row = row_of_case(case, tensors[group])
        if not blind:
            row["expected"] = _expected(case, tensors[group])
        rows[group].append(row)
        advance()
    files = {**_fixed_files(profile, blind), **(more or {})}
    for (op, family), members in sorted(rows.items()):
        files[f"cases/{op}/{family}.jsonl"] = "".join(canonical(row) + "\n" for row in members).encode()
        if tensors[op, family]:
            files[f"tensors/{op}-{family}.safetensors"] = pack_tensors(tensors[op, family])
    digests = {path: file_digest(data) for path, data in files.items()}
    manifest = {
        "schema": PACK_SCHEMA,
        "profile": profile,
        "semantics": SEMANTICS_VERSION,
        "refdeq": refdeq.__version__,
        "blind": blind,
        "digest": merkle_root(digests),
        "prompt": prompt_digest((row["id"], row["sha256"]) for members in rows.values() for row in members),
        "cases": len(names),
        "families": dict(sorted(Counter(case.family for case in cases).items())),
        "ids": {row["id"]: row["sha256"] for members in rows.values() for row in sorted(members, key=lambda row: row["id"])},
        "required_profiles": [profile],
        "generator": {"command": command, **source_state()},
        "files": {path: {"bytes": len(files[path]), "sha256": digests[path]} for path in sorted(files)},
    }
    files["manifest.json"] = (json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    files["SHA256SUMS"] = sums_text({path: file_digest(data) for path, data in files.items()}).encode()
    return Contents(files, manifest)


def _expected(case: Case, tensors: dict[str, Array]) -> list[dict[str, Any] | None]:
    """Expected values of every call, as values; a call that must be refused says so."""
    rows: list[dict[str, Any] | None] = []
    for call, step in zip(case.calls, expected_steps(case), strict=True):
        if call.refused:
            rows.append({"error": "refused"})
        else:
            names = stored_names(case, step or {})
            rows.append(None if step is None else {name: _value(name, step[name], tensors) for name in names})
    return rows


def stored_names(case: Case, step: Mapping[str, Array]) -> list[str]:
    """Expected values of a step that a pack stores.

    The output is one addition away from the accumulator; where sums are exact in every order the accumulator's bits say all.
    """
    left_out = {"y"} | ({"sum_hi", "sum_lo", "gauge", "k"} if case.expect == "exact" else set())
    return sorted(set(step) - left_out)


def _value(name: str, array: Array, tensors: dict[str, Array]) -> dict[str, Any]:
    """An expected value; large masks and references as digests, because they follow from the inputs by exact operations."""
    large = name in ("mask", "r") and array.size > LARGE and not (array != array).any()
    value = value_of(array, {} if large else tensors)
    return digest_of(array) if large and "fill" not in value else value


def _fixed_files(profile: str, blind: bool) -> dict[str, bytes]:
    folder = resources.files("refdeq_validation.packs")
    files = {
        f"schema/{entry.name}": entry.read_bytes() for entry in (folder / "schema").iterdir() if entry.name.endswith(".json")
    }
    files["retired.json"] = _retired()
    files["LICENSE"] = license_text().encode()
    text = (folder / "data" / "README.pack.md").read_text(encoding="utf-8")
    said = "left out of this pack" if blind else "in the field `expected` of every case"
    text = text.replace("{profile}", profile).replace("{expected}", said)
    return {**files, "README.md": text.replace("{schema}", ROW_SCHEMA).encode()}


def _retired() -> bytes:
    """``retired.json``: ids that the suite made once and makes no more, with reasons."""
    text = resources.files("refdeq_validation.cases").joinpath("retired.json").read_text(encoding="utf-8")
    entries = [{"id": name, "reason": reason} for name, reason in sorted(json.loads(text).items())]
    return (json.dumps({"schema": "refdeq-retired/1", "retired": entries}, indent=1, ensure_ascii=False) + "\n").encode()


def place_files(out: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder: all of them, or none.

    Raises
    ------
    ArgumentError
        When the folder holds something already, or is a file.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArgumentError("OUT", expected="a folder that does not exist or is empty", got=str(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        for name, data in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        temporary.chmod(0o755)
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
