"""Strict bits do not depend on the width of vectors (N-6): narrower ones than the machine has, in processes of their own."""

import hashlib
import os
import subprocess
import sys

import pytest
from refdeq_numba import simd

from refdeq.errors import ArgumentError

SUMS = """
import hashlib
import numpy as np
from refdeq.ops import OPS
from refdeq.registry import load_backend
from refdeq_numba.simd import vector_bytes

rng, digest = np.random.default_rng(7), hashlib.sha256()
kernels = load_backend("numba").kernels(order="strict", threads=2)
d = rng.standard_normal((61, 70)).astype("float32")
mask = rng.random(d.shape) < rng.random((61, 1))
weight, a = kernels.constant(rng.standard_normal((70, 37)).astype("float32")), np.zeros((61, 37), "float32")
d[~mask] = 0
kernels.accumulate_gemm(d, mask, weight, {"transB": 0}, np.ones(61, bool), a)
kernels.accumulate_gemm(d[:1], mask[:1], weight, {"transB": 0}, np.ones(1, bool), a[:1])
image = rng.standard_normal((2, 6, 9, 11)).astype("float32")
sent, out = rng.random(image.shape) < 0.5, np.zeros((2, 20, 9, 11), "float32")
image[~sent] = 0
w = kernels.constant(rng.standard_normal((20, 6, 3, 3)).astype("float32"))
kernels.accumulate_conv(image, sent, w, OPS["Conv"].complete({"pads": (1, 1, 1, 1)}), np.ones(2, bool), out)
digest.update(a.tobytes() + out.tobytes())
print(vector_bytes(), digest.hexdigest())
"""


def run(width, **own):
    environment = {**os.environ, **own, "REFDEQ_NUMBA_VECTOR_BYTES": str(width)}
    done = subprocess.run([sys.executable, "-c", SUMS], env=environment, capture_output=True, text=True, check=True)
    used, digest = done.stdout.split()
    assert int(used) == width
    assert len(digest) == 2 * hashlib.sha256().digest_size
    return digest


def test_narrower_vectors_give_the_same_bits(tmp_path):
    widest = simd.vector_bytes()
    narrower = [width for width in (16, 32, 64) if width < widest]
    if not narrower:
        pytest.skip("the vectors of this machine are the narrowest there are")
    expected = run(widest)  # machine code of the width that all tests use: it may be on disk already
    for width in narrower:
        assert run(width, NUMBA_CACHE_DIR=str(tmp_path / str(width))) == expected


@pytest.mark.parametrize("width", ["8", "128", "wide", ""])
def test_a_width_the_machine_lacks_is_refused(monkeypatch, width):
    monkeypatch.setenv("REFDEQ_NUMBA_VECTOR_BYTES", width)
    simd.vector_bytes.cache_clear()
    try:
        with pytest.raises(ArgumentError, match="REFDEQ_NUMBA_VECTOR_BYTES"):
            simd.vector_bytes()
    finally:
        monkeypatch.undo()
        simd.vector_bytes.cache_clear()
