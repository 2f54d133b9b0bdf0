"""Answers in files: ``response.jsonl`` and its tensors, read into transcripts, and written from them.

The first line is a header with the digest of the questions; every further line answers one call of one case. What is broken,
unknown or given twice is an error of the file; what is not there is missing, and missing never passes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from refdeq.errors import FileFormatError
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.packs.digests import file_digest
from refdeq_validation.packs.reading import Pack
from refdeq_validation.packs.rows import canonical
from refdeq_validation.packs.schemas import first_problem
from refdeq_validation.packs.tensors import bit_string, from_bit_string, unpack_tensors
from refdeq_validation.protocol.execute import may_refuse
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.transcript import Answer, Transcript

__all__ = ["RESPONSE_SCHEMA", "Responses", "read_responses", "response_text"]

Array = np.ndarray[Any, Any]

RESPONSE_SCHEMA = "refdeq-response/1"
SILENT = ("reset", "set_state", "threads")
"""Calls without results: their answer may be left out when a later call of the case is answered."""

_KEYS = {"case", "call", "results", "error", "text"}
_ERRORS = {"refused", "unsupported", "crash"}


@dataclass
class Responses:
    """Transcripts by case id, and why some of them end early.

    Attributes
    ----------
    transcripts : mapping of str to Transcript
    missing : mapping of str to str
        Cases with calls that were not answered: the first such call, in words.
    """

    transcripts: dict[str, Transcript] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


class _Tensors:
    """Tensor files beside the response, each read once."""

    def __init__(self, folder: Path, pack: Pack) -> None:
        self.folder, self.pack = folder, pack
        self.files: dict[str, Mapping[str, Array]] = {}

    def get(self, file: Any, name: Any, where: str) -> Array:
        if not isinstance(file, str) or Path(file).is_absolute() or ".." in Path(file).parts:
            raise FileFormatError(f"{where}: expected a file below the folder of the response, got {file!r}")
        if file not in self.files:
            self.files[file] = unpack_tensors(own_bytes(self.folder / file, self.pack), file)
        if name not in self.files[file]:
            raise FileFormatError(f"{where}: tensor {name!r} is not in {file}")
        return self.files[file][name]


def own_bytes(path: Path, pack: Pack) -> bytes:
    """Bytes of a file of the answers, which must not be a file of the pack under another name, nor a copy of one."""
    try:
        data, status = path.read_bytes(), path.stat()
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror})") from error
    digest = file_digest(data)
    for name, entry in pack.manifest["files"].items():
        theirs = (pack.folder / name).stat()
        if (theirs.st_dev, theirs.st_ino) == (status.st_dev, status.st_ino) or digest == entry["sha256"]:
            raise FileFormatError(f"{path}: is {name} of the pack, not an answer")
    return data


def read_responses(path: Path, pack: Pack) -> Responses:
    """Read the answers to a pack.

    Parameters
    ----------
    path : Path
        ``response.jsonl``, or the folder it is in.
    pack : Pack
        The questions.

    Raises
    ------
    FileFormatError
        When the file is missing, empty, cut inside a line, written for other questions, or a file of the pack; when a line is
        not an answer, answers a call that was not made, or one that was answered before.
    """
    path = path / "response.jsonl" if path.is_dir() else path
    try:
        text = own_bytes(path, pack).decode()
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: not UTF-8") from error
    if not text.endswith("\n"):
        raise FileFormatError(f"{path}: {'empty' if not text else 'its last line is cut off'}")
    lines = text.split("\n")[:-1]
    _check_header(_parsed(lines[0], f"{path}, line 1"), pack, path)
    tensors = _Tensors(path.parent, pack)
    cases = {case.id: case for case in pack.cases}
    given: dict[str, dict[int, Answer]] = {}
    for number, line in enumerate(lines[1:], 2):
        where = f"{path}, line {number}"
        row = _parsed(line, where)
        case, t, answer = _answer(row, cases, tensors, where)
        answers = given.setdefault(case.id, {})
        if t in answers:
            raise FileFormatError(f"{where}: call {t} of {case.id} is answered twice")
        answers[t] = answer
    if not given:
        raise FileFormatError(f"{path}: holds no answer")
    return _collected(pack.cases, given)


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise FileFormatError(f"{where}: expected an object, got {line[:60]}")
    return row


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key stands twice")
    return row


def _check_header(header: Mapping[str, Any], pack: Pack, path: Path) -> None:
    if header.get("schema") != RESPONSE_SCHEMA or set(header) - {"schema", "prompt", "backend"}:
        raise FileFormatError(f"{path}, line 1: expected the header with schema {RESPONSE_SCHEMA} and prompt, got {header}")
    if header.get("prompt") != pack.manifest["prompt"]:
        raise FileFormatError(
            f"{path}: answers other questions: prompt {header.get('prompt')}, the pack has {pack.manifest['prompt']}"
        )


def _answer(row: dict[str, Any], cases: Mapping[str, Case], tensors: _Tensors, where: str) -> tuple[Case, int, Answer]:
    results, error, t = row.get("results", {}), row.get("error", ""), row.get("call", -1)
    shaped = not set(row) - _KEYS and type(t) is int and isinstance(results, dict) and isinstance(row.get("text", ""), str)
    if not shaped or ("error" in row and error not in _ERRORS):
        raise FileFormatError(f"{where}: {first_problem(row, RESPONSE_SCHEMA) or 'not an answer'}")
    case = cases.get(str(row.get("case")))
    if case is None:
        raise FileFormatError(f"{where}: case {row.get('case')!r} is not in the pack")
    if not 0 <= t < len(case.calls):
        raise FileFormatError(f"{where}: {case.id} has the calls 0 to {len(case.calls) - 1}, not {t}")
    if error and results:
        raise FileFormatError(f"{where}: an error and results at the same time")
    call = case.calls[t]
    arrays = {name: _array(value, case.problem, call, name, tensors, where) for name, value in results.items()}
    return case, t, Answer(call.name, arrays, error, row.get("text", ""))


def _array(value: Any, problem: Problem, call: Call, name: str, tensors: _Tensors, where: str) -> Array:
    """A result; plain bit strings take the shape that the call asks for, when their length fits it."""
    try:
        if isinstance(value, str):
            flat, shape = from_bit_string(value), _asked_shape(problem, call, name)
            return flat if shape is None or int(np.prod(shape)) != flat.size else flat.reshape(shape)
        if isinstance(value, dict) and "bits" in value:
            flat = from_bit_string(value["bits"])
            return flat.reshape(value.get("shape", flat.shape))
        if isinstance(value, dict) and "tensor" in value:
            return tensors.get(value.get("file", "response.safetensors"), value["tensor"], where)
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{where}, {name}: {error}") from error
    raise FileFormatError(f"{where}, {name}: expected a bit string, or an object with bits and shape, or with file and tensor")


def _asked_shape(problem: Problem, call: Call, name: str) -> tuple[int, ...] | None:
    """Shape of a result that follows from the call alone."""
    first = next((call.arrays[key] for key in ("u", "z0", "z") if key in call.arrays), None)
    if first is None or not first.ndim:
        return None
    if name in ("mask", "r", "z", "v"):
        return (len(first), *problem.shape)
    return (len(first), *problem.out_shape) if name in ("y", "a", "x") else None


def _collected(cases: Iterable[Case], given: Mapping[str, Mapping[int, Answer]]) -> Responses:
    """Answers in the order of the calls, up to the first that is missing."""
    found = Responses()
    for case in cases:
        answers = given.get(case.id, {})
        transcript, last = Transcript(case.id), max(answers, default=-1)
        for t, call in enumerate(case.calls):
            if t in answers:
                transcript.answers.append(answers[t])
            elif call.name in SILENT and t < last:
                transcript.answers.append(Answer(call.name))
            else:
                found.missing[case.id] = f"call {t} ({call.name}) was not answered"
                break
            if transcript.answers[-1].error and not may_refuse(call):
                break
        found.transcripts[case.id] = transcript
    return found


def response_text(prompt: str, transcripts: Iterable[Transcript], backend: str = "") -> str:
    """``response.jsonl`` of transcripts, every result as bits.

    Parameters
    ----------
    prompt : str
        Digest of the questions, from the manifest of the pack.
    transcripts : iterable of Transcript
    backend : str
        Name of who answered.
    """
    header = {"schema": RESPONSE_SCHEMA, "prompt": prompt, "backend": backend}
    lines = [canonical(header)]
    for transcript in transcripts:
        for t, answer in enumerate(transcript.answers):
            row: dict[str, Any] = {"case": transcript.case, "call": t}
            if answer.error:
                row |= {"error": answer.error, "text": answer.text}
            else:
                arrays = {name: np.asarray(array) for name, array in answer.results.items()}
                row["results"] = {
                    name: {"dtype": array.dtype.name, "shape": list(array.shape), "bits": bit_string(array)}
                    for name, array in arrays.items()
                }
            lines.append(canonical(row))
    return "".join(line + "\n" for line in lines)
