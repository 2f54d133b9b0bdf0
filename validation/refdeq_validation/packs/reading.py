"""Reading packs: every file against its digest before anything in it is believed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refdeq.errors import FileFormatError
from refdeq.types import SEMANTICS_VERSION
from refdeq_validation.cases.model import Case
from refdeq_validation.packs.digests import file_digest, merkle_root, prompt_digest, sums_text
from refdeq_validation.packs.rows import ROW_SCHEMA, case_of_row
from refdeq_validation.packs.schemas import first_problem
from refdeq_validation.packs.tensors import unpack_tensors

__all__ = ["Pack", "read_json", "read_manifest", "read_pack"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Pack:
    """A pack that was read and checked.

    Attributes
    ----------
    folder : Path
    manifest : mapping
    cases : tuple of Case
    rows : mapping of str to mapping
        Rows by id, expected values included where the pack has them.
    tensors : mapping of str to mapping
        Tensors by file, ``"<op>-<family>"``.
    """

    folder: Path
    manifest: Mapping[str, Any]
    cases: tuple[Case, ...]
    rows: Mapping[str, Mapping[str, Any]]
    tensors: Mapping[str, Mapping[str, Array]]


def read_json(path: Path) -> Any:
    """JSON of a file; ``FileFormatError`` when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: not JSON ({error})") from error


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Manifest of a pack, against its schema and this version of the semantics."""
    manifest = read_json(folder / "manifest.json")
    problem = first_problem(manifest, "refdeq-pack/1")
    if problem:
        raise FileFormatError(f"{folder / 'manifest.json'}: {problem}")
    if manifest["semantics"] != SEMANTICS_VERSION:
        raise FileFormatError(f"{folder}: semantics {manifest['semantics']}, this judge knows {SEMANTICS_VERSION}")
    checked: dict[str, Any] = manifest
    return checked


def read_pack(folder: Path) -> Pack:
    """Read a pack.

    Rows are checked by the digests they carry, which cover all of a case but its witness; :func:`lint` checks schemas too.

    Raises
    ------
    FileFormatError
        When a file is missing, was changed, or is not listed; when the pack's digest, the ids or the counts do not fit.
    """
    manifest = read_manifest(folder)
    files = _checked_files(folder, manifest)
    tensors = {Path(path).stem: unpack_tensors(data, path) for path, data in files.items() if path.startswith("tensors/")}
    rows: dict[str, Mapping[str, Any]] = {}
    cases = []
    for path, data in files.items():
        if not path.startswith("cases/"):
            continue
        _, op, family = path.removesuffix(".jsonl").split("/")
        for number, line in enumerate(data.decode().splitlines(), 1):
            row = _row(line, f"{path}, line {number}")
            case = case_of_row(row, tensors.get(f"{op}-{family}", {}))
            if case.id in rows or (case.problem.op.lower(), case.family) != (op, family):
                raise FileFormatError(f"{path}, line {number}: {case.id} stands twice, or in the wrong file")
            rows[case.id] = row
            cases.append(case)
    _check_counts(folder, manifest, rows)
    return Pack(folder, manifest, tuple(cases), rows, tensors)


def _checked_files(folder: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """Bytes of all files of a pack; what is on disk and what is listed must be the same."""
    listed = {"manifest.json", "SHA256SUMS", *manifest["files"]}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    for path in sorted(listed ^ found):
        raise FileFormatError(f"{folder}: {path} is {'missing' if path in listed else 'not listed in the manifest'}")
    files = {path: (folder / path).read_bytes() for path in sorted(manifest["files"])}
    for path, data in files.items():
        if file_digest(data) != manifest["files"][path]["sha256"] or len(data) != manifest["files"][path]["bytes"]:
            raise FileFormatError(f"{folder}: {path} was changed: its SHA-256 is not that of the manifest")
    digests = {path: entry["sha256"] for path, entry in manifest["files"].items()}
    if merkle_root(digests) != manifest["digest"]:
        raise FileFormatError(f"{folder}: the digest of the manifest is not that of its files")
    sums = sums_text({**digests, "manifest.json": file_digest((folder / "manifest.json").read_bytes())})
    if (folder / "SHA256SUMS").read_bytes() != sums.encode():
        raise FileFormatError(f"{folder}: SHA256SUMS does not fit the files")
    return files


def _row(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict) or row.get("schema") != ROW_SCHEMA:
        raise FileFormatError(f"{where}: expected an object of schema {ROW_SCHEMA}")
    return row


def _check_counts(folder: Path, manifest: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> None:
    families: dict[str, int] = {}
    for row in rows.values():
        families[row["family"]] = families.get(row["family"], 0) + 1
    ids = {name: row["sha256"] for name, row in rows.items()}
    stated = (manifest["cases"], manifest["families"], manifest["ids"], manifest["prompt"])
    if stated != (len(rows), families, ids, prompt_digest(ids.items())):
        raise FileFormatError(f"{folder}: cases, counts per family, ids or the prompt digest are not those of the manifest")
