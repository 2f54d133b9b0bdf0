"""What is wrong with a pack is found: every file, digest, expected value and witness; and ids only ever grow."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.packs.digests import file_digest, merkle_root, sums_text
from refdeq_validation.packs.export import export_pack
from refdeq_validation.packs.lint import append_only, lint, retired_entries
from refdeq_validation.packs.reading import read_manifest, read_pack

from refdeq.errors import FileFormatError

DIRTY = "not committed"


@pytest.fixture(scope="module")
def small(cases, tmp_path_factory):
    """A pack of few cases: linting computes everything again."""
    folder = tmp_path_factory.mktemp("lint") / "small"
    export_pack(folder, [case for case in cases if case.family in ("tie", "conv")], "some")
    return folder


@pytest.fixture
def copy(small, tmp_path):
    return shutil.copytree(small, tmp_path / "copy")


def sealed(folder):
    """Digests made right again, as someone would who means to hide a change."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in manifest["files"]:
        data = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": file_digest(data)}
    digests = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    manifest["digest"] = merkle_root(digests)
    path.write_text(json.dumps(manifest))
    (folder / "SHA256SUMS").write_text(sums_text({**digests, "manifest.json": file_digest(path.read_bytes())}))
    return folder


def edited(folder, family, edit):
    path = folder / "cases" / "gemm" / f"{family}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    edit(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return sealed(folder)


def test_fresh_packs_are_right(pack, blind):
    for folder in (pack, blind):
        assert [text for text in lint(folder) if DIRTY not in text] == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "LICENSE").write_text("mine"), "LICENSE was changed"),
        (lambda folder: (folder / "LICENSE").write_text((folder / "LICENSE").read_text().swapcase()), "LICENSE was changed"),
        (lambda folder: (folder / "README.md").unlink(), "README.md is missing"),
        (lambda folder: (folder / "extra").write_text(""), "not listed"),
        (lambda folder: (folder / "SHA256SUMS").write_text(""), "SHA256SUMS"),
        (lambda folder: (folder / "manifest.json").unlink(), "cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "is missing"),
    ],
)
def test_damage_is_named(copy, damage, said):
    damage(copy)
    assert any(said in text for text in lint(copy))
    with pytest.raises(FileFormatError, match=said):
        read_pack(copy)


def test_a_digest_that_was_changed_with_the_file_does_not_help(copy):
    edited(copy, "tie", lambda rows: rows[0]["problem"]["rule"].update(threshold="0x1.8p+0"))
    with pytest.raises(FileFormatError, match="it was changed"):
        read_pack(copy)


def test_a_case_left_out_is_seen(copy):
    edited(copy, "tie", lambda rows: rows.pop())
    assert any("counts" in text for text in lint(copy))


def test_a_case_that_stands_twice_is_seen(copy):
    edited(copy, "tie", lambda rows: rows.append(rows[0]))
    assert any("twice" in text for text in lint(copy))


def flip_mask(rows):
    step = next(step for step in rows[0]["expected"] if step)
    kind, _, rest = step["mask"].get("bits", "bool:" + ",".join("1" * 10)).partition(":")
    step["mask"] = {
        "dtype": "bool",
        "shape": step["mask"]["shape"],
        "bits": f"{kind}:{'0' if rest[0] == '1' else '1'}{rest[1:]}",
    }


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (flip_mask, "expected values of call"),
        (lambda rows: rows[0].pop("expected"), "lacks expected"),
        (lambda rows: rows[0]["expected"].pop(), "expected values for"),
        (lambda rows: rows[0]["expected"].__setitem__(-1, None), "expected values of call"),
        (lambda rows: rows[0].update(comment="free text"), "not a field"),
    ],
)
def test_wrong_expected_values_are_seen(copy, edit, said):
    edited(copy, "tie", edit)
    assert any(said in text for text in lint(copy))


def test_a_blind_pack_with_answers_is_seen(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "blind": True}))
    assert any("holds expected values" in text for text in lint(sealed(copy)))


def test_a_case_that_cannot_fail_is_seen(tmp_path, cases):
    case = next(case for case in cases if case.problem.op == "Gemm" and case.calls[0].name == "reset")
    problem = replace(case.problem, weight=np.zeros_like(case.problem.weight), bias=None)
    zeros = Call("step", {"u": np.zeros_like(case.calls[1].arrays["u"])})
    idle = Case("idle", "L1", "shape", problem, (case.calls[0], zeros), ("NO_SUCH_BUG",))
    export_pack(tmp_path / "pack", [idle], "some")
    found = lint(tmp_path / "pack")
    assert any("witness" in text for text in found)
    assert any("NO_SUCH_BUG" in text for text in found)


def test_ids_only_grow(pack, cases, tmp_path):
    export_pack(tmp_path / "less", cases[1:], "some")
    old, new = read_manifest(pack), read_manifest(tmp_path / "less")
    assert append_only(tmp_path / "less", old) == []
    assert append_only(pack / "manifest.json", old) == []
    gone = cases[0].id
    assert append_only(pack, new) == [f"{gone}: is gone, and not retired"]
    assert append_only(pack, {**new, "retired": [{"id": gone, "reason": "asked twice"}]}) == []
    changed = {**old, "ids": {**old["ids"], gone: "0" * 64}}
    assert append_only(pack, changed) == [f"{gone}: its content changed under the same id"]
    assert append_only(pack, {**old, "retired": [{"id": gone, "reason": "asked twice"}]}) != []


def test_retirement_needs_a_reason(pack, tmp_path):
    assert retired_entries(pack / "retired.json") == json.loads((pack / "retired.json").read_text())["retired"]
    path = tmp_path / "retired.json"
    for entries in ([{"id": "x"}], [{"id": "x", "reason": ""}], [{"id": "x", "reason": "a"}, {"id": "x", "reason": "b"}]):
        path.write_text(json.dumps({"schema": "refdeq-retired/1", "retired": entries}))
        with pytest.raises(FileFormatError):
            retired_entries(path)


def test_a_new_case_has_a_new_id(cases):
    assert replace(cases[0], title="other").id != cases[0].id
