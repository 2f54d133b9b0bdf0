"""Every reason why a solve has no fused plan; such a solve runs at op level, or fails when the plan was insisted on."""

import numpy as np
import pytest
from refdeq_numba.plan import make_plan

import refdeq as rd
from refdeq.registry import PlanRequest, Refusal


def build(describe):
    """A cell of width 3 from a function of (builder, z, x, W)."""
    builder = rd.GraphBuilder("float64")
    z, x = builder.state("z", (3,)), builder.injection("x", (3,))
    builder.output(z, describe(builder, z, x, builder.parameter("W", 0.3 * np.eye(3))))
    return builder.build()


def plain(b, z, x, w):
    return b.node("Tanh", b.node("Add", b.node("Gemm", z, w, name="linear"), x))


def ask(cell, **changes):
    chosen = {"solver": rd.Picard(), "gates": {}, "start": "dense", "bias": "separate", "refresh": 0, "returned": "last"}
    return make_plan(PlanRequest(**{"graph": cell.graph, "order": "strict", **chosen, **changes}))


@pytest.mark.parametrize(
    ("describe", "reason"),
    [
        (lambda b, z, x, w: b.node("Gemm", b.node("Gemm", z, w), w, name="second"), "node 'second' (Gemm) does not fit"),
        (lambda b, z, x, w: b.node("Identity", b.node("Add", z, x)), "but node 'identity' is Identity"),
        (lambda b, z, x, w: b.node("Add", z, x), "but there is none"),
        (lambda b, z, x, w: b.node("Gemm", b.node("Sub", z, x), w), "but node 'sub' is Sub"),
        (lambda b, z, x, w: b.node("Gemm", z, w, alpha=0.5), "has alpha 0.5"),
        (lambda b, z, x, w: b.node("Gemm", z, w, b.parameter("c", np.ones(3)), beta=2.0), "beta 2.0"),
        (lambda b, z, x, w: b.node("Exp", b.node("Gemm", z, w)), "node 'exp' (Exp) does not fit"),
        (lambda b, z, x, w: b.node("Add", b.node("Gemm", z, w), z), "node 'add' reads gemm, z"),
        (lambda b, z, x, w: b.node("Gemm", b.node("Add", z, z), w), "node 'add' reads z, z"),
        (lambda b, z, x, w: b.node("Mul", b.node("Gemm", z, w), b.parameter("s", np.ones(1))), "broadcasts 's'"),
        (lambda b, z, x, w: (b.node("Tanh", b.node("Gemm", z, w, name="g")), "g")[1], "the next state is 'g'"),
        (
            lambda b, z, x, w: b.node(
                "Gemm", b.node("Gemm", z, b.parameter("V", np.ones((3, 2)))), b.parameter("U", np.ones((2, 3)))
            ),
            "has 2 outputs, the state 3",
        ),
    ],
)
def test_graphs_that_do_not_fit(describe, reason):
    refused = ask(build(describe))
    assert isinstance(refused, Refusal)
    assert reason in refused.reason


def test_several_states():
    builder = rd.GraphBuilder("float64")
    for name in ("z", "y"):
        state = builder.state(name, (2,))
        builder.output(state, builder.node("Gemm", state, builder.parameter(f"W{name}", np.eye(2))))
    assert "it has 2 states" in ask(builder.build()).reason


def test_state_of_another_rank():
    builder = rd.GraphBuilder("float64")
    z = builder.state("z", (2, 3, 3))
    weight = builder.parameter("W", np.ones((2, 2, 1, 1)))
    builder.output(z, builder.node("Conv", z, weight))
    assert "its state has shape (2, 3, 3)" in ask(builder.build()).reason


class OtherSolver:
    name = "other"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"solver": OtherSolver()}, "not by OtherSolver"),
        ({"solver": rd.Anderson(coupled=True)}, "coupled Anderson sums over the batch"),
        ({"solver": rd.Anderson(form="weights")}, "Anderson in the form of differences, not of weights"),
        ({"solver": rd.Anderson(), "returned": "lowest"}, "not the lowest"),
        ({"solver": rd.Broyden()}, "not by Broyden"),
        ({"returned": "lowest"}, "not the lowest"),
    ],
)
def test_requests_that_do_not_fit(changes, reason):
    assert reason in ask(build(plain), **changes).reason


