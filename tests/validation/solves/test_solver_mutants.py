"""Bugs of solvers and gradients, planted in the plain implementation, are found by the families of solves."""

import functools

import pytest
from refdeq_validation.cases import gradient, histories, solver, windows
from refdeq_validation.judge.judging import judge
from refdeq_validation.mutants.catalogue import MUTANTS
from refdeq_validation.mutants.planting import load
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.manifest import Claims

FOUND_BY = {
    "ring one off": "anderson-mixed-dense",
    "ridge left out": "anderson-mixed-dense",
    "mixing left out": "anderson-mixed-dense",
    "mixing with the other sign": "anderson-mixed-dense",
    "weights with the other sign": "anderson-dense",
    "weights not normalised": "anderson-weights-dense",
    "no safeguard": "window-safeguard",
    "no warm-up": "window-warm-up",
    "secant with the other sign": "broyden-dense",
    "oldest pair dropped after": "broyden-window-dense",
    "good as bad": "broyden-dense",
    "no line search": "line-search-good",
    "update of a solved sample": "resting-sample",
    "pairs in the dtype of float32": "large-residuals-broyden",
    "lowest taken once": "swing-lowest",
    "ties keep the later": "lowest-flat",
    "lowest by the absolute residual": "drift-lowest-relative",
    "divergence from the lowest": "valley-divergence",
    "stagnation against the first of the window": "valley-stagnation",
    "tolerance met strictly": "tie-atol",
    "linf ignores NaN": "nan-in-linf",
    "tracing changes the run": "picard-dense",
    "damping exchanged": "damped-dense",
    "Jacobian not transposed": "dense-tanh-bias",
    "sign of the Jacobian": "dense-tanh-bias",
    "two terms of the series": "dense-tanh-bias",
    "weight gradient averaged": "dense-tanh-bias",
    "frozen mask ignored": "frozen-refdeq-gt",
    "frozen mask inverted": "frozen-refdeq-gt",
    "frozen mask in the dense gradient": "frozen-refdeq-gt",
    "folded bias forgotten": "frozen-deltadeq-code-gt",
    "kernel gradient flipped": "convolution-dense",
}


@functools.cache
def case_of(slug):
    modules = (gradient, solver, histories, windows)
    return next(case for module in modules for case in module.cases("float32") if case.slug == f"{slug}-f32")


@pytest.mark.parametrize("name", FOUND_BY)
def test_a_planted_bug_is_found_by_the_case_that_is_made_for_it(name):
    case = case_of(FOUND_BY[name])
    implementation = load(MUTANTS[name])
    claims = Claims.from_manifest(implementation.manifest())
    findings = judge(case, execute(case, implementation, claims), claims)
    assert findings.failed, case.id
