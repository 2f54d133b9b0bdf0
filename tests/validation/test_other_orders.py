"""Other orders of summation: accepted when declared fast, rejected when declared strict; wrong sums are rejected as either."""

from __future__ import annotations

import numpy as np
import pytest
from planting.orders import ORDERS, OtherOrder
from refdeq_numba.machine import has_fused_multiply_add
from refdeq_validation.designed.families import designed_cases
from refdeq_validation.runner import judge_case

from refdeq.registry import load_backend

CASES = [case for case in designed_cases() if case.rule is not None]
SIMPLE = [case for case in CASES if case.family not in ("graph", "block")][::5]
GRAPHS = [case for case in CASES if case.family == "graph" and "conv1d" in case.name][::11]
GRAPHS += [case for case in CASES if case.family == "graph" and "conv2d" in case.name][::23]
"""Fewer in two dimensions: they are most of the time, and a sum is formed as in one dimension."""


@pytest.mark.parametrize("name", ORDERS)
def test_order_is_legal_when_declared_fast_and_wrong_when_declared_strict(name):
    backend, rejected = OtherOrder(name), 0
    for case in SIMPLE + GRAPHS:
        findings = judge_case(case, backend, "fast", "op")
        assert findings.passed, (case.name, [failure.sentence() for failure in findings.failures])
        assert findings.worst <= 1.0
        if rejected < 3:
            as_strict = judge_case(case, backend, "strict", "op", judged_as="strict")
            kinds = {failure.kind for failure in as_strict.failures}
            rejected += bool(as_strict.failed)
            assert kinds <= {"value", "stop_rule"}
    assert rejected == 3


@pytest.mark.skipif(not has_fused_multiply_add(), reason="the fast order of Numba is the strict one without fused multiply-add")
@pytest.mark.parametrize("path", ["op", "fused"])
def test_fused_multiply_add_is_legal_when_declared_fast_and_wrong_when_declared_strict(path):
    backend, rejected = load_backend("numba"), 0
    for case in SIMPLE[::2]:
        if case.returned != "last" or case.rule.memory == "feedback" or case.rule.delta_dtype is not None:
            continue  # no fused plan
        assert judge_case(case, backend, "fast", path).passed
        rejected += not judge_case(case, backend, "fast", path, judged_as="strict").passed
    assert rejected > len(SIMPLE) // 8


def _drops_a_term(a, terms):
    return ORDERS["pairwise"](a, terms[:-1]) if len(terms) > 1 else a


def _half_precision(a, terms):
    return (a + terms.astype(np.float16).astype(a.dtype).sum(axis=0)).astype(a.dtype)


@pytest.mark.parametrize("wrong", [_drops_a_term, _half_precision])
def test_a_wrong_sum_is_rejected_under_a_fast_declaration_too(monkeypatch, wrong):
    monkeypatch.setitem(ORDERS, "split", wrong)
    backend = OtherOrder("split")
    failures = [judge_case(case, backend, "fast", "op").failures for case in SIMPLE if case.family == "terms"]
    assert all(failure.kind == "value" for found in failures for failure in found)
    assert sum(bool(found) for found in failures) > len(failures) // 2
