"""Answers in files get the verdicts of a live run, and nothing that is broken or missing ever passes."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from refdeq_validation.cases.negative import IN_PROCESS
from refdeq_validation.cases.suite import all_cases
from refdeq_validation.judge.judging import judge
from refdeq_validation.lab.session import CLAIMS, Lab
from refdeq_validation.packs.export import export_pack
from refdeq_validation.packs.judge_files import judge_pack, judge_responses
from refdeq_validation.packs.reading import read_manifest, read_pack
from refdeq_validation.packs.responses import read_responses, response_text
from refdeq_validation.packs.tensors import write_tensors
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.transcript import Transcript

from refdeq.errors import FileFormatError


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def rewrite(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def verdicts(pack, path, claims=CLAIMS):
    return {result.case.id: result for result in judge_pack(pack, path, claims, self_proof=False).results}


@pytest.mark.parametrize("which", ["pack", "blind"])
def test_right_answers_pass_as_they_do_live(which, pack, blind, response, cases, transcripts):
    found = verdicts({"pack": pack, "blind": blind}[which], response)
    assert {result.disposition for result in found.values()} == {"passed"}
    for case, transcript in zip(cases, transcripts, strict=True):
        live, filed = judge(case, transcript, CLAIMS), found[case.id].findings
        assert (live.values, live.decisions, live.worst) == (filed.values, filed.decisions, filed.worst)


def test_the_folder_of_the_response_will_do(pack, response):
    assert len(verdicts(pack, response.parent)) == read_manifest(pack)["cases"]


@pytest.mark.parametrize("name", ["mask", "y", "r", "a"])
def test_one_wrong_bit_fails(pack, response, name):
    lines = lines_of(response)
    row = next(line for line in lines if name in line.get("results", {}) and line["case"].startswith("gemm/tie"))
    kind, _, bits = row["results"][name]["bits"].partition(":")
    row["results"][name]["bits"] = f"{kind}:{bits[:-1]}{'1' if bits[-1] == '0' else '0'}"
    found = verdicts(pack, rewrite(response, lines))
    assert found[row["case"]].disposition == "failed"
    assert sum(result.disposition != "passed" for result in found.values()) == 1


def test_plain_bit_strings_take_the_shape_that_is_asked_for(pack, response):
    lines = lines_of(response)
    for row in lines[1:]:
        if row["case"].startswith("gemm/negative"):
            continue
        row["results"] = {name: value["bits"] for name, value in row.get("results", {}).items()}
    assert {result.disposition for result in verdicts(pack, rewrite(response, lines)).values()} == {"passed"}


def test_a_wrong_number_of_values_is_a_failure_not_an_error(pack, response):
    lines = lines_of(response)
    row = next(line for line in lines if "y" in line.get("results", {}) and line["case"].startswith("gemm/tie"))
    row["results"]["y"] = "f32:3f800000"
    assert verdicts(pack, rewrite(response, lines))[row["case"]].disposition == "failed"


def test_tensors_may_lie_beside_the_response(pack, response):
    lines, tensors = lines_of(response), {}
    for number, row in enumerate(lines[1:]):
        for name, value in row.get("results", {}).items():
            if value["bits"].startswith("f64:"):
                bits = np.array([int(text, 16) for text in value["bits"][4:].split(",") if text], "uint64")
                tensors[f"{number}-{name}"] = bits.view("float64").reshape(value["shape"])
                row["results"][name] = {"file": "mine.safetensors", "tensor": f"{number}-{name}"}
    write_tensors(response.parent / "mine.safetensors", tensors)
    assert len(tensors) > 10
    assert {result.disposition for result in verdicts(pack, rewrite(response, lines)).values()} == {"passed"}


@pytest.mark.parametrize("where", ["../outside.safetensors", "/etc/hostname", "none.safetensors"])
def test_tensors_come_from_nowhere_else(pack, response, where):
    lines = lines_of(response)
    row = next(line for line in lines if "y" in line.get("results", {}))
    row["results"]["y"] = {"file": where, "tensor": "y"}
    write_tensors(response.parent.parent / "outside.safetensors", {"y": np.zeros(1)})
    with pytest.raises(FileFormatError, match=r"safetensors|hostname"):
        read_responses(rewrite(response, lines), read_pack(pack))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda lines: lines.clear(), "empty"),
        (lambda lines: lines.pop(0), "header"),
        (lambda lines: lines[0].update(prompt="sha256:" + "0" * 64), "other questions"),
        (lambda lines: lines[0].pop("prompt"), "other questions"),
        (lambda lines: lines[0].update(schema="other/1"), "header"),
        (lambda lines: lines[0].update(grade="granted"), "header"),
        (lambda lines: lines.append(lines[1]), "twice"),
        (lambda lines: lines[1].update(case="gemm/tie/none-00000000"), "not in the pack"),
        (lambda lines: lines[1].update(call=99), "calls 0 to"),
        (lambda lines: lines[1].update(call=-1), "expected a number|calls 0 to"),
        (lambda lines: lines[1].update(call=True), "expected integer|not an answer"),
        (lambda lines: lines[1].update(verdict="passed"), "not a field"),
        (lambda lines: lines[1].update(error="fine"), "expected one of"),
        (lambda lines: lines[1].update(error="refused", results={"y": "f32:"}), "at the same time"),
        (lambda lines: lines[1].update(results=[1]), "expected object"),
        (lambda lines: lines[1].update(results={"y": 3}), "expected a bit string"),
        (lambda lines: lines[1].update(results={"y": "f32:zz"}), "hexadecimal"),
        (lambda lines: lines[1].update(results={"y": {"shape": [7], "bits": "f32:"}}), "reshape"),
        (lambda lines: lines.__setitem__(slice(1, None), []), "no answer"),
    ],
)
def test_broken_responses_are_errors(pack, response, edit, said):
    lines = lines_of(response)
    edit(lines)
    with pytest.raises(FileFormatError, match=said):
        read_responses(rewrite(response, lines), read_pack(pack))


@pytest.mark.parametrize("cut", [1, 30])
def test_a_response_cut_inside_a_line_is_an_error(pack, response, cut):
    response.write_bytes(response.read_bytes()[:-cut])
    with pytest.raises(FileFormatError, match="cut off"):
        read_responses(response, read_pack(pack))


@pytest.mark.parametrize("text", [b"\xff\xfe\n", b"{}\n{\n", b'{"a":1,"a":2}\n', b"[1]\n", b"NaN\n"])
def test_bytes_that_are_no_answers_are_errors(pack, response, text):
    response.write_bytes(text)
    with pytest.raises(FileFormatError):
        read_responses(response, read_pack(pack))


def test_a_response_cut_between_lines_is_missing_the_rest(pack, response):
    lines = lines_of(response)
    kept = rewrite(response, lines[: len(lines) // 2])
    found = verdicts(pack, kept)
    counts = [result.disposition for result in found.values()]
    assert set(counts) == {"passed", "missing"}
    assert all(result.reason for result in found.values() if result.disposition == "missing")
    assert judge_pack(pack, kept, CLAIMS, self_proof=False).exit_code() == 3


@pytest.mark.parametrize("which", [0, 1, -1])
def test_every_call_must_be_answered(pack, response, which):
    lines = lines_of(response)
    steps = {}
    for row in lines[1:]:
        if row.get("results"):
            steps.setdefault(row["case"], []).append(row)
    name, rows = next((name, rows) for name, rows in steps.items() if len(rows) > 2 and "negative" not in name)
    lines.remove(rows[which])
    found = verdicts(pack, rewrite(response, lines))
    assert found[name].disposition == "missing"
    assert "was not answered" in found[name].reason


def test_a_failure_before_the_gap_is_a_failure(pack, response):
    lines = lines_of(response)
    steps = [row for row in lines[1:] if row.get("results") and row["case"].startswith("gemm/sequence")]
    case = steps[0]["case"]
    first, last = [row for row in steps if row["case"] == case][:: len([r for r in steps if r["case"] == case]) - 1]
    first["results"]["mask"] = {
        "shape": first["results"]["mask"]["shape"],
        "bits": "bool:" + ",".join("0" * np.prod(first["results"]["mask"]["shape"])),
    }
    lines.remove(last)
    assert verdicts(pack, rewrite(response, lines))[case].disposition == "failed"


def test_silent_calls_may_be_left_out(pack, response):
    lines = [row for row in lines_of(response) if row.get("call") != 0 or row.get("results") or row.get("error")]
    assert {result.disposition for result in verdicts(pack, rewrite(response, lines)).values()} == {"passed"}


@pytest.mark.parametrize(("kind", "expected"), [("crash", "error"), ("refused", "failed"), ("unsupported", "failed")])
def test_errors_that_were_not_asked_for_fail(pack, response, kind, expected):
    lines = lines_of(response)
    row = next(line for line in lines if line.get("results") and line["case"].startswith("gemm/tie"))
    row.pop("results")
    row.update(error=kind, text="no")
    assert verdicts(pack, rewrite(response, lines))[row["case"]].disposition == expected
    lines = [line for line in lines if line.get("case") != row["case"] or line["call"] <= row["call"]]
    assert verdicts(pack, rewrite(response, lines))[row["case"]].disposition == expected


def test_files_of_the_pack_are_no_answers(pack, response, tmp_path):
    read = read_pack(pack)
    target = next(pack.glob("cases/gemm/*.jsonl"))
    for place, make in (("linked.jsonl", os.link), ("symbolic.jsonl", os.symlink), ("copied.jsonl", shutil.copy)):
        make(target, tmp_path / place)
        with pytest.raises(FileFormatError, match="not an answer"):
            read_responses(tmp_path / place, read)
    tensors = next(pack.glob("tensors/*.safetensors"))
    os.link(tensors, response.parent / "stolen.safetensors")
    lines = lines_of(response)
    next(row for row in lines if row.get("results"))["results"]["y"] = {"file": "stolen.safetensors", "tensor": "x"}
    with pytest.raises(FileFormatError, match="not an answer"):
        read_responses(rewrite(response, lines), read)


def test_what_is_not_claimed_does_not_apply(pack, response):
    narrow = replace(CLAIMS, dtypes=("float32",))
    found = verdicts(pack, response, narrow)
    assert {result.disposition for result in found.values()} == {"passed", "not_applicable"}


def test_cases_about_memory_do_not_apply_to_files(tmp_path):
    odd = [case for case in all_cases() if IN_PROCESS in case.flags and case.problem.op == "Gemm"][:2]
    manifest = export_pack(tmp_path / "odd", odd, "some")
    (tmp_path / "response.jsonl").write_text(response_text(manifest["prompt"], [execute(case, Lab(), CLAIMS) for case in odd]))
    found = verdicts(tmp_path / "odd", tmp_path / "response.jsonl")
    assert [result.disposition for result in found.values()] == ["not_applicable"] * 2
    assert judge_pack(tmp_path / "odd", tmp_path / "response.jsonl", CLAIMS, self_proof=False).exit_code() == 3


def test_answers_of_nothing_pass_nowhere(pack, cases, transcripts, tmp_path):
    zeros = [
        Transcript(
            transcript.case,
            [
                replace(answer, results={name: np.zeros_like(array) for name, array in answer.results.items()})
                for answer in transcript.answers
            ],
        )
        for transcript in transcripts
    ]
    path = tmp_path / "zeros.jsonl"
    path.write_text(response_text(read_manifest(pack)["prompt"], zeros))
    read = read_pack(pack)
    results = judge_responses(read, read_responses(path, read), CLAIMS)
    assert {result.disposition for result in results if result.case.family != "negative"} == {"failed"}
