"""A profile granted to narrower arithmetic than its dtype carries the declaration in its name, in the run and in the report."""

from __future__ import annotations

import pytest
from refdeq_validation.cases.suite import select
from refdeq_validation.lab.variants import VARIANTS
from refdeq_validation.reports.data import report_data
from refdeq_validation.running import run_suite


@pytest.mark.parametrize(("variant", "label"), [("strict", "paper-f32"), ("tf32", "paper-f32+tf32")])
def test_the_name_of_a_grant_says_what_arithmetic_it_is_about(variant, label):
    chosen = VARIANTS[variant]
    cases = select(profile="paper-f32")
    run = run_suite(cases, chosen.implementation(), chosen.claims, profiles=("paper-f32",), canaries=False)
    (outcome,) = run.profiles
    assert (outcome.name, outcome.label, outcome.granted) == ("paper-f32", label, True)
    data = report_data([run], code=run.exit_code(), seconds=1.0, threads=1)
    assert data["profile"] == label
    assert data["backends"][0]["profiles"][0]["name"] == label
