"""What the README promises: its example runs, its commands exist, and .ci/run proves them as they stand."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from refdeq_bench.command import EXIT_NOISY
from refdeq_validation.exit_codes import EXIT_CODES

from refdeq import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_library_example_runs(capsys):
    names: dict[str, object] = {}
    for example in blocks("python"):  # each goes on where the one before ended
        exec(compile(example, "README.md", "exec"), names)
    assert capsys.readouterr().out.startswith("Solution(8 samples: CONVERGED 8;")


def test_ci_runs_the_shell_commands_as_they_stand():
    commands = [block.strip() for block in blocks("sh")]
    patterns = re.findall(r"grep -E (['\"])(.*)\1 README\.md", CI)
    assert len(commands) == len(patterns) == 2
    for command, (quote, pattern) in zip(commands, patterns, strict=True):
        extended = pattern.replace("\\$", "$") if quote == '"' else pattern
        assert [line for line in README.splitlines() if re.search(extended, line)] == [command]
    assert commands[0] == "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/refdeq validate"
    assert commands[1] == ".venv/bin/pip install '.[test]' && .venv/bin/python -m pytest"
    assert 'eval "$validate --quick"' in CI
    assert 'eval "$tests"' in CI


def test_every_command_named_exists_and_every_command_is_named():
    commands = {entry.name for entry in entry_points(group=cli.GROUP)}
    assert set(re.findall(r"`(?:\.venv/bin/)?refdeq ([a-z]+)", README)) == commands


def test_exit_codes_of_the_table_are_those_of_the_code():
    table = {int(n) for row in re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE) for n in row.split(",")}
    own = {cli.EXIT_USAGE, cli.EXIT_UNAVAILABLE, cli.EXIT_INTERNAL, cli.EXIT_INTERRUPTED, cli.EXIT_BROKEN_PIPE}
    assert table == own | {EXIT_NOISY} | set(EXIT_CODES)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/semantics.md"])
def test_links_and_named_files_exist(document):
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    linked = [path.parent / target for target in re.findall(r"\]\(([^)#:]+)\)", text)]
    named = [
        ROOT / name for name in re.findall(r"`((?:refdeq|backends|validation|tests|docs|examples|benchmarks)/[\w/.]+)`", text)
    ]
    assert [str(file) for file in [*linked, *named] if not file.exists()] == []


def test_ci_script_is_executable_and_strict():
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    assert "set -euo pipefail" in CI