@pytest.mark.parametrize("solver", [rd.ForwardBackward(), rd.PeacemanRachford()])
def test_splittings_run_at_op_level(rng, solver):
    """What they evaluate is another graph, and the residual is formed from values inside it."""
    n = 4
    cell = rd.models.monotone(0.3 * np.eye(n), np.zeros((n, n)), rng.standard_normal((n, 2)), np.zeros(n))
    x = rng.standard_normal((2, 2))
    with pytest.raises(rd.errors.UnsupportedError, match="a splitting forms its residual in the loop"):
        rd.solve(cell, x, solver=solver, backend="numba", executor="fused")
    solution = rd.solve(cell, x, solver=solver, backend="numba")
    assert solution.executor == "op level (a splitting forms its residual in the loop)"
    assert rd.solve(cell, x, backend="numba").executor == "fused: fc relu"  # the cell itself has a plan


def test_dialects_run_at_op_level(rng):
    """Also those that step as Picard does: they measure and decide by rules of their own."""
    cell, x = build(plain), rng.standard_normal((2, 3))
    for dialect in ("torchdeq/fixed_point_iter", "deq-flow/km", "locuslab-v2/anderson"):
        assert rd.solve(cell, x, dialect=dialect, backend="numba").executor == "op level (a dialect decides in the loop)"
        with pytest.raises(rd.errors.UnsupportedError, match="a dialect decides in the loop"):
            rd.solve(cell, x, dialect=dialect, backend="numba", executor="fused")


BY_BROYDEN = "the fused solve steps by Picard, Krasnoselskii-Mann or Anderson, not by Broyden"


@pytest.mark.parametrize(
    ("solver", "reason"),
    [
        (rd.Broyden(), BY_BROYDEN),
        (rd.Broyden(line_search="armijo"), BY_BROYDEN),
        (rd.Anderson(form="weights"), "the fused solve has Anderson in the form of differences, not of weights"),
        (rd.Anderson(coupled=True), "the fused solve treats every sample for itself, and coupled Anderson sums over the batch"),
    ],
)
def test_other_solvers_with_a_memory_run_at_op_level(rng, solver, reason):
    cell, x = build(plain), rng.standard_normal((2, 3))
    assert rd.solve(cell, x, solver=solver, backend="numba").executor == f"op level ({reason})"
    with pytest.raises(rd.errors.UnsupportedError, match=reason):
        rd.solve(cell, x, solver=solver, backend="numba", executor="fused")


def test_a_hook_needs_the_loop(rng):
    cell, x = build(plain), rng.standard_normal((2, 3))
    assert "a progress hook needs the loop" in rd.solve(cell, x, backend="numba", on_evaluation=lambda progress: True).executor
    with pytest.raises(rd.errors.UnsupportedError, match="a progress hook needs the loop"):
        rd.solve(cell, x, backend="numba", executor="fused", on_evaluation=lambda progress: True)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"memory": "feedback", "feedback_format": "float16"}, "not 'feedback'"),
        ({"delta_dtype": "float16"}, "not in float16"),
    ],
)
def test_rules_that_do_not_fit(rng, rule, reason):
    cell, x = build(plain), rng.standard_normal((2, 3))
    with pytest.raises(rd.errors.UnsupportedError, match=reason):
        rd.solve(cell, x, delta=rd.DeltaRule(threshold=0.1, **rule), backend="numba", executor="fused")
    assert reason in rd.solve(cell, x, delta=rd.DeltaRule(threshold=0.1, **rule), backend="numba").executor


@pytest.mark.parametrize(
    ("describe", "name"),
    [
        (plain, "fc tanh"),
        (lambda b, z, x, w: b.node("Gemm", z, w), "fc identity"),
        (lambda b, z, x, w: b.node("Mul", b.node("Gemm", b.node("Add", x, z), w), x), "fc identity"),
    ],
)
def test_graphs_that_fit(describe, name):
    assert ask(build(describe)).name == name
