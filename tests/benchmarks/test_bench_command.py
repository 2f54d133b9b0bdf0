"""``refdeq bench``: options, exit codes, JSON, and refusals; tiny points, and no assertion about time."""

from __future__ import annotations

import io
import itertools
import json
import re

import jsonschema
import pytest
from refdeq_bench import running, worker
from refdeq_bench.command import EXIT_NOISY, EXIT_SLOWER
from refdeq_bench.facts import MUST_AGREE
from refdeq_bench.selection import TOUR, parameters, read_settings, select_jobs
from refdeq_bench.workloads import WORKLOADS
from typer.testing import CliRunner

from refdeq.cli import app
from refdeq.errors import ArgumentError

TINY = ("gemm", "--quick", "--rounds", "1")
SETTINGS = ("samples=16", "inputs=8", "density=0.5", "pattern=random", "dtype=float32")
SMALL = ("gemm", "--rounds", "1", *(text for setting in SETTINGS for text in ("--set", setting)))
"""As small, but not --quick, which takes any noise."""
NUMBER, TEXT = {"type": "number"}, {"type": "string"}
RATIO = {
    "type": ["object", "null"],
    "required": ["median", "low", "high", "q1", "q3", "confidence"],
    "additionalProperties": NUMBER,
}
CONTENDER = {
    "type": "object",
    "required": ["name", "role", "median", "q1", "q3", "ratio", "calls", "seconds", "quality"],
    "additionalProperties": False,
    "properties": {
        "name": TEXT,
        "role": {"enum": ["ours", "baseline", "other"]},
        "median": NUMBER,
        "q1": NUMBER,
        "q3": NUMBER,
        "ratio": RATIO,
        "calls": {"type": "integer", "minimum": 1},
        "seconds": {"type": "array", "items": NUMBER, "minItems": 1},
        "quality": {"type": "object", "additionalProperties": {"type": ["number", "string"]}},
    },
}
ROW = {
    "type": "object",
    "required": ["workload", "backend", "order", "threads", "point", "best", "rounds", "noise", "skipped", "contenders"],
    "additionalProperties": False,
    "properties": {
        **dict.fromkeys(("workload", "backend", "order"), TEXT),
        "threads": {"type": "integer"},
        "point": {"type": "object"},
        "best": {"type": ["string", "null"]},
        "rounds": {"type": "integer"},
        "noise": {"type": "object", "required": ["median", "spread", "of_median"], "additionalProperties": NUMBER},
        "skipped": {"type": "object", "additionalProperties": TEXT},
        "contenders": {"type": "array", "items": CONTENDER, "minItems": 1},
    },
}
SCHEMA = {
    "type": "object",
    "required": ["schema", "facts", "noise_limit", "noise", "noisy", "rows", "skipped"],
    "properties": {
        "schema": {"const": "refdeq-bench/1"},
        "facts": {"type": "object", "required": [*MUST_AGREE, "refdeq"]},
        "noisy": {"type": "boolean"},
        "rows": {"type": "array", "items": ROW},
        "skipped": {"type": "array"},
        "goals": {"type": "array"},
        "changes": {"type": "array"},
    },
}


def noise(spread):
    return {
        "median": 1.0,
        "low": 1.0,
        "high": 1.0,
        "q1": 1.0,
        "q3": 1.0 + spread,
        "spread": spread,
        "of_median": 0.0,
        "confidence": 0.95,
    }


@pytest.fixture
def bench(monkeypatch):
    """Run ``refdeq bench ARGS`` with the worker in this process, on a machine as noisy as one likes."""
    state = {"spread": 0.0}

    def events(request, threads):
        out = io.StringIO()
        worker.serve(request, out)
        return iter(json.loads(line) for line in out.getvalue().splitlines())

    monkeypatch.setattr(running, "_events", events)
    monkeypatch.setattr(worker, "_noise", lambda threads: noise(state["spread"]))
    monkeypatch.setattr("refdeq_bench.facts.collect_facts", lambda: {**dict.fromkeys(MUST_AGREE, "x"), "refdeq": "0"})

    def run(*arguments, spread=0.0):
        state["spread"] = spread
        return CliRunner().invoke(app, ["bench", *map(str, arguments)])

    return run


def test_help_has_an_example_that_selects_something(bench):
    result = bench("--help")
    assert result.exit_code == 0
    examples = re.findall(r"^ +refdeq bench (.*)$", result.stdout, re.MULTILINE)
    assert len(examples) == 4
    names, rest = examples[0].split()[:1], examples[0].split()[1:]
    densities = [float(value) for option, value in itertools.pairwise(rest) if option == "--density"]
    given = {"density": densities, **read_settings([rest[-1]])}
    assert len(select_jobs(names, ["numba"], ["fast"], given, quick=False)) == 4  # two densities, two dtypes


