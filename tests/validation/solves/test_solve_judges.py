"""The judges of whole solves pass every true run, and find every bug that is planted in one."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from refdeq_validation.cases import certificate, gradient, solver, warm_solves
from refdeq_validation.judge.judging import judge
from refdeq_validation.judge.lockstep import ambiguous_before
from refdeq_validation.lab.session import CLAIMS, Lab
from refdeq_validation.lab.variants import VARIANTS
from refdeq_validation.protocol.adapter import BackendImplementation
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.transcript import Answer, Transcript

from refdeq.registry import load_backend
from refdeq.types import Status

FAST = replace(CLAIMS, order="fast")


@functools.cache
def by_slug(dtype):
    modules = (solver, warm_solves, certificate, gradient)
    return {case.slug: case for module in modules for case in module.cases(dtype)}


def case_of(slug, dtype="float32"):
    return by_slug(dtype)[f"{slug}-{'f32' if dtype == 'float32' else 'f64'}"]


@functools.cache
def golden(slug, dtype="float32"):
    return execute(case_of(slug, dtype), Lab(), CLAIMS)


def altered(slug, change, call=-1, dtype="float32"):
    """The golden transcript with the results of one call changed."""
    transcript = golden(slug, dtype)
    results = {name: array.copy() for name, array in transcript.answers[call].results.items()}
    change(results)
    answers = list(transcript.answers)
    answers[call] = Answer(answers[call].name, results)
    return Transcript(transcript.case, answers)


def kinds(slug, change, call=-1, claims=FAST, dtype="float32"):
    findings = judge(case_of(slug, dtype), altered(slug, change, call, dtype), claims)
    return {failure.kind for failure in findings.failures}


def test_true_runs_of_backends_and_variants_pass():
    """A sample of every level on the reference, on Numba's fused plans, and on two variants of another arithmetic."""
    chosen = [case for dtype in ("float32", "float64") for i, case in enumerate(by_slug(dtype).values()) if i % 12 == 0]
    assert {case.level for case in chosen} == {"L2", "L3", "L4", "L5", "L6"}
    backends = [
        BackendImplementation(load_backend("reference"), "strict", "op"),
        BackendImplementation(load_backend("numba"), "strict", "fused"),
    ]
    implementations = [(backend, backend.claims) for backend in backends]
    implementations += [(VARIANTS[name].implementation(), VARIANTS[name].claims) for name in ("native", "truncate")]
    for case in chosen:
        for implementation, claims in implementations:
            findings = judge(case, execute(case, implementation, claims), claims)
            assert findings.passed, (case.id, claims.name, [failure.sentence() for failure in findings.failures])


# ------------------------------------------------------------------------------------------------------------ L2, replay


def nudge(name, index, factor=1e-3):
    def change(results):
        results[name][index] += factor * (1.0 + np.abs(results[name][index]))

    return change


@pytest.mark.parametrize("name", ["anderson", "anderson-mixed", "anderson-weights", "broyden", "broyden-bad", "damped"])
def test_a_step_that_is_not_the_solvers_is_found(name):
    def change(results):  # the run goes on consistently from another second argument: only the step itself is wrong
        results["trace.z"][2, 0, 1] += 1e-3

    assert "state" in kinds(f"{name}-dense", change, call=1)
    assert "state" in kinds(f"{name}-refdeq", change, call=1)


def test_statuses_counts_and_points_are_replayed():
    slug = "picard-refdeq"
    assert kinds(slug, lambda r: r["n_eval"].__isub__(1), call=1) == {"structure"}
    assert "stop_rule" in kinds(slug, lambda r: r["status"].__setitem__(0, int(Status.STAGNATED)), call=1)
    assert "stop_rule" in kinds(slug, lambda r: r["status"].__setitem__(0, int(Status.BREAKDOWN)), call=1)
    assert "state" in kinds(slug, nudge("z", (0, 0), 1e-7), call=1)
    assert "state" in kinds(slug, nudge("residual", 0, 1e-12), call=1)
    assert "memory" in kinds(slug, nudge("r", (0, 0)), call=1)
    assert "mask" in kinds(slug, lambda r: r["trace.mask"].__ixor__(True), call=1)
    assert "state" in kinds(slug, nudge("z", (0, 0), 1e-7))  # the untraced twin


def test_a_breakdown_is_allowed_where_it_happens_and_asked_for_where_it_must():
    transcript = golden("breakdown")
    assert Status.BREAKDOWN in transcript.answers[1].results["status"]
    assert judge(case_of("breakdown"), transcript, FAST).passed
    assert "stop_rule" in kinds("broyden-dense", lambda r: r["status"].__setitem__(0, int(Status.BREAKDOWN)), call=1)


def test_missing_and_misshapen_arrays_are_failures_and_never_errors():
    slug = "picard-refdeq"
    assert kinds(slug, lambda r: r.pop("trace.f"), call=1) == {"structure"}
    assert kinds(slug, lambda r: r.update({"trace.r": r["trace.r"][:, :1]}), call=1) == {"structure"}
    assert kinds(slug, lambda r: r.update({"status": r["status"].astype(float)}), call=1) == {"structure"}
    assert kinds(slug, lambda r: r.pop("a"), call=1) == {"structure"}


