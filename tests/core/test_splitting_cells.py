"""Cells that splittings recognise, refuse and rewrite: delta rules, memory, backends and cost of what comes out (S-6b)."""

from __future__ import annotations

import numpy as np
import pytest
from monotone_cases import certified_distance, conv_cell, dense_parts, fc_cell, injection

import refdeq as rd
from refdeq.errors import UnsupportedError
from refdeq.solvers.splitting import match_form

PR, FB = rd.PeacemanRachford, rd.ForwardBackward
CELLS = {"fc": fc_cell, "conv": conv_cell}
DELTA_SOLVERS = [FB(), PR(alpha=0.5, inverse="dense")]
TIGHT = rd.StopRule(atol=1e-9, max_eval=3000)


# ------------------------------------------------------------------------------------------------------------- delta rules


@pytest.mark.parametrize(("solver", "gates"), [(FB(), {"z": "recurrent"}), (PR(), {"shifted_0": "resolvent"})], ids=str)
def test_the_gate_sits_before_the_matrix(solver, gates):
    cell = fc_cell()
    sol = rd.solve(
        cell, injection(cell), solver=solver, delta=rd.DeltaRule(threshold=1e-3), stop=rd.StopRule(max_eval=5), trace=True
    )
    assert set(sol.memory.r) == set(sol.trace.mask) == set(gates)
    assert set(sol.memory.a) == set(sol.cost.by_node) == set(gates.values())


@pytest.mark.parametrize("preset", ["paper", "delta-network", "refdeq", "deltadeq-code"])
@pytest.mark.parametrize("solver", DELTA_SOLVERS, ids=lambda s: s.name)
@pytest.mark.parametrize("kind", CELLS)
def test_a_threshold_of_zero_finds_the_dense_point(kind, solver, preset):
    cell = CELLS[kind]()
    x = injection(cell)
    rule = rd.DeltaRule.preset(preset, threshold=0.0)
    dense, delta = (rd.solve(cell, x, solver=solver, stop=TIGHT, delta=rule) for rule in (None, rule))
    assert delta.converged
    apart = np.linalg.norm((dense.z - delta.z).reshape(len(x), -1), axis=1)
    assert np.all(apart <= certified_distance(cell, x, dense.z) + certified_distance(cell, x, delta.z))
    # the accumulators drift by a rounding per evaluation, no more: the points are as good as the dense ones
    assert certified_distance(cell, x, delta.z).max() < 1e-6


@pytest.mark.parametrize("solver", [FB(alpha=0.25), PR(alpha=1.0)], ids=lambda s: s.name)
def test_a_threshold_of_zero_is_dense_bit_for_bit_where_nothing_is_rounded(solver, same_bits):
    """``z <- relu(-2 z + x)`` with integers x: V = 1/4 or alpha = 1/4, dyadic numbers throughout."""
    w = np.array([[-2.0]])
    cell = rd.models.monotone(np.ones_like(w), 0 * w, np.eye(1), np.zeros(1), m=2.0)
    stop = rd.StopRule(max_eval=12)
    one, two = (
        rd.solve(cell, np.array([[6.0], [-1.0]]), solver=solver, stop=stop, delta=rule, trace=True)
        for rule in (None, rd.DeltaRule(threshold=0.0))
    )
    same_bits(one.trace.z["z"], two.trace.z["z"])
    same_bits(one.trace.residual, two.trace.residual)


def test_forward_backward_saves_what_stays_zero():
    """The Relu holds half of z at zero; those columns are not sent again."""
    cell = fc_cell(n=40, d=8)
    x = injection(cell)
    sol = rd.solve(cell, x, solver=FB(), stop=rd.StopRule(max_eval=60), delta=rd.DeltaRule(threshold=1e-9))
    assert 0.2 < sol.cost.saved < 0.9
    silent = (sol.z == 0).mean()
    assert sol.cost.saved >= 0.8 * silent


