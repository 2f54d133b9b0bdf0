"""What NVRTC makes of the sources, where it is installed; all modules are a job of their own (``compile_all``)."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("cuda.bindings.nvrtc", reason="the compiler of the extra cuda13 is not installed", exc_type=ImportError)

from refdeq_cupy.compilation import binary, compile_module
from refdeq_cupy.loader import SOURCES
from refdeq_cupy.static import compile_all


def test_the_norms_compile_without_spills():
    rows = compile_all("sm_80", modules=("norms",))
    assert {row["kernel"] for row in rows} == {"residual_part", "residual_finish", "inner", "combine_add", "combine_round"}
    assert {row["dtype"] for row in rows} == {"float32", "float64"}
    for row in rows:
        assert row["spills"] == row["stack"] == 0
        assert 0 < row["registers"] <= 64


def test_nothing_is_contracted_or_flushed(tmp_path):
    (tmp_path / "tried.cu").write_text('extern "C" __global__ void f(REAL* x) { x[0] = x[1] * x[2] + x[3]; }', encoding="utf-8")
    sass = {}
    for contracted in (False, True):
        extra = ("--fmad=true",) if contracted else ()
        code, _ = compile_module(tmp_path, "tried", "float", "sm_90", *extra)
        sass[contracted] = code
    assert sass[False] != sass[True]


def test_a_missing_kernel_and_a_mistake_are_named(tmp_path):
    for path in SOURCES.iterdir():
        shutil.copy(path, tmp_path)
    text = (tmp_path / "norms.cu").read_text(encoding="utf-8")
    (tmp_path / "norms.cu").write_text(text.replace("void inner(", "void outer("), encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"norms.cu does not define inner"):
        compile_all("sm_90", tmp_path, ("norms",))
    (tmp_path / "norms.cu").write_text(text.replace("double larger(", "double larger_("), encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"NVRTC cannot compile norms.cu for sm_90:(.|\n)*larger"):
        compile_module(tmp_path, "norms", "float", "sm_90")


def test_binaries_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "tried.cu").write_text('extern "C" __global__ void f(REAL* x) { x[0] = 1; }', encoding="utf-8")
    first = binary(tmp_path, "tried", "float", "sm_90")
    assert first.read_bytes().startswith(b"\x7fELF")
    stamp = first.stat().st_mtime_ns
    assert binary(tmp_path, "tried", "float", "sm_90").stat().st_mtime_ns == stamp
    assert binary(tmp_path, "tried", "double", "sm_90") != first
