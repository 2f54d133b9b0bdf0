"""The demonstrations on tiny models: their numbers are those of a direct solve, their files are whole, equal and labelled."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest

import refdeq as rd
from refdeq.commands import convergence, figures, machine
from refdeq.errors import ArgumentError, BackendUnavailableError
from refdeq.registry import load_backend

EVALUATIONS = 9
FIGURES = {"sine": ("trajectories", "changes", "convergence", "reconstruction")}
FIGURES["image"] = (*FIGURES["sine"], "work")


@pytest.fixture(params=["sine", "image"])
def kind(request):
    return request.param


@pytest.fixture
def stored(kind, request):
    return request.getfixturevalue(f"tiny_{kind}")


@pytest.fixture
def demonstrate(refdeq_command, kind, stored, tmp_path, monkeypatch):
    """Run the demonstration with --json; return the JSON. Drawing takes seconds: it is left out where `drawn` does not ask."""
    render = figures.render

    def run(*options, out="out", drawn=False):
        monkeypatch.setattr(figures, "render", render if drawn else lambda draw: b"left out")
        arguments = ["demo", kind, "--model", stored.path, "--evaluations", EVALUATIONS, "--out", tmp_path / out, "--json"]
        result = refdeq_command(*arguments, *options)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


def solve(stored, rule=None, *, trace=False):
    stop = rd.StopRule(max_eval=EVALUATIONS)
    return rd.solve(stored.model.cell, stored.model.x, stop=stop, delta=rule, trace=trace)


def size_of_png(data):
    """Check signature and the checksum of every chunk of a PNG file; return width and height."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, names, size = 8, [], None
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(name + body)
        names.append(name)
        size = struct.unpack(">II", body[:8]) if name == b"IHDR" else size
        at += 12 + length
    assert (names[0], names[-1], at) == (b"IHDR", b"IEND", len(data))
    return size


def test_files_are_whole_pictures_and_equal_runs_write_equal_bytes(demonstrate, kind, stored, tmp_path):
    first, second = (demonstrate("--backend", "reference", out=out, drawn=True) for out in ("a", "b"))
    expected = [tmp_path / "a" / f"{stored.model.name}-{name}.png" for name in FIGURES[kind]]
    assert first["figures"] == [str(path) for path in expected]
    assert sorted(tmp_path.joinpath("a").iterdir()) == sorted(expected)
    for path in expected:
        width, height = size_of_png(path.read_bytes())
        assert min(width, height) > 400
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert {**first, "figures": None} == {**second, "figures": None}


@pytest.mark.parametrize("preset", ["refdeq", "deltadeq-code"])
def test_numbers_are_those_of_a_direct_solve(demonstrate, stored, kind, preset):
    data = demonstrate("--backend", "reference", "--preset", preset, "--threshold", "0.02")
    dense = solve(stored)
    for run, threshold in zip(data["runs"], (None, 0.0, 0.02), strict=True):
        rule = None if threshold is None else rd.DeltaRule.preset(preset, threshold=threshold)
        direct = solve(stored, rule)
        assert run["threshold"] == threshold
        assert (run["macs"], run["macs_dense"]) == (direct.cost.macs, dense.cost.macs)
        assert run["mse_target"] == stored.model.mse(direct.z)
        between = stored.model.decode(direct.z.astype(np.float64)) - stored.model.decode(dense.z.astype(np.float64))
        assert run["mse_dense"] == float(np.mean(between**2))
        assert run["psnr_target"] == (stored.model.psnr(direct.z) if kind == "image" else None)
        if rule is not None:
            assert run["official_flops"] == direct.cost.official.flops
            assert run["official_flops_dense"] == direct.cost.official.flops_dense
    assert data["runs"][2]["macs"] < data["runs"][1]["macs"] <= data["runs"][0]["macs"]
    assert data["runs"][0]["mse_dense"] == 0.0
    assert (data["evaluations"], data["samples"], data["protocol"][0]) == (EVALUATIONS, len(stored.model.x), "P")


def test_iterates_are_those_of_a_traced_solve(demonstrate, stored):
    data = demonstrate("--backend", "reference", "--threshold", "0.02")
    dense, delta = (solve(stored, rule, trace=True) for rule in (None, rd.DeltaRule(threshold=0.02)))
    change = np.abs(np.diff(dense.trace.z["z"], axis=0))
    counts = np.median((change < 0.01).sum(axis=2), axis=1)
    assert data["by_iterate"]["converged_dimensions"] == [None, *counts]
    mask = next(iter(delta.trace.mask.values()))
    assert data["by_iterate"]["sent_share"] == [rows.sum() / rows[0].size / len(rows) for rows in mask]
    assert data["by_iterate"]["sent_share"][0] == 1.0
    assert len(data["by_iterate"]["mse_dense"]) == EVALUATIONS
    # the last iterate is what a solve returns
    assert data["by_iterate"]["mse_delta"][-1] == data["runs"][2]["mse_target"]
    relative = dense.trace.residual / (dense.trace.scale + 1e-9)
    settled = [next((k for k in range(EVALUATIONS) if (row[k:] <= 1e-3).all()), EVALUATIONS) for row in relative.T]
    assert data["settled"] == {
        "rtol": 1e-3,
        "min": min(settled),
        "mean": sum(settled) / len(settled),
        "max": max(settled),
        "never": settled.count(EVALUATIONS),
    }


