"""The site of benchmark results: what it shows, and that it refers to nothing outside."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed: the site of benchmarks was not made")

from benchmarks.site import offline, stored, vendored
from benchmarks.site.__main__ import main
from benchmarks.site.publishing import publish
from refdeq.errors import ArgumentError, FileFormatError

ROOT = Path(__file__).resolve().parents[3]
NAN = math.nan


# ---------------------------------------------------------------------------------------------------------------- local copies


def asv_index():
    import asv

    return (Path(asv.__file__).parent / "www/index.html").read_text(encoding="utf-8")


def published(folder, index):
    folder.mkdir()
    (folder / "index.html").write_text(index, encoding="utf-8")
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/x.json").write_text("[[1, NaN], [2, null]]")
    return folder


def test_local_copies_are_the_files_of_their_packages():
    for file in vendored.VENDORED:
        assert len(vendored.read(file)) > 1000


def test_a_local_copy_that_was_changed_is_refused(monkeypatch, tmp_path):
    file = vendored.VENDORED[0]
    (tmp_path / file.file).write_bytes((vendored.FOLDER / file.file).read_bytes() + b" ")
    monkeypatch.setattr(vendored, "FOLDER", tmp_path)
    with pytest.raises(FileFormatError, match=re.escape(file.package)):
        vendored.read(file)


def test_every_local_copy_is_used_and_named_with_its_origin():
    told = (vendored.FOLDER / "THIRD_PARTY.md").read_text(encoding="utf-8")
    there = {path.name for path in vendored.FOLDER.iterdir() if path.suffix in (".js", ".css")}
    assert there == {file.file for file in vendored.VENDORED}
    for file in vendored.VENDORED:
        package, _, version = file.package.partition("@")
        assert f"`{file.file}`" in told
        assert f"{package} {version}" in told
    for licence in (vendored.FOLDER / "licences").iterdir():
        assert f"licences/{licence.name}" in told


def test_pages_load_local_copies_only(tmp_path):
    folder = published(tmp_path / "pages", asv_index())
    offline.localise(folder)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"]+", page)) <= vendored.LINKS
    assert "integrity" not in page
    sources = re.findall(r'<(?:script|link)[^>]*(?:src|href)="(vendor/[^"]+|offline\.js)"', page)
    assert sources[:2] == ["vendor/jquery.min.js", "offline.js"]  # requests are answered before anything makes one
    assert len(sources) == len(vendored.VENDORED) + 1
    assert all((folder / source).is_file() for source in sources)
    assert (folder / "deep/er/x.json.js").read_text() == "refdeqData([[1,NaN],[2,null]]);\n"
    assert not list(folder.rglob("*.json"))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("bootstrap@3.1.1/dist/js", "bootstrap@3.4.1/dist/js", "no local copy"),
        ("</head>", '<script src="https://example.org/new.js"></script></head>', "no local copy"),
        ("</head>", "<style>@import 'https://example.org/new.css'</style></head>", "unknown addresses"),
        ('<script src="https://cdnjs.cloudflare.com/ajax/libs/blueimp', '<script data-was="', "no longer loads"),
    ],
)
def test_an_address_that_is_not_known_is_an_error(tmp_path, before, after, said):
    page = asv_index()
    assert before in page
    with pytest.raises(FileFormatError, match=said):
        offline.localise(published(tmp_path / "pages", page.replace(before, after, 1)))


# ------------------------------------------------------------------------------------------------------------------- start page


def test_the_start_page_shows_figures_of_every_commit(site):
    page, past = site
    text = page.read_text(encoding="utf-8")
    for commit in past.commits:
        assert f'id="{commit[:8]}"' in text
    assert "Step 2 &amp; more" in text
    assert "Whole solves &lt;of cells&gt;." in text
    assert "numba, density 0.1" in text
    assert text.count("<td>4.25</td>") == 3 + 1  # once per commit, and among the figures of the newest
    assert "torch, density" not in text  # it was skipped everywhere
    assert "AMD EPYC" in text


def test_links_of_the_start_page_lead_somewhere(site):
    page, _ = site
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r'href="([^"]+)"', text):
        file, _, place = link.partition("#")
        if file == "data:,":
            continue
        assert (page.parent / file).exists(), link
        assert file or f'id="{place}"' in text, link
    names = set(re.findall(r'href="asv/index\.html#([^"/]+)"', text))
    assert names == {"solves.Sine.time_solve", "solves.Sine.track_ratio", "solves.Sine.track_macs_saved"}
    graphs = {path.name for path in (page.parent / "asv/graphs").rglob("*.json.js")}
    assert {f"{name}.json.js" for name in names} <= graphs


def test_nothing_measured_is_said(site):
    page, _ = site
    text = page.read_text(encoding="utf-8")
    for goal in range(1, 12):
        row = re.search(rf'<tr><th scope="row">P{goal}</th>.*?</tr>', text)
        assert row is not None, goal
        assert "not measured" in row[0]


def test_a_failure_is_shown_as_one(history):
    config = history.store({"solves.Sine.track_ratio": [None, None, 1.0, 2.0, NAN, NAN]})
    [run] = {run.count() for run in stored.load(config).runs}
    assert run == (2, 2, 2)
    assert "failed</span>" in publish(history.folder / "site", config, history.folder / "none").read_text()


# ----------------------------------------------------------------------------------------------------------------------- errors


def test_a_site_replaces_an_earlier_one_and_nothing_else(history, usual_values):
    config, out = history.store(usual_values), history.folder / "site"
    out.mkdir()
    publish(out, config, history.folder / "none")
    (out / "asv/stale").write_text("")
    publish(out, config, history.folder / "none")
    assert not (out / "asv/stale").exists()
    with pytest.raises(ArgumentError, match="OUT"):
        publish(history.results, config, history.folder / "none")
    assert (history.results / "benchmarks.json").exists()


def test_no_results_are_an_error_with_a_way_out(history, capsys):
    assert main([str(history.folder / "site"), "--config", str(history.config)]) == 2
    assert "asv run" in capsys.readouterr().err
    assert not (history.folder / "site").exists()


def test_results_of_an_unknown_commit_are_an_error(history, usual_values, capsys):
    config = history.store(usual_values, commits=["0" * 40])
    assert main([str(history.folder / "site"), "--config", str(config)]) == 2
    assert "00000000" in capsys.readouterr().err


def test_results_that_are_cut_off_are_an_error(history, usual_values, capsys):
    config = history.store(usual_values)
    path = next((history.results / "zen3").glob("*-virtualenv*.json"))
    path.write_text(path.read_text()[:-20])
    assert main([str(history.folder / "site"), "--config", str(config)]) == 2
    assert path.name in capsys.readouterr().err


def test_stored_results_tell_nothing_about_the_host():
    from benchmarks.tracking import traces_of_the_host

    for name in ("asv", "goals.json"):
        assert traces_of_the_host(ROOT / "benchmarks/results" / name) == []


def test_stored_results_can_be_published(tmp_path):
    config = ROOT / "benchmarks/asv.conf.json"
    if not (ROOT / ".git").exists() or not stored.load(config).runs:
        pytest.skip("no results are stored, or this is no clone: the site of stored results was not made")
    text = publish(tmp_path / "site", config, ROOT / "benchmarks/results/goals.json").read_text(encoding="utf-8")
    assert len(set(re.findall(r'<tr id="([0-9a-f]{8})"', text))) >= 5


@pytest.mark.parametrize("told", [{"env_name": "existing-py_/home/someone/venv"}, {"params": {"machine": "@host"}}])
def test_what_tells_something_about_the_host_is_found(history, usual_values, told, monkeypatch):
    import platform

    from benchmarks.tracking import traces_of_the_host

    monkeypatch.setattr(platform, "node", lambda: "blue-whale")
    history.store(usual_values)
    assert traces_of_the_host(history.results) == []
    path = next((history.results / "zen3").glob("*-virtualenv*.json"))
    contents = json.loads(path.read_text()) | told
    path.write_text(json.dumps(contents).replace("@host", "blue-whale"))
    assert len(traces_of_the_host(history.results)) == 1
