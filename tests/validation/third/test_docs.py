"""The documentation for third parties: its code runs, its tables name what there is, its links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from refdeq_validation.cases.model import FAMILIES, LEVELS
from refdeq_validation.cases.suite import by_id
from refdeq_validation.exit_codes import EXIT_CODES
from refdeq_validation.protocol.loading import read_manifest
from refdeq_validation.protocol.manifest import _CHOICES, _LISTS, Claims
from refdeq_validation.waivers import read_waivers

from refdeq.types import Status

ROOT = Path(__file__).parents[3]
GUIDE, JUDGE = ROOT / "docs" / "adding-a-backend.md", ROOT / "docs" / "validation.md"
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in (GUIDE, JUDGE)}


def blocks(name, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXTS[name], re.MULTILINE | re.DOTALL)


def test_the_first_backend_of_the_guide_is_judged_as_the_guide_says(tmp_path, monkeypatch, capsys):
    manifest, *_ = blocks(GUIDE.name, "toml")
    backend, judging, *_ = blocks(GUIDE.name, "python")
    (tmp_path / "backend.toml").write_text(manifest, encoding="utf-8")
    (tmp_path / "backend.py").write_text(backend, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(compile(judging, GUIDE.name, "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert len(manifest.splitlines()) + len(backend.splitlines()) + len(judging.splitlines()) < 100


@pytest.mark.parametrize(("name", "number"), [(GUIDE.name, 2), (GUIDE.name, 3), (JUDGE.name, 0), (JUDGE.name, 1)])
def test_other_examples_run(name, number, capsys):
    exec(compile(blocks(name, "python")[number], name, "exec"), {})
    assert capsys.readouterr().out


def test_every_python_example_is_run():
    assert len(blocks(GUIDE.name, "python")) == 4
    assert len(blocks(JUDGE.name, "python")) == 2


def test_the_waiver_of_the_guide_is_one(tmp_path):
    (tmp_path / "skips.toml").write_text(blocks(GUIDE.name, "toml")[1], encoding="utf-8")
    assert len(read_waivers(tmp_path / "skips.toml", "skip")) == 1


def test_the_manifest_of_the_guide_is_one():
    data = tomllib.loads(blocks(GUIDE.name, "toml")[0])
    assert Claims.from_manifest(data).order == "fast"


def test_every_claim_is_explained_with_all_its_values():
    rows = dict(re.findall(r"^\| (`[\w`, ]+`) \| (.*)$", TEXTS[GUIDE.name], re.MULTILINE))
    explained = {name: row for names, row in rows.items() for name in re.findall(r"`(\w+)`", names)}
    assert {entry.name for entry in fields(Claims)} - {"name", "version"} <= set(explained)
    for key, values in {**_CHOICES, **_LISTS}.items():
        for value in values:
            if key == "determinism":
                continue  # a range
            assert value in explained[key], (key, value)


def test_defaults_are_those_of_the_table():
    table = dict(re.findall(r'^\| `(\w+)` \| `(\[?"?[\w]*"?\]?)`', TEXTS[GUIDE.name], re.MULTILINE))
    for entry in fields(Claims):
        if entry.name in table:
            default = (
                entry.default
                if not isinstance(entry.default, tuple)
                else "[" + ", ".join(f'"{v}"' for v in entry.default) + "]"
            )
            assert table[entry.name] == default, entry.name


def test_exit_codes_are_those_of_the_code():
    assert {int(code) for code in re.findall(r"^\| (\d) \|", TEXTS[GUIDE.name], re.MULTILINE)} == set(EXIT_CODES)


def test_levels_and_families_are_all_there():
    text = TEXTS[JUDGE.name]
    assert re.findall(r"^\| (L\d) \|", text, re.MULTILINE) == list(LEVELS)
    told = {
        name for row in re.findall(r"^\| (`[\w`, ]+`) \| .* \|$", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert set(FAMILIES) <= told


def test_the_cases_that_the_documentation_names_exist():
    pages = {path.name: path.read_text(encoding="utf-8") for path in [*GUIDE.parent.glob("*.md"), ROOT / "README.md"]}
    named = {(name, case) for name, text in pages.items() for case in re.findall(r"\b(?:gemm|conv)/\w+/[\w-]+", text)}
    assert {name for name, _ in named} >= {GUIDE.name, "protocol.md", "reports.md"}
    assert not {(name, case) for name, case in named if case not in by_id()}


def test_statuses_of_the_guide_are_those_of_the_code():
    head, names = re.search(r"^  \| (0 \|.*)\n  \|[-|]+\n  \| (.*) \|$", TEXTS[GUIDE.name], re.MULTILINE).groups()
    numbers = [int(number) for number in re.findall(r"\d", head)]
    assert {int(status): status.name for status in Status} == dict(
        zip(numbers, [name.split()[0] for name in names.split(" | ")], strict=True)
    )


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_to_files(name):
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXTS[name]):
        assert (ROOT / "docs" / target).exists(), target


def test_the_examples_manifests_are_read():
    for path in (ROOT / "examples").glob("*/backend.toml"):
        assert Claims.from_manifest(read_manifest(path), str(path))
