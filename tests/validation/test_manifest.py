"""``backend.toml``: complete, strict, and clear about what is wrong where."""

from __future__ import annotations

from dataclasses import fields

import pytest
from refdeq_validation.protocol.manifest import Claims

from refdeq.errors import ArgumentError

LEAST = {"backend": {"name": "mine"}}


def claims(**values):
    return {**LEAST, "claims": values}


def test_a_manifest_is_read_and_written_back():
    made = Claims(name="mine", version="2", ops=("Gemm", "Conv"), order="fast", timeout=1.5, alignment="any", largest=1 << 31)
    assert Claims.from_manifest(made.manifest()) == made
    assert Claims.from_manifest(LEAST) == Claims(name="mine")
    assert set(made.manifest()["claims"]) == {entry.name for entry in fields(Claims)} - {"name", "version"}


def test_ways_to_reach_an_implementation_are_no_claims():
    assert Claims.from_manifest({"backend": {"name": "mine", "python": "a:b", "command": ["c"]}}) == Claims(name="mine")


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ({}, "backend.name"),
        ({"backend": {}}, "backend.name"),
        ({"backend": "mine"}, "a table [backend]"),
        ({**LEAST, "claim": {}}, "claim: expected one of backend, claims"),
        ({"backend": {"name": "mine", "order": "fast"}}, "[backend]: order"),
        (claims(name="other"), "[claims]: name"),
        (claims(tolerance=1e-3), "[claims]: tolerance"),
        (claims(order="quick"), "order: expected one of strict, fast"),
        (claims(order=["fast"]), "order: expected text"),
        (claims(ops="Gemm"), "ops: expected a list"),
        (claims(ops=["Gemm", 3]), "ops: expected a list"),
        (claims(ops=["Gemm", "Gemm"]), "ops: expected distinct"),
        (claims(solvers=["newton"]), "solvers: expected distinct values out of picard"),
        (claims(timeout="long"), "timeout: expected a number"),
        (claims(timeout=True), "timeout: expected a number"),
        (claims(timeout=0), "timeout: expected a finite number"),
        (claims(timeout=float("nan")), "timeout: expected a finite number"),
        (claims(timeout=float("inf")), "timeout: expected a finite number"),
        (claims(activation_ulp=-1.0), "activation_ulp: expected a number >= 0"),
        (claims(activation_ulp=float("nan")), "activation_ulp: expected a number >= 0"),
        (claims(largest=2.5), "largest: expected an integer"),
        (claims(largest=-1), "largest: expected a number >= 0"),
        (claims(alignment="any way"), "alignment: expected one of natural, any"),
        ({"backend": {"name": ""}}, "backend.name"),
        ({"backend": {"name": 7}}, "name: expected text"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_key(manifest, told):
    with pytest.raises(ArgumentError, match=r"^mine\.toml: ") as error:
        Claims.from_manifest(manifest, "mine.toml")
    assert told in str(error.value)
