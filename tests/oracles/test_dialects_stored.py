"""Dialects against the runs of the original codes, to the 1e-10 that the project promises; and planted deviations, all of which
have to be seen (S-9)."""

from dataclasses import replace

import numpy as np
import pytest
from stored_runs import AGREEMENT, BY_KEY, RUNS, STORED, Z_STAR, furthest, solve

from refdeq.kernels import Kernels
from refdeq.solvers import Anderson, Broyden, KrasnoselskiiMann
from refdeq.solvers.peer_mixing import PeerMixing


def test_every_stored_run_has_its_dialect():
    assert {key for key, value in STORED.items() if isinstance(value, dict) and key != "problem"} == set(BY_KEY)
    for run in RUNS:
        assert set(run.parts) == set(STORED[run.key]), "every entry is compared"


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.key)
def test_stored_run(run, backend):
    solution = solve(run.dialect(), backend=backend)
    assert furthest(solution, run) <= AGREEMENT
    np.testing.assert_array_equal(solution.z, solution.dialect.result)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.key)
def test_the_problem_is_that_of_the_file(run):
    """The distance of the returned point to the stored solution is that of a run of 12 steps, not of a solved problem."""
    distance = np.abs(solve(run.dialect()).z - Z_STAR).max()
    assert 1e-8 < distance < 1e-2


# What a careless port gets wrong, one change each, and a stored run that shows it.
RULES = {
    "eps of the relative residual: v2 Broyden": ("locuslab_deq_v2_anderson", {"eps": 1e-9}),
    "eps of the relative residual: torchdeq Anderson": ("torchdeq_anderson", {"eps": 1e-8}),
    "eps of the relative residual: SRS": ("srs_anderson", {"eps": 1e-9}),
    "relative to z": ("torchdeq_broyden", {"scale": "z"}),
    "one norm of the batch": ("torchdeq_broyden", {"pool": "norm"}),
    "norms per sample": ("locuslab_deq_v2_broyden_ls0", {"pool": "samples"}),
    "recorded from the first argument": ("locuslab_deq_v2_broyden_ls0", {"first_recorded": 0}),
    "recorded one step late": ("locuslab_deq_v1_broyden", {"first_recorded": 1, "first_tested": 1}),
    "Anderson recorded one step early": ("torchdeq_anderson", {"first_recorded": 1}),
    "no head": ("torchdeq_fixed_point_iter", {"head": None}),
    "wrong head": ("torchdeq_fixed_point_iter", {"head": np.inf}),
    "not padded": ("locuslab_deq_v2_broyden_ls0", {"length": None}),
    "padded too far": ("locuslab_deq_v2_anderson", {"length": 13}),
    "axes exchanged": ("torchdeq_broyden", {"layout": "steps first"}),
    "SRS with its axes exchanged": ("srs_anderson", {"layout": "samples first"}),
    "last where the lowest is returned": ("torchdeq_anderson", {"returned": "last"}),
    "z where f is returned": ("torchdeq_anderson", {"value": "z"}),
    "f where z is returned": ("locuslab_deq_v2_anderson", {"value": "f"}),
    "z returned by Picard": ("hopdeq_picard_iter12", {"value": "z"}),
    "steps counted from 0": ("torchdeq_anderson", {"offset": 0}),
    "steps counted from 1": ("locuslab_deq_v2_anderson", {"offset": 1}),
    "last step counted, not the lowest": ("torchdeq_anderson", {"counts": "made"}),
    "one step too few": ("locuslab_deq_v2_broyden_ls0", {"max_steps": 11}),
    "one evaluation too many": ("jaxopt_fixedpoint", {"max_steps": 12}),
}
SOLVERS = {
    "absolute ridge of another size": ("torchdeq_anderson", {"ridge": 1e-5}),
    "no ridge": ("jaxopt_anderson_m5_ridge1e-5", {"ridge": 0.0}),
    "window of one column less": ("torchdeq_anderson", {"window": 5}),
    "mixing left out": ("torchdeq_anderson_tau0.7_m3_lam1e-8", {"mixing": 1.0}),
    "first mixing one step late": ("torchdeq_anderson", {"first_mix": 3}),
    "jaxopt mixing before its window is full": ("jaxopt_anderson_m5_ridge1e-5", {"first_mix": 2}),
    "jaxopt mixing one step late": ("jaxopt_anderson_m5_ridge1e-5", {"first_mix": 6}),
    "jaxopt with weights per sample": ("jaxopt_anderson_m5_ridge1e-5", {"coupled": False}),
    "weights of the whole batch": ("locuslab_deq_v2_anderson", {"coupled": True}),
    "hopdeq without its safeguard": ("hopdeq_anderson_iter12", {"safeguard": False}),
    "SRS without the repeated point": ("srs_anderson", {"repeats": False}),
    "SciPy per sample": ("scipy_broyden1_alpha1_nols", {"coupled": False}),
    "the bad update for the good": ("scipy_broyden1_alpha1_nols", {"method": "bad"}),
    "the good update for the bad": ("scipy_broyden2_alpha1_nols", {"method": "good"}),
    "SciPy's own alpha": ("scipy_broyden1_alpha1_nols", {"alpha": None}),
    "no ring": ("torchdeq_broyden_L4", {"window": None}),
    "a ring that drops before it adds": ("torchdeq_broyden_L4", {"reduction": "oldest"}),
    "SciPy's Anderson without its relative ridge": ("scipy_anderson_alpha1_nols", {"w0": 0.0}),
    "SciPy's Anderson with a longer memory": ("scipy_anderson_alpha1_nols", {"window": 6}),
    "jaxopt's sign of gamma": ("jaxopt_broyden_gamma-1_step1", {"alpha": -1.0}),
}
SAME = {"hopdeq without its safeguard"}
"""Deviations that the stored runs cannot show; ``test_dialects_models.py`` has runs that do."""


