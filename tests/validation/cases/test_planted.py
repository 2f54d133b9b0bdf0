"""Each family has a bug of its own that it kills: planted in a copy of the plain implementation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from refdeq_validation.cases.suite import select
from refdeq_validation.cases.witness import FAST
from refdeq_validation.judge.judging import judge
from refdeq_validation.lab.session import Lab, LabSession
from refdeq_validation.protocol.execute import execute


class Planted:
    """The lab, with a problem changed when it is opened, or its calls changed."""

    def __init__(self, change=None, session=None):
        self.change, self.session = change, session

    def manifest(self):
        return FAST.manifest()

    def open(self, problem):
        opened = Lab().open(problem if self.change is None else self.change(problem))
        return opened if self.session is None else self.session(opened)


class Through:
    """A session that hands calls on; bugs override one of them."""

    def __init__(self, inner: LabSession):
        self.inner = inner

    def reset(self, batch):
        self.inner.reset(batch)

    def step(self, u, mask, y):
        self.inner.step(u, mask, y)

    def set_state(self, r, a, count):
        self.inner.set_state(r, a, count)

    def get_state(self, r, a):
        self.inner.get_state(r, a)

    def close(self):
        self.inner.close()


class SwallowsNaN(Through):
    def step(self, u, mask, y):
        self.inner.step(np.nan_to_num(u, nan=0.0), mask, y)


class SkipsLast(Through):
    def step(self, u, mask, y):
        r, a = np.zeros_like(u), np.zeros_like(y)
        if u.shape[-1] % 4:
            self.inner.get_state(r, a)
            u = u.copy()
            u[..., -1] = r[..., -1]
        self.inner.step(u, mask, y)


class ForgetsCount(Through):
    def set_state(self, r, a, count):
        self.inner.set_state(r, a, np.maximum(count, 1))


class KeepsState(Through):
    batch = None

    def reset(self, batch):
        if batch != self.batch:
            self.inner.reset(batch)
        self.batch = batch


class Wraps(Through):
    def step(self, u, mask, y):
        u = u.copy()
        u[..., 1 << 15 :] = 0
        self.inner.step(u, mask, y)


def ruled(**changes):
    return lambda problem: replace(problem, rule=replace(problem.rule, **changes))


def other_compare(problem):
    return ruled(compare="ge" if problem.rule.compare == "gt" else "gt")(problem)


def other_memory(problem):
    return ruled(memory="always" if problem.rule.memory == "sent" else "sent", feedback_format=None)(problem)


def single_weights(problem):
    step = np.float64(2.0**-11)
    scale = np.exp2(np.floor(np.log2(np.maximum(np.abs(problem.weight), 2.0**-100))))
    narrow = np.rint(problem.weight / scale / step) * step * scale
    return replace(problem, weight=narrow.astype(problem.dtype))


def flipped(problem):
    return replace(problem, weight=np.ascontiguousarray(problem.weight[..., ::-1]))


def last_bit(problem):
    return replace(
        problem, weight=problem.weight + np.where(problem.weight == problem.weight.max(), 1, 0).astype(problem.dtype)
    )


PLANTED = {
    "exact": Planted(last_bit),
    "tie": Planted(other_compare),
    "bound_k1": Planted(single_weights),
    "bound": Planted(single_weights),
    "special": Planted(session=SwallowsNaN),
    "shape": Planted(session=SkipsLast),
    "memory": Planted(other_memory),
    "ramp": Planted(other_memory),
    "sequence": Planted(ruled(refresh=0)),
    "reset": Planted(session=KeepsState),
    "warm": Planted(session=ForgetsCount),
    "conv": Planted(flipped),
    "huge": Planted(session=Wraps),
}


@pytest.mark.parametrize("family", PLANTED)
def test_the_bug_of_a_family_is_killed_and_the_clean_implementation_passes(family):
    cases = [case for case in select(families=[family]) if case.level in ("L1", "L2") and "solve" not in case.requires]
    cases = [case for case in cases if case.problem.dtype == "float32" and "full" not in case.flags][:60]
    killed = []
    for case in cases:
        assert judge(case, execute(case, Lab(), FAST), FAST).passed, case.id
        if not judge(case, execute(case, PLANTED[family], FAST), FAST).passed:
            killed.append(case.id)
    assert killed


def test_saved_regressions_come_back_as_they_were(tmp_path):
    import json

    from refdeq_validation.cases.regressions import from_data, remember, to_data

    case = select(families=["special"])[0]
    store = tmp_path / "regressions.json"
    name = remember(case, store)
    assert name == remember(case, store)
    (data,) = json.loads(store.read_text())
    again = from_data(data)
    assert again.id == name
    assert again.family == "fuzz_regression"
    assert replace(again, family=case.family).id == case.id == from_data(to_data(case)).id
