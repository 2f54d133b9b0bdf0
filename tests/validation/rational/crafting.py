"""Cases and transcripts made by hand: what an implementation might have answered, number by number."""

import numpy as np
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.problem import Problem
from refdeq_validation.protocol.transcript import Answer, Transcript

from refdeq.types import DeltaRule


def claims(**values):
    """Claims of an implementation in fast order that shows its state."""
    return Claims(**{"name": "made by hand", "order": "fast", "dtypes": ("float32", "float64"), **values})


def case_of(problem, *calls, **options):
    """A case of unit steps."""
    given = {"slug": "by-hand", "level": "L1", "family": "fuzz_regression", "bug_types": (), **options}
    return Case(problem=problem, calls=tuple(calls), **given)


def one_sum(dtype, a, weights, values, storage=None, bias=None, bias_form="separate"):
    """A case of one output: `a` is in the accumulator, `values` are sent and meet `weights`."""
    problem = Problem(
        "Gemm",
        dtype,
        (len(weights),),
        np.array([weights], dtype),
        None if bias is None else np.array([bias], dtype),
        DeltaRule(threshold=0.0, compare="ge", bias=bias_form),
        storage=storage,
    )
    u = np.array([values], dtype)
    state = {"r": np.zeros_like(u), "a": np.array([[a]], dtype), "count": np.ones(1, np.int64)}
    return case_of(problem, Call("set_state", state), Call("step", {"u": u}))


def answers_to(case, a, y=None):
    """The answers to :func:`one_sum` of an implementation whose accumulator becomes `a`."""
    u = case.calls[1].arrays["u"]
    a = np.array([[a]], case.problem.dtype)
    if y is None:
        bias = case.problem.bias
        y = a if bias is None or case.problem.rule.bias == "folded" else a + bias
    results = {"mask": np.ones(u.shape, bool), "r": u.copy(), "a": a, "y": np.array(y, case.problem.dtype).reshape(a.shape)}
    return Transcript(case.id, [Answer("set_state"), Answer("step", results)])
