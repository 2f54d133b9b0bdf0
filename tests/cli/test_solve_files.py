"""What ``refdeq solve`` draws and writes: curves and figures of known numbers, whole files or none, and quiet ends."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import refdeq as rd
from refdeq import io
from refdeq.commands import figures, solve_figure, solve_run
from refdeq.commands.solve_curve import ROWS, curve
from refdeq.commands.solve_input import load_problem
from refdeq.commands.solve_report import Measure, carried, worst_samples
from refdeq.commands.solve_run import Request
from refdeq.registry import load_backend

# -------------------------------------------------------------------------------------------------------------------- curves


def test_a_curve_of_known_numbers():
    values = np.array([[1.0, 1.0, 1.0], [1e-1, 1e-1, 1.0], [1e-2, 1e-3, 1e-1], [1e-4, 1e-4, 1e-2]])
    lines = curve(Measure("residual", values, 1e-3))
    # four decades in twelve rows: three rows each; the median is that of the three samples
    expected = ["1e+00  |*   x", "       |", "       |", "1e-01  |    o   x", "       |", "       |", "1e-02  |        o   x"]
    expected += ["       |", "       |", "1e-03  |-------------", "       |", "       |", "1e-04  |            o"]
    assert lines[: ROWS + 1] == expected
    assert lines[ROWS + 1 :] == [
        "       +-------------",
        "        1           4",
        "residual at evaluation 1 to 4: o median, x worst, * both; - tolerance 0.001; finished samples keep their last",
    ]


@pytest.mark.parametrize("length", [2, 71, 72, 73, 1000])
@pytest.mark.parametrize("low", [1e-2, 1e-12, 1e-13, 1e-300, 5e-324])
def test_a_curve_fits_the_terminal_and_goes_from_end_to_end(length, low):
    values = np.linspace(1.0, 0.5, length)[:, None]
    values[-1] = low
    lines = curve(Measure("residual", values, None))
    drawn = [line for line in lines if "|" in line]
    assert ROWS // 2 < len(drawn) <= ROWS + 1
    assert max(map(len, lines)) <= 120
    assert drawn[0].startswith("1e+00  |*")
    # what ends in the last column ends there, in the row nearest to its logarithm
    width = lines[len(drawn)].count("-")
    (last,) = [row for row, line in enumerate(drawn) if len(line) == 8 + width and line.endswith("*")]
    exponents = [int(line[2:6]) for line in drawn if line.startswith("1e")]
    assert len(set(np.diff(exponents))) == 1
    step = (exponents[0] - exponents[-1]) / (len(drawn) - 1)
    assert abs(exponents[0] - last * step - np.log10(low)) <= step / 2


def test_one_evaluation_is_a_curve_too():
    lines = curve(Measure("residual", np.array([[0.5]]), None))
    assert [line for line in lines if "*" in line and "|" in line] == ["       |*"]
    assert (lines[0], lines[ROWS]) == ("1e+00  |", "1e-01  |")


def test_zeros_stand_at_the_bottom_and_what_is_not_finite_at_the_top():
    lines = curve(Measure("residual", np.array([[1.0, 1.0], [0.0, np.nan], [0.0, np.inf]]), 0.0))
    assert (lines[0], lines[ROWS]) == ("1e+00  |*   ^   ^", "1e-01  |    *   *")
    assert "^ some not finite" in lines[-1]
    assert curve(Measure("residual", np.full((2, 1), np.nan), 1e-3))[0] == "1e-03  |^---^"


def test_a_sample_that_is_not_finite_hides_no_other():
    lines = curve(Measure("residual", np.array([[1.0, 1.0, 1.0, np.nan], [1e-2, 1e-2, 1e-1, np.nan]]), None))
    assert [lines[0], lines[6], lines[12]] == ["1e+00  |^   ^", "1e-01  |    x", "1e-02  |    o"]


def test_a_finished_sample_keeps_its_last_residual():
    active = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 1]], dtype=bool)
    values = np.where(active, [[3.0, 3.0, 3.0], [2.0, 0.0, np.nan], [0.0, 0.0, 1.0]], -1.0)
    np.testing.assert_array_equal(carried(values, active), [[3.0, 3.0, 3.0], [2.0, 3.0, np.nan], [2.0, 3.0, 1.0]])


def test_worst_samples_did_not_converge_or_are_far_away(small):
    sol = rd.solve(small.cell, small.x)
    converged, failed = rd.Status.CONVERGED, rd.Status.MAX_EVAL
    status = np.array([converged, converged, failed, rd.Status.NONFINITE, converged, failed, converged])
    residual = np.array([5.0, 6.0, 1.0, np.nan, 0.0, 2.0, 3.0])
    known = dataclasses.replace(sol, status=status, residual=residual, scale=np.ones(7))
    assert worst_samples(known) == [3, 5, 2, 1, 0]


# ------------------------------------------------------------------------------------------------------------------- figures


def test_png_and_svg_are_whole_and_equal_runs_write_equal_bytes(solve_small, tmp_path):
    png, svg, again = (tmp_path / name for name in ("r.png", "r.svg", "again.svg"))
    for path in (png, svg, again):
        result = solve_small("--rtol", "1e-3", "--plot", path)
        assert result.exit_code == 0
        assert f"wrote {path}" in result.stdout
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert png.read_bytes()[-8:-4] == b"IEND"
    root = ElementTree.fromstring(svg.read_bytes())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert svg.read_bytes() == again.read_bytes()


@pytest.fixture
def drawn(solve_small, monkeypatch, tmp_path):
    """Axes of the figure that a call draws."""

    def run(*options):
        kept = []
        monkeypatch.setattr(solve_figure, "render", lambda report, suffix: kept.append(solve_figure.draw(report)) or b"-")
        solve_small("--plot", tmp_path / "r.png", *options)
        return kept[0].axes

    return run


def test_a_small_batch_is_drawn_sample_by_sample(drawn, small):
    (axis,) = drawn("--max-eval", "9", "--rtol", "1e-3")
    sol = rd.solve(small.cell, small.x, stop=rd.StopRule(rtol=1e-3, max_eval=9), trace=True)
    relative = sol.trace.residual / (sol.trace.scale + 1e-9)
    for b in range(7):
        np.testing.assert_array_equal(axis.lines[b].get_ydata(), relative[:, b])
    tolerance = axis.lines[7]
    assert (tolerance.get_label(), list(tolerance.get_ydata())) == ("tolerance 0.001", [1e-3, 1e-3])
    marks = {line.get_label(): line for line in axis.lines[8:]}
    assert set(marks) == {f"{status.name} ({count})" for status, count in sol.counts().items()}
    for status, count in sol.counts().items():
        line = marks[f"{status.name} ({count})"]
        ends = zip(sol.n_eval[sol.status == status], sol.residual_rel[sol.status == status], strict=True)
        assert sorted(zip(line.get_xdata(), line.get_ydata(), strict=True)) == sorted(ends)
    assert axis.get_yscale() == "log"


def test_a_large_batch_is_drawn_by_quantiles(drawn, small):
    x = np.random.default_rng(8).standard_normal((301, 2))
    np.savez(small.input_file, x=x)
    relative, absolute = drawn("--rtol", "1e-3", "--atol", "1e-9")
    sol = rd.solve(small.cell, x, stop=rd.StopRule(rtol=1e-3, atol=1e-9), trace=True)
    values = np.sort(carried(sol.trace.residual / (sol.trace.scale + 1e-9), sol.trace.active), axis=1)
    by_label = {line.get_label(): line for line in relative.lines}
    np.testing.assert_array_equal(by_label["median sample"].get_ydata(), values[:, 150])
    np.testing.assert_array_equal(by_label["worst sample"].get_ydata(), values[:, 300])
    assert "CONVERGED (301, 200 drawn)" in by_label
    assert [line.get_ydata()[0] for line in absolute.lines if line.get_label() == "tolerance 1e-09"] == [1e-9]


@pytest.mark.parametrize("samples", [3, 40])
def test_what_has_no_logarithm_is_drawn_at_the_edge(drawn, small, samples):
    x = np.random.default_rng(8).standard_normal((samples, 2))
    x[1] = np.nan
    np.savez(small.input_file, x=x)
    (axis,) = drawn()
    by_label = {line.get_label(): line for line in axis.lines}
    mark = by_label["NONFINITE (1)"]
    if samples > 12:
        sol = rd.solve(small.cell, x, trace=True)
        values = carried(sol.trace.residual / (sol.trace.scale + 1e-9), sol.trace.active)
        np.testing.assert_array_equal(by_label["worst finite sample"].get_ydata(), np.nanmax(values, axis=1))
    assert np.isfinite(mark.get_ydata()).all()
    assert list(mark.get_xdata()) == [1]


def test_without_matplotlib_nothing_is_done(solve_small, monkeypatch, tmp_path):
    monkeypatch.setattr(figures, "find_spec", lambda name: None)
    monkeypatch.setattr(solve_run, "solve", None)
    result = solve_small("--plot", tmp_path / "r.png")
    assert (result.exit_code, result.stdout) == (2, "")
    assert 'pip install "refdeq[plot]"' in result.stderr


# --------------------------------------------------------------------------------------------------------------- whole files


@pytest.mark.parametrize("option", ["--plot", "--trace", "--out"])
@pytest.mark.parametrize("target", ["missing/r", "folder", "used"])
def test_unusable_targets_are_refused_before_any_work(solve_small, small, monkeypatch, tmp_path, option, target):
    monkeypatch.setattr(solve_run, "solve", None)
    suffix = {"--plot": ".png", "--trace": ".safetensors", "--out": ".npz"}[option]
    path = tmp_path / f"{target}{suffix}"
    more = []
    if target == "folder":
        path.mkdir()
    if target == "used":
        path = {"--plot": tmp_path / "r.png", "--trace": small.cell_file, "--out": small.input_file}[option]
        more = ["--plot", path] if option == "--plot" else []
        monkeypatch.setattr(
            "refdeq.commands.solve_files.KINDS", {name: (path.suffix,) for name in ("--plot", "--trace", "--out")}
        )
        more += ["--out", path] if option == "--plot" else []
    before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    result = solve_small(option, path, *more)
    assert (result.exit_code, result.stdout) == (2, "")
    assert ": expected a file" in result.stderr
    assert {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt()], ids=["full", "interrupted"])
@pytest.mark.parametrize("option", ["--trace", "--out"])
def test_a_failed_write_leaves_the_old_file(solve_small, monkeypatch, tmp_path, option, error):
    path = tmp_path / "old.safetensors"
    path.write_bytes(b"old")
    before = sorted(tmp_path.iterdir())

    def fail(*_):
        raise error

    monkeypatch.setattr(io.os, "replace", fail)
    result = solve_small(option, path)
    assert (result.exit_code, result.stdout) == (130 if isinstance(error, KeyboardInterrupt) else 2, "")
    assert path.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == before


INTERRUPTED = """
import os, signal
from refdeq import cli
from refdeq.commands import solve_run

