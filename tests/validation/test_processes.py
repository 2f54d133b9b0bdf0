"""Processes that judge beside this one: what they find is what is found here, and mistakes of a task are told."""

from __future__ import annotations

import pytest
from refdeq_validation import schedule
from refdeq_validation.processes import Workers
from refdeq_validation.schedule import Selection
from refdeq_validation.session import Declaration

from refdeq.errors import ArgumentError
from refdeq.registry import load_backend

PRESET = "delta-network"


def shown(rows):
    """What a row says, but for the times."""
    return [(row.declaration, row.cell, row.preset, row.runs, row.inputs, row.quality, vars(row.findings)) for row in rows]


def refuse():
    """A task that goes wrong."""
    raise ArgumentError("task", hint="on purpose")


def test_cells_judged_in_processes_give_the_rows_of_threads():
    declaration = Declaration(load_backend("reference"), "strict", "op")
    selection = Selection([declaration], ["designed", "sine"], [PRESET], True, 4, 2, None)
    counts = {"here": [], "there": []}
    here = schedule.run(selection, counts["here"].append, counts["here"].append)
    with Workers(2) as workers:
        there = schedule.run(selection, counts["there"].append, counts["there"].append, workers)
    assert repr(shown(there)) == repr(shown(here))
    assert {row.disposition for row in there} == {"passed"}
    for told in counts.values():
        assert sum(told[1:]) == told[0] > 0


def test_a_mistake_of_a_task_ends_the_waiting():
    with Workers(1) as workers, pytest.raises(ArgumentError, match="on purpose"):
        workers.follow([workers.submit(refuse)], lambda count: None)
