"""The command itself: help, version, exit codes, and no traceback for what users can do wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

import refdeq
from refdeq import cli, registry
from refdeq.commands import demo_models
from refdeq.errors import ArgumentError, BackendUnavailableError, FileFormatError, SolveError, UnsupportedError

MAIN = [sys.executable, "-c", "from refdeq.cli import main; main()"]


def test_help_lists_every_command_on_one_line_and_shows_an_example(refdeq_command):
    result = refdeq_command("--help")
    assert result.exit_code == 0
    for name in ("demo", "info", "solve", "validate"):
        assert re.search(rf"^  {name} +[A-Z].*\.$", result.stdout, re.MULTILINE), result.stdout
    assert "cannot be loaded" not in result.stdout
    assert re.search(r"^ +refdeq validate --quick$", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["demo", "info", "solve", "validate"])
def test_help_of_a_command_shows_its_options_and_no_docstring_sections(refdeq_command, name):
    result = refdeq_command(name, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout
    assert "----" not in result.stdout


def test_version(refdeq_command):
    result = refdeq_command("--version")
    assert result.exit_code == 0
    assert result.stdout == f"refdeq {refdeq.__version__} (semantics {refdeq.types.SEMANTICS_VERSION})\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ArgumentError("x"), 2),
        (FileFormatError("x"), 2),
        (UnsupportedError("x"), 2),
        (SolveError("x", None), 2),
        (BackendUnavailableError("x", "y"), 3),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (RuntimeError("x"), 5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_code_of_every_kind_of_error(error, code):
    assert cli.exit_code(error) == code


WRONG = [
    (["nothing"], 2, "No such command"),
    (["demo", "square"], 2, "square"),
    (["demo", "sine", "--threshold", "-1"], 2, "threshold: expected a number >= 0"),
    (["demo", "sine", "--threshold", "nan"], 2, "threshold: expected a number >= 0"),
    (["demo", "sine", "--threshold", "much"], 2, "--threshold"),
    (["demo", "sine", "--preset", "other"], 2, "preset"),
    (["demo", "sine", "--evaluations", "2"], 2, "--evaluations: expected an integer >= 3"),
    (["demo", "sine", "--threads", "0"], 2, "--threads: expected an integer >= 1"),
    (["demo", "sine", "--model", "other"], 2, "'sine'"),
    (["demo", "image", "--model", "sine"], 2, "--model: expected a model with"),
    (["demo", "sine", "--model", "none.safetensors"], 2, "none.safetensors: no such file"),
    (["demo", "sine", "--backend", "ghost"], 3, "backend 'ghost' cannot run: no such backend is installed"),
    (["info", "--jsno"], 2, "--jsno"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "said"), WRONG, ids=lambda value: "-".join(value) if isinstance(value, list) else ""
)
def test_wrong_input_is_one_clear_message(refdeq_command, tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    result = refdeq_command(*arguments)
    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_tree_is_exactly_one_line(refdeq_command):
    result = refdeq_command("demo", "sine", "--threshold", "-1")
    assert re.fullmatch(r"refdeq: error: threshold: [^\n]*\n", result.stderr)


@pytest.mark.parametrize(("size", "said"), [(0, "corrupt"), (100, "corrupt"), (-1, "corrupt")])
def test_a_truncated_file_is_refused(refdeq_command, tiny_sine, tmp_path, size, said):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(tiny_sine.path.read_bytes()[:size])
    result = refdeq_command("demo", "sine", "--model", broken, "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_interrupt_and_unforeseen_errors(refdeq_command, monkeypatch, tmp_path):
    def raise_(error):
        def load_model(*_):
            raise error

        monkeypatch.setattr(demo_models, "load_model", load_model)
        return refdeq_command("demo", "sine", "--out", tmp_path / "out")

    interrupted = raise_(KeyboardInterrupt())
    assert (interrupted.exit_code, interrupted.stderr) == (130, "refdeq: interrupted\n")
    broken = raise_(RuntimeError("unforeseen"))
    assert broken.exit_code == 5
    assert "Traceback" in broken.stderr
    assert "RuntimeError: unforeseen" in broken.stderr
    assert not (tmp_path / "out").exists()


def test_a_command_that_cannot_be_imported_is_listed_with_its_reason(refdeq_command, monkeypatch):
    ghost = EntryPoint(name="ghost", value="refdeq_ghost.command:ghost", group=cli.GROUP)
    known = list(cli.entry_points(group=cli.GROUP))
    monkeypatch.setattr(cli, "entry_points", lambda group: [*known, ghost])
    assert "No module named" in " ".join(refdeq_command("--help").stdout.split())
    result = refdeq_command("ghost", "anything", "--at-all")
    assert result.exit_code == 5
    assert "command 'ghost' cannot be loaded from refdeq_ghost.command:ghost" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_closed_pipe_ends_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*MAIN, "info"], stdout=writing, stderr=subprocess.PIPE, check=False, timeout=120)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_info_loads_no_kernels_no_judge_and_no_figures():
    script = (
        "import sys\nfrom refdeq.cli import main\nsys.argv = ['refdeq', 'info', '--json']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    for module in ("refdeq_numba.linear", "refdeq_numba.fused", "refdeq_validation", "matplotlib", "refdeq.commands.demo"):
        assert f"'{module}'" not in done.stderr
    assert "'refdeq.commands.info'" in done.stderr


def test_info_says_why_a_backend_cannot_run(refdeq_command, monkeypatch):
    import json

    ghost = EntryPoint(name="ghost", value="refdeq_ghost:backend", group=registry.GROUP)
    known = registry._entries()
    monkeypatch.setattr(registry, "_entries", lambda: {**known, "ghost": ghost})
    row = next(row for row in json.loads(refdeq_command("info", "--json").stdout)["backends"] if row["name"] == "ghost")
    assert row["available"] is False
    assert "No module named 'refdeq_ghost'" in row["reason"]
    shown = " ".join(refdeq_command("info").stdout.split())
    assert "cannot run" in shown
    assert "No module named 'refdeq_ghost'" in shown


def test_info_json_schema(refdeq_command):
    import json

    facts = json.loads(refdeq_command("info", "--json").stdout)
    kinds = {
        "schema": str,
        "refdeq": str,
        "semantics": str,
        "python": str,
        "platform": str,
        "packages": dict,
        "cpu": dict,
        "threads": dict,
        "blas": dict,
        "backends": list,
        "models": list,
        "cache_directory": str | None,
    }
    assert {name: kind for name, kind in kinds.items() if not isinstance(facts[name], kind)} == {}
    assert set(facts) == set(kinds)
    assert facts["schema"] == "refdeq-info/1"
    assert {"numpy", "scipy", "numba"} <= set(facts["packages"])
    assert facts["cpu"]["usable_cores"] >= 1
    assert {"OMP_NUM_THREADS", "NUMBA_THREADING_LAYER"} <= set(facts["threads"])
    declared = {"orders", "dtypes", "determinism", "inactive_columns", "activation", "fused", "summary", "facts"}
    declared |= {"fast_activation", "activation_ulp"}
    assert [row["name"] for row in facts["backends"]] == list(refdeq.backend_names())
    assert all(declared <= set(row) for row in facts["backends"] if row["available"])
    assert [row["name"] for row in facts["models"]] == list(refdeq.models.trained_names())