solve = solve_run.solve


def press_ctrl_c(progress):
    if progress.evaluation == 3:
        os.kill(os.getpid(), signal.SIGINT)


solve_run.solve = lambda *args, **options: solve(*args, **{**options, "on_evaluation": press_ctrl_c})
cli.main()
"""


def test_ctrl_c_ends_with_130_and_writes_nothing(small, tmp_path):
    before = sorted(tmp_path.iterdir())
    files = ["--out", tmp_path / "z.npz", "--trace", tmp_path / "t.safetensors", "--plot", tmp_path / "r.png"]
    command = [sys.executable, "-c", INTERRUPTED, "solve", small.cell_file, small.input_file, "--backend", "reference", *files]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"refdeq: interrupted\n")
    assert sorted(tmp_path.iterdir()) == before


# ------------------------------------------------------------------------------------------------------------------ progress


def request(backend, executor, stop, **changes):
    fixed = {"solver": rd.Picard(), "delta": None, "order": "strict", "threads": 1, "returned": "last"}
    fixed |= {"polish": False, "verify": False, "history": True, "trace": False}
    return Request(backend=load_backend(backend), executor=executor, stop=stop, **{**fixed, **changes})


def test_the_history_of_chunks_is_that_of_the_whole_batch(small, same_bits, monkeypatch):
    monkeypatch.setattr(solve_run, "CHUNK_BYTES", 1)
    problem = load_problem(str(small.cell_file), str(small.input_file), None)
    found = solve_run.run(problem, request("reference", "auto", rd.StopRule(rtol=1e-6))).history
    trace = rd.solve(small.cell, small.x, trace=True).trace
    for name in ("active", "residual", "scale"):
        same_bits(getattr(found, name), getattr(trace, name))


@pytest.mark.parametrize(
    ("backend", "executor", "inside"), [("reference", "auto", True), ("numba", "op", True), ("numba", "auto", False)]
)
def test_progress_is_watched_only_where_it_changes_nothing(small, same_bits, backend, executor, inside):
    problem = load_problem(str(small.cell_file), str(small.input_file), None)
    asked = request(backend, executor, rd.StopRule(rtol=1e-6))
    told = []
    seen = solve_run.run(problem, asked, lambda done, progress: told.append((done, progress)))
    unseen = solve_run.run(problem, asked)
    assert seen.solution.executor == unseen.solution.executor
    assert seen.solution.executor.startswith("op level" if inside else "fused")
    same_bits(seen.solution.z, unseen.solution.z)
    assert told[-1] == (7, None)
    assert any(progress is not None for _, progress in told) == inside
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_the_progress_bar_does_not_disturb_the_output(solve_small, monkeypatch):
    plain = json.loads(solve_small("--json").stdout)
    from refdeq.commands import console

    bar = console.progress_bar()
    bar.disable = False
    bar.live.console.file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (closed below)
    monkeypatch.setattr(console, "progress_bar", lambda: bar)
    shown = json.loads(solve_small("--json").stdout)
    bar.live.console.file.close()
    assert {**shown, "seconds": 0} == {**plain, "seconds": 0}
    assert bar.tasks[0].completed == 7
