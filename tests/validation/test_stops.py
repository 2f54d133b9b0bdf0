"""Every status from a history of residuals made by hand (S-3), and which evaluation is returned (S-4)."""

from __future__ import annotations

import numpy as np
import pytest
from refdeq_validation.judge import stops

from refdeq.types import Status, StopRule, Trace

INF, NAN = float("inf"), float("nan")


def traced(*histories, scale=1.0):
    """Trace of one sample per history; a history may stop before the longest does."""
    length = max(len(history) for history in histories)
    residual = np.full((length, len(histories)), NAN)
    active = np.zeros((length, len(histories)), dtype=bool)
    for b, history in enumerate(histories):
        residual[: len(history), b] = history
        active[: len(history), b] = True
    return Trace(active=active, z={}, f={}, residual=residual, scale=np.where(active, scale, NAN))


HISTORIES = {
    "converged by atol, at the limit": ([4.0, 2.0, 1.0], StopRule(atol=1.0, max_eval=9), Status.CONVERGED),
    "converged by rtol, at the limit": ([4.0, 2.0, 1.0], StopRule(rtol=0.5, eps=1.0, max_eval=9), Status.CONVERGED),
    "either tolerance suffices": ([4.0, 1.0], StopRule(atol=1.0, rtol=1e-9, max_eval=9), Status.CONVERGED),
    "converged at the last evaluation": ([4.0, 1.0], StopRule(atol=1.0, max_eval=2), Status.CONVERGED),
    "budget": ([4.0, 2.0], StopRule(atol=1.0, max_eval=2), Status.MAX_EVAL),
    "budget without a tolerance": ([0.0, 0.0], StopRule(max_eval=2), Status.MAX_EVAL),
    "NaN": ([4.0, NAN], StopRule(atol=1.0, max_eval=9), Status.NONFINITE),
    "infinite": ([4.0, INF], StopRule(atol=INF, rtol=1e-9, max_eval=1), Status.CONVERGED),
    "infinite before converged": ([INF], StopRule(atol=1e300, max_eval=9), Status.NONFINITE),
    "diverged": ([1.0, 4.0, 4.5], StopRule(divergence=4.0, max_eval=9), Status.DIVERGED),
    "not diverged at the factor": ([1.0, 4.0], StopRule(divergence=4.0, max_eval=2), Status.MAX_EVAL),
    "converged before diverged": ([1.0], StopRule(divergence=0.5, atol=1.0, max_eval=9), Status.CONVERGED),
    "stagnated at the ratio": ([4.0, 2.0], StopRule(stagnation=(1, 0.5), max_eval=9), Status.STAGNATED),
    "improving below the ratio": ([4.0, 1.9], StopRule(stagnation=(1, 0.5), max_eval=2), Status.MAX_EVAL),
    "stagnated over a window": ([4.0, 2.0, 3.0, 2.0], StopRule(stagnation=(2, 0.75), max_eval=9), Status.STAGNATED),
    "diverged before stagnated": ([1.0, 9.0], StopRule(stagnation=(1, 0.5), divergence=2.0, max_eval=2), Status.DIVERGED),
    "stagnated before the budget": ([1.0, 1.0], StopRule(stagnation=(1, 0.5), max_eval=2), Status.STAGNATED),
}


@pytest.mark.parametrize("what", HISTORIES)
def test_status_of_a_history(what):
    history, stop, status = HISTORIES[what]
    expected = stops.statuses(traced(history), stop)
    assert expected.final[0] == status
    reached = expected.active[:, 0]
    assert reached.sum() == (1 if what == "infinite" else len(history))


def test_a_history_that_went_on_is_cut_where_it_should_have_stopped():
    expected = stops.statuses(traced([4.0, 1.0, 0.5], [4.0, 3.0, 2.0]), StopRule(atol=1.0, max_eval=3))
    assert expected.final.tolist() == [Status.CONVERGED, Status.MAX_EVAL]
    assert expected.active.tolist() == [[True, True], [True, True], [False, True]]


def test_a_scale_that_is_not_finite_ends_a_sample():
    assert stops.statuses(traced([1.0], scale=INF), StopRule(atol=2.0, max_eval=3)).final[0] == Status.NONFINITE


def test_a_run_without_enough_evaluations_is_left_running():
    assert stops.statuses(traced([4.0]), StopRule(atol=1.0, max_eval=3)).final[0] == Status.RUNNING


def test_last_and_lowest_evaluation():
    trace = traced([4.0, 1.0, 2.0], [2.0, 2.0], [NAN], [3.0, NAN])
    stop = StopRule(atol=1e-3, max_eval=9)
    assert stops.returned_evaluation(trace, stop, "last").tolist() == [2, 1, 0, 1]
    assert stops.returned_evaluation(trace, stop, "lowest").tolist() == [1, 0, 0, 0]


def test_lowest_is_relative_when_only_rtol_is_given():
    trace = traced([4.0, 3.0])
    trace.scale[:, 0] = [8.0, 1.0]
    assert stops.returned_evaluation(trace, StopRule(rtol=1e-3, max_eval=9), "lowest").tolist() == [0]
    assert stops.returned_evaluation(trace, StopRule(rtol=1e-3, atol=1e-3, max_eval=9), "lowest").tolist() == [1]
