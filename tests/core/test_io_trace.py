"""Trace files: round trips bit for bit, and everything else refused."""

from __future__ import annotations

import os

import numpy as np
import pytest

import refdeq as rd
from refdeq.errors import FileFormatError
from refdeq.io import load_trace, read_safetensors, save_cell, save_trace

META = {"cell": "abc", "note": 'ümlaut "quoted"\nand more'}


@pytest.fixture
def trace(conv_cell):
    """Convolutions with two accumulators on one gate; one sample is spoiled, one ends early."""
    x = np.random.default_rng(1).standard_normal((3, 3, 4, 5))
    x[1, 0, 0, 0] = np.inf
    x[2] = 0.0
    stop = rd.StopRule(rtol=1e-3, max_eval=6)
    trace = rd.solve(conv_cell(), x, stop=stop, delta=rd.DeltaRule(threshold=1e-3, dense=("c2",)), trace=True).trace
    assert all(len(getattr(trace, group)) for group in ("z", "f", "r", "mask", "a", "values"))
    return trace


def test_round_trip(trace, tmp_path, same_bits):
    path = tmp_path / "trace.safetensors"
    save_trace(path, trace, meta=META)
    again, meta = load_trace(str(path))
    assert meta == META
    assert again.semantics_version == trace.semantics_version
    for name in ("active", "residual", "scale"):
        same_bits(getattr(again, name), getattr(trace, name))
    for group in ("z", "f", "r", "mask", "a", "values", "hoisted"):
        assert getattr(again, group).keys() == getattr(trace, group).keys()
        for name, array in getattr(trace, group).items():
            same_bits(getattr(again, group)[name], array)


def test_names_in_the_file_are_those_of_the_fields(trace, tmp_path):
    save_trace(tmp_path / "t.safetensors", trace)
    header, tensors = read_safetensors(tmp_path / "t.safetensors")
    assert header["format"] == "refdeq-trace/1"
    assert header["semantics"] == rd.types.SEMANTICS_VERSION
    assert {"active", "residual", "scale", "z.z", "f.z", "r.z", "mask.z", "a.c1", "values.c2"} <= set(tensors)


def test_a_value_may_have_a_dot_in_its_name(tmp_path, same_bits):
    builder = rd.GraphBuilder("float64")
    z, x = builder.state("a.b", (2,)), builder.injection("x", (2,))
    builder.output(z, builder.node("Add", builder.node("Gemm", z, builder.parameter("W", 0.5 * np.eye(2)), name="l.1"), x))
    trace = rd.solve(builder.build(), np.ones((1, 2)), trace=True).trace
    save_trace(tmp_path / "t.safetensors", trace)
    same_bits(load_trace(tmp_path / "t.safetensors")[0].z["a.b"], trace.z["a.b"])
    assert list(load_trace(tmp_path / "t.safetensors")[0].values) == ["l.1"]


def test_a_trace_without_samples(tanh_cell, tmp_path):
    trace = rd.solve(tanh_cell(), np.zeros((0, 2)), trace=True).trace
    save_trace(tmp_path / "t.safetensors", trace)
    again, _ = load_trace(tmp_path / "t.safetensors")
    assert again.z["z"].shape == trace.z["z"].shape
    assert len(again) == 0


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_truncated_files_are_refused(trace, tmp_path, size):
    path = tmp_path / "t.safetensors"
    save_trace(path, trace)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(FileFormatError, match=r"t\.safetensors: truncated or corrupt"):
        load_trace(path)


def test_what_is_no_trace_is_refused(tanh_cell, tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(FileFormatError, match="no such file"):
        load_trace(tmp_path / "missing")
    save_cell(tmp_path / "cell", tanh_cell())
    with pytest.raises(FileFormatError, match="not a refdeq trace: format is 'refdeq-cell/1'"):
        load_trace(tmp_path / "cell")
    header = {"format": "refdeq-trace/1", "semantics": "1", "meta": "{}"}
    single = {name: np.zeros((1, 1)) for name in ("active", "residual", "scale")}
    for tensors, more in (({}, header), ({**single, "q.z": np.zeros(1)}, header), (single, {**header, "meta": "{"})):
        save_file(tensors, tmp_path / "odd", metadata=more)
        with pytest.raises(FileFormatError, match="odd: not a refdeq trace"):
            load_trace(tmp_path / "odd")


def test_a_failed_save_leaves_the_old_file(trace, tmp_path, monkeypatch):
    path = tmp_path / "t.safetensors"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FileFormatError, match="cannot be written"):
        save_trace(path, trace)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["t.safetensors"]
