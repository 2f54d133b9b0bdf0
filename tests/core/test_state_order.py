"""States in declared order (S-2): whatever order outputs are declared in, and z0 is given in, results have the same bits."""

from __future__ import annotations

import numpy as np
import pytest

import refdeq as rd
from refdeq.solvers.dialect_tables import TABLES

DIALECTS = [f"{name}/{method}" for name, methods in TABLES.items() for method in methods]
SOLVERS = {
    "picard": rd.Picard(),
    "km": rd.KrasnoselskiiMann(alpha=0.7),
    "anderson": rd.Anderson(window=3),
    "weights": rd.Anderson(window=3, form="weights", ridge=1e-8),
    "broyden": rd.Broyden(),
    "ring": rd.Broyden(window=2),
}


def cell_of(outputs):
    """States b (3,), then a (2,), that feed each other; `outputs` is the order in which their values are declared."""
    rng = np.random.default_rng(4)
    builder = rd.GraphBuilder()
    b, a, x = builder.state("b", (3,)), builder.state("a", (2,)), builder.injection("x", (2,))
    to_b = builder.node("Gemm", a, builder.parameter("V", 0.4 * rng.standard_normal((2, 3))), name="to_b")
    to_a = builder.node("Gemm", b, builder.parameter("W", 0.4 * rng.standard_normal((3, 2))), name="to_a")
    values = {b: builder.node("Tanh", to_b), a: builder.node("Tanh", builder.node("Add", to_a, x))}
    for state in outputs:
        builder.output(state, values[state])
    return builder.build()


def start(order, rng):
    given = {"b": rng.standard_normal((4, 3)), "a": rng.standard_normal((4, 2))}
    return {state: given[state] for state in order}


def options(name):
    return {"dialect": name} if name in DIALECTS else {"solver": SOLVERS[name], "stop": rd.StopRule(rtol=1e-9, max_eval=40)}


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("name", [*SOLVERS, *DIALECTS])
def test_order_of_outputs_and_of_z0_changes_no_bit(name, backend, same_bits):
    x = np.random.default_rng(5).standard_normal((4, 2))
    natural = rd.solve(cell_of("ba"), x, z0=start("ba", np.random.default_rng(6)), backend=backend, **options(name))
    for outputs, order in (("ab", "ba"), ("ba", "ab")):
        z0 = start("ba", np.random.default_rng(6))
        sol = rd.solve(cell_of(outputs), x, z0={state: z0[state] for state in order}, backend=backend, **options(name))
        assert list(sol.states) == ["b", "a"]
        for state in "ab":
            same_bits(sol.states[state], natural.states[state])
        same_bits(sol.residual, natural.residual)
        np.testing.assert_array_equal(sol.n_eval, natural.n_eval)
        np.testing.assert_array_equal(sol.status, natural.status)
