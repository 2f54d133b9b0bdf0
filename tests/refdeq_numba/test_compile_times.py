"""What compiling took is kept beside the machine code, and told by ``refdeq info``; nothing is compiled that is not used."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

numba = pytest.importorskip("numba")

from refdeq_numba.compile_times import NAME, kept, record  # noqa: E402
from refdeq_numba.simd import description, vector_bytes  # noqa: E402

FILL = """
import json
import numpy as np
from refdeq.registry import load_backend
from numba.core import event

class Heard(event.Listener):
    kernels = []
    def on_start(self, event): pass
    def on_end(self, event): self.kernels.append(event.data["dispatcher"].py_func.__qualname__)

event.register("numba:compile", Heard())
backend = load_backend("numba")
before = backend.describe()
out = np.ones((2, 3), np.float32)
if {used}:
    backend.kernels(order="strict", threads=1).fill(0.0, np.ones(2, bool), out)
print(json.dumps([before, backend.describe(), Heard.kernels, bool(out.any())]))
"""


def fill(folder, used=True):
    """Facts before and after a kernel ran in a process of its own, what was compiled there, and whether it did nothing."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", FILL.format(used=used)], capture_output=True, text=True, check=True, env=environment
    )
    return json.loads(done.stdout)


def test_what_was_compiled_is_timed_once_and_told(tmp_path):
    before, after, compiled, untouched = fill(tmp_path)
    assert not untouched
    assert compiled
    assert [before[key] for key in ("kernels kept", "bytes kept", "seconds of compiling")] == ["0", "0", "0.0 (0 timed)"]
    (machine_code,) = tmp_path.glob("*/*.nbc")
    assert str(machine_code.parent) == after["machine code"]
    assert (after["kernels kept"], after["bytes kept"]) == ("1", str(machine_code.stat().st_size))
    (line,) = (machine_code.parent / NAME).read_text().splitlines()
    assert json.loads(line)["kernel"] == "fill"
    assert after["seconds of compiling"] == f"{json.loads(line)['seconds']:.1f} (1 timed)"
    again, last, compiled, _ = fill(tmp_path)
    assert again == last == after
    assert compiled == []


def test_nothing_is_compiled_for_who_only_looks(tmp_path):
    before, after, compiled, untouched = fill(tmp_path, used=False)
    assert untouched
    assert compiled == []
    assert before == after
    assert list(tmp_path.rglob("*.nb?")) == []


def test_the_last_time_of_a_kernel_counts(tmp_path):
    folder = tmp_path / "new"
    assert vars(kept(folder)) == {"kernels": 0, "size": 0, "seconds": 0, "timed": 0}
    for kernel, types, seconds in (("gemm", "f4", 4.0), ("gemm", "f8", 2.0), ("gemm", "f4", 1.0), ("gate", "f4", 0.5)):
        record(folder, kernel, types, seconds)
    for name, size in (("gemm.1.nbc", 7), ("gemm.2.nbc", 5), ("gemm.nbi", 100)):
        (folder / name).write_bytes(bytes(size))
    assert vars(kept(folder)) == {"kernels": 2, "size": 12, "seconds": 3.5, "timed": 3}


def test_vectors_are_told(monkeypatch):
    assert f"{vector_bytes()} bytes; REFDEQ_NUMBA_SIMD on" in description()
    monkeypatch.setenv("REFDEQ_NUMBA_SIMD", "off")
    assert description().endswith("REFDEQ_NUMBA_SIMD off: plain loops")
    wide = {64: "AVX-512", 32: "AVX", 16: ""}[vector_bytes()]
    assert description().startswith(wide)