@pytest.mark.parametrize(
    "rule", [None, rd.DeltaRule(threshold=1e-3), rd.DeltaRule.preset("delta-network", threshold=1e-3)], ids=str
)
@pytest.mark.parametrize("solver", DELTA_SOLVERS, ids=lambda s: s.name)
def test_a_warm_start_goes_on_where_the_solve_stopped(solver, rule, same_bits):
    """The point of the last evaluation is evaluated again; from there on everything is the uninterrupted solve."""
    cell = fc_cell()
    x = injection(cell)
    whole = rd.solve(cell, x, solver=solver, stop=rd.StopRule(max_eval=14), delta=rule, trace=True)
    first = rd.solve(cell, x, solver=solver, stop=rd.StopRule(max_eval=5), delta=rule)
    reuse = "state" if rule is None else "state+memory"
    rest = rd.solve(cell, x, solver=solver, stop=rd.StopRule(max_eval=10), delta=rule, warm=first, reuse=reuse, trace=True)
    if rule is None:
        same_bits(rest.trace.z["z"], whole.trace.z["z"][4:])
        same_bits(rest.trace.residual, whole.trace.residual[4:])
        same_bits(rest.z, whole.z)
    else:  # a repeated point sends nothing, unless a threshold holds differences back for ever
        same_bits(rest.trace.z["z"][0], whole.trace.z["z"][4])
        assert not rest.trace.mask[next(iter(rest.trace.mask))][0].any()


def test_a_solution_of_another_solver_is_a_plain_start(same_bits):
    cell = fc_cell()
    x, stop = injection(cell), rd.StopRule(max_eval=4)
    picard = rd.solve(cell, x, stop=stop)
    warm = rd.solve(cell, x, solver=PR(alpha=1.0), stop=stop, warm=picard)
    same_bits(warm.z, rd.solve(cell, x, solver=PR(alpha=1.0), stop=stop, z0=picard.z).z)


# --------------------------------------------------------------------------------------------- backends, results, bookkeeping


