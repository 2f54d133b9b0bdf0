"""Packs: what is in them, that they are the same bytes everywhere, and that they come back as the same cases."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from refdeq_validation.cases.draw import integers, uniform
from refdeq_validation.cases.model import Case
from refdeq_validation.cases.suite import select
from refdeq_validation.packs.digests import merkle_root
from refdeq_validation.packs.export import contents_of, export_pack, place_files
from refdeq_validation.packs.reading import read_manifest, read_pack
from refdeq_validation.packs.rows import array_of, case_of_row, row_of_case, value_of

from refdeq.errors import ArgumentError, FileFormatError

PROGRAM = """
import sys
from pathlib import Path
from refdeq_validation.cases.suite import select
from refdeq_validation.packs.export import export_pack
export_pack(Path(sys.argv[1]), select(profile="core-f32", families=["tie"])[:6], "some")
"""


def every_file(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_cases_come_back_with_the_same_ids(pack, cases):
    read = read_pack(pack)
    assert {case.id for case in read.cases} == {case.id for case in cases}
    assert all(replace(case).id == case.id for case in read.cases)
    again = {case.id: case for case in read.cases}
    for case in cases:
        assert again[case.id].as_data() == case.as_data()
        for one, other in zip(case.calls, again[case.id].calls, strict=True):
            for name, array in one.arrays.items():
                assert other.arrays[name].dtype == array.dtype
                np.testing.assert_array_equal(other.arrays[name], array)


def test_the_manifest_counts_and_digests(pack, cases):
    manifest = read_manifest(pack)
    assert manifest["cases"] == len(cases) == sum(manifest["families"].values()) == len(manifest["ids"])
    for path, entry in manifest["files"].items():
        data = (pack / path).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert manifest["digest"] == merkle_root({path: entry["sha256"] for path, entry in manifest["files"].items()})
    assert {"LICENSE", "README.md", "retired.json", "schema/case.json"} <= set(manifest["files"])


def test_sums_are_those_that_sha256sum_reads(pack):
    for line in (pack / "SHA256SUMS").read_text().splitlines():
        digest, _, path = line.partition("  ")
        assert hashlib.sha256((pack / path).read_bytes()).hexdigest() == digest
    assert len((pack / "SHA256SUMS").read_text().splitlines()) == len(every_file(pack)) - 1


def test_a_pack_holds_no_tolerance(pack):
    for path in pack.rglob("*.jsonl"):
        for line in path.read_text().splitlines():
            assert not {"rtol", "atol", "tolerance", "bound"} & {
                key for step in json.loads(line)["expected"] for key in step or ()
            }


def test_two_runs_are_the_same_bytes_elsewhere_too(tmp_path):
    export_pack(tmp_path / "here", select(profile="core-f32", families=["tie"])[:6], "some")
    other = tmp_path / "an other place"
    other.mkdir()
    environment = {**os.environ, "LC_ALL": "C", "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", PROGRAM, "there"]
    subprocess.run(command, cwd=other, env=environment, check=True, timeout=120)
    one, two = (every_file(folder) for folder in (tmp_path / "here", other / "there"))
    # the commit is that of the moment: somebody may commit between the two
    told = [json.loads(files.pop("manifest.json")) for files in (one, two)]
    commits = [manifest.pop("generator") for manifest in told]
    assert told[0] == told[1]
    sums = [files.pop("SHA256SUMS") for files in (one, two)]
    assert one == two
    assert (sums[0] == sums[1]) == (commits[0] == commits[1])


def test_a_blind_pack_asks_the_same_and_tells_nothing(pack, blind):
    full, hidden = read_manifest(pack), read_manifest(blind)
    assert full["prompt"] == hidden["prompt"]
    assert full["ids"] == hidden["ids"]
    assert full["digest"] != hidden["digest"]
    for path in blind.rglob("*.jsonl"):
        assert "expected" not in path.read_text().replace('"witness"', "").split('"sha256"')[0] or all(
            "expected" not in json.loads(line) for line in path.read_text().splitlines()
        )
    bits = {path.name: path.read_bytes() for path in blind.rglob("*.safetensors")}
    assert all(len(bits.get(path.name, b"")) <= path.stat().st_size for path in pack.rglob("*.safetensors"))


@pytest.mark.parametrize("profile", ["core-f32", "core-f64"])
def test_core_packs_stay_small(profile):
    """The core packs are held to 5 MB each, though numbers of float64 take twice the bytes."""
    files = contents_of(select(profile=profile), profile).files
    assert sum(map(len, files.values())) <= 5_000_000


def test_nothing_is_written_over_a_folder_that_holds_something(tmp_path, cases):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArgumentError, match="empty"):
        export_pack(tmp_path, cases[:1], "some")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failure_leaves_nothing_behind(tmp_path):
    with pytest.raises(TypeError):
        place_files(tmp_path / "pack", {"a": b"1", "b": "no bytes"})
    assert list(tmp_path.iterdir()) == []


def test_the_order_of_the_cases_is_not_that_of_the_pack(cases):
    assert contents_of(cases[:5], "some").files == contents_of(cases[4::-1], "some").files


def test_no_cases_or_the_same_twice_are_no_pack(cases):
    for chosen in ((), (cases[0], cases[0])):
        with pytest.raises(ArgumentError, match="cases"):
            contents_of(chosen, "some")


def test_equal_arrays_are_stored_once_and_equal_bytes_of_other_shape_are_not():
    tensors = {}
    array = uniform(1, "x", (10, 12), "float32")
    first, again = value_of(array, tensors), value_of(array.copy(), tensors)
    assert first == again
    assert len(tensors) == 1
    other = value_of(array.reshape(12, 10), tensors)
    assert other["tensor"] != first["tensor"]
    assert array_of(other, tensors).shape == (12, 10)


def test_constants_are_stored_as_one_number():
    value = value_of(np.broadcast_to(np.float32(-0.0), (3, 70)), {})
    assert value == {"dtype": "float32", "shape": [3, 70], "fill": "f32:80000000"}
    assert np.signbit(array_of(value, {})).all()
    assert "fill" not in value_of(np.array([0.0, -0.0] * 40), {})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_drawn_arrays_are_stored_as_how_they_were_drawn(cases, dtype):
    weight = uniform(1, "drawn/weight", (20, 9), dtype)
    calls = cases[0].calls[:1]
    problem = replace(cases[0].problem, dtype=dtype, shape=(9,), weight=weight, bias=None)
    how = {"map": "integers", "seed": 5, "name": "n", "low": -3, "high": 3}
    case = Case("drawn", "L1", "shape", problem, calls, ("TAIL",))
    tensors = {}
    row = row_of_case(case, tensors)
    assert row["arrays"]["weight"]["procedural"] == {"map": "uniform", "seed": 1, "name": "drawn/weight"}
    assert tensors == {}
    assert case_of_row(row, tensors).id == case.id
    value = value_of(integers(5, "n", (9, 9), -3, 3, dtype), tensors, how)
    np.testing.assert_array_equal(array_of(value, {}), integers(5, "n", (9, 9), -3, 3, dtype))
    with pytest.raises(FileFormatError, match="does not give"):
        value_of(weight, tensors, how)


def test_any_changed_bit_of_a_case_shows(pack):
    rows = [json.loads(line) for path in sorted(pack.glob("cases/gemm/tie.jsonl")) for line in path.read_text().splitlines()]
    tensors = read_pack(pack).tensors.get("gemm-tie", {})
    row = rows[0]
    assert case_of_row(row, tensors).id == row["id"]
    for edit in (
        lambda row: row.update(level="L4"),
        lambda row: row["problem"]["rule"].update(compare="ge" if row["problem"]["rule"]["compare"] == "gt" else "gt"),
        lambda row: row.update(id=row["id"][:-1] + ("0" if row["id"][-1] != "0" else "1")),
        lambda row: row["calls"].append(row["calls"][-1]),
        lambda row: row.pop("title"),
    ):
        changed = json.loads(json.dumps(row))
        edit(changed)
        with pytest.raises(FileFormatError, match="case"):
            case_of_row(changed, tensors)


def test_the_root_of_the_tree_is_what_the_text_says():
    files = {"b": "11" * 32, "a": "00" * 32, "c": "22" * 32}

    def sha(*parts):
        return hashlib.sha256(b"".join(parts)).digest()

    leaves = [sha(b"\0", path.encode(), b"\0", bytes.fromhex(files[path])) for path in "abc"]
    assert merkle_root(files) == "sha256:" + sha(b"\1", sha(b"\1", leaves[0], leaves[1]), leaves[2]).hex()