def test_chunks_change_no_count(demonstrate, stored, monkeypatch):
    whole = demonstrate("--backend", "reference")
    monkeypatch.setattr(convergence, "TRACE_BYTES", 5 * EVALUATIONS * 6 * 33)
    monkeypatch.setattr(convergence, "UNTRACED_SAMPLES", 7)
    assert 1 <= convergence._chunk(stored.model, EVALUATIONS) < len(stored.model.x)
    parts = demonstrate("--backend", "reference")
    assert [run["macs"] for run in parts["runs"]] == [run["macs"] for run in whole["runs"]]
    assert [run["mse_target"] for run in parts["runs"]] == [run["mse_target"] for run in whole["runs"]]
    assert parts["settled"] == whole["settled"]
    assert parts["by_iterate"]["converged_dimensions"] == whole["by_iterate"]["converged_dimensions"]


def test_numba_gives_the_numbers_of_the_reference(demonstrate):
    reference, numba = demonstrate("--backend", "reference"), demonstrate()
    assert (numba["backend"], numba["backend_reason"]) == ("numba", "the default")
    assert (reference["backend"], reference["backend_reason"]) == ("reference", "asked for")
    assert numba["runs"] == reference["runs"]
    assert numba["by_iterate"] == reference["by_iterate"]


def test_a_missing_default_backend_is_said_aloud(demonstrate, monkeypatch):
    def without_numba(name):
        if name == "numba":
            raise BackendUnavailableError("numba", "numba is not installed", "pip install numba")
        return load_backend(name)

    monkeypatch.setattr("refdeq.registry.load_backend", without_numba)
    data = demonstrate()
    assert data["backend"] == "reference"
    assert "numba is not installed" in data["backend_reason"]


def test_tables_show_what_the_json_says(refdeq_command, kind, stored, tmp_path, demonstrate):
    data = demonstrate("--backend", "reference")
    arguments = ["demo", kind, "--model", stored.path, "--evaluations", EVALUATIONS, "--out", tmp_path / "out"]
    result = refdeq_command(*arguments, "--backend", "reference")
    text = " ".join(result.stdout.split())
    for run in data["runs"]:
        assert f"{run['macs']:,}" in text
    assert data["official_note"][1:] in text
    assert "protocol P" in text
    assert "threshold 0 " in text
    assert "backend reference (asked for)" in text


def test_without_matplotlib_nothing_is_done(refdeq_command, monkeypatch, tmp_path, kind, stored):
    monkeypatch.setattr(figures, "find_spec", lambda name: None)
    monkeypatch.setattr(convergence, "solve", None)
    result = refdeq_command("demo", kind, "--model", stored.path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert 'pip install "refdeq[plot]"' in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_unusable_folder_is_refused_before_any_work(refdeq_command, monkeypatch, tmp_path, kind, stored):
    (tmp_path / "file").write_text("taken")
    monkeypatch.setattr(convergence, "solve", None)
    result = refdeq_command("demo", kind, "--model", stored.path, "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "--out: expected a folder that can be written to" in result.stderr


def test_a_failed_write_leaves_nothing_behind(monkeypatch, tmp_path):
    (tmp_path / "a.png").write_bytes(b"old")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(figures.os, "replace", full)
    with pytest.raises(ArgumentError, match="no space left"):
        figures.write_files(tmp_path, {"a.png": b"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_a_model_that_blows_up_is_refused(refdeq_command, tmp_path, tiny_sine):
    model = tiny_sine.model
    wild = rd.models.rnn(np.full((5, 5), np.nan), np.ones((5, 1)), np.zeros(5))
    extras = {name: getattr(model, name) for name in ("x", "target", "readout_weight", "readout_bias")}
    rd.save_cell(tmp_path / "wild.safetensors", wild, extras=extras)
    result = refdeq_command("demo", "sine", "--model", tmp_path / "wild.safetensors", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "NONFINITE" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("missing", ["x", "target", "readout_weight", "readout_bias"])
def test_a_file_without_an_extra_is_refused(refdeq_command, tmp_path, tiny_sine, missing):
    names = {"x", "target", "readout_weight", "readout_bias"} - {missing}
    rd.save_cell(tmp_path / "poor.safetensors", tiny_sine.model.cell, extras={n: getattr(tiny_sine.model, n) for n in names})
    result = refdeq_command("demo", "sine", "--model", tmp_path / "poor.safetensors", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert f"needs the extra tensor '{missing}'" in result.stderr


def test_drawing_neither_obeys_nor_changes_the_users_settings():
    import matplotlib

    def draw():
        figure, axes = figures.new_figure(1.0, 1.0)
        axes[0, 0].plot([0.0, 1.0])
        return figure

    before = figures.render(draw)
    with matplotlib.rc_context({"lines.linewidth": 9.0, "axes.facecolor": "red"}):
        settings = dict(matplotlib.rcParams)
        assert figures.render(draw) == before
        assert dict(matplotlib.rcParams) == settings


def test_every_usable_core_is_the_default():
    assert machine.usable_cores() >= 1
