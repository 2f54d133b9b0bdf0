"""Attempts to be granted without being right, through the command line: none may succeed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from refdeq_validation.cases.suite import select
from typer.testing import CliRunner

from meta.attacks import AT_OPEN, AT_STEP, EXAMPLE, GOOD, MANIFEST, MANIFESTS, at_open, at_step, folder
from refdeq.cli import app

PROFILE, SMALL = "refdeq-f32", "det-batch"
LASTING = "exchanges"
"""Attacks that change this process for good."""

CASES = [case for case in select(profile=PROFILE) if case.level in ("L1", "L2")]
FEW = [case.id for family in ("exact", "tie", "bound_k1", "special") for case in CASES if case.family == family][::4]


@pytest.fixture
def validate(tmp_path, monkeypatch):
    """Run ``refdeq validate`` in a folder; returns exit code, output and the report, if one was written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(*arguments):
        result = CliRunner().invoke(app, ["validate", *map(str, arguments)])
        path = tmp_path / "report.json"
        return result, json.loads(path.read_text()) if path.exists() else None

    return run


def few(ids=FEW):
    return [argument for case in ids for argument in ("--case", case)]


def in_a_process(folder, *arguments, **environment):
    command = [sys.executable, "-c", "from refdeq.cli import main; main()", "validate", "./backend.toml", *arguments]
    variables = {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=variables)


def assert_not_granted(result, report):
    assert result.exit_code not in (0, None), result.output
    assert report is None or report["verdict"] != "granted"


def test_the_same_run_is_granted_to_a_right_implementation(validate, tmp_path):
    result, report = validate(folder(tmp_path), *few())
    assert result.exit_code == 0, result.output
    assert report["verdict"] == "granted"
    assert report["counts"]["passed"] == len(FEW) > 10


def test_the_same_process_is_granted_to_a_right_implementation(tmp_path):
    folder(tmp_path)
    run = in_a_process(tmp_path, *few(FEW[:6]))
    assert run.returncode == 0, run.stdout + run.stderr
    assert json.loads((tmp_path / "report.json").read_text())["verdict"] == "granted"


def test_attacks_are_many_and_the_example_is_patched():
    assert len(AT_STEP) + len(AT_OPEN) + len(MANIFESTS) >= 25
    assert all(at_step(code) != GOOD for code in AT_STEP.values())


@pytest.mark.parametrize("attack", [name for name in AT_STEP if not name.startswith(LASTING)])
def test_an_attack_in_a_step_is_not_granted(attack, validate, tmp_path):
    manifest = MANIFEST + "timeout = 0.1\n" if attack == "sleeps" else MANIFEST
    result, report = validate(folder(tmp_path, at_step(AT_STEP[attack]), manifest), *few())
    assert result.exit_code in (1, 5), result.output
    assert_not_granted(result, report)


@pytest.mark.parametrize("attack", [name for name in AT_STEP if name.startswith(LASTING)])
def test_an_attack_on_the_judge_is_not_granted(attack, tmp_path):
    """In a process of its own: what was exchanged stays."""
    folder(tmp_path, at_step(AT_STEP[attack]))
    run = in_a_process(tmp_path, *few(FEW[:6]))
    assert run.returncode in (1, 3, 4, 5), run.stdout + run.stderr
    path = tmp_path / "report.json"
    assert not path.exists() or json.loads(path.read_text())["verdict"] != "granted"


@pytest.mark.parametrize("attack", AT_OPEN)
def test_an_attack_in_open_is_not_granted(attack, validate, tmp_path):
    result, report = validate(folder(tmp_path, at_open(AT_OPEN[attack])), *few())
    assert_not_granted(result, report)


@pytest.mark.parametrize("attack", MANIFESTS)
def test_a_manifest_that_claims_little_is_not_granted(attack, validate, tmp_path):
    old, new, code = MANIFESTS[attack]
    assert MANIFEST.count(old) == 1
    result, report = validate(folder(tmp_path, GOOD, MANIFEST.replace(old, new)), "--profile", SMALL)
    assert_not_granted(result, report)
    assert result.exit_code == code, result.output


