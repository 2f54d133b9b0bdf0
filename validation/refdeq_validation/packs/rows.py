"""Cases as rows of a pack: a case's own data with every array as a value that any language can read, and back again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np

from refdeq.errors import FileFormatError
from refdeq_validation.cases import draw
from refdeq_validation.cases.model import Call, Case, array_digest
from refdeq_validation.packs.tensors import SMALL, bit_string, from_bit_string
from refdeq_validation.protocol.problem import Problem

__all__ = [
    "ROW_SCHEMA",
    "array_of",
    "canonical",
    "case_digest",
    "case_of_row",
    "digest_of",
    "drawn_as",
    "row_of_case",
    "value_of",
]

Array = np.ndarray[Any, Any]
Row = dict[str, Any]

ROW_SCHEMA = "refdeq-case/1"
FEW = 4
"""Up to so many equal elements are written out."""

LARGEST = 2**33
"""Elements that a procedural or constant value may expand to; more is refused as a broken file."""


def canonical(data: Any) -> str:
    """JSON text with sorted keys and no spaces: equal data, equal bytes.

    >>> canonical({"b": 1, "a": [True]})
    '{"a":[true],"b":1}'
    """
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def case_digest(case: Case) -> str:
    """SHA-256 of the canonical JSON of a case without its witness; the id ends in its first eight digits."""
    data = {name: value for name, value in case.as_data().items() if name != "witness"}
    return hashlib.sha256(canonical(data).encode()).hexdigest()


def value_of(array: Array, tensors: MutableMapping[str, Array], procedure: Mapping[str, Any] | None = None) -> Row:
    """An array as JSON: inline bits when small, a filled constant, how it was drawn, or the name of a tensor.

    Parameters
    ----------
    array : ndarray
    tensors : mapping
        Receives the array under a name made of its content where it is large, so that equal arrays are stored once.
    procedure : mapping, optional
        ``{"map": "uniform" | "integers", "seed": ..., "name": ..., ["low": ..., "high": ...]}``: the call of
        :mod:`refdeq_validation.cases.draw` that drew it; used when it gives these very bits.

    Examples
    --------
    >>> value_of(np.array([[1.0, 2.0]], "float32"), {})["bits"]
    'f32:3f800000,40000000'
    """
    array = np.asarray(array)
    head = {"dtype": array.dtype.name, "shape": list(array.shape)}
    if array.size > FEW and (not any(array.strides) or _constant(array)):
        return {**head, "fill": bit_string(array[(0,) * array.ndim])}
    if array.size <= SMALL or array.dtype.kind == "c":  # tensor files know no complex numbers
        return {**head, "bits": bit_string(array)}
    digest = array_digest(array)
    if procedure is not None:
        if array_digest(_drawn(procedure, array.shape, array.dtype.name)) != digest:
            raise FileFormatError(f"procedural input: {dict(procedure)} does not give the array it is declared for")
        return {**head, "procedural": dict(procedure), "sha256": digest.rpartition(":")[2]}
    name = hashlib.sha256(digest.encode()).hexdigest()[:16]  # of dtype and shape too: equal bytes may be different tensors
    tensors[name] = array
    return {**head, "tensor": name}


def digest_of(array: Array) -> Row:
    """An array as its digest alone: for bits that whoever has the inputs can compute, and compares by hashing.

    >>> digest_of(np.zeros(2, "float32"))["sha256"][:8]
    'af5570f5'
    """
    array = np.asarray(array)
    return {"dtype": array.dtype.name, "shape": list(array.shape), "sha256": array_digest(array).rpartition(":")[2]}


def _constant(array: Array) -> bool:
    """Whether all elements have the same bits."""
    bits = np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(array.size, array.itemsize)
    return bool((bits == bits[0]).all())


def array_of(value: Any, tensors: Mapping[str, Array]) -> Array:
    """The array of :func:`value_of`; ``FileFormatError`` when dtype, shape or digest are not as it says."""
    if not isinstance(value, dict) or not isinstance(value.get("shape"), list):
        raise FileFormatError(f"value: expected dtype, shape and one of bits, fill, tensor, procedural; got {str(value)[:60]}")
    shape, dtype = tuple(value["shape"]), value.get("dtype")
    if not all(type(length) is int and length >= 0 for length in shape) or int(np.prod(shape, dtype=object)) > LARGEST:
        raise FileFormatError(f"value: impossible shape {list(shape)}")
    if "bits" in value:
        array = from_bit_string(value["bits"])
        if array.size != int(np.prod(shape)):
            raise FileFormatError(f"value: {array.size} numbers in the bit string, shape {list(shape)}")
        array = array.reshape(shape)
    elif "fill" in value:
        array = np.broadcast_to(from_bit_string(value["fill"]).reshape(()), shape)
    elif "procedural" in value:
        array = _drawn(value["procedural"], shape, str(dtype))
        if array_digest(array).rpartition(":")[2] != value.get("sha256"):
            raise FileFormatError(f"value: {value['procedural']} does not give the declared SHA-256")
    elif value.get("tensor") in tensors:
        array = tensors[value["tensor"]]
    else:
        raise FileFormatError(f"value: tensor {value.get('tensor')!r} is not in the file")
    if array.shape != shape or array.dtype != dtype:
        raise FileFormatError(f"value: expected {dtype} {list(shape)}, got {array.dtype.name} {list(array.shape)}")
    return array


def _drawn(procedure: Mapping[str, Any], shape: tuple[int, ...], dtype: str) -> Array:
    seed, name = int(procedure["seed"]), str(procedure["name"])
    if procedure["map"] == "uniform":
        return draw.uniform(seed, name, shape, dtype)
    if procedure["map"] == "integers":
        return draw.integers(seed, name, shape, int(procedure["low"]), int(procedure["high"]), dtype)
    raise FileFormatError(f"procedural input: expected the map uniform or integers, got {procedure['map']!r}")


def row_of_case(case: Case, tensors: MutableMapping[str, Array]) -> Row:
    """A case as a row: ``as_data()`` with values in place of digests, and its id and digest.

    Arrays that :func:`drawn_as` knows are stored as how they were drawn.
    """
    drawn = drawn_as(case)
    row = {**case.as_data(), "id": case.id, "sha256": case_digest(case)}
    row["arrays"] = {name: value_of(array, tensors, drawn.get(name)) for name, array in sorted(case.problem.arrays().items())}
    for t, call in enumerate(case.calls):
        row["calls"][t]["arrays"] = {
            name: value_of(array, tensors, drawn.get(f"calls.{t}.{name}")) for name, array in sorted(call.arrays.items())
        }
    return row


def drawn_as(case: Case) -> dict[str, Mapping[str, Any]]:
    """How the large arrays of a case were drawn, by place: ``weight``, ``bias``, or ``calls.3.u``.

    What ``case.witness["procedural"]`` says, and besides what the generators of this suite do: full-mantissa numbers of seed 1
    and the name ``<slug>/<tensor>``, where the tensor is called as the array, or as it and the number of the step.
    """
    drawn: dict[str, Mapping[str, Any]] = {}
    places: dict[str, tuple[Array, tuple[str, ...]]] = {name: (array, (name,)) for name, array in case.problem.arrays().items()}
    steps = 0
    for t, call in enumerate(case.calls):
        for name, array in call.arrays.items():
            places[f"calls.{t}.{name}"] = (array, (name, f"{name}{steps}"))
        steps += call.name in ("step", "solve")
    for place, (array, names) in places.items():
        if array.size <= SMALL or array.dtype.name not in ("float32", "float64"):
            continue
        for name in names:
            full = f"{case.slug}/{name}"
            if array.flat[0] == draw.uniform(1, full, (1,), array.dtype.name)[0]:
                drawn[place] = {"map": "uniform", "seed": 1, "name": full}
    drawn = {place: how for place, how in drawn.items() if _gives(how, places[place][0])}
    return {**drawn, **case.witness.get("procedural", {})}


def _gives(procedure: Mapping[str, Any], array: Array) -> bool:
    return array_digest(_drawn(procedure, array.shape, array.dtype.name)) == array_digest(array)


def case_of_row(row: Mapping[str, Any], tensors: Mapping[str, Array]) -> Case:
    """Rebuild a case and check that it is the one the row names: id and digest cover all but its witness.

    Raises
    ------
    FileFormatError
        When a field is missing or wrong, or the digest does not fit.
    """
    name = str(row.get("id"))
    try:
        arrays = {key: array_of(value, tensors) for key, value in row["arrays"].items()}
        case = Case(
            slug=row["slug"],
            level=row["level"],
            family=row["family"],
            problem=Problem.from_data(row["problem"], arrays),
            calls=tuple(_call(call, tensors) for call in row["calls"]),
            bug_types=tuple(row["bug_types"]),
            expect=row["expect"],
            requires=tuple(row["requires"]),
            title=row["title"],
            flags=tuple(row["flags"]),
            witness=row["witness"],
        )
        digest = case_digest(case)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"case {name}: {type(error).__name__}: {error}") from error
    own = f"{case.problem.op.lower()}/{case.family}/{case.slug}-{digest[:8]}"
    if digest != row.get("sha256") or own != name:
        raise FileFormatError(f"case {name}: its content has the id {own} and SHA-256 {digest[:16]}…: it was changed")
    vars(case)["id"] = own  # what the cached property would compute, from the digest that was just made
    return case


def _call(data: Mapping[str, Any], tensors: Mapping[str, Array]) -> Call:
    arrays = {name: array_of(value, tensors) for name, value in data["arrays"].items()}
    return Call(data["name"], arrays, data["options"], data["refused"])
