"""Bugs past the first block, the first 255 steps or the finite scales, planted in the plain implementation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from refdeq_validation.cases.profiles import PROFILES
from refdeq_validation.cases.suite import all_cases
from refdeq_validation.judge.judging import judge
from refdeq_validation.lab.session import CLAIMS, Lab, LabSession
from refdeq_validation.lab.style import STRICT
from refdeq_validation.mutants.catalogue import source_of
from refdeq_validation.mutants.planting import plant
from refdeq_validation.protocol.execute import execute


def of(*slugs, dtype="f32"):
    """Cases by the beginnings of their slugs."""
    return [case for case in all_cases() if case.slug.startswith(slugs) and case.slug.endswith(dtype)]


def planted(session):
    """The lab with another session."""

    class Planted(Lab):
        def open(self, problem):
            return session(problem, STRICT)

    return Planted()


def passes(case, implementation=None):
    """Whether an implementation, the lab unless another is given, passes."""
    transcript = execute(case, Lab() if implementation is None else implementation, CLAIMS)
    return judge(case, transcript, CLAIMS).passed


class SameSamples(LabSession):
    """Blocks of so many samples, all of which read the first."""

    block = 128

    def step(self, u, mask, y):
        super().step(np.ascontiguousarray(u[np.arange(len(u)) % self.block]), mask, y)


class SameSamples256(SameSamples):
    block = 256


class SameOutputs(LabSession):
    """Blocks of 1024 outputs, all of which write the first."""

    def step(self, u, mask, y):
        super().step(u, mask, y)
        y[:, 1024:] = y[:, : max(0, y.shape[1] - 1024)]


class LostInputs(LabSession):
    """Inputs beyond 1024 are not read."""

    def step(self, u, mask, y):
        super().step(np.where(np.arange(u.shape[1]) < 1024, u, self.node.r), mask, y)


class SmallCounter(LabSession):
    """A counter of eight bits."""

    def step(self, u, mask, y):
        super().step(u, mask, y)
        self.node.count %= 256


class StopsAfter200(LabSession):
    """What is sent after step 200 is not added."""

    def step(self, u, mask, y):
        before = self.node.a.copy()
        super().step(u, mask, y)
        if self.node.count[0] > 200:
            y -= self.node.a - before
            self.node.a[...] = before


class QuietStepsDoNotCount(LabSession):
    """An early return when nothing is sent."""

    def step(self, u, mask, y):
        super().step(u, mask, y)
        self.node.count -= ~mask.reshape(len(mask), -1).any(axis=1)


class TakesBytes(LabSession):
    """A mask of bytes is as good as one of truth values."""

    def step(self, u, mask, y):
        super().step(u, mask.view(bool) if mask.dtype == np.uint8 else mask, y)


class AtMostOne(LabSession):
    """Relaxation is cut to 1."""

    def __init__(self, problem, style):
        solver = dict(problem.solver)
        solver["alpha"] = min(solver["alpha"], 1.0)
        super().__init__(replace(problem, solver=solver), style)


BUGS = {
    "second block of 128 samples": (SameSamples, ("second-block-of-samples-129", "second-block-of-samples-257")),
    "second block of 256 samples": (SameSamples256, ("second-block-of-samples-257",)),
    "second block of outputs": (SameOutputs, ("remainder-at-3x1025",)),
    "second block of inputs": (LostInputs, ("remainder-at-1025x3",)),
    "counter of eight bits": (SmallCounter, ("260-steps-sent", "260-steps-always")),
    "after step 200": (StopsAfter200, ("260-steps-sent", "260-steps-always")),
    "quiet steps": (QuietStepsDoNotCount, ("quiet-step-before-refresh", "quiet-steps-from-a-state")),
    "mask of bytes": (TakesBytes, ("output-mask-bytes",)),
    "relaxation": (AtMostOne, ("relaxed-",)),
}


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("bug", BUGS)
def test_the_bug_fails_where_the_plain_implementation_passes(bug, dtype):
    session, slugs = BUGS[bug]
    cases = of(*slugs, dtype=dtype)
    assert len(cases) >= len(slugs)
    for case in cases:
        assert passes(case), case.id
        assert not passes(case, planted(session)), case.id


def test_convergence_must_not_be_decided_before_finite_scales():
    old = "np.isfinite(residual) and np.isfinite(scale)"
    source = source_of("stopping")
    assert old in source
    copy = plant({"stopping": source.replace(old, "np.isfinite(residual)")})
    cases = of("scale-overflows-rtol", "scale-overflows-atol", dtype="f64")
    assert len(cases) == 4
    for case in cases:
        assert passes(case), case.id
        assert not passes(case, copy.implementation()), case.id
    for case in of("scale-overflows-linf", dtype="f64"):
        assert passes(case), case.id
        assert execute(case, Lab(), CLAIMS).answers[-1].results["status"][0] == 1


def test_profiles_require_the_cases():
    for dtype in ("f32", "f64"):
        for case in of("second-block", "remainder-at-1025x3", "remainder-at-3x1025", "260-steps", "quiet-step", dtype=dtype):
            assert case.id in PROFILES[f"core-{dtype}"].ids
        for case in of("quiet-step", dtype=dtype):
            assert case.id in PROFILES[f"refdeq-{dtype}"].ids
        for case in of("relaxed-", dtype=dtype):
            assert case.id in PROFILES[f"solver-{dtype}"].ids
            assert case.id in PROFILES[f"trace-{dtype}"].ids