# ------------------------------------------------------------------------------------------------------------ what is selected


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        (["--profile", "core-f23"], (2,)),
        (["--profile", "storage-f16", "--tier", "smoke"], (2, 3, 4)),
        (["--case", "gemm/no/such-case-00000000"], (2, 4)),
        (["--case", "gemm/*"], (2, 4)),
        (["--tier", "none"], (2,)),
        (["--cell", "nothing"], (2,)),
        (["--profile", PROFILE, "--skips", "skips.toml"], (2,)),
        (["--profile", PROFILE, "--xfails", "xfails.toml"], (2,)),
        (["--profile", "conv-f32", "--allow-incomplete"], (3,)),
    ],
)
def test_a_selection_that_proves_nothing_is_not_granted(arguments, codes, validate, tmp_path):
    entry = 'id = "{}"\nreason = "later"\nissue = "https://example.org/1"\nexpires = 2099-01-01\n'
    body = "".join(f"[[skip]]\n{entry.format(case)}" for case in FEW)
    (tmp_path / "skips.toml").write_text(body, encoding="utf-8")
    wrong = "".join(f'[[xfail]]\nkind = "value"\n{entry.format(case)}' for case in FEW)
    (tmp_path / "xfails.toml").write_text(wrong, encoding="utf-8")
    result, report = validate(folder(tmp_path), *arguments)
    assert result.exit_code in codes, result.output
    assert_not_granted(result, report)


@pytest.mark.parametrize("id", ["gemm/tie/*", ".*", "", FEW[0][:-1]])
def test_waivers_by_pattern_are_refused(id, validate, tmp_path):
    text = f'[[skip]]\nid = "{id}"\nreason = "later"\nissue = "https://example.org/1"\nexpires = 2099-01-01\n'
    (tmp_path / "skips.toml").write_text(text, encoding="utf-8")
    result, report = validate(folder(tmp_path), *few(), "--skips", "skips.toml")
    assert result.exit_code == 2
    assert_not_granted(result, report)


def test_everything_expected_to_fail_is_not_granted(validate, tmp_path):
    entry = '[[xfail]]\nkind = "value"\nid = "{}"\nreason = "later"\nissue = "https://example.org/1"\nexpires = 2099-01-01\n'
    (tmp_path / "xfails.toml").write_text("".join(entry.format(case) for case in FEW), encoding="utf-8")
    wrong = at_step("self.a[...] = 0")
    result, report = validate(folder(tmp_path, wrong), *few(), "--xfails", "xfails.toml", "--allow-incomplete")
    assert_not_granted(result, report)


def test_a_report_of_before_is_not_left_behind(validate, tmp_path):
    (tmp_path / "report.json").write_text('{"verdict": "granted"}', encoding="utf-8")
    result, report = validate(folder(tmp_path, at_step("self.a[...] = 0")), *few())
    assert_not_granted(result, report)


def test_the_environment_does_not_soften_the_judge(tmp_path):
    """All at once: a check that any of them takes away is missing here too."""
    environment = {"PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "ignore", "NUMBA_DISABLE_JIT": "1"}
    folder(tmp_path, at_step("self.a = np.nextafter(self.a, self.dtype.type(9))"))
    run = in_a_process(tmp_path, *few(FEW[:6]), **environment)
    assert run.returncode == 1, run.stdout + run.stderr


@pytest.mark.parametrize("code", ["import os\n        os._exit(0)", "raise KeyboardInterrupt"])
def test_leaving_the_process_is_no_grant(code, tmp_path):
    (tmp_path / "report.json").write_text('{"verdict": "granted"}', encoding="utf-8")
    folder(tmp_path, at_step(code))
    run = in_a_process(tmp_path, *few(FEW[:4]))
    path = tmp_path / "report.json"
    assert run.returncode != 0, run.stdout + run.stderr
    assert not path.exists() or json.loads(path.read_text())["verdict"] != "granted"


def test_a_manifest_that_its_code_contradicts_is_refused(validate, tmp_path):
    own = GOOD.replace(
        "    def open(self, problem):",
        "    def manifest(self):\n        return {'backend': {'name': 'other'}}\n\n    def open(self, problem):",
    )
    result, report = validate(folder(tmp_path, own), *few())
    assert result.exit_code == 2
    assert_not_granted(result, report)


def test_the_example_is_the_one_that_is_attacked():
    assert (EXAMPLE / "backend.py").read_text(encoding="utf-8") == GOOD
