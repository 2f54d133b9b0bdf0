"""What ``solve`` accepts and refuses, and with which error; nothing is promoted, guessed or ignored (E-2, N-3, S-11)."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import refdeq as rd
from refdeq.errors import (
    ArgumentError,
    BackendUnavailableError,
    DTypeError,
    RefdeqError,
    ShapeError,
    UnsupportedError,
)


@pytest.fixture
def cell(tanh_cell):
    return tanh_cell(n=3, d=2)


@pytest.fixture
def x(rng):
    return rng.standard_normal((4, 2))


def two_injections():
    builder = rd.GraphBuilder()
    z, x, y = builder.state("z", (2,)), builder.injection("x", (2,)), builder.injection("y", (2,))
    builder.output(z, builder.node("Mul", builder.node("Tanh", builder.node("Add", z, x)), builder.node("Sigmoid", y)))
    return builder.build()


# ------------------------------------------------------------------------------------------------------------------- arrays

BAD_X = {
    "a list": ([[0.0, 1.0]], ArgumentError),
    "None": (None, ArgumentError),
    "a number": (1.0, ArgumentError),
    "a masked array": (np.ma.masked_array(np.zeros((4, 2)), mask=True), ArgumentError),
    "too few axes": (np.zeros(2), ShapeError),
    "too many axes": (np.zeros((4, 2, 1)), ShapeError),
    "no axes": (np.array(1.0), ShapeError),
    "another width": (np.zeros((4, 3)), ShapeError),
    "float32": (np.zeros((4, 2), np.float32), DTypeError),
    "integers": (np.zeros((4, 2), int), DTypeError),
    "objects": (np.zeros((4, 2), object), DTypeError),
    "complex": (np.zeros((4, 2), complex), DTypeError),
    "the other byte order": (np.zeros((4, 2), ">f8"), DTypeError),
    "another name": ({"y": np.zeros((4, 2))}, ArgumentError),
    "a name too many": ({"x": np.zeros((4, 2)), "y": np.zeros((4, 2))}, ArgumentError),
    "no name": ({}, ArgumentError),
}


@pytest.mark.parametrize("name", sorted(BAD_X))
def test_bad_injections(name, cell):
    given, error = BAD_X[name]
    with pytest.raises(error) as caught:
        rd.solve(cell, given)
    assert type(caught.value) is error
    assert str(caught.value).startswith("x")  # the argument is named


def test_the_byte_order_is_named(cell):
    with pytest.raises(DTypeError, match="byte order"):
        rd.solve(cell, np.zeros((4, 2), ">f8"))


@pytest.mark.parametrize("name", sorted(set(BAD_X) - {"None", "another width", "another name", "a name too many"}))
def test_bad_first_arguments(name, cell, x):
    given, error = BAD_X[name]
    with pytest.raises(error, match="z0"):
        rd.solve(cell, x, z0=given)


def test_batches_must_agree(cell, x):
    with pytest.raises(ShapeError, match="z0"):
        rd.solve(cell, x, z0=np.zeros((3, 3)))
    with pytest.raises(ShapeError, match="x\\['y'\\]"):
        rd.solve(two_injections(), {"x": np.zeros((2, 2)), "y": np.zeros((3, 2))})
    with pytest.raises(ArgumentError, match="mapping"):
        rd.solve(two_injections(), np.zeros((2, 2)))


def test_cells_without_injections():
    builder = rd.GraphBuilder()
    builder.output("z", builder.node("Tanh", builder.state("z", (2,))))
    cell = builder.build()
    with pytest.raises(ArgumentError, match="z0"):
        rd.solve(cell)
    with pytest.raises(ArgumentError, match="no injection"):
        rd.solve(cell, np.zeros((1, 2)), z0=np.zeros((1, 2)))
    assert rd.solve(cell, z0=np.zeros((1, 2))).converged


@pytest.mark.parametrize("view", ["fortran", "strided", "negative", "transposed", "read-only", "unaligned"])
def test_memory_layout_does_not_matter(view, cell, x, same_bits):
    if view == "unaligned":
        raw = np.zeros(x.nbytes + 1, np.uint8)
        given = raw[1:].view(x.dtype).reshape(x.shape)
        given[...] = x
    else:
        given = {
            "fortran": lambda: np.asfortranarray(x),
            "strided": lambda: np.repeat(np.repeat(x, 3, axis=0), 2, axis=1)[::3, ::2],
            "negative": lambda: x[::-1].copy()[::-1],
            "transposed": lambda: x.T.copy().T,
            "read-only": lambda: np.frombuffer(x.tobytes()).reshape(x.shape),
        }[view]()
    z0 = np.asfortranarray(np.ones((4, 3)))
    sol = rd.solve(cell, given, z0=z0, delta=rd.DeltaRule(threshold=0.01))
    same_bits(sol.z, rd.solve(cell, x, z0=np.ones((4, 3)), delta=rd.DeltaRule(threshold=0.01)).z)
    np.testing.assert_array_equal(z0, np.ones((4, 3)))  # the caller's array is left alone
    same_bits(given, x)


def test_subclasses_of_arrays_are_plain_arrays_here(cell, x, tmp_path, same_bits):
    mapped = np.memmap(tmp_path / "x", dtype=np.float64, mode="w+", shape=x.shape)
    mapped[...] = x
    sol = rd.solve(cell, mapped)
    assert type(sol.z) is np.ndarray
    assert type(sol.x["x"]) is np.ndarray
    same_bits(sol.z, rd.solve(cell, x).z)


@pytest.mark.parametrize("rule", [None, rd.DeltaRule(threshold=0.1), rd.DeltaRule(threshold=0.1, start="zero", bias="folded")])
def test_an_empty_batch_is_solved(rule, cell, conv_cell):
    for some, shape in ((cell, (0, 2)), (conv_cell(), (0, 3, 4, 5))):
        sol = rd.solve(some, np.zeros(shape), delta=rule, trace=True, polish=True, verify=True, returned="lowest")
        assert sol.converged
        assert sol.counts() == {}
        assert sol.z.shape[0] == sol.n_eval.size == sol.residual_dense.size == len(sol.trace) == 0
        assert (sol.cost.macs, sol.cost.saved) == (0, 0.0)
        assert repr(sol).startswith("Solution(0 samples: none")
        if rule is not None:
            again = rd.solve(some, np.zeros(shape), delta=rule, warm=sol, reuse="state+memory")
            assert again.memory.count.size == 0


def test_one_sample_and_one_unit(same_bits):
    one = rd.models.rnn(np.full((1, 1), 0.5), np.ones((1, 1)), np.zeros(1))
    sol = rd.solve(one, np.ones((1, 1)), stop=rd.StopRule(atol=1e-15, max_eval=200))
    z = float(sol.z[0, 0])
    assert abs(z - np.tanh(0.5 * z + 1.0)) <= 1e-15 + 4 * 2.0**-53


# ------------------------------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"order": "any"}, ArgumentError, "order"),
        ({"order": None}, ArgumentError, "order"),
        ({"order": ["strict"]}, ArgumentError, "order"),
        ({"order": "fast"}, UnsupportedError, "offers order"),
        ({"executor": "gpu"}, ArgumentError, "executor"),
        ({"executor": "fused"}, UnsupportedError, "no fused plan"),
        ({"executor": "fused", "on_evaluation": print}, UnsupportedError, "hook"),
        ({"returned": "best"}, ArgumentError, "returned"),
        ({"reuse": "all"}, ArgumentError, "reuse"),
        ({"threads": 0}, ArgumentError, "threads"),
        ({"threads": True}, ArgumentError, "threads"),
        ({"threads": 2.0}, ArgumentError, "threads"),
        ({"threads": None}, ArgumentError, "threads"),
        ({"backend": "cuda-on-the-moon"}, BackendUnavailableError, "no such backend"),
        ({"backend": None}, ArgumentError, "backend"),
        ({"backend": 3}, ArgumentError, "backend"),
        ({"solver": "picard"}, ArgumentError, "solver"),
        ({"solver": rd.Picard}, ArgumentError, "solver"),
        ({"stop": 1e-3}, ArgumentError, "stop"),
        ({"stop": {"rtol": 1e-3}}, ArgumentError, "stop"),
        ({"delta": 0.1}, ArgumentError, "delta"),
        ({"warm": np.zeros((4, 3))}, ArgumentError, "warm"),
    ],
    ids=str,
)
def test_bad_options(options, error, named, cell, x):
    with pytest.raises(error, match=named) as caught:
        rd.solve(cell, x, **options)
    assert type(caught.value) is error


def test_unknown_keywords_fail(cell, x):
    with pytest.raises(TypeError):
        rd.solve(cell, x, max_iter=3)
    with pytest.raises(TypeError):
        rd.solve(cell, x, np.zeros((4, 3)))  # everything after x is by keyword
    assert [p.name for p in inspect.signature(rd.solve).parameters.values() if p.kind is p.VAR_KEYWORD] == []


def test_z0_and_warm_exclude_each_other(cell, x):
    sol = rd.solve(cell, x)
    with pytest.raises(ArgumentError, match="z0"):
        rd.solve(cell, x, z0=sol.z, warm=sol)


def test_a_warm_start_continues(cell, x, same_bits):
    first = rd.solve(cell, x, stop=rd.StopRule(max_eval=4))
    same_bits(rd.solve(cell, x, stop=rd.StopRule(max_eval=1), warm=first).z, first.z)
    with pytest.raises(ShapeError, match="warm"):
        rd.solve(cell, x[:2], warm=first)
    with pytest.raises(ShapeError, match="warm"):
        rd.solve(rd.models.rnn(np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2)), x, warm=first)


def test_nothing_is_computed_before_arguments_are_checked(cell, x):
    called = []
    with pytest.raises(RefdeqError):
        rd.solve(cell, x, order="any", on_evaluation=called.append)
    assert called == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"delta": rd.DeltaRule(threshold=0.1)}, "delta"),
        ({"backend": "numba"}, "backend"),
        ({"order": "fast"}, "order"),
        ({"executor": "fused"}, "executor"),
        ({"reuse": "state+memory"}, "reuse"),
        ({"polish": True}, "polish"),
        ({"verify": True}, "verify"),
        ({"z0": None}, "z0"),
        ({"z0": [0.0]}, "z0"),
        ({"z0": np.array(0.0)}, "z0"),
        ({"z0": np.zeros((1, 1), int)}, "z0"),
        ({"z0": np.zeros((1, 1), ">f8")}, "z0"),
        ({"threads": 0}, "threads"),
    ],
    ids=str,
)
def test_what_a_plain_callable_cannot_have(options, named):
    with pytest.raises(ArgumentError, match=named):
        rd.solve(lambda z, x: z, **{"z0": np.zeros((1, 1)), **options})


@pytest.mark.parametrize("cell", [None, 3, "rnn", np.zeros(3)])
def test_something_that_is_no_cell(cell):
    with pytest.raises(ArgumentError, match="cell"):
        rd.solve(cell, z0=np.zeros((1, 1)))


def test_the_solution_says_how_it_was_made(cell, x):
    sol = rd.solve(cell, x)
    assert (sol.backend, sol.order, sol.semantics_version) == ("reference", "strict", "1")
    assert sol.executor == "op level (the reference evaluates operator by operator)"
    assert rd.solve(cell, x, executor="op").executor == "op level (asked for)"
    assert "progress hook" in rd.solve(cell, x, on_evaluation=lambda p: None).executor
    assert rd.solve(cell, x, backend=rd.load_backend("reference")).backend == "reference"


def test_several_states_come_by_name(rng):
    builder = rd.GraphBuilder()
    p, q = builder.state("p", (2,)), builder.state("q", (3,))
    builder.output(p, builder.node("Tanh", p))
    builder.output(q, builder.node("Sin", q))
    sol = rd.solve(builder.build(), z0={"q": np.ones((2, 3)), "p": np.ones((2, 2))}, stop=rd.StopRule(max_eval=2))
    assert {name: array.shape for name, array in sol.z.items()} == {"p": (2, 2), "q": (2, 3)}
    for given in (np.ones((2, 2)), {"p": np.ones((2, 2))}):
        with pytest.raises(ArgumentError, match="z0"):
            rd.solve(builder.build(), z0=given)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_results_have_the_dtype_of_the_cell(kind, tanh_cell, x):
    sol = rd.solve(tanh_cell(dtype=kind), x.astype(kind), delta=rd.DeltaRule(threshold=0.1), trace=True)
    assert sol.z.dtype == sol.trace.f["z"].dtype == sol.memory.a["recurrent"].dtype == np.dtype(kind)
    assert sol.residual.dtype == sol.trace.residual.dtype == np.float64
    assert sol.n_eval.dtype == np.int64
