"""Programs in C, from the pack alone and behind the live protocol: granted when right, rejected when broken."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from refdeq_validation.cases.suite import all_cases
from refdeq_validation.packs.export import export_pack
from refdeq_validation.packs.jsonl import JsonlImplementation
from refdeq_validation.packs.judge_files import judge_pack
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.running import run_case

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"

STEP, STATE = "delta_gemv_step.h", "delta_gemv.h"
GATE, SUM = "!(size <= tau)", "for (j = 0; j < g->inputs; j++) {\n                if"
TERM, COUNT = "sum = sum + weight[i * g->inputs + j] * d[j];", "g->count = calloc(batch + 1, sizeof *g->count);"

BUGS = {
    "NaN is swallowed": (STEP, GATE, "size > tau"),
    "ge for gt": (STEP, GATE, "!(size < tau)"),
    "the threshold is squared": (STEP, GATE, "!(size * size <= tau * tau)"),
    "the reference follows what was not sent": (STEP, "g->always || mask[j]", "1 || mask[j]"),
    "always is sent": (STEP, "g->always || mask[j]", "mask[j]"),
    "the last input is forgotten": (STEP, SUM, SUM.replace("j <", "j + 1 <")),
    "inputs in the other order": (STEP, SUM, SUM.replace("j = 0; j < g->inputs; j++", "j = g->inputs; j-- > 0;")),
    "sums in float": (STEP, TERM, TERM.replace("sum + weight", "(NUMBER)(float)(sum + weight").replace("d[j];", "d[j]);")),
    "the bias is forgotten": (STEP, "g->folded || !bias ? sum : sum + bias[i]", "sum"),
    "counts begin at one": (STATE, COUNT, COUNT + " g->count[0] = 1;"),
}


@pytest.fixture(scope="module")
def gemm_pack(cases, tmp_path_factory):
    """Cases of a Gemm, without expected values."""
    folder = tmp_path_factory.mktemp("packs") / "gemm"
    more = {case.id: case for case in all_cases() if case.problem.op == "Gemm" and case.family in ("tie", "memory", "special")}
    more |= {case.id: case for case in cases if case.problem.op == "Gemm"}
    export_pack(folder, [case for case in more.values() if case.problem.storage is None], "some", blind=True)
    return folder


def claims(name):
    return Claims.from_manifest(tomllib.loads((EXAMPLES / name / "backend.toml").read_text(encoding="utf-8")))


def answers(program, pack, place):
    subprocess.run([program, pack, place], check=True, capture_output=True, timeout=60)
    return {result.case.id: result for result in judge_pack(pack, place, claims("pack_gemv_c"), self_proof=False).results}


def test_a_program_that_read_nothing_but_the_pack_is_right(compiled, gemm_pack, tmp_path):
    found = answers(compiled("pack_gemv", EXAMPLES / "pack_gemv_c/pack_gemv.c"), gemm_pack, tmp_path / "response.jsonl")
    assert {result.disposition for result in found.values()} == {"passed"}
    assert len(found) > 30


@pytest.mark.parametrize("bug", BUGS)
def test_broken_programs_are_rejected(compiled, gemm_pack, tmp_path, bug):
    file, old, new = BUGS[bug]
    shutil.copytree(EXAMPLES / "c_parts", tmp_path / "c_parts")
    shutil.copytree(EXAMPLES / "pack_gemv_c", tmp_path / "pack_gemv_c")
    source = (tmp_path / "c_parts" / file).read_text()
    assert source.count(old) == 1, "the bug no longer applies"
    (tmp_path / "c_parts" / file).write_text(source.replace(old, new))
    program = compiled("broken", tmp_path / "pack_gemv_c/pack_gemv.c", flags=("-std=c99", "-ffp-contract=off"))
    found = answers(program, gemm_pack, tmp_path / "response.jsonl")
    assert any(result.disposition == "failed" for result in found.values())


def test_the_live_client_is_right(compiled, cases):
    program = compiled("jsonl_client", EXAMPLES / "jsonl_client_c/jsonl_client.c")
    claimed = claims("jsonl_client_c")
    implementation = JsonlImplementation([str(program)], claimed.manifest())
    found = [run_case(case, implementation, claimed) for case in cases]
    implementation.close()
    assert {result.disposition for result in found} == {"passed", "not_applicable"}
    assert sum(result.disposition == "passed" for result in found) > 30
