"""The catalogue of mutants: patches that fit, families that are covered, copies that nothing else sees."""

from collections import Counter

import numpy as np
import pytest
from refdeq_validation.cases.suite import all_cases
from refdeq_validation.lab import gate
from refdeq_validation.lab.session import Lab
from refdeq_validation.lab.variants import VARIANTS
from refdeq_validation.mutants.catalogue import EQUIVALENT, FAMILIES, MUTANTS, DriftError, Edit, Mutant, read
from refdeq_validation.mutants.killing import Subject
from refdeq_validation.mutants.planting import LAB_MODULES, load, plant
from refdeq_validation.mutants.reach import reaches
from refdeq_validation.protocol.problem import Problem

from refdeq.errors import ArgumentError
from refdeq.types import DeltaRule

LEAST = {
    "comparator": 12,
    "masks": 8,
    "special_values": 8,
    "memory": 11,
    "active_lists": 8,
    "precision": 5,
    "accumulator": 8,
    "ordering": 8,
    "contracts": 8,
    "reset": 8,
    "solver": 11,
    "warm_start": 5,
    "gradient": 12,
    "convolution": 12,
}


def masks(implementation: object, u: float) -> bool:
    """What a gate with threshold 1 sends of one difference."""
    problem = Problem("Gemm", "float32", (1,), np.ones((1, 1), np.float32), None, DeltaRule(threshold=1.0, start="zero"))
    session = implementation.open(problem)
    session.reset(1)
    mask = np.zeros((1, 1), bool)
    session.step(np.full((1, 1), u, np.float32), mask, np.zeros((1, 1), np.float32))
    return bool(mask[0, 0])


def test_every_family_has_its_number() -> None:
    counts = Counter(mutant.family for mutant in MUTANTS.values())
    assert set(LEAST) == set(FAMILIES) == set(counts)
    assert all(counts[family] >= least for family, least in LEAST.items())
    assert len(MUTANTS) >= 160


@pytest.mark.parametrize("family", FAMILIES)
def test_every_patch_fits_exactly_once(family: str) -> None:
    for mutant in [*MUTANTS.values(), *EQUIVALENT.values()]:
        if mutant.family == family:
            assert set(mutant.modules) <= set(LAB_MODULES), mutant.name
            assert mutant.diff.count("\n+") > 0, mutant.name
            assert mutant.summary.endswith("."), mutant.name
            assert mutant.variant in VARIANTS
            for module in mutant.modules:
                compile(mutant.patched(module), mutant.name, "exec")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_mutant_loads(family: str) -> None:
    for mutant in MUTANTS.values():
        if mutant.family == family:
            assert load(mutant).manifest() == VARIANTS[mutant.variant].claims.manifest()


def test_a_copy_is_seen_by_nobody_else() -> None:
    before = gate.decide
    broken = load(MUTANTS["strictly above"])
    assert [masks(broken, 1.0), masks(Lab(), 1.0)] == [True, False]
    assert gate.decide is before
    assert masks(load(MUTANTS["signed comparison"]), -2.0) is False
    assert masks(broken, 1.0) is True


def test_a_copy_without_a_patch_is_the_original() -> None:
    copy = plant({}).implementation()
    assert [masks(copy, u) for u in (0.5, 1.0, 1.5)] == [masks(Lab(), u) for u in (0.5, 1.0, 1.5)] == [False, False, True]


def test_a_patch_that_does_not_fit_is_an_error() -> None:
    for old in ("no such text", "return"):
        with pytest.raises(DriftError, match="once"):
            load(Mutant("drifted", "masks", "MASK", "Nothing.", (Edit("gate", old, "pass"),)))


@pytest.mark.parametrize(
    "text",
    [
        "note\n\n== name | gate\nSentence.\n-- old\na\n-- new\nb\n",
        "note\n\n== name | gate | NO_SUCH_TYPE\nSentence.\n-- old\na\n-- new\nb\n",
        "note\n\n== name | gate | MASK | nobody\nSentence.\n-- old\na\n-- new\nb\n",
        "note\n\n== name | gate | MASK\nSentence.\n-- old\na\n",
        "note\n\n== name | gate | MASK\nSentence.\n-- old\na\n-- new\na\n",
        "note\n\n== name | gate | MASK\nSentence.\n",
    ],
)
def test_text_that_is_no_entry_is_an_error(text: str) -> None:
    with pytest.raises(ArgumentError):
        read(text, "masks")


def test_entries_may_patch_several_places_and_modules() -> None:
    text = "note\n\n== two | gate | MASK\nOne\nsentence.\n-- old\na\n-- new\nb\n-- in node\n-- old\nc\n-- new\n\nd\n"
    (mutant,) = read(text, "masks")
    assert mutant.patch == (Edit("gate", "a", "b"), Edit("node", "c", "\nd"))
    assert mutant.summary == "One sentence."


def test_equivalent_entries_have_an_argument_and_are_not_noticed() -> None:
    assert EQUIVALENT
    for mutant in EQUIVALENT.values():
        assert len(mutant.summary) > 60, mutant.name
        subject = Subject(mutant)
        small = [case for case in all_cases() if case.problem.dtype == "float32" and "full" not in case.flags]
        entered = [case for case in small if reaches(mutant, case)]
        assert not any(subject.fails(case) for case in entered[:: 1 + len(entered) // 50])
        assert subject.executed > 10
