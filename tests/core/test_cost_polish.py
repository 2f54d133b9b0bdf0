"""Polish is an evaluation like any other: counted in evaluations and in multiply-accumulates (S-4, C-1)."""

import numpy as np

import refdeq as rd


def test_polish_adds_one_dense_evaluation_of_every_sample():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((5, 5))
    cell = rd.models.rnn(w * (0.8 / np.linalg.norm(w, 2)), rng.standard_normal((5, 2)), np.zeros(5))
    x = rng.standard_normal((3, 2))
    rule = rd.DeltaRule(threshold=0.05)
    plain = rd.solve(cell, x, delta=rule, stop=rd.StopRule(max_eval=4))
    polished = rd.solve(cell, x, delta=rule, stop=rd.StopRule(max_eval=4), polish=True)
    assert np.array_equal(polished.n_eval, plain.n_eval + 1)
    assert polished.cost.macs == plain.cost.macs + 3 * 25
    assert polished.cost.macs_dense == plain.cost.macs_dense + 3 * 25
    assert polished.cost.by_node["recurrent"] == plain.cost.by_node["recurrent"] + 3 * 25
    assert polished.cost.official == plain.cost.official
