"""The study of power: kills, survivors, conventional criteria, tables; matrices and diagnosis."""

import hashlib
import json
from importlib import resources

import numpy as np
import pytest
from refdeq_validation.cases.suite import by_id, select
from refdeq_validation.lab.variants import VARIANTS
from refdeq_validation.mutants import power
from refdeq_validation.mutants.catalogue import FAMILIES, MUTANTS, Edit, Mutant
from refdeq_validation.mutants.conventional import CRITERIA, noticed
from refdeq_validation.mutants.diagnosis import rank, rank_among, stored_matrix
from refdeq_validation.mutants.killing import Subject, first_kill, placements_of, promising
from refdeq_validation.mutants.matrix import KillMatrix, build, chosen_cases, decode, encode
from refdeq_validation.mutants.planting import load

HARMLESS = Mutant(
    "harmless", "comparator", "TIE_RULE", "The same.", (Edit("gate", "np.abs(delta) <= tau", "tau >= np.abs(delta)"),)
)
SHARE = 0.05
"""Share of the stored matrix that is made again."""


def test_a_mutant_that_is_none_survives() -> None:
    cases = [case for case in select(families=["tie"]) if case.problem.op == "Gemm" and case.problem.dtype == "float32"]
    kill = first_kill(HARMLESS, cases)
    assert kill.case is None
    assert kill.executed > len(cases)
    assert first_kill(MUTANTS["strictly above"], cases).case is not None


def test_promising_cases_come_first() -> None:
    cases = select(families=["tie", "reset"])
    known = cases[-1].id
    order = promising(MUTANTS["strictly above"], cases, {known})
    assert order[0].id == known
    assert "TIE_RULE" in order[1].bug_types


@pytest.mark.parametrize("family", FAMILIES)
def test_one_mutant_of_every_family_is_killed(family: str) -> None:
    name = next(name for name, mutant in MUTANTS.items() if mutant.family == family)
    outcome = power.study(name)
    assert outcome.case is not None
    assert set(outcome.conventional) <= set(CRITERIA)


def test_the_table_counts_and_names_survivors(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(power, "MUTANTS", {**MUTANTS, "harmless": HARMLESS})
    monkeypatch.setattr(power, "cases_of_power", lambda: select(families=["tie"])[:20])
    table = power.run_power(1, mutants=["strictly above", "harmless"])
    assert table.survivors == ("harmless",)
    assert [row["killed"] for row in table.rows()] == [1, 1]
    assert table.as_data()["mutants"] == 2
    assert table.table().row_count == 2
    assert power.report_power(1, HARMLESS) == 1
    assert "survives: harmless" in capsys.readouterr().out


def test_conventional_criteria_accept_what_is_right_and_refuse_what_is_far_off() -> None:
    assert noticed(VARIANTS["reverse"].implementation()) == ()
    assert noticed(load(MUTANTS["bias left out"])) != ()
    assert noticed(load(MUTANTS["weights transposed"])) == tuple(CRITERIA)


def test_conventional_criteria_miss_a_tie() -> None:
    assert noticed(load(MUTANTS["strictly above"])) == ()


def test_criteria_refuse_nan() -> None:
    wanted = np.ones(4, np.float32)
    assert not any(accepts(np.full(4, np.nan, np.float32), wanted) for accepts in CRITERIA.values())
    assert all(accepts(np.arange(4.0), np.arange(4.0)) for accepts in CRITERIA.values())


@pytest.mark.parametrize("row", [[], [True], [False, True, True], [False] * 70 + [True]])
def test_rows_survive_storage(row: list[bool]) -> None:
    assert decode(encode(row), len(row)) == row


def test_a_matrix_is_built_row_by_row() -> None:
    cases = [case.id for case in select(families=["tie"])[:6]]
    matrix = build(cases, 1, mutants=["strictly above", "reset keeps the count"])
    assert KillMatrix.from_data(json.loads(json.dumps(matrix.as_data()))) == matrix
    assert matrix.families("strictly above") == {"tie"}
    assert matrix.unique_killers() == {"tie": ["strictly above"]}


def test_the_spread_of_cases_reaches_every_family() -> None:
    few, everything = chosen_cases(1), chosen_cases(0)
    assert {case.family for case in few} == {case.family for case in everything}
    assert len(few) < len(everything) / 10


def test_diagnosis_finds_the_planted_bug() -> None:
    matrix = KillMatrix(("a/x/1", "a/x/2", "a/y/3"), {"strictly above": "3", "reset keeps the count": "6"})
    assert rank_among(matrix, ["a/x/1", "a/x/2"])[0] == ("TIE_RULE", "strictly above", 1.0)
    assert rank_among(matrix, ["a/x/2"], executed=["a/x/2"])[0][2] == 1.0
    assert [entry[1] for entry in rank_among(matrix, ["a/x/2"], without="strictly above")] == ["reset keeps the count"]
    assert rank_among(matrix, ["unknown"]) == []


def test_stored_signatures_name_their_own_mutants() -> None:
    matrix = stored_matrix()
    assert set(matrix.rows) <= set(MUTANTS)
    for name in list(matrix.rows)[::29]:
        if matrix.noticed_by(name):
            best = rank(matrix.noticed_by(name))
            assert best[0][2] == 1.0
            assert name in [entry[1] for entry in best if entry[2] == 1.0]


def sampled(part: int, parts: int) -> list[tuple[str, str, bool]]:
    """A share of the stored matrix, drawn by a hash of its own contents; one of several parts of its rows.

    Parts are rows, so that every mutant is planted in one part only.
    """
    matrix = stored_matrix()
    seed = hashlib.sha256(json.dumps(matrix.as_data()).encode()).hexdigest()
    random = np.random.default_rng(int(seed[:16], 16))
    known = by_id()
    found = []
    for number, name in enumerate(matrix.rows):
        bits = decode(matrix.rows[name], len(matrix.cases))
        drawn = random.random(len(bits)) < SHARE
        if number % parts != part:
            continue
        found += [
            (name, case, bit) for case, bit, take in zip(matrix.cases, bits, drawn, strict=True) if take and case in known
        ]
    return found


@pytest.mark.parametrize("part", range(8))
def test_a_random_part_of_the_stored_matrix_is_made_again(part: int) -> None:
    matrix = stored_matrix()
    assert sum(case in by_id() for case in matrix.cases) > 0.9 * len(matrix.cases)
    pairs = sampled(part, 8)
    assert len(pairs) > 0.8 * SHARE / 8 * len(matrix.rows) * len(matrix.cases)
    subjects: dict[str, Subject] = {}
    wrong = []
    for name, case, bit in pairs:
        subject = subjects.setdefault(name, Subject(MUTANTS[name]))
        if subject.fails(by_id()[case], placements_of(MUTANTS[name])) is not bit:
            wrong.append((name, case, bit))
    assert wrong == []


def test_data_is_packaged() -> None:
    folder = resources.files("refdeq_validation.mutants").joinpath("data")
    assert {"killers.json", "signatures.json"} <= {file.name for file in folder.iterdir()}
    assert set(power.stored_killers()) <= set(MUTANTS)