def test_native_activations_are_within_their_ulp_and_no_wider():
    case = case_of("picard-refdeq")
    claims = VARIANTS["native"].claims
    transcript = execute(case, VARIANTS["native"].implementation(), claims)
    assert judge(case, transcript, claims).passed
    f = transcript.answers[1].results["trace.f"]
    f[0, 0, 0] = np.nextafter(np.nextafter(np.nextafter(f[0, 0, 0], 2), 2), 2)
    tight = replace(claims, activation_ulp=1.0)
    assert "value" in {failure.kind for failure in judge(case, transcript, tight).failures}


# -------------------------------------------------------------------------------------------------------- L3, lockstep


def test_ambiguous_decisions_are_counted_before_the_run():
    case = case_of("lockstep-tie-refdeq")
    assert ambiguous_before(case, CLAIMS) == (0, 48)  # strict order: every decision is known
    some, every = ambiguous_before(case, FAST)
    assert 5 < some < every  # differences of exactly the threshold
    reverse = VARIANTS["reverse"]
    findings = judge(case, execute(case, reverse.implementation(), reverse.claims), reverse.claims)
    assert (findings.ambiguous, findings.decisions, findings.flipped) == (some, every, 0)
    assert findings.passed


def test_a_tie_that_falls_the_wrong_way_is_found_though_the_margin_rule_leaves_it_open():
    case = case_of("lockstep-tie-refdeq")
    other = replace(case, problem=replace(case.problem, rule=replace(case.problem.rule, compare="ge")))
    assert "mask" in {failure.kind for failure in judge(case, execute(other, Lab(), CLAIMS), FAST).failures}


def test_a_flipped_decision_is_found_where_it_is_certain():
    slug = "lockstep-2-picard-refdeq"
    z = golden(slug).answers[-1].results["z"]

    def flip(results):  # an element that was kept takes the argument's bits
        kept = results["r"] != z
        at = tuple(np.argwhere(kept)[0])
        results["r"][at] = z[at]

    assert "mask" in kinds(slug, flip)


@pytest.mark.parametrize(("name", "kind"), [("z", "state"), ("a", "value"), ("residual", "stop_rule"), ("n_eval", "count")])
def test_every_result_of_a_lockstep_is_judged(name, kind):
    def change(results):
        results[name][0] += 1 if name == "n_eval" else 1e-4

    assert kind in kinds("lockstep-2-damped-paper", change)
    assert kind in kinds("lockstep-2-damped-paper", change, claims=CLAIMS)


# ---------------------------------------------------------------------------------------------------- L4, free running


def test_hysteresis_drift_and_divergence_without_an_open_decision_are_found():
    slug = "free-picard-refdeq"
    assert "invariant" in kinds(slug, nudge("r", (0, 0), 0.5))
    assert "value" in kinds(slug, nudge("a", (0, 0)))
    assert "stop_rule" in kinds(slug, nudge("residual", 0))
    assert "invariant" in kinds("free-picard-paper", nudge("r", (0, 0), 1e-6))
    transcript = golden(slug)
    other = altered(slug, lambda r: r["n_eval"].__isub__(1))
    assert judge(case_of(slug), transcript, FAST).notes[-1].startswith("distance to golden")
    failures = judge(case_of(slug), other, FAST).failures
    assert any("no ambiguous decision explains it" in failure.actual for failure in failures)


# ----------------------------------------------------------------------------------------------------- L5, certificates


def test_a_point_that_is_no_fixed_point_is_found_with_all_else_true():
    for slug in ("tanh-picard", "sigmoid-broyden", "identity-anderson", "gated-refdeq-picard"):
        assert "certificate" in kinds(slug, nudge("z", (1, 3)), dtype="float64")
        assert "certificate" in kinds(slug, nudge("z", (1, 3), 1e-2))


# ------------------------------------------------------------------------------------------------------- L6, gradients

GRADIENT_BUGS = {
    "wrong sign of the adjoint": lambda r: r["v"].__imul__(-1),
    "adjoint not solved": lambda r: r.update(v=r["v"] * 0.999),
    "slope left out": lambda r: r.update(x=r["v"].copy()),
    "weight transposed": lambda r: r.update(weight=r["weight"].T.copy()),
    "bias of one sample": lambda r: r.update(bias=r["x"][0].copy()),
    "sum over the batch as a mean": lambda r: r["weight"].__itruediv__(3),
    "not a number": lambda r: r["x"].__setitem__((0, 0), np.nan),
}


@pytest.mark.parametrize("bug", GRADIENT_BUGS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wrong_gradients_are_found(bug, dtype):
    assert "gradient" in kinds("dense-tanh-bias", GRADIENT_BUGS[bug], dtype=dtype)


def test_the_dense_gradient_is_not_the_one_with_frozen_masks():
    slug = "frozen-refdeq-gt"
    dense = golden(slug).answers[-1].results  # at another point: any dense answer would do
    assert "gradient" in kinds(slug, lambda r: r.update(dense), call=-2)
    case = case_of(slug)
    frozen = replace(case.calls[-2], options={"jacobian": "dense"})
    other = execute(replace(case, calls=(*case.calls[:-2], frozen, case.calls[-1])), Lab(), CLAIMS)
    assert "gradient" in {failure.kind for failure in judge(case, other, FAST).failures}