@pytest.mark.parametrize("deviation", RULES)
def test_planted_rule_is_seen(deviation):
    key, changes = RULES[deviation]
    dialect = BY_KEY[key].dialect()
    changed = replace(dialect, rules=replace(dialect.rules, **changes))
    assert furthest(solve(changed), BY_KEY[key]) > AGREEMENT


@pytest.mark.parametrize("deviation", sorted(set(SOLVERS) - SAME))
def test_planted_solver_is_seen(deviation):
    key, changes = SOLVERS[deviation]
    dialect = BY_KEY[key].dialect()
    changed = replace(dialect, solver=replace(dialect.solver, **changes))
    assert furthest(solve(changed), BY_KEY[key]) > AGREEMENT


class RelativeRidge(PeerMixing):
    """Ridge relative to the trace, by weights instead of the peers' absolute one."""

    def init(self, kernels: Kernels, z):
        return Anderson(window=self.window, ridge=self.ridge, form="weights").init(kernels, z)

    def step(self, kernels: Kernels, z, f, state, active):
        return Anderson(window=self.window, ridge=self.ridge, form="weights").step(kernels, z, f, state, active)


@pytest.mark.parametrize("key", ["torchdeq_anderson", "locuslab_deq_v2_anderson"])
def test_a_relative_ridge_is_seen(key):
    dialect = BY_KEY[key].dialect()
    changed = replace(dialect, solver=RelativeRidge(label="relative", window=6, ridge=1e-4))
    assert furthest(solve(changed), BY_KEY[key]) > AGREEMENT


@pytest.mark.parametrize(
    ("key", "solver"),
    [
        ("torchdeq_anderson", Anderson(window=6)),
        ("torchdeq_fixed_point_iter", KrasnoselskiiMann(alpha=0.9)),
        ("jaxopt_broyden_gamma-1_step1", Broyden()),
    ],
)
def test_our_own_defaults_are_no_dialect(key, solver):
    dialect = BY_KEY[key].dialect()
    assert furthest(solve(replace(dialect, solver=solver)), BY_KEY[key]) > AGREEMENT
