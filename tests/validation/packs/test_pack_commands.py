"""``refdeq export`` and ``refdeq judge``, from the outside: files, texts, exit codes."""

import json
import re
import subprocess
import sys
from importlib import resources

import pytest
from refdeq_validation.cases.suite import select
from refdeq_validation.lab.session import CLAIMS, Lab
from refdeq_validation.packs.digests import file_digest
from refdeq_validation.packs.export import export_pack
from refdeq_validation.packs.reading import read_manifest, read_pack
from refdeq_validation.packs.responses import response_text
from refdeq_validation.protocol.execute import execute
from typer import Typer
from typer.testing import CliRunner

MANIFEST = """
[backend]
name = "lab"
version = "1"

[claims]
offers = ["state"]
ops = ["Gemm", "Conv"]
dtypes = ["float32", "float64"]
compare = ["gt", "ge"]
memory = ["sent", "always", "feedback"]
start = ["dense", "zero"]
bias = ["separate", "folded"]
granularity = ["element", "sample", "channel", "pixel", "tile"]
determinism = "R4"
"""

SMALL = "conv-f32"


@pytest.fixture
def refdeq(tmp_path, monkeypatch):
    """Run a subcommand in a folder of its own; exit code and output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "backend.toml").write_text(MANIFEST)

    def run(*arguments):
        from refdeq_validation.packs.export_command import export
        from refdeq_validation.packs.judge_command import judge

        from refdeq.cli import _guarded

        app = Typer()
        app.command("export")(_guarded(export))
        app.command("judge")(_guarded(judge))
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return done.exit_code, done.output

    return run


@pytest.fixture
def answered(pack, transcripts, tmp_path):
    path = tmp_path / "response.jsonl"
    path.write_text(response_text(read_manifest(pack)["prompt"], transcripts, "lab"))
    return path


def test_the_commands_are_installed_with_their_examples(tmp_path):
    for name, example in (("export", "refdeq export --profile core-f32 core-pack"), ("judge", "refdeq judge core-pack")):
        command = [sys.executable, "-c", "from refdeq.cli import main; main()", name, "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path)
        assert example in re.sub(r"\s+", " ", done.stdout)


def test_headers_and_schemas_are_package_data():
    folder = resources.files("refdeq_validation.packs")
    for name in ("c/refdeq_judge.h", "c/refdeq_pack.h", "c/refdeq_bench.sv", "schema/case.json", "data/README.pack.md"):
        assert (folder / name).is_file()


def test_export_lint_and_check(refdeq, tmp_path):
    code, text = refdeq("export", "--profile", SMALL, "pack", "--json")
    told = json.loads(text)
    assert (code, told["problems"]) == (0, [])
    assert told["cases"] == len(select(profile=SMALL)) == read_manifest(tmp_path / "pack")["cases"]
    assert told["digest"] == read_manifest(tmp_path / "pack")["digest"]
    assert refdeq("export", "--profile", SMALL, "again", "--check", "pack")[0] == 0
    assert "holds" not in refdeq("export", "--profile", SMALL, "pack")[1]
    manifest = json.loads((tmp_path / "pack/manifest.json").read_text())
    manifest["ids"][next(iter(manifest["ids"]))] = "0" * 64
    (tmp_path / "old.json").mkdir()
    (tmp_path / "old.json/manifest.json").write_text(json.dumps(manifest))
    code, text = refdeq("export", "--profile", SMALL, "third", "--check", "old.json")
    assert code == 1
    assert "changed under the same id" in text
    assert not (tmp_path / "third").exists()


def test_other_forms_are_part_of_the_pack(refdeq, tmp_path):
    code, _ = refdeq("export", "--profile", "paper-f32", "pack", "--blind", "--c-arrays", "--readmemh")
    assert code == 0
    pack = read_pack(tmp_path / "pack")
    names = set(pack.manifest["files"])
    assert {"c/refdeq_judge.h", "c/refdeq_cases.c", "hex/refdeq_bench.sv", "hex/cases.txt"} <= names
    assert pack.manifest["generator"]["command"] == "refdeq export --profile paper-f32 --blind --c-arrays --readmemh"
    assert f'rp_prompt[] = "{pack.manifest["prompt"]}"' in (tmp_path / "pack/c/refdeq_cases.c").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--profile", "no-such"), "profile"), (("--c-arrays", "--profile", "gradient-f32"), "unit steps")],
)
def test_export_says_what_it_cannot_do(arguments, said, tmp_path):
    command = [sys.executable, "-c", "from refdeq.cli import main; main()", "export", "pack", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "pack").exists()


def test_lint_finds_what_was_changed(refdeq, tmp_path, cases):
    export_pack(tmp_path / "pack", cases[:2], "some")
    (tmp_path / "pack/LICENSE").write_text("none")
    code, text = refdeq("export", "--lint", "pack")
    assert code == 1
    assert "LICENSE was changed" in text


def test_judge_reports_like_a_live_run(refdeq, pack, answered, tmp_path):
    code, text = refdeq("judge", pack, answered, "--html", "report.html", "--junit", "report.xml", "--json")
    data = json.loads(text)
    assert data == json.loads((tmp_path / "report.json").read_text())
    assert data["schema"] == "refdeq-report/1"
    assert data["counts"]["passed"] == data["counts"]["planned"] == read_manifest(pack)["cases"]
    assert data["backends"][0]["name"] == "lab"
    assert "<html" in (tmp_path / "report.html").read_text()
    assert "<testsuites" in (tmp_path / "report.xml").read_text()
    survived = [entry["name"] for entry in data["backends"][0]["power"]["by_canary"] if entry["killed_by"] is None]
    assert code == (4 if survived else 0)


def test_judge_ends_as_the_answers_deserve(refdeq, pack, answered):
    quick = ("--no-self-proof",)
    assert refdeq("judge", pack, answered, *quick)[0] == 3  # without canaries and witnesses nothing is granted
    assert refdeq("judge", pack, answered, *quick, "--allow-incomplete")[0] == 0
    lines = answered.read_text().splitlines(keepends=True)
    answered.write_text("".join(lines[:20]))
    assert refdeq("judge", pack, answered, *quick)[0] == 3
    at = next(i for i, line in enumerate(lines) if "gemm/tie" in line and '"mask"' in line)
    row = json.loads(lines[at])
    row["results"]["mask"]["bits"] = row["results"]["mask"]["bits"].translate(str.maketrans("01", "10"))
    answered.write_text("".join([*lines[:at], json.dumps(row) + "\n", *lines[at + 1 :]]))
    code, text = refdeq("judge", pack, answered, *quick)
    assert code == 1
    assert "mask" in text
    answered.write_text("".join([*lines, lines[-1]]))
    code, text = refdeq("judge", pack, answered, *quick)
    assert code == 2


@pytest.mark.parametrize("missing", ["pack", "response", "manifest"])
def test_what_is_not_there_is_a_usage_error(refdeq, pack, answered, missing):
    places = {"pack": pack, "response": answered, "manifest": "backend.toml"} | {missing: "nowhere"}
    assert refdeq("judge", places["pack"], places["response"], "--manifest", places["manifest"])[0] == 2


def test_a_profile_is_granted_through_files(refdeq, tmp_path):
    """The whole way of a stranger: export, answer, judge."""
    profile = next(name for name in ("paper-f32", "exact") if select(profile=name))
    assert refdeq("export", "--profile", profile, "pack", "--blind")[0] == 0
    read = read_pack(tmp_path / "pack")
    answers = [execute(case, Lab(), CLAIMS) for case in read.cases]
    (tmp_path / "response.jsonl").write_text(response_text(read.manifest["prompt"], answers, "lab"))
    refdeq("judge", "pack", "response.jsonl", "--no-self-proof")
    report = json.loads((tmp_path / "report.json").read_text())
    outcome = next(entry for entry in report["backends"][0]["profiles"] if entry["name"] == profile)
    assert outcome["granted"]
    assert outcome["passed"] == outcome["required"] == len(read.cases)
    assert file_digest((tmp_path / "pack/manifest.json").read_bytes()) in (tmp_path / "pack/SHA256SUMS").read_text()
