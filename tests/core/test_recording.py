"""Traces (S-10): the same bits as an untraced solve, and everything a replay needs."""

from __future__ import annotations

import numpy as np
import pytest

import refdeq as rd
from refdeq.recording import empty_trace, recorded_values

RULES = {
    "dense": None,
    "gated": rd.DeltaRule(threshold=0.05),
    "folded": rd.DeltaRule.preset("deltadeq-code", threshold=0.05),
    "half": rd.DeltaRule(threshold=0.05, dense=("c2",), refresh=3),
}


@pytest.mark.parametrize("name", sorted(RULES))
@pytest.mark.parametrize("returned", ["last", "lowest"])
@pytest.mark.parametrize("solver", [rd.Picard(), rd.KrasnoselskiiMann(alpha=0.8)], ids=lambda s: s.name)
def test_traced_and_untraced_solves_have_equal_bits(name, returned, solver, conv_cell, rng, same_bits):
    x = rng.standard_normal((3, 3, 4, 5))
    options = {"delta": RULES[name], "returned": returned, "solver": solver, "stop": rd.StopRule(rtol=1e-5, max_eval=20)}
    one, two = (rd.solve(conv_cell(), x, trace=traced, **options) for traced in (False, True))
    assert one.trace is None
    same_bits(one.z, two.z)
    same_bits(one.residual, two.residual)
    np.testing.assert_array_equal(one.n_eval, two.n_eval)
    assert one.cost.macs == two.cost.macs
    if one.memory is not None:
        for part in ("r", "a"):
            for key, array in getattr(one.memory, part).items():
                same_bits(array, getattr(two.memory, part)[key])


def test_every_transition_follows_from_the_trace(tanh_cell, rng, same_bits):
    """z moves by the formula of the solver, and f is the rest of the graph applied to the recorded accumulator."""
    cell, x, alpha = tanh_cell(), rng.standard_normal((3, 2)), 0.75
    solver, stop = rd.KrasnoselskiiMann(alpha=alpha), rd.StopRule(rtol=1e-6, max_eval=30)
    trace = rd.solve(cell, x, solver=solver, delta=rd.DeltaRule(threshold=0.02), stop=stop, trace=True).trace
    z, f, a = trace.z["z"], trace.f["z"], trace.a["recurrent"]
    going_on = trace.active[1:]
    moved = (1 - alpha) * z[:-1] + alpha * f[:-1]
    same_bits(np.where(going_on[..., None], moved, np.nan), z[1:])
    evaluation, sample = np.nonzero(trace.active)
    rest = {"a": a[evaluation, sample], "c": trace.hoisted["injected"][sample]}
    recomputed = rd.solve(rest_of_rnn(6), rest, stop=rd.StopRule(max_eval=2)).z  # the second argument is f of the first
    same_bits(recomputed, f[evaluation, sample])


def rest_of_rnn(n):
    builder = rd.GraphBuilder()
    z, a, c = builder.state("z", (n,)), builder.injection("a", (n,)), builder.injection("c", (n,))
    builder.output(z, builder.node("Tanh", builder.node("Add", a, c)))
    return builder.build()


def test_shapes_lengths_and_gaps(conv_cell, rng):
    x = rng.standard_normal((3, 3, 4, 5)) * np.array([0.01, 1.0, 3.0])[:, None, None, None]
    sol = rd.solve(conv_cell(), x, delta=rd.DeltaRule(threshold=0.02), stop=rd.StopRule(rtol=1e-4, max_eval=40), trace=True)
    trace = sol.trace
    length = int(sol.n_eval.max())
    assert len(set(sol.n_eval)) > 1
    assert len(trace) == length
    np.testing.assert_array_equal(trace.active.sum(axis=0), sol.n_eval)
    for array in (*trace.z.values(), *trace.f.values(), *trace.r.values(), *trace.a.values(), *trace.mask.values()):
        assert array.shape == (length, 3, 3, 4, 5)
    for array in (*trace.z.values(), *trace.f.values(), *trace.r.values(), *trace.a.values()):
        assert np.isnan(array[~trace.active]).all()
        assert np.isfinite(array[trace.active]).all()
    assert not trace.mask["z"][~trace.active].any()
    for values in (trace.residual, trace.scale):
        assert values.dtype == np.float64
        np.testing.assert_array_equal(np.isnan(values), ~trace.active)
    last = sol.n_eval - 1
    np.testing.assert_array_equal(trace.residual[last, range(3)], sol.residual)
    np.testing.assert_array_equal(trace.scale[last, range(3)], sol.scale)
    assert trace.semantics_version == "1"


def test_a_trace_is_a_copy(tanh_cell, rng):
    seen = []

    def spoil(progress):
        seen.append(progress)

    cell, x = tanh_cell(), rng.standard_normal((1, 2))
    trace = rd.solve(cell, x, stop=rd.StopRule(max_eval=4), trace=True, on_evaluation=spoil).trace
    assert len({float(v) for v in trace.z["z"][:, 0, 0]}) == 4  # not four views of one buffer


def test_what_an_evaluation_chooses_is_recorded():
    """Ungated sums always; activations only where they are native (N-8)."""
    builder = rd.GraphBuilder()
    z = builder.state("z", (2, 3))
    product = builder.node("MatMul", z, builder.parameter("M", np.eye(3)), name="product")
    mean = builder.node("ReduceMean", product, axes=(2,), name="mean")
    builder.output(z, builder.node("Tanh", builder.node("Mul", product, mean), name="f"))
    graph = builder.build().graph
    assert recorded_values(graph, set(), native=False) == ["product", "mean"]
    assert recorded_values(graph, set(), native=True) == ["product", "mean", "f"]
    assert set(rd.solve(builder.build(), z0=np.ones((1, 2, 3)), trace=True).trace.values) == {"product", "mean"}


def test_buffers_of_fused_runs_have_the_shapes_of_a_trace(tanh_cell, rng):
    cell, x = tanh_cell(), rng.standard_normal((2, 2))
    sol = rd.solve(cell, x, delta=rd.DeltaRule(threshold=0.1), stop=rd.StopRule(max_eval=3), trace=True)
    buffers = empty_trace(cell.graph, 2, 3, ["z"], {"recurrent"}, sol.trace.hoisted, native=False)
    for part in ("z", "f", "r", "mask", "a", "values", "hoisted"):
        ours, theirs = getattr(buffers, part), getattr(sol.trace, part)
        assert {k: (v.shape, v.dtype) for k, v in ours.items()} == {k: (v.shape, v.dtype) for k, v in theirs.items()}
    assert not buffers.active.any()
    assert np.isnan(buffers.a["recurrent"]).all()
