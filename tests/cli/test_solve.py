"""``refdeq solve``: its tables, JSON and files say what ``refdeq.solve`` returns, and its exit code what the statuses say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import refdeq as rd
from refdeq.commands import solve_run
from refdeq.commands.solve_input import read_arrays
from refdeq.io import load_trace, read_safetensors

RULE = rd.DeltaRule(threshold=1e-4)
STOP = rd.StopRule(rtol=1e-6, max_eval=100)


def floats(values):
    """Numbers of the JSON report, with the words for those that JSON lacks."""
    return np.array([float(value) for value in values])


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def read(text):
    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def direct(small):
    return rd.solve(small.cell, small.x, stop=STOP, delta=RULE, verify=True, trace=True)


def test_json_holds_the_numbers_of_a_direct_solve(solve_small, direct, small):
    result = solve_small("--delta", "1e-4", "--verify", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    data = read(result.stdout)
    assert (data["schema"], data["semantics"], data["converged"]) == ("refdeq-solve/1", rd.types.SEMANTICS_VERSION, True)
    samples = data["samples"]
    assert samples["status"] == ["CONVERGED"] * 7
    assert samples["n_eval"] == direct.n_eval.tolist()
    for name in ("residual", "scale", "residual_rel", "residual_dense"):
        assert samples[name] == getattr(direct, name).tolist()
    assert samples["macs"] == direct.cost.macs_per_sample.tolist()
    for name in ("residual", "scale"):
        stacked = getattr(direct.trace, name)
        assert data["history"][name] == [stacked[:n, b].tolist() for b, n in enumerate(direct.n_eval)]
    assert data["cell"]["digest"] == small.cell.digest
    assert data["input"] == {"source": str(small.input_file), "samples": 7, "z0": False}
    assert data["files"] == {}


def test_json_says_what_the_rule_saved(solve_small, direct):
    cost = read(solve_small("--delta", "1e-4", "--json").stdout)["cost"]
    assert (cost["macs"], cost["macs_dense"], cost["saved"]) == (direct.cost.macs, direct.cost.macs_dense, direct.cost.saved)
    assert cost["by_gate"] == {"z": {"sent": int(direct.trace.mask["z"].sum()), "elements": 6 * int(direct.n_eval.sum())}}
    assert cost["official"]["flops"] == direct.cost.official.flops
    polished = read(solve_small("--delta", "1e-4", "--polish", "--json").stdout)
    assert polished["cost"]["by_gate"] == cost["by_gate"]
    assert polished["samples"]["n_eval"] == (direct.n_eval + 1).tolist()


def test_tables_show_statuses_worst_samples_and_cost(solve_small, small):
    needed = rd.solve(small.cell, small.x, stop=rd.StopRule(rtol=1e-3), delta=RULE).n_eval
    budget = int(needed.max()) - 1
    sol = rd.solve(small.cell, small.x, stop=rd.StopRule(rtol=1e-3, max_eval=budget), delta=RULE)
    result = solve_small("--rtol", "1e-3", "--max-eval", budget, "--delta", "1e-4")
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert f"{small.cell_file}: {small.cell!r}; 7 samples from {small.input_file}" in text
    assert f"solver picard; rtol 0.001, at most {budget} evaluations, l2; delta rule threshold 0.0001" in text
    assert "backend reference (asked for), strict order" in text
    assert list(sol.counts()) == [rd.Status.CONVERGED, rd.Status.MAX_EVAL]
    for status, count in sol.counts().items():
        counts = np.sort(sol.n_eval[sol.status == status])
        ends = f"{counts[0]} / {counts[(count - 1) // 2]} / {counts[-1]}"
        assert re.search(rf"│ {status.name} +│ +{count} │ +{ends} │", result.stdout)
    order = sorted(range(7), key=lambda b: (sol.status[b] == rd.Status.CONVERGED, -sol.residual_rel[b]))
    rows = re.findall(r"│ +(\d) │ +(\w+) │ +(\d+) │ +([\d.e-]+) │ +([\d.e-]+) │", result.stdout)
    expected = [
        (str(b), rd.Status(sol.status[b]).name, str(sol.n_eval[b]), f"{sol.residual[b]:.3g}", f"{sol.residual_rel[b]:.3g}")
        for b in order[:5]
    ]
    assert rows == expected
    assert f"MACs: {sol.cost.macs:,} of {sol.cost.macs_dense:,} ({100 * sol.cost.saved:.1f} % saved)" in text
    assert f"gate z: {sol.cost.by_gate['z']:,} of {6 * sol.n_eval.sum():,} elements sent" in text
    assert "- tolerance 0.001" in text


def test_warnings_are_printed(solve_small):
    result = solve_small("--delta", "10", "--verify")
    assert "warning: 7 of 7 samples converged by the delta-evaluated residual but not by the dense one" in result.stdout
    assert "residual of the dense f at the returned points: at most" in result.stdout


@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_trace_file_holds_every_array_bit_for_bit(refdeq_command, small, direct, tmp_path, same_bits, backend):
    path = tmp_path / "trace.safetensors"
    options = ["--backend", backend, "--delta", "1e-4", "--trace", path, "--threads", 1]
    result = refdeq_command("solve", small.cell_file, small.input_file, *options)
    assert result.exit_code == 0
    assert f"wrote {path}" in result.stdout
    trace, meta = load_trace(path)
    for name in ("active", "residual", "scale"):
        same_bits(getattr(trace, name), getattr(direct.trace, name))
    for group in ("z", "f", "r", "mask", "a", "values", "hoisted"):
        assert getattr(trace, group).keys() == getattr(direct.trace, group).keys()
        for name, array in getattr(direct.trace, group).items():
            same_bits(getattr(trace, group)[name], array)
    assert trace.semantics_version == rd.types.SEMANTICS_VERSION
    assert (meta["cell"], meta["cell_digest"]) == (str(small.cell_file), small.cell.digest)
    options = json.loads(meta["options"])
    assert (options["backend"], options["delta"]["threshold"], options["stop"]["rtol"]) == (backend, 1e-4, 1e-6)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_out_file_holds_the_returned_point(solve_small, small, direct, tmp_path, same_bits, suffix):
    path = tmp_path / f"z.{suffix}"
    assert solve_small("--delta", "1e-4", "--out", path).exit_code == 0
    header, arrays = read_safetensors(path) if suffix == "safetensors" else ({}, read_arrays(path))
    assert list(arrays) == ["z"]
    same_bits(arrays["z"], direct.z)
    if suffix == "safetensors":
        assert header["cell_digest"] == small.cell.digest
    # what was written is where a solve can start: nothing is left to do
    np.savez(small.input_file, x=small.x, z=arrays["z"])
    again = read(solve_small("--json").stdout)
    assert again["input"]["z0"] is True
    assert max(again["samples"]["n_eval"]) < direct.n_eval.max()


def test_a_sample_without_convergence_is_exit_code_1_and_the_json_is_whole(solve_small):
    result = solve_small("--max-eval", 3, "--json")
    assert result.exit_code == 1
    data = read(result.stdout)
    assert data["converged"] is False
    assert [row["status"] for row in data["statuses"]] == ["MAX_EVAL"]
    assert data["statuses"][0]["sentence"] == rd.Status.MAX_EVAL.sentence
    assert data["statuses"][0]["evaluations"] == {"min": 3, "median": 3, "max": 3}


def test_a_nan_harms_its_own_sample_only(solve_small, small, direct):
    spoiled = small.x.copy()
    spoiled[2, 1] = np.nan
    np.savez(small.input_file, x=spoiled)
    result = solve_small("--delta", "1e-4", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    data = read(result.stdout)
    good = [0, 1, 3, 4, 5, 6]
    assert [data["samples"]["status"][b] for b in good] == ["CONVERGED"] * 6
    assert (data["samples"]["status"][2], data["samples"]["residual"][2]) == ("NONFINITE", "NaN")
    assert floats(data["samples"]["residual"])[good].tolist() == direct.residual[good].tolist()
    assert data["history"]["residual"][2] == ["NaN"]
    assert data["worst"][0] == 2
    text = solve_small("--delta", "1e-4").stdout
    assert rd.Status.NONFINITE.sentence.split(":")[0] in " ".join(text.replace("│", " ").split())
    assert "^ some not finite" in text


@pytest.mark.parametrize("solver", ["picard", "anderson:window=4", "broyden:line_search=armijo"])
def test_chunks_change_nothing_but_the_time(solve_small, monkeypatch, solver):
    options = ("--solver", solver, "--delta", "1e-2", "--max-eval", 12, "--polish", "--verify", "--json")
    whole = read(solve_small(*options).stdout)
    monkeypatch.setattr(solve_run, "CHUNK_BYTES", 1)
    calls = []
    monkeypatch.setattr(solve_run, "solve", lambda *args, **kwargs: calls.append(1) or rd.solve(*args, **kwargs))
    parts = read(solve_small(*options).stdout)
    assert len(calls) == 7
    assert {**parts, "seconds": 0} == {**whole, "seconds": 0}


def test_chunks_are_verified_together(solve_small, monkeypatch):
    monkeypatch.setattr(solve_run, "CHUNK_BYTES", 1)
    data = read(solve_small("--delta", "10", "--verify", "--json").stdout)
    assert data["warnings"] == ["7 of 7 samples converged by the delta-evaluated residual but not by the dense one"]


def test_what_all_chunks_say_is_said_once(refdeq_command, small, monkeypatch, tmp_path):
    monkeypatch.setattr(solve_run, "CHUNK_BYTES", 1)
    rd.save_cell(tmp_path / "narrow.safetensors", small.cell.astype("float32"))
    np.save(tmp_path / "x.npy", small.x.astype("float32"))
    options = ("--backend", "reference", "--delta", "1e-60", "--rtol", "1e-3", "--json")
    result = refdeq_command("solve", tmp_path / "narrow.safetensors", tmp_path / "x.npy", *options)
    assert read(result.stdout)["warnings"] == ["threshold 1e-60 rounds to 0 in float32"]


@pytest.mark.parametrize("option", ["--trace", "--order", "--solver", "--dialect"])
def test_what_must_stay_in_one_piece_does(refdeq_command, small, monkeypatch, tmp_path, option):
    monkeypatch.setattr(solve_run, "CHUNK_BYTES", 1)
    calls = []
    monkeypatch.setattr(solve_run, "solve", lambda *args, **kwargs: calls.append(1) or rd.solve(*args, **kwargs))
    value = {"--trace": tmp_path / "t.safetensors", "--order": "fast", "--solver": "broyden:coupled=true"}
    more = [option, value.get(option, "deq-flow/anderson")]
    result = refdeq_command("solve", small.cell_file, small.input_file, "--backend", "numba", "--executor", "op", *more)
    assert (result.exit_code, len(calls)) == (0, 1)


def test_residuals_are_recorded_where_that_is_cheap_or_asked_for(solve_small, monkeypatch):
    assert read(solve_small("--no-history", "--json").stdout)["history"] is None
    assert "no residual curve: switched off" in solve_small("--no-history").stdout
    monkeypatch.setattr(solve_run, "HISTORY_BYTES", 0)
    assert "no residual curve: so many" in solve_small().stdout
    assert read(solve_small("--json").stdout)["history"] is None
    assert len(read(solve_small("--history", "--json").stdout)["history"]["residual"]) == 7


def test_numba_is_the_default_and_gives_the_same_numbers(refdeq_command, solve_small, small):
    default = read(refdeq_command("solve", small.cell_file, small.input_file, "--json").stdout)
    reference = read(solve_small("--json").stdout)
    assert (default["options"]["backend"], default["backend_reason"]) == ("numba", "the default")
    assert default["executor"].startswith("fused")
    assert reference["executor"] == "op level (backend reference has no fused plans)"
    for key in ("samples", "history", "statuses", "cost"):
        assert default[key] == reference[key]


def test_readme_sample_is_what_the_command_prints(refdeq_command, tmp_path, monkeypatch):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    example: dict[str, object] = {}
    exec(compile(re.search(r"^```python\n(.*?)^```$", readme, re.M | re.S)[1], "README.md", "exec"), example)
    section = readme.partition("## Solve a cell from a file")[2].partition("\n## ")[0]
    command, printed = re.findall(r"^```\n(.*?)^```$", section, re.M | re.S)
    monkeypatch.chdir(tmp_path)
    rd.save_cell("cell.safetensors", example["cell"])
    np.savez("input.npz", x=example["x"])
    monkeypatch.setattr("refdeq.commands.solve_figure.render", lambda report, suffix: b"left out")
    result = refdeq_command(*command.split()[1:], "--backend", "reference")
    assert result.exit_code == 0
    text = " ".join(result.stdout.replace("│", " ").split())
    for line in printed.splitlines():
        assert " ".join(line.split())[:90] in text
    for named in re.findall(r"`(--[a-z]+)`", section):
        assert named in refdeq_command("solve", "--help").stdout
