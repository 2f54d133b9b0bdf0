"""Ids are immutable: derived from the contents, the same in every process, published, never taken back silently."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from refdeq_validation.cases.model import FAMILIES
from refdeq_validation.cases.profiles import PROFILES
from refdeq_validation.cases.publish import HERE, lists, publish
from refdeq_validation.cases.published import digest_of, published
from refdeq_validation.cases.suite import TIERS, all_cases, by_id, select, tier_of

from refdeq.errors import ArgumentError

IDS = {case.id for case in all_cases()}


def test_every_generated_id_is_published_and_every_published_one_generated_or_retired():
    retired = json.loads((HERE / "retired.json").read_text())
    assert set(published()["cases"]) - set(retired) == IDS, "run python -m refdeq_validation.cases.publish"
    assert not IDS.intersection(retired)
    assert all(isinstance(reason, str) and reason for reason in retired.values())


def test_profiles_have_the_published_digests():
    assert published()["profiles"] == lists()["profiles"], "run python -m refdeq_validation.cases.publish"


def test_ids_are_the_same_in_another_process():
    code = "from refdeq_validation.cases.suite import all_cases; from refdeq_validation.cases.published import digest_of;"
    code += "print(digest_of(c.id for c in all_cases()))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7", "PATH": ""}
    )
    assert found.stdout.strip() == digest_of(IDS)


def test_nothing_that_was_published_vanishes_without_a_reason(tmp_path):
    kept = published()
    (tmp_path / "profiles.json").write_text(json.dumps({**kept, "cases": [*kept["cases"], "gemm/exact/gone-00000000"]}))
    (tmp_path / "retired.json").write_text("{}")
    with pytest.raises(ArgumentError, match="gone-00000000"):
        publish(folder=tmp_path)
    (tmp_path / "retired.json").write_text(json.dumps({"gemm/exact/gone-00000000": "its title was wrong"}))
    assert publish(folder=tmp_path) == json.loads((tmp_path / "profiles.json").read_text())


def test_an_id_depends_on_everything_but_the_witness():
    case = next(case for case in all_cases() if case.family == "exact")
    u = case.calls[-1].arrays["u"].copy()
    u.reshape(-1)[0] += 1
    others = [
        replace(case, title="another"),
        replace(case, bug_types=("MASK",)),
        replace(case, flags=("full",)),
        replace(case, expect="replay"),
        replace(case, problem=replace(case.problem, weight=-case.problem.weight)),
        replace(case, problem=replace(case.problem, rule=replace(case.problem.rule, threshold=1.5))),
        replace(case, calls=(*case.calls[:-1], replace(case.calls[-1], arrays={"u": u}))),
        replace(case, calls=(*case.calls[:-1], replace(case.calls[-1], refused=True))),
    ]
    assert len({case.id} | {other.id for other in others}) == len(others) + 1
    assert replace(case, witness={"more": 1}).id == case.id


def test_ids_say_operator_family_and_slug():
    for case in all_cases():
        op, family, rest = case.id.split("/")
        assert (op, family) == (case.problem.op.lower(), case.family)
        assert rest[:-9] == case.slug
        assert case.family in FAMILIES


def test_slugs_are_distinct_within_operator_and_family():
    keys = [(case.problem.op, case.family, case.slug) for case in all_cases()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_require_cases(profile):
    assert PROFILES[profile].ids, "no case requires what the profile promises"
    assert set(PROFILES[profile].ids) <= IDS


def test_tiers_contain_each_other_and_smoke_is_about_fifty():
    sizes = [len(select(tier=tier)) for tier in TIERS]
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(all_cases())
    for profile in ("core-f32", "core-f64"):
        assert len(select(profile=profile, tier="smoke")) >= 12
    assert 40 <= sizes[0] <= 60
    assert not any("full" in by_id()[name].flags for name in PROFILES["core-f32"].ids)
    assert {tier_of(case) for case in all_cases()} == set(TIERS)


def test_choices_name_what_they_do_not_know():
    for choice in ({"profile": "core-f23"}, {"tier": "tiny"}, {"families": ["ties"]}, {"ids": ["gemm/exact/none-00000000"]}):
        with pytest.raises(ArgumentError):
            select(**choice)
    assert select(ids=[]) == ()
    assert [case.id for case in select(ids=[all_cases()[3].id])] == [all_cases()[3].id]


def test_arrays_of_cases_are_plain_and_of_the_dtype_of_the_problem():
    for case in select(
        families=["exact", "tie", "bound_k1", "bound", "special", "memory", "ramp", "sequence", "reset", "warm"]
    ):
        if case.level not in ("L1", "L2") or "solve" in case.requires:
            continue
        for call in case.calls:
            for name, array in call.arrays.items():
                wanted = np.int64 if name == "count" else case.problem.dtype
                assert array.dtype == wanted, (case.id, name)