@pytest.mark.parametrize("delta", [None, rd.DeltaRule(threshold=1e-3)], ids=["dense", "delta"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "solver", [FB(), PR(), PR(alpha=0.5, inverse="dense")], ids=lambda s: f"{s.name}-{getattr(s, 'inverse', '')}"
)
@pytest.mark.parametrize("kind", CELLS)
def test_reference_and_numba_have_equal_bits(kind, solver, dtype, delta, same_bits):
    cell = CELLS[kind](dtype=dtype)
    x = injection(cell)
    if delta is not None and kind == "conv" and solver == PR():
        solver = PR(inverse="dense")  # between transforms there is nothing to gate: refused, see test_splitting
    stop = rd.StopRule(rtol=1e-3, max_eval=30)
    runs = [rd.solve(cell, x, solver=solver, stop=stop, delta=delta, backend=b, trace=True) for b in ("reference", "numba")]
    for name in ("z", "residual", "status", "n_eval"):
        same_bits(getattr(runs[0], name), getattr(runs[1], name))
    same_bits(runs[0].trace.z["z"], runs[1].trace.z["z"])
    assert runs[0].cost.by_node == runs[1].cost.by_node


@pytest.mark.parametrize("kind", CELLS)
def test_fast_order_finds_the_same_point(kind):
    cell = CELLS[kind]()
    x = injection(cell)
    fast = rd.solve(cell, x, solver=PR(), stop=TIGHT, backend="numba", order="fast", threads=2)
    assert fast.converged
    strict = rd.solve(cell, x, solver=PR(), stop=TIGHT)
    apart = np.linalg.norm((fast.z - strict.z).reshape(len(x), -1), axis=1)
    assert np.all(apart <= certified_distance(cell, x, fast.z) + certified_distance(cell, x, strict.z))


@pytest.mark.parametrize("solver", [FB(), PR()], ids=lambda s: s.name)
def test_lowest_returns_the_best_point_of_the_trace(solver, same_bits):
    cell = fc_cell(skew=6.0)
    x = injection(cell)
    sol = rd.solve(cell, x, solver=solver, stop=rd.StopRule(max_eval=9), returned="lowest", trace=True)
    best = sol.trace.residual.argmin(axis=0)
    same_bits(sol.z, sol.trace.z["z"][best, np.arange(len(x))])
    same_bits(sol.residual, sol.trace.residual[best, np.arange(len(x))])


@pytest.mark.parametrize("solver", [FB(), PR()], ids=lambda s: s.name)
@pytest.mark.parametrize("kind", CELLS)
def test_samples_do_not_see_each_other(kind, solver, same_bits):
    cell = CELLS[kind]()
    x = injection(cell, batch=4) * np.array([1e-3, 1.0, 30.0, 1.0]).reshape(-1, *(1,) * (len(injection(cell).shape) - 1))
    stop = rd.StopRule(rtol=1e-2, max_eval=400)
    together = rd.solve(cell, x, solver=solver, stop=stop)
    assert len(set(together.n_eval)) > 1
    for i in range(4):
        alone = rd.solve(cell, x[i : i + 1], solver=solver, stop=stop)
        same_bits(together.z[i : i + 1], alone.z)
        assert (together.n_eval[i], together.residual[i]) == (alone.n_eval[0], alone.residual[0])


def test_cost_is_that_of_the_rewritten_cell():
    cell = fc_cell(n=12)
    sol = rd.solve(cell, injection(cell), solver=PR(alpha=1.0), stop=rd.StopRule(max_eval=7), polish=True)
    assert sol.cost.by_node == {"resolvent": 3 * 7 * 144, "recurrent": 3 * 144}  # the polish is an evaluation of f
    conv = conv_cell(2, 1, (3, 4))
    sol = rd.solve(conv, injection(conv), solver=FB(), stop=rd.StopRule(max_eval=7))
    assert sol.cost.by_node == {"recurrent": 3 * 7 * 25 * 2 * 2 * 5 * 6}


def test_names_that_are_taken_get_a_number():
    b = rd.GraphBuilder()
    z, alpha = b.state("z", (2,)), b.injection("alpha", (2,))
    linear = b.node("Gemm", z, b.parameter("V", -np.eye(2)), b.parameter("half", np.ones(2)), name="resolvent")
    b.output(z, b.node("Relu", b.node("Add", alpha, linear, name="next"), name="positive"))
    cell = b.build()
    exact = np.array([[1.0, 0.0]])  # relu(-z + 1 + (1, -3))
    for solver in (FB(), PR()):
        sol = rd.solve(cell, np.array([[1.0, -3.0]]), solver=solver, stop=TIGHT)
        assert sol.converged
        # I - W = 2 I: m = |I - W| = 2
        assert np.linalg.norm(sol.z - exact) <= (1 + 2) / 2 * (sol.residual[0] + 1e-14)


# ----------------------------------------------------------------------------------------------------------- recognised forms


def form(build, shape=(4,)):
    """Match a cell made by ``build(builder, z, x, parameter) -> value of the state``."""
    builder = rd.GraphBuilder()
    z, x = builder.state("z", shape), builder.injection("x", shape)
    builder.output(z, build(builder, z, x, builder.parameter))
    return match_form(builder.build())


def test_summands_are_sorted(rng):
    w, first, second = rng.standard_normal((4, 4)), rng.standard_normal(4), rng.standard_normal(4)

    def build(b, z, x, parameter):
        linear = b.node("Gemm", z, parameter("W", w), parameter("c", first))
        inner = b.node("Add", b.node("Neg", x, name="minus"), b.node("Add", linear, parameter("d", second)))
        return b.node("Relu", b.node("Add", inner, x))

    found = form(build)
    np.testing.assert_array_equal(found.weight, w.T)  # no transB: z @ W
    np.testing.assert_array_equal(found.bias, second + first)
    assert set(found.shifts) == {"x", "minus"}
    assert found.mask is None


def around(b, z, before, after, shape):
    """Wrap a state (C, H, W) around by moves."""
    for axis, length in zip((2, 3), shape[1:], strict=True):
        end = b.node("Slice", z, starts=(length - before,), ends=(length,), axes=(axis,))
        start = b.node("Slice", z, starts=(0,), ends=(after,), axes=(axis,))
        z = b.node("Concat", end, z, start, axis=axis)
    return z


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1), (1, 3)])
def test_any_wrapping_is_found(before, after, rng):
    """The origin follows from where the sites went, and the dense matrix of the form is the cell's own."""
    shape, taps = (2, 4, 5), before + after + 1
    kernel = 0.1 * rng.standard_normal((2, 2, taps, taps))
    builder = rd.GraphBuilder()
    z = builder.state("z", shape)
    x = builder.injection("x", shape)
    linear = builder.node("Conv", around(builder, z, before, after, shape), builder.parameter("W", kernel))
    builder.output(z, builder.node("Relu", builder.node("Add", linear, x)))
    cell = builder.build()
    found = match_form(cell)
    assert (found.size, found.origin) == ((4, 5), (before, before))
    x = rng.standard_normal((2, *shape))
    stop = rd.StopRule(atol=1e-10, max_eval=500)
    picard, split = (rd.solve(cell, x, solver=s, stop=stop) for s in (rd.Picard(), PR(alpha=1.0)))
    m, norm = rd.solvers.monotone_constants(cell)
    assert split.converged
    assert picard.converged
    assert m > 0.1
    limit = (1 + norm) / m * (picard.residual + split.residual + 1e-12)
    assert np.all(np.linalg.norm((picard.z - split.z).reshape(2, -1), axis=1) <= limit)


