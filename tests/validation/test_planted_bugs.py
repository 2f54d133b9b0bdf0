"""Every planted bug is rejected by the judge, its known killer first; what is not broken passes the same cases.

``pytest -s`` prints the kill table; it is also stored as ``kill_table.json`` in pytest's temporary folder.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from planting.catalogue import (
    EQUIVALENT,
    FUSED_BUGS,
    FUSED_EQUIVALENT,
    HISTORY_BUGS,
    HISTORY_EQUIVALENT,
    NUMBA_BUGS,
    REFERENCE_BUGS,
    THREAD_BUGS,
    read,
)
from planting.copies import FOLDER, load_copy
from planting.killing import FIRST, KILLERS, Kill, judge, killer_first, telling_cases
from planting.patching import DriftError, Patch, patched, swapped
from refdeq_numba.compress import has_shuffles

from refdeq.reference import ReferenceBackend, decide

KINDS = {"mask", "memory", "value", "state", "stop_rule", "count", "structure"}


def names(patches):
    return [patch.name.replace(" ", "-") for patch in patches]


@pytest.fixture(scope="module")
def cases():
    return telling_cases()


@pytest.fixture(scope="module")
def kills(tmp_path_factory):
    """Collects kills; at the end they are printed and stored."""
    found: list[Kill] = []
    yield found
    print("\n" + "\n".join(kill.line() for kill in found))
    rows = [
        {**vars(kill.bug), "path": kill.path, "case": kill.case, "kind": kill.kind, "sentence": kill.sentence} for kill in found
    ]
    (tmp_path_factory.getbasetemp() / "kill_table.json").write_text(json.dumps(rows, indent=1))


def source_of(patch):
    if "." in patch.module:
        return Path(find_spec(patch.module).origin).read_text()
    return (FOLDER / f"{patch.module}.py").read_text()


# ------------------------------------------------------------------------------------------------------------- the catalogue


def test_the_catalogue_is_large_and_its_names_differ():
    assert len(NUMBA_BUGS) >= 25
    assert len(FUSED_BUGS) >= 8
    assert len(REFERENCE_BUGS) >= 8
    for patches in (NUMBA_BUGS, FUSED_BUGS, HISTORY_BUGS, REFERENCE_BUGS):
        assert len({patch.name for patch in patches}) == len(patches)


EVERY_LIST = [NUMBA_BUGS, EQUIVALENT, FUSED_BUGS, FUSED_EQUIVALENT, HISTORY_BUGS, HISTORY_EQUIVALENT, REFERENCE_BUGS]
EVERY_LIST += [THREAD_BUGS]


@pytest.mark.parametrize("patches", EVERY_LIST)
def test_every_patch_still_fits_its_source(patches):
    for patch in patches:
        source = source_of(patch)
        assert patched(source, patch) != source


def test_a_patch_that_does_not_fit_is_an_error():
    with pytest.raises(DriftError, match="occurs 0 times"):
        patched("a = 1\n", Patch("none", "m", "b = 1", "b = 2", ""))
    with pytest.raises(DriftError, match="occurs 2 times"):
        patched("a = 1\na = 1\n", Patch("two", "m", "a = 1", "a = 2", ""))


def test_text_that_is_no_patch_is_an_error():
    good = "== a | gate\nIt breaks.\n-- old\nx\n-- new\ny\n"
    assert read(good) == (Patch("a", "gate", "x", "y", "It breaks."),)
    with pytest.raises(ValueError, match="not a patch"):
        read(good + "\n== b | gate\n-- old\nx\n-- new\ny\n")


def test_the_cases_that_come_first_exist(cases):
    assert [case.name for case in cases[: len(FIRST)]] == list(FIRST)
    assert len({case.name for case in cases}) == len(cases)
    assert set(KILLERS.values()) <= set(FIRST)


def test_swapped_code_is_put_back():
    bug = REFERENCE_BUGS[0]
    before = decide.__code__
    with swapped(bug):
        assert decide.__code__ is not before
    assert decide.__code__ is before


# ------------------------------------------------------------------------------------------------------------------ the kills


def record(kills, bug, path, verdict):
    assert verdict is not None, f"{bug.module}: {bug.name} survives: {bug.breaks}"
    kill = Kill(bug, path, *verdict)
    kills.append(kill)
    assert kill.kind in KINDS


PLAIN = {"linear", "columns", "conv_plain"}
"""Modules of plain loops, which are judged with the vector kernels switched off."""


@pytest.mark.parametrize("bug", NUMBA_BUGS, ids=names(NUMBA_BUGS))
def test_bug_of_the_numba_kernels_is_rejected(bug, cases, kills, tmp_path, monkeypatch):
    if bug.module == "compress" and not has_shuffles():
        pytest.skip("this processor has no shuffles by a register: lists are made bit by bit")
    monkeypatch.setenv("REFDEQ_NUMBA_SIMD", "off" if bug.module in PLAIN else "on")
    record(kills, bug, "op", judge(load_copy(bug, tmp_path), killer_first(bug, "op", cases), bug.order, "op"))


@pytest.mark.parametrize("bug", FUSED_BUGS, ids=names(FUSED_BUGS))
def test_bug_of_the_fused_solve_is_rejected(bug, cases, kills, tmp_path):
    record(
        kills, bug, "fused", judge(load_copy(bug, tmp_path, fused=True), killer_first(bug, "fused", cases), bug.order, "fused")
    )


@pytest.mark.parametrize("bug", REFERENCE_BUGS, ids=names(REFERENCE_BUGS))
def test_bug_of_the_reference_is_rejected(bug, cases, kills):
    with swapped(bug):
        verdict = judge(ReferenceBackend(), killer_first(bug, "op", cases))
    record(kills, bug, "op", verdict)


# ---------------------------------------------------------------------------------------------------------------- the control


@pytest.mark.parametrize("same", EQUIVALENT, ids=names(EQUIVALENT))
def test_equivalent_kernels_pass_the_same_cases(same, cases, tmp_path, monkeypatch):
    monkeypatch.setenv("REFDEQ_NUMBA_SIMD", "off" if same.module in PLAIN else "on")
    assert judge(load_copy(same, tmp_path), cases) is None


@pytest.mark.parametrize("same", FUSED_EQUIVALENT, ids=names(FUSED_EQUIVALENT))
def test_equivalent_fused_solve_passes_the_same_cases(same, cases, tmp_path):
    assert judge(load_copy(same, tmp_path, fused=True), cases, "strict", "fused") is None


@pytest.mark.parametrize("order", ["strict", "fast"])
def test_interpreted_fused_solve_passes_the_same_cases(order, cases, tmp_path):
    assert judge(load_copy(None, tmp_path, fused=True), cases, order, "fused") is None


def test_unchanged_numba_kernels_pass_in_fast_order(cases, tmp_path):
    assert judge(load_copy(None, tmp_path), cases, "fast", "op") is None


def test_unchanged_reference_passes_the_same_cases(cases):
    assert judge(ReferenceBackend(), cases) is None