def test_the_example_of_the_help_runs_on_a_small_matrix(bench):
    result = bench(
        "gemv", "--density", "0.1", "--density", "0.5", "--set", "n=64", "--dtype", "float32", "--rounds", "1", "--force"
    )
    assert result.exit_code == 0, result.output
    assert len(re.findall(r"^gemv: numba fast, threads 1, n 64", result.stdout, re.MULTILINE)) == 2


def test_json_on_stdout_is_one_object_of_the_schema(bench):
    result = bench(*TINY, "--backend", "numba", "--backend", "reference", "--order", "strict", "--threads", "1", "--json", "-")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    jsonschema.validate(data, SCHEMA)
    assert [row["backend"] for row in data["rows"]] == ["numba", "reference"]
    assert all(row["threads"] == 1 for row in data["rows"])


def test_json_goes_to_a_file_and_the_tables_to_the_terminal(bench, tmp_path):
    result = bench(*TINY, "--json", tmp_path / "out.json")
    jsonschema.validate(json.loads((tmp_path / "out.json").read_text()), SCHEMA)
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert "(best dense)" in result.stdout
    assert bench(*TINY, "--json", tmp_path / "no/out.json").exit_code == 2


def test_a_noisy_machine_is_refused_before_anything_is_measured(bench, monkeypatch, tmp_path):
    def events(request, threads):
        yield {"event": "noise", **noise(0.2)}
        pytest.fail("it went on after a noisy A/A")

    monkeypatch.setattr(running, "_events", events)
    result = bench(*SMALL, "--json", tmp_path / "out.json")
    assert result.exit_code == EXIT_NOISY == 6
    assert re.search(r"too noisy to conclude.*spread of 20%.*at most 10%.*--force", result.stderr)
    assert not list(tmp_path.iterdir())


def test_a_higher_limit_accepts_more_noise(bench):
    result = bench(*SMALL, "--noise-limit", "0.3", spread=0.2)
    assert result.exit_code == 0, result.output
    assert "quiet enough" in result.stdout


def test_force_measures_and_marks(bench):
    result = bench(*SMALL, "--force", spread=0.2)
    assert result.exit_code == 0, result.output
    assert "too noisy to conclude" in result.stdout


def test_a_wrong_result_ends_with_1_and_says_so(bench, monkeypatch):
    from refdeq_bench.checking import WrongResultError

    def wrong(backend, **point):
        raise WrongResultError("numba fast: wrong result")

    monkeypatch.setitem(WORKLOADS, "gemm", type(WORKLOADS["gemm"])("gemm", "", wrong, ({},), {}))
    result = bench(*TINY)
    assert result.exit_code == EXIT_SLOWER
    assert "WRONG: gemm numba fast threads=1: numba fast: wrong result" in result.stdout


