"""Reading machine code: loops that multiply, the registers they use, and calls; of kernels and of the activations."""

from __future__ import annotations

import platform
import re

import pytest
from numba import njit
from refdeq_numba.simd import vector_bytes

__all__ = ["LIBM", "OPTIONS", "REGISTER", "assembly_of", "hot_loops", "on_vectors", "only_x86"]

REGISTER = {16: "xmm", 32: "ymm", 64: "zmm"}

LIBM = re.compile(r"\b(?:call|jmp)\w*\s.*\b(sin|cos|tan|tanh|exp|exp2|log|floor|rint|fma|pow)f?\b")
"""Calls of the C library for one number."""

OPTIONS = {"error_model": "numpy", "fastmath": False, "nogil": True}

only_x86 = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="reads x86 assembly")


def assembly_of(function, *arguments):
    """Text of a function compiled for these arguments; machine code from disk would carry none."""
    compiled = njit(**OPTIONS)(function)
    compiled(*arguments)
    (text,) = compiled.inspect_asm().values()
    return text.split(".cfi_endproc")[0]  # what follows is the wrapper that Python calls


def hot_loops(text):
    """Loops of one block that multiply: from a label to the last jump back to it."""
    found = []
    for block in re.split(r"\n(?=\.LBB)", text):
        back = re.search(rf"(?s).*\bj\w+\s+{re.escape(block.split(':')[0])}\b", block)
        if back and re.search(r"mul|fn?m(add|sub)", back.group()):
            found.append(back.group())
    return found


def on_vectors(instruction, dtype):
    """Pattern of an instruction on whole vectors of a dtype at the width of this machine."""
    kind = {"float32": "ps", "float64": "pd"}[dtype]
    return re.compile(rf"\bv?{instruction}{kind}\b.*%{REGISTER[vector_bytes()]}")
