"""Mutants of the judge: every one gives some transcript, or some run, another verdict than the known one."""

from __future__ import annotations

import importlib
import sys
from functools import cache

import pytest

from meta.handwritten import MISTAKES, planted
from meta.killing import killer, reached, spread, survivor_arguments, survivors
from meta.mutating import mutants_in, uncompiled
from meta.run_checks import checks
from meta.verdicts import verdicts

AUTOMATIC = ("judge.judging", "judge.calls")
"""Modules all of whose functions are mutated by machine: those that decide what is looked at."""

PLANTED = sorted({place[0] for place in MISTAKES.values()})


def module(name):
    return importlib.import_module(f"refdeq_validation.{name}")


@pytest.fixture(scope="module", autouse=True)
def plain():
    """The judge in plain Python, so that any function of it can be given other instructions."""
    for name in (*PLANTED, *AUTOMATIC):
        module(name)
    kept = uncompiled([m for name, m in list(sys.modules.items()) if name.startswith("refdeq_validation.judge.")])
    yield
    for where, name, value in kept:
        setattr(where, name, value)


@cache
def known():
    """Every known verdict."""
    return [*checks(), *verdicts()]


def test_verdicts_are_true_and_false():
    transcripts = [one for one in known() if hasattr(one, "first")]
    assert sum(not one.first for one in transcripts) > 100
    assert sum(bool(one.first) for one in transcripts) > 500


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_judge_is_caught(mistake):
    assert killer(planted(mistake), spread(known(), mistake))


def test_the_judge_gives_every_known_verdict_and_automatic_mutants_are_caught_or_change_nothing():
    """One test: noting which verdict reaches which function takes a run of every verdict, and asserts each of them."""
    by_code = reached([module(name) for name in AUTOMATIC], known())
    for name in AUTOMATIC:
        total, left = survivors([module(name)], mutants_in, by_code)
        argued = {key for key in survivor_arguments() if key.startswith(f"refdeq_validation.{name}:")}
        assert total >= 5
        assert {mutant.key for mutant in left} == argued, [(mutant.key, mutant.function, mutant.what) for mutant in left]


def test_survivors_are_argued():
    assert all(len(argument.split()) >= 5 for argument in survivor_arguments().values())
