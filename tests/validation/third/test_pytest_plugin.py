"""``pytest --refdeq-backend``: one test per case, the judge's words, and no green without proof."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import refdeq_validation.pytest_cases  # noqa: F401  (imported once: every run below would import it anew)
from refdeq_validation.cases.profiles import PROFILES
from refdeq_validation.cases.suite import select
from refdeq_validation.lab.session import CLAIMS, Lab
from refdeq_validation.running import run_case

pytest_plugins = ("pytester",)

INSTALLED = any(entry.name == "refdeq" for entry in entry_points(group="pytest11"))
PLUGIN = [] if INSTALLED else ["-p", "refdeq_validation.pytest_plugin"]
"""An installation made before the plugin was there does not load it by itself."""

EXAMPLE = Path(__file__).parents[3] / "examples" / "numpy_backend"
PROFILE = "refdeq-f32"
TIES = [case.id for case in select(profile=PROFILE) if case.family == "tie"]


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """What Numba loads when it first compiles stays loaded: the runs below forget every module that they import."""
    case = select(profile=PROFILE, families=["tie"])[0]
    for claims in (CLAIMS, replace(CLAIMS, order="fast", determinism="R1")):
        assert run_case(case, Lab(), claims).disposition == "passed"


@pytest.fixture
def judged(pytester):
    """Run pytest with the plugin in an empty folder, in this process."""

    def run(*arguments, spec=EXAMPLE / "backend.toml"):
        options = [*PLUGIN, "-p", "no:cacheprovider", f"--refdeq-backend={spec}"]
        return pytester.runpytest_inprocess(*options, *arguments)

    return run


@pytest.fixture
def broken(tmp_path):
    """The example with one word of its source exchanged; returns its manifest."""

    def make(old, new, name="broken"):
        folder = tmp_path / name
        folder.mkdir()
        source = (EXAMPLE / "backend.py").read_text(encoding="utf-8")
        assert source.count(old) == 1
        (folder / "backend.py").write_text(source.replace(old, new), encoding="utf-8")
        (folder / "backend.toml").write_text((EXAMPLE / "backend.toml").read_text(encoding="utf-8"), encoding="utf-8")
        return folder / "backend.toml"

    return make


def test_one_test_per_case_in_the_order_of_the_suite(judged):
    result = judged("--collect-only", "-q", f"--refdeq-profile={PROFILE}")
    ids = [line.removeprefix("refdeq::") for line in result.outlines if line.startswith("refdeq::")]
    assert ids == ["self-proof", *PROFILES[PROFILE].ids]
    assert result.ret == 0


def test_a_good_backend_is_granted_its_profile(judged):
    result = judged("-q", f"--refdeq-profile={PROFILE}")
    assert result.ret == 0, result.outlines[-20:]
    assert f"profile {PROFILE} is granted" in "\n".join(result.outlines)
    result.assert_outcomes(passed=len(PROFILES[PROFILE].ids) + 1)


def test_a_failure_is_told_in_the_judges_words(judged, broken):
    manifest = broken("np.abs(delta) <= self.tau", "np.abs(delta) < self.tau")
    result = judged("-q", f"--refdeq-profile={PROFILE}", "-k", "tie", spec=manifest)
    text = "\n".join(result.outlines)
    assert result.ret == 1
    assert "mask: mask[" in text
    assert "TIE_RULE" in text
    assert f"refdeq validate {manifest} --case {TIES[0]}" in text
    assert "Traceback" not in text


def test_part_of_a_profile_grants_nothing(judged):
    result = judged("-q", f"--refdeq-profile={PROFILE}", "-k", "tie")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert f"profile {PROFILE} is not granted" in "\n".join(result.outlines)


def test_a_grant_needs_the_self_proof(judged):
    result = judged("-q", f"--refdeq-profile={PROFILE}", "--deselect", "refdeq::self-proof")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "the self-proof did not pass" in "\n".join(result.outlines)


def test_what_a_profile_requires_and_does_not_apply_fails(judged):
    result = judged("-q", "--refdeq-profile=paper-f32", "--deselect", "refdeq::self-proof", "-x")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "profile paper-f32 requires it; compare: 'ge' is not claimed" in "\n".join(result.outlines)


def test_without_a_profile_what_does_not_apply_is_skipped(judged):
    result = judged("-q", "-k", "tie and conv")
    assert result.ret == pytest.ExitCode.TESTS_FAILED  # everything was skipped
    assert "no case passed, nothing is proved" in "\n".join(result.outlines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--refdeq-profile=core-f23"], "profile: expected"),
        (["--refdeq-backend=nobody"], "implementation: expected"),
        (["--refdeq-backend=nowhere.toml"], "cannot be read as a manifest"),
        (["-k", "no such case"], "no case passed"),
    ],
)
def test_what_selects_nothing_is_an_error(judged, arguments, words):
    result = judged("-q", *arguments)
    assert result.ret in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert words in "\n".join(result.outlines + result.errlines)


def test_a_profile_without_an_implementation_is_an_error(pytester):
    result = pytester.runpytest_inprocess(*PLUGIN, f"--refdeq-profile={PROFILE}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_files_named_are_collected_too_and_others_are_not(judged, pytester):
    path = pytester.makepyfile(test_own="def test_own(): pass")
    alone, both = judged("--collect-only", "-q", "-k", "own or ge"), judged("--collect-only", "-q", path)
    assert not any("test_own" in line for line in alone.outlines)
    assert any("test_own" in line for line in both.outlines)


def test_workers_judge_the_same_cases(judged):
    result = judged("-q", "-n", "1", "-k", "tie", f"--refdeq-profile={PROFILE}")
    result.assert_outcomes(passed=len(TIES))


def test_without_the_option_nothing_is_imported(tmp_path):
    code = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        f"code = pytest.main([*{PLUGIN}, '--collect-only', '-q', '-p', 'no:cacheprovider', '.'])\n"
        "new = {name for name in set(sys.modules) - before if name.split('.')[0] in ('refdeq', 'refdeq_validation', 'numpy')}\n"
        "print(sorted(new), 'numba' in sys.modules, int(code))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout.splitlines()[-1].startswith("['refdeq_validation', 'refdeq_validation.pytest_plugin'] False")
