"""Backends are found by entry point, imported when asked for, and refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest

import refdeq as rd
from refdeq import registry
from refdeq.errors import BackendUnavailableError, UnsupportedError
from refdeq.reference import ReferenceBackend, ReferenceKernels
from refdeq.registry import BackendInfo, backend_names, load_backend


class Entry:
    """An entry point of a made-up package."""

    value = "made_up:backend"

    def __init__(self, load):
        self.load = load


def install(monkeypatch, load):
    monkeypatch.setattr(registry, "_entries", lambda: {"made-up": Entry(load)})


def test_the_reference_is_always_there(monkeypatch):
    assert backend_names()[0] == "reference"
    install(monkeypatch, lambda: None)
    assert backend_names() == ("reference", "made-up")
    assert load_backend("reference").info.name == "reference"


def test_unknown_names_list_the_known_ones():
    with pytest.raises(BackendUnavailableError, match="known: reference"):
        load_backend("nowhere")


def missing_package():
    raise ModuleNotFoundError("No module named 'made_up'")


class Unavailable(ReferenceBackend):
    def unavailable(self):
        return "no such device", "plug one in"


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (missing_package, "ModuleNotFoundError: No module named 'made_up'"),
        (lambda: lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: object, "AttributeError"),
        (lambda: lambda: load_backend("elsewhere"), "backend 'elsewhere' cannot run"),
        (lambda: Unavailable, "no such device \\(plug one in\\)"),
    ],
)
def test_a_backend_that_cannot_run_never_falls_back(load, message, monkeypatch, tanh_cell):
    install(monkeypatch, load)
    with pytest.raises(BackendUnavailableError, match=message):
        rd.solve(tanh_cell(), np.zeros((1, 2)), backend="made-up")


class Narrow(ReferenceBackend):
    """Claims float32 only, and lacks an operator."""

    info = BackendInfo("narrow", "", ("strict",), ("float32",), "R4", "skip", "strict")

    def kernels(self, *, order, threads):
        kernels = ReferenceKernels()
        kernels.ops = {name: op for name, op in kernels.ops.items() if name != "Tanh"}
        return kernels


def test_what_a_backend_lacks_is_named(tanh_cell):
    with pytest.raises(UnsupportedError, match="'narrow' offers dtypes \\('float32',\\), not float64"):
        rd.solve(tanh_cell(), np.zeros((1, 2)), backend=Narrow())
    with pytest.raises(UnsupportedError, match="node 'f': this backend has no operator Tanh"):
        rd.solve(tanh_cell(dtype="float32"), np.zeros((1, 2), np.float32), backend=Narrow())


def test_the_plan_request_says_what_is_to_be_done(tanh_cell):
    requests = []

    class Curious(ReferenceBackend):
        def plan(self, request):
            requests.append(request)
            return super().plan(request)

    rule = rd.DeltaRule.preset("deltadeq-code", threshold=0.1, refresh=7)
    sol = rd.solve(tanh_cell(), np.zeros((1, 2)), backend=Curious(), delta=rule, returned="lowest")
    (request,) = requests
    assert (request.start, request.bias, request.refresh, request.returned, request.order) == (
        "dense",
        "folded",
        7,
        "lowest",
        "strict",
    )
    assert request.gates.keys() == {"recurrent"}
    assert request.gates["recurrent"].threshold == 0.1
    assert request.solver == rd.Picard()
    assert "operator by operator" in sol.executor
    rd.solve(tanh_cell(), np.zeros((1, 2)), backend=Curious(), executor="op")
    assert len(requests) == 1  # not even asked
