"""Replay finds every tampering with a run, and says of what kind it is."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from refdeq_validation.designed.graphs import every_operator_cell, linear_cell
from refdeq_validation.judge.replay import replay
from refdeq_validation.judge.verdicts import Findings
from refdeq_validation.runner import run_data

import refdeq as rd

BATCH, N = 4, 7
TWO_STATES = every_operator_cell("float64")


def honest_run(order="strict", preset="refdeq", dtype="float64", cell=None, **options):
    rng = np.random.default_rng(41)
    cell = cell or linear_cell(N, dtype, bias=True, activation="Tanh")
    x = (rng.standard_normal((BATCH, *cell.graph.injections["x"])) * np.logspace(-2, 0.5, BATCH)[:, None]).astype(cell.dtype)
    z0 = {state: (0.1 * rng.standard_normal((BATCH, *shape))).astype(cell.dtype) for state, shape in cell.graph.states.items()}
    rule = None if preset is None else rd.DeltaRule.preset(preset, threshold=0.02)
    stop = rd.StopRule(rtol=1e-2, max_eval=9)
    solution = rd.solve(cell, x, z0=z0, stop=stop, delta=rule, executor="op", backend="reference", trace=True, **options)
    return copy.deepcopy(run_data(cell, solution, z0, rule, rd.Picard(), order, None))


def ulp(array, index):
    array[index] = np.nextafter(array[index], np.inf)


def kinds(run):
    return {failure.kind for failure in replay(run).failures}


@pytest.mark.parametrize("order", ["strict", "fast"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("preset", ["paper", "deltadeq-code", "delta-network", "refdeq", None])
def test_an_honest_run_passes(preset, dtype, order):
    run = honest_run(order, preset, dtype)
    findings = replay(run)
    assert findings.passed, [failure.sentence() for failure in findings.failures]
    assert len(set(run.n_eval)) > 1
    gated = 0 if preset is None else N * int(run.n_eval.sum())
    assert findings.decisions == gated


TAMPERINGS = {
    "mask bit": (lambda run: run.trace.mask["z"].__setitem__((1, 2, 3), ~run.trace.mask["z"][1, 2, 3]), "mask"),
    "mask of the start": (lambda run: run.trace.mask["z"].__setitem__((0, 0, 0), False), "mask"),
    "reference": (lambda run: ulp(run.trace.r["z"], (1, 2, 3)), "memory"),
    "first argument": (lambda run: ulp(run.trace.z["z"], (0, 1, 4)), "state"),
    "later argument": (lambda run: ulp(run.trace.z["z"], (2, 1, 4)), "state"),
    "value": (lambda run: ulp(run.trace.f["z"], (1, 0, 6)), "value"),
    "accumulator": (lambda run: ulp(run.trace.a["linear"], (1, 3, 0)), "value"),
    "residual": (lambda run: ulp(run.trace.residual, (1, 2)), "stop_rule"),
    "scale": (lambda run: ulp(run.trace.scale, (0, 3)), "stop_rule"),
    "status": (lambda run: run.status.__setitem__(1, rd.Status.MAX_EVAL), "stop_rule"),
    "number of evaluations": (lambda run: run.n_eval.__setitem__(0, run.n_eval[0] + 1), "structure"),
    "returned point": (lambda run: ulp(run.z["z"], (2, 2)), "state"),
    "returned residual": (lambda run: ulp(run.residual, 0), "state"),
    "returned scale": (lambda run: ulp(run.scale, 3), "state"),
    "returned points exchanged": (lambda run: run.z.__setitem__("z", run.z["z"][[1, 0, 2, 3]]), "state"),
    "reference after the solve": (lambda run: ulp(run.after["r"]["z"], (0, 0)), "memory"),
    "accumulator after the solve": (lambda run: ulp(run.after["a"]["linear"], (0, 0)), "memory"),
    "mask after the solve": (lambda run: run.after["mask"].__setitem__("z", ~run.after["mask"]["z"]), "memory"),
    "evaluations since the reset": (lambda run: run.after["count"].__setitem__(0, 0), "count"),
    "sent": (lambda run: run.sent.__setitem__("z", run.sent["z"] + 1), "count"),
    "multiply-accumulates": (lambda run: run.macs.__setitem__("linear", run.macs["linear"] - 1), "count"),
    "multiply-accumulates missing": (lambda run: run.macs.clear(), "count"),
    "zero elements": (lambda run: setattr(run, "zeros", (run.zeros[0] + 1, run.zeros[1])), "count"),
    "NaN in a reference": (lambda run: run.trace.r["z"].__setitem__((1, 2, 3), np.nan), "memory"),
    "NaN in an accumulator": (lambda run: run.trace.a["linear"].__setitem__((0, 0, 0), np.nan), "value"),
    "NaN in a value": (lambda run: run.trace.f["z"].__setitem__((1, 0, 0), np.nan), "value"),
    "NaN in a residual": (lambda run: run.trace.residual.__setitem__((0, 0), np.nan), "stop_rule"),
    "a negative zero": (lambda run: run.trace.z["z"].__setitem__((0, 0, 0), -0.0), "state"),
    "another dtype": (lambda run: run.trace.z.__setitem__("z", run.trace.z["z"].astype(np.float32)), "structure"),
    "a reference missing": (lambda run: run.trace.r.clear(), "structure"),
    "an accumulator missing": (lambda run: run.trace.a.clear(), "structure"),
    "a memory missing": (lambda run: run.after["r"].clear(), "structure"),
    "a sample missing": (lambda run: run.trace.r.__setitem__("z", run.trace.r["z"][:, 1:]), "structure"),
    "who took part": (lambda run: run.trace.active.__setitem__((-1, 0), ~run.trace.active[-1, 0]), "structure"),
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_tampered_run_is_found(what):
    tamper, kind = TAMPERINGS[what]
    run = honest_run()
    if what == "a negative zero":
        run.z0["z"][0, 0] = 0.0
    tamper(run)
    findings = replay(run)
    assert not findings.passed
    assert kind in {failure.kind for failure in findings.failures}


@pytest.mark.parametrize("what", sorted(set(TAMPERINGS) - {"accumulator", "residual", "scale"}))
def test_a_fast_declaration_excuses_no_tampering_but_in_sums(what):
    tamper, kind = TAMPERINGS[what]
    run = honest_run("fast")
    if what == "a negative zero":
        run.z0["z"][0, 0] = 0.0
    tamper(run)
    assert kind in kinds(run)


def test_a_fast_sum_is_found_beyond_its_bound():
    run = honest_run("fast", dtype="float32")
    run.trace.a["linear"][1, 3, 0] *= np.float32(1.0 + 2.0**-10)
    assert "value" in kinds(run)


def rows_of(run, pick):
    """Take evaluations from a trace."""
    trace = run.trace
    for part in ("z", "f", "r", "mask", "a", "values"):
        group = getattr(trace, part)
        group.update({name: array[pick] for name, array in group.items()})
    trace.active, trace.residual, trace.scale = trace.active[pick], trace.residual[pick], trace.scale[pick]
    run.n_eval = trace.active.sum(axis=0)


def test_an_evaluation_left_out_is_found():
    run = honest_run()
    rows_of(run, [t for t in range(len(run.trace)) if t != 1])
    assert {"state", "count"} & kinds(run)


def test_an_evaluation_made_twice_is_found():
    run = honest_run()
    rows_of(run, [0, 1, *range(1, len(run.trace))])
    assert {"state", "count"} & kinds(run)


def test_a_trace_of_no_evaluation_is_found():
    run = honest_run()
    rows_of(run, slice(0, 0))
    run.n_eval = np.ones(BATCH, dtype=np.int64)
    assert "structure" in kinds(run)


def test_samples_exchanged_in_the_whole_trace_are_found():
    run, order = honest_run(), [1, 0, 2, 3]
    trace = run.trace
    for part in ("z", "f", "r", "mask", "a"):
        group = getattr(trace, part)
        group.update({name: array[:, order] for name, array in group.items()})
    trace.active, trace.residual, trace.scale = trace.active[:, order], trace.residual[:, order], trace.scale[:, order]
    assert not replay(run).passed


@pytest.mark.parametrize("part", ["hoisted", "values"])
@pytest.mark.parametrize("order", ["strict", "fast"])
def test_nodes_without_a_gate_are_judged(part, order):
    for name in getattr(honest_run(order, "refdeq", cell=TWO_STATES).trace, part):
        run = honest_run(order, "refdeq", cell=TWO_STATES)
        assert replay(run).passed
        array = getattr(run.trace, part)[name]
        array[(0,) * array.ndim] += 2.0**-20
        assert "value" in kinds(run), name
        run = honest_run(order, "refdeq", cell=TWO_STATES)
        del getattr(run.trace, part)[name]
        assert kinds(run) == {"structure"}


def test_a_run_judged_by_another_rule_fails():
    for preset in ("paper", "deltadeq-code", "delta-network"):
        run = honest_run(preset="refdeq")
        run.rule = rd.DeltaRule.preset(preset, threshold=0.02)
        assert not replay(run).passed, preset


def test_a_run_judged_by_another_stop_rule_fails():
    for stop in (rd.StopRule(rtol=1e-3, max_eval=9), rd.StopRule(rtol=1e-2, max_eval=3), rd.StopRule(atol=1.0, max_eval=9)):
        run = honest_run()
        run.stop = stop
        assert "stop_rule" in kinds(run)


def test_a_run_judged_with_another_start_or_step_fails():
    run = honest_run()
    run.z0["z"][0, 0] += 1.0
    assert "state" in kinds(run)
    run = honest_run()
    run.alpha, run.solver = 0.9, None
    assert "state" in kinds(run)


def test_nothing_compared_is_no_pass():
    empty = Findings()
    assert not empty.passed
    whole = replay(honest_run())
    assert whole.passed
    whole.merge(empty)
    assert whole.passed
    empty.merge(whole)
    assert empty.passed


def test_failures_are_kept_up_to_a_limit_and_all_counted():
    run = honest_run()
    run.trace.a["linear"] += 1.0
    run.trace.f["z"] += 1.0
    run.trace.r["z"] += 1.0
    findings = replay(run)
    assert findings.failed >= len(findings.failures) > 3
    first = findings.failures[0]
    assert "expected" in first.sentence()
    assert first.as_data()["index"] == list(first.index)
