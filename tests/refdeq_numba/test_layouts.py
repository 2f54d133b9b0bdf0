"""Layouts are kept of constants alone; every thread has a workspace of its own."""

import numpy as np
import pytest
from refdeq_numba import node_sums
from refdeq_numba.kernels import NumbaKernels
from refdeq_numba.layouts import Layouts
from refdeq_numba.workers import PerThread, Workers

from refdeq.ops import OPS
from refdeq.reference import ReferenceKernels


def test_a_constant_is_laid_out_once_per_key():
    layouts, made = Layouts(), []
    w = layouts.register(np.arange(3.0))
    for key in ("a", "b", "a", "b"):
        assert layouts.get(w, key, lambda array, key=key: made.append(key) or key) == key
    assert made == ["a", "b"]
    assert layouts.is_constant(w)


def test_constants_are_told_apart_though_they_are_equal():
    layouts = Layouts()
    first, second = layouts.register(np.ones(3)), layouts.register(np.ones(3))
    assert layouts.get(first, "k", lambda _: "first") == "first"
    assert layouts.get(second, "k", lambda _: "second") == "second"
    assert layouts.get(first, "k", lambda _: "third") == "first"


def test_what_is_no_constant_is_laid_out_anew():
    layouts, w = Layouts(), np.arange(3.0)
    assert [layouts.get(w, "sum", np.sum), w.fill(1.0), layouts.get(w, "sum", np.sum)] == [3.0, None, 3.0]
    w[:] = 2.0
    assert layouts.get(w, "sum", np.sum) == 6.0
    assert not layouts.is_constant(w)


CASES = [
    ("gemm", (9, 20), (20, 20), {"transB": 1}, (9, 20)),
    ("gemm", (2, 20), (20, 20), {"transB": 1}, (2, 20)),
    ("conv", (2, 5, 7), (6, 5, 3), {"pads": (1, 1)}, (2, 6, 7)),
]


@pytest.mark.parametrize(("kind", "data", "weight", "given", "out"), CASES, ids=["gemm", "gemm of two", "conv"])
def test_a_weight_that_changes_between_calls_is_not_served_stale(same_bits, rng, kind, data, weight, given, out):
    attributes, kernels = OPS[kind.capitalize()].complete(given), NumbaKernels()
    w, d = rng.standard_normal(weight), rng.standard_normal(data)
    active = np.ones(len(d), dtype=bool)
    for _ in range(3):
        got, expected = np.zeros(out), np.zeros(out)
        getattr(kernels, f"accumulate_{kind}")(d, d > 0, w, attributes, active, got)
        getattr(ReferenceKernels(), f"accumulate_{kind}")(d, d > 0, w, attributes, active, expected)
        same_bits(got, expected)
        w[...] = rng.standard_normal(weight)


@pytest.mark.parametrize(("kind", "data", "weight", "given", "out"), CASES, ids=["gemm", "gemm of two", "conv"])
def test_a_constant_is_packed_once(same_bits, rng, monkeypatch, kind, data, weight, given, out):
    packed = []
    for name in ("pack_panels", "columns_of", "pack_conv"):
        make = getattr(node_sums, name)
        monkeypatch.setattr(node_sums, name, lambda *a, make=make, name=name: packed.append(name) or make(*a))
    attributes, kernels = OPS[kind.capitalize()].complete(given), NumbaKernels()
    given_weight = rng.standard_normal(weight)
    w, d = kernels.constant(given_weight), rng.standard_normal(data)
    given_weight[...] = np.nan  # a constant is a copy
    active, first = np.ones(len(d), dtype=bool), None
    for _ in range(3):
        a = np.zeros(out)
        getattr(kernels, f"accumulate_{kind}")(d, d > 0, w, attributes, active, a)
        first = a if first is None else first
        same_bits(a, first)
    assert np.isfinite(a).all()
    assert len(packed) == 1
    getattr(kernels, f"accumulate_{kind}")(d, d > 0, kernels.constant(w), attributes, active, a)
    assert len(packed) == 2


def test_every_thread_gets_its_own():
    made = []
    own = PerThread(lambda: made.append(len(made)) or len(made))
    assert own.of(2) == own.of(2)
    assert len({own.of(0), own.of(1), own.of(2)}) == 3
    assert made == [0, 1, 2]


def test_parts_of_a_run_get_the_workspace_of_their_thread():
    """Every row once, by no more workspaces than threads, which stay from run to run."""
    spaces = PerThread(list)
    for threads in (1, 2, 3):
        workers, rows = Workers(threads), np.arange(7)

        def kernel(rows, first, last, space, other):
            space += rows[first:last].tolist()
            assert other == "shared"

        workers.run(kernel, rows, 10**6, spaces, "shared")
        used = [spaces.of(part) for part in range(threads)]
        assert sorted(row for space in used for row in space) == rows.tolist()
        assert all(used)
        for space in used:
            space.clear()


def test_little_work_stays_on_one_thread():
    spaces = PerThread(list)
    Workers(2).run(lambda rows, first, last, space: space.append((first, last)), np.arange(4), 1, spaces)
    assert spaces.of(0) == [(0, 4)]
    assert spaces.of(1) == []
