"""Loops of the activations are vector code at the width of this machine, without calls, contracted only where written."""

import re

import pytest
from assembly import LIBM, OPTIONS, REGISTER, hot_loops, only_x86
from numba import njit, types
from refdeq_numba.activation_rows import FAST, STRICT
from refdeq_numba.machine import has_fused_multiply_add
from refdeq_numba.simd import vector_bytes

pytestmark = only_x86

LOOPS = [(order, name) for order, loops in (("strict", STRICT), ("fast", FAST)) for name in loops]


def assembly(loop, dtype):
    """Of the loop over a row alone; machine code from disk would carry none."""
    signature = types.void(types.CPointer(getattr(types, dtype)), types.int64)
    (text,) = njit(signature, **OPTIONS)(loop).inspect_asm().values()
    return text.split(".cfi_endproc")[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("order", "name"), LOOPS)
def test_loop_is_vector_code_at_full_width(order, name, dtype):
    if order == "fast" and not has_fused_multiply_add():
        pytest.skip("this processor has no fused multiply-add: fast order has the strict loops")
    text = assembly(STRICT[name] if order == "strict" else FAST[name], dtype)
    kind = "ps" if (order, dtype) == ("fast", "float32") else "pd"
    register = REGISTER[vector_bytes()]
    widest = [b for b in hot_loops(text) if re.search(rf"\bv?(mul|fn?m(add|sub)\d+){kind}\b.*%{register}", b)]
    assert widest, f"no loop on {register}:\n{text}"
    assert not any(re.search(r"\bcall", b) for b in hot_loops(text))
    assert not LIBM.search(text)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", STRICT)
def test_strict_loops_contract_nothing(name, dtype):
    assert not re.search(r"\bvfn?m(add|sub)", assembly(STRICT[name], dtype))


@pytest.mark.skipif(not has_fused_multiply_add(), reason="no fused multiply-add on this machine")
@pytest.mark.parametrize("name", FAST)
def test_fast_float32_stays_in_float32(name):
    """In its hot loop; sine and cosine have another loop, for rows with arguments beyond the reduction."""
    loops = [b for b in hot_loops(assembly(FAST[name], "float32")) if re.search(r"\bvfn?m(add|sub)\d+ps", b)]
    assert any(not re.search(r"\bvcvt", b) for b in loops)
