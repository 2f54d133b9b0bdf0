"""Crossovers: where one kernel overtakes another, the record of a machine, and that neither changes a bit."""

import json

import numpy as np
import pytest
from refdeq_numba import crossing, gemm, tuning
from refdeq_numba.crossing import DENSITIES, WAYS, choose, overtakes
from refdeq_numba.dispatch import DEFAULTS, Crossovers
from refdeq_numba.panels import pack_panels
from refdeq_numba.scratch import make_scratch
from typer.testing import CliRunner

import refdeq as rd
from refdeq.cli import app
from refdeq.errors import FileFormatError


@pytest.fixture
def record(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "tuning.json"
    monkeypatch.setenv("REFDEQ_TUNING", str(path))
    tuning.crossovers.cache_clear()
    yield path
    tuning.crossovers.cache_clear()


def times(one, two, three, whole):
    """Seconds per way as functions of the density."""
    return {way: [cost(p) for p in DENSITIES] for way, cost in zip(WAYS, (one, two, three, whole), strict=True)}


def test_crossovers_lie_where_the_lines_cross():
    found = choose(times(lambda p: 4 * p, lambda p: 0.45 + 2 * p, lambda p: 0.8 + p, lambda p: 1.35))
    assert found == Crossovers(whole=0.55, one_block=0.35, two_blocks=0.25)


def test_a_way_that_never_wins_is_never_taken():
    found = choose(times(lambda p: p, lambda p: 1 + p, lambda p: 2 + p, lambda p: 3.0))
    assert found == Crossovers(whole=1.0, one_block=1.0, two_blocks=1.0)


def test_a_single_outlier_is_no_crossing():
    """The second way wins once at low density by accident; what counts is from where on it never loses."""
    assert overtakes((0.1, 0.2, 0.3, 0.4), [1.0, 2.0, 1.0, 4.0], [2.0, 1.0, 2.0, 3.0]) == pytest.approx(0.35, abs=0)


def test_without_a_record_the_defaults_hold(record):
    assert tuning.read() is None
    assert tuning.crossovers("float32") is DEFAULTS
    assert tuning.remove() is False


def test_a_record_is_used_on_the_machine_that_wrote_it(record):
    mine = {"float32": Crossovers(0.5, 0.25, 0.125), "float64": Crossovers(1.0, 0.0, 0.0)}
    assert tuning.write(mine, {}) == record
    assert {dtype: tuning.crossovers(dtype) for dtype in mine} == mine
    stored = json.loads(record.read_text())
    stored["machine"]["numba"] = "0.0"
    record.write_text(json.dumps(stored))
    tuning.crossovers.cache_clear()
    assert tuning.crossovers("float32") is DEFAULTS
    assert list(record.parent.iterdir()) == [record]  # no temporary file is left


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"schema": "refdeq-tuning/2"}', '{"schema": "refdeq-tuning/1", "crossovers": {}, "machine": {}}'],
)
def test_a_damaged_record_is_an_error_that_names_the_way_out(record, text):
    record.parent.mkdir()
    record.write_text(text)
    with pytest.raises(FileFormatError, match="refdeq tune --reset"):
        tuning.crossovers("float32")


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), "half", None, True])
def test_shares_lie_between_0_and_1(record, share):
    good = dict(DEFAULTS._asdict())
    tuning.write({"float32": DEFAULTS, "float64": DEFAULTS}, {})
    stored = json.loads(record.read_text())
    stored["crossovers"]["float64"] = {**good, "whole": share}
    record.write_text(json.dumps(stored))
    with pytest.raises(FileFormatError):
        tuning.read()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_way_gives_the_same_bits(rng, same_bits, dtype):
    """The dispatcher may choose what it likes (N-6)."""
    k, n, batch = 130, 37, 60
    panels, scratch = pack_panels(rng.standard_normal((k, n)).astype(dtype)), make_scratch(k, 16, np.dtype(dtype))
    scratch = make_scratch(k, panels.width, np.dtype(dtype))
    mask = rng.random((batch, k)) < rng.random((batch, 1))
    d = np.where(mask, rng.standard_normal((batch, k)), 0.0).astype(dtype)
    integer = np.int32 if dtype == "float32" else np.int64
    results = []
    for forced in (*WAYS.values(), DEFAULTS):
        a = np.ones((batch, n), dtype=dtype)
        bits = a.reshape(-1).view(integer), integer(np.iinfo(integer).min)
        gemm.gemm_panels(np.arange(batch), 0, batch, d, mask, False, panels, forced, None, bits, scratch, a)
        results.append(a)
    for result in results[1:]:
        same_bits(result, results[0])


def test_measuring_reports_every_density():
    seen = []
    seconds = crossing.measure("float32", 1, lambda: seen.append(None))
    assert len(seen) == len(DENSITIES)
    assert all(len(values) == len(DENSITIES) and min(values) > 0 for values in seconds.values())


def test_command_shows_and_resets(record):
    run = CliRunner()
    shown = json.loads(run.invoke(app, ["tune", "--show", "--json"]).output)
    assert shown["source"] == "shipped defaults"
    tuning.write({"float32": DEFAULTS, "float64": DEFAULTS}, {})
    assert json.loads(run.invoke(app, ["tune", "--show", "--json"]).output)["source"] == "measured on this machine"
    assert json.loads(run.invoke(app, ["tune", "--reset", "--json"]).output)["removed"] is True
    assert not record.exists()
    assert run.invoke(app, ["tune", "--show", "--reset"]).exit_code == 2


def test_command_measures_and_keeps(record):
    result = CliRunner().invoke(app, ["tune", "--rounds", "1"])
    assert result.exit_code == 0, result.output
    assert "measured on this machine" in result.output
    assert set(tuning.read()["crossovers"]) == {"float32", "float64"}


def test_solution_says_which_kernels_worked():
    cell = rd.models.rnn(np.eye(3) / 2, np.ones((3, 1)), np.zeros(3))
    x, stop = np.ones((4, 1)), rd.StopRule(max_eval=40)
    solution = rd.solve(cell, x, backend="numba", stop=stop, delta=rd.DeltaRule(threshold=0.01))
    assert solution.executor.startswith("fused: fc tanh; sums ")
    assert solution.executor.endswith("% none")
    never = rd.solve(cell, x, backend="numba", stop=stop, delta=rd.DeltaRule(threshold=1e9, start="zero"))
    assert never.executor == "fused: fc tanh; sums 0% whole, 0% by lists, 100% none"