IMAGE = (2, 4, 4)
KERNEL = np.zeros((2, 2, 3, 3))
REFUSED = [
    ("Tanh", (4,), lambda b, z, x, p: b.node("Tanh", b.node("Gemm", z, p("W", np.eye(4))))),
    ("Mul 'f'", (4,), lambda b, z, x, p: b.node("Mul", b.node("Relu", z), p("s", np.full(4, 0.5)), name="f")),
    ("itself", (4,), lambda b, z, x, p: z),
    ("the state itself", (4,), lambda b, z, x, p: b.node("Relu", b.node("Add", z, x))),
    (
        "both summands of 'sum'",
        (4,),
        lambda b, z, x, p: b.node("Relu", b.node("Add", b.node("Gemm", z, p("W", np.eye(4))), z, name="sum")),
    ),
    ("under its Relu is Neg", (4,), lambda b, z, x, p: b.node("Relu", b.node("Neg", b.node("Gemm", z, p("W", np.eye(4)))))),
    ("alpha or beta", (4,), lambda b, z, x, p: b.node("Relu", b.node("Gemm", z, p("W", np.eye(4)), alpha=0.5))),
    ("not the state", (4,), lambda b, z, x, p: b.node("Relu", b.node("Gemm", b.node("Neg", z), p("W", np.eye(4))))),
    ("pads of zeros", IMAGE, lambda b, z, x, p: b.node("Relu", b.node("Conv", z, p("W", KERNEL), pads=(1, 1, 1, 1)))),
    (
        "dilations",
        IMAGE,
        lambda b, z, x, p: b.node("Relu", b.node("Conv", around(b, z, 2, 2, IMAGE), p("W", KERNEL), dilations=(2, 2))),
    ),
    (
        "groups",
        IMAGE,
        lambda b, z, x, p: b.node("Relu", b.node("Conv", around(b, z, 1, 1, IMAGE), p("W", KERNEL[:, :1]), group=2)),
    ),
    (
        "not the state, wrapped",
        IMAGE,
        lambda b, z, x, p: b.node(
            "Relu", b.node("Conv", around(b, b.node("Transpose", z, perm=(0, 1, 3, 2)), 1, 1, IMAGE), p("W", KERNEL))
        ),
    ),
    (
        "not the state, wrapped",
        IMAGE,
        lambda b, z, x, p: b.node("Relu", b.node("Conv", around(b, b.node("Relu", z), 1, 1, IMAGE), p("W", KERNEL))),
    ),
]


@pytest.mark.parametrize(("message", "shape", "build"), REFUSED, ids=[f"{i}-{row[0]}" for i, row in enumerate(REFUSED)])
def test_other_cells_are_refused_by_name(message, shape, build):
    with pytest.raises(UnsupportedError, match=message) as caught:
        form(build, shape)
    assert "Picard" in str(caught.value)  # the way out


def test_several_states_are_refused():
    builder = rd.GraphBuilder()
    for name in "zy":
        builder.output(builder.state(name, (2,)), name)
    with pytest.raises(UnsupportedError, match="2 states"):
        rd.solve(builder.build(), z0={"z": np.ones((1, 2)), "y": np.ones((1, 2))}, solver=PR())


def test_the_dense_parts_of_the_cases_are_those_of_the_cells():
    """What the certificates of these files rest on."""
    for cell in (fc_cell(), conv_cell()):
        x = injection(cell)
        w, beta, mask = dense_parts(cell, x)
        z = rd.solve(cell, x, stop=rd.StopRule(max_eval=3)).z
        value = rd.solve(cell, x, z0=z, stop=rd.StopRule(max_eval=1), polish=True).z
        expected = mask * np.maximum(z.reshape(len(x), -1) @ w.T + beta, 0)
        gauge = np.abs(z).reshape(len(x), -1) @ np.abs(w).T + np.abs(beta)
        assert np.all(np.abs(value.reshape(len(x), -1) - expected) <= 2 * (len(w) + 20) * 2.0**-53 * gauge + 1e-14)