def test_a_workload_that_a_backend_cannot_run_is_skipped_by_name(bench):
    result = bench("fused", "--quick", "--backend", "reference", "--order", "strict")
    assert result.exit_code == 0
    assert re.search(r"skipped: fused reference strict .*: backend 'reference' has no fused plan", result.stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nope"], 2, "WORKLOAD: expected one of gemv, gemm"),
        (["gemv", "--set", "size=3"], 2, r"size: expected a parameter of gemv \(n, dtype, density"),
        (["gemv", "--set", "n=abc"], 2, "n: expected a whole number above 0, got 'abc'"),
        (["gemv", "--set", "n"], 2, "--set: expected NAME=VALUE"),
        (["--set", "size=3"], 2, "size: expected a parameter of some workload"),
        (["gemv", "--density", "2", "--quick"], 2, r"density: expected a number in \(0, 1\]"),
        (["conv", "--set", "kernel=2x2", "--quick"], 2, "kernel: expected HEIGHTxWIDTH, both odd"),
        (["gemv", "--order", "sloppy", "--quick"], 2, "order: expected one of strict, fast"),
        (["--threads", "0"], 2, "--threads"),
        (["--backend", "cuda"], 3, "backend 'cuda' cannot run"),
        (["--goal", "P12"], 2, "--goal: expected one of P1"),
        (["gemv", "--goals"], 2, "--goals"),
        (["gemv", "--compare", "absent.json"], 2, r"absent\.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_has_one_line_and_its_exit_code(bench, arguments, code, message):
    result = bench(*arguments)
    assert result.exit_code == code, result.output
    assert re.search(message, result.stderr), result.stderr
    assert result.stderr.count("\n") == 1


def test_compare_says_faster_slower_and_nothing(bench, tmp_path):
    stored = tmp_path / "then.json"
    assert bench(*TINY, "--json", stored).exit_code == 0
    data = json.loads(stored.read_text())

    def compared(factor, spread=0.0):
        """Compare with a run in which ours took that many times as long as just now, on a machine without noise."""
        changed = json.loads(json.dumps(data))
        for contender in changed["rows"][0]["contenders"]:
            contender["seconds"] = [factor if contender["role"] == "ours" else 1.0]
        changed["rows"][0]["noise"] |= {"spread": 0.0, "of_median": 0.0}
        stored.write_text(json.dumps(changed))
        return bench(*TINY, "--compare", stored, "--noise-limit", "1e9")

    faster, slower = compared(1e9), compared(1e-9)
    assert (faster.exit_code, slower.exit_code) == (0, EXIT_SLOWER)
    assert " faster │" in faster.stdout
    assert " slower │" in slower.stdout


def test_compare_refuses_other_conditions_unless_asked(bench, tmp_path):
    stored = tmp_path / "then.json"
    bench(*TINY, "--json", stored)
    data = json.loads(stored.read_text())
    data["facts"]["cpu"] = "abacus"
    stored.write_text(json.dumps(data))
    result = bench(*TINY, "--compare", stored)
    assert result.exit_code == 2
    assert "cpu: 'abacus' there, 'x' here" in result.stderr
    assert "now against then" in bench(*TINY, "--compare", stored, "--across", "--noise-limit", "1e9").stdout


def test_goals_are_judged_and_missed_with_1(bench, monkeypatch):
    from refdeq_bench import goals

    tiny = goals.Demand("gemm", {"samples": 16, "inputs": 8, "density": 0.5}, 1e9)
    met = goals.Demand("gemm", {"samples": 16, "inputs": 8, "density": 0.25}, 1e-9)
    monkeypatch.setattr(goals, "GOALS", (goals.Goal("P1", "a", "b", (tiny, met)), goals.Goal("P2", "c", "d", (met,))))
    result = bench("--goals", "--threads", "1", "--rounds", "1", "--json", "-")
    assert result.exit_code == EXIT_SLOWER, result.output
    data = json.loads(result.stdout)
    jsonschema.validate(data, SCHEMA)
    assert [(entry["goal"], entry["met"]) for entry in data["goals"]] == [("P1", False), ("P1", True), ("P2", True)]
    assert bench("--goal", "P2", "--threads", "1", "--rounds", "1").exit_code == 0


def test_the_list_names_every_workload_and_its_parameters(bench):
    lines = bench("--list").stdout.splitlines()
    assert [line.split(":")[0] for line in lines[::2]] == list(WORKLOADS)
    assert lines[1].strip().startswith("n=2048, dtype=float32")


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_points_are_parameters_of_their_workload(name):
    workload = WORKLOADS[name]
    known = set(parameters(workload)) | (set(parameters(WORKLOADS["gemm"])) | {"n", "kernel"} if name == "orders" else set())
    for point in (*workload.points, workload.quick, TOUR.get(name, {})):
        assert set(point) <= known


def test_given_values_replace_those_of_every_point_once():
    jobs = select_jobs(["gemv"], ["numba"], ["fast", "strict"], {"density": [0.5], "n": [64]}, quick=False)
    assert [(job.order, job.point["dtype"]) for job in jobs] == [
        ("fast", "float32"), ("fast", "float64"), ("strict", "float32"), ("strict", "float64")
    ]  # fmt: skip
    with pytest.raises(ArgumentError):
        select_jobs(["gemv"], ["numba"], ["fast"], {"density": ["half"]}, quick=False)


def test_a_real_worker_has_the_threads_it_was_asked_for():
    found = running.run_jobs([running.Job("gemm", "numba", "strict", WORKLOADS["gemm"].quick)], 2, worker_settings())
    assert found.noise["median"] > 0
    assert found.rows[0]["threads"] == 2
    variables = running.environment(2)
    assert {variables[name] for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")} == {"2"}


def worker_settings():
    from refdeq_bench.measuring import Settings

    return Settings(rounds=1, sample_seconds=0.0)


def test_a_worker_that_breaks_down_is_not_taken_for_a_result(monkeypatch):
    monkeypatch.setattr(running, "environment", lambda threads: {"PATH": "/nowhere"})
    with pytest.raises(RuntimeError, match="the measuring process ended with 1"):
        running.run_jobs([running.Job("no such workload", "numba", "strict", {})], 1, worker_settings())
