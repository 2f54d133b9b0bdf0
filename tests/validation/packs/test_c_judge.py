"""The judge in C: the same bounds and verdicts as the judge in Python, and no way to pass without comparing."""

import ctypes
import subprocess
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refdeq_validation.judge.bounds import accumulate
from refdeq_validation.judge.models import declared
from refdeq_validation.packs.c_arrays import c_files, fits_c
from refdeq_validation.protocol.manifest import Claims

from refdeq.errors import ArgumentError

HEADERS = Path(str(resources.files("refdeq_validation.packs") / "c"))
HERE = Path(__file__).parent
LIBRARY = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off", "-shared", "-fPIC")

BOUND = """
#include "refdeq_judge.h"
double bound(int bits, int multiply, int accumulate, int truncates, double k, double base, double products, double sizes,
             double extra)
{
    rj_model model = rj_arithmetic(bits, multiply, accumulate, truncates);
    return rj_bound(&model, k, base, products, sizes, extra);
}
int nothing(void) { rj_report report = rj_start(); return rj_verdict(&report); }
int masks(const uint8_t *one, const uint8_t *two, size_t n)
{
    rj_report report = rj_start();
    rj_mask(&report, "mask", one, two, n);
    return rj_verdict(&report);
}
int floats(int bits, const void *one, const void *two, size_t n)
{
    rj_report report = rj_start();
    rj_floats(&report, "r", bits, one, two, n);
    return rj_verdict(&report);
}
int sums(int bits, const double *high, const double *low, const double *gauge, const int64_t *k, const uint8_t *fresh,
         const void *bias, const void *before, const void *after, size_t n, double *worst)
{
    rj_report report = rj_start();
    rj_model model = rj_arithmetic(bits, RJ_SAME, RJ_SAME, 0);
    rj_change change = {n, n, 1, high, low, gauge, k, NULL, fresh, bias};
    rj_sums(&report, &model, "a", bits, &change, before, after);
    *worst = report.worst;
    return rj_verdict(&report);
}
int outputs(int bits, const void *a, const void *bias, size_t n, const void *y)
{
    rj_report report = rj_start();
    rj_outputs(&report, "y", bits, a, bias, 1, n, n, y);
    return rj_verdict(&report);
}
"""

FORMATS = {"same": 0, "tf32": 1, "bfloat16": 2, "float16": 3}
PASSED, FAILED, EMPTY = 0, 1, 4


@pytest.fixture(scope="module")
def judge(compiled):
    library = ctypes.CDLL(str(compiled("judge.so", BOUND, include=(HEADERS,), flags=LIBRARY)))
    address, size = ctypes.c_void_p, ctypes.c_size_t
    library.masks.argtypes = [address, address, size]
    library.floats.argtypes = [ctypes.c_int, address, address, size]
    library.sums.argtypes = [ctypes.c_int, *[address] * 8, size, address]
    library.outputs.argtypes = [ctypes.c_int, address, address, size, address]
    library.bound.restype = ctypes.c_double
    library.bound.argtypes = [ctypes.c_int] * 4 + [ctypes.c_double] * 5
    return library


def pointer(array):
    return None if array is None else array.ctypes.data_as(ctypes.c_void_p)


def test_the_header_is_short_and_reads_nothing():
    text = (HEADERS / "refdeq_judge.h").read_text()
    assert len(text.splitlines()) < 400
    for word in ("stdio", "fopen", "malloc", "getenv", "printf"):
        assert word not in text


@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast"])
def test_compilers_that_forget_ieee_are_refused(flag, tmp_path, compiler):
    (tmp_path / "x.c").write_text('#include "refdeq_judge.h"\nint main(void) { return 0; }\n')
    done = subprocess.run(
        [compiler, flag, f"-I{HEADERS}", "-c", tmp_path / "x.c"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode != 0
    assert b"IEEE" in done.stderr


@pytest.mark.parametrize("accumulated", ["same", "float16", "bfloat16"])
@pytest.mark.parametrize("multiply", ["same", "tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bounds_are_those_of_the_judge_in_python(judge, dtype, rounding, multiply, accumulated):
    claims = Claims(name="x", order="fast", rounding=rounding, multiply=multiply, accumulate=accumulated)
    arithmetic = declared(claims, dtype)
    for k, base, products, sizes, extra in (
        (1, 0.0, 0.75, 2.0, 0),
        (3, 1.5, 0.25, 7.0, 0),
        (7, 2.0**-140, 2.0**-130, 3.0, 2),
        (400, 3.0, 1e3, 900.0, 0),
        (5, 0.0, 0.0, 3.0, 0),
        (1 << 30, 1.0, 1.0, 1.0, 0),
    ):
        arrays = (np.array([float(value)]) for value in (k, base, products, sizes))
        wanted = accumulate(arithmetic, *arrays, extra=extra)
        bits = 32 if dtype == "float32" else 64
        got = judge.bound(
            bits, FORMATS[multiply], FORMATS[accumulated], rounding == "truncate", k, base, products, sizes, extra
        )
        if wanted.unclaimed[0]:
            assert got == -1.0
        else:
            assert got == pytest.approx(float(wanted.limit[0]), rel=2.0**-45, abs=0.0)


def test_nothing_compared_is_no_pass(judge):
    assert judge.nothing() == EMPTY
    assert judge.masks(b"", b"", 0) == EMPTY
    assert judge.floats(32, b"", b"", 0) == EMPTY


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        (1.0, 1.0, PASSED),
        (0.0, -0.0, FAILED),
        (np.nan, np.nan, PASSED),
        (np.nan, -np.nan, PASSED),
        (1.0, np.nan, FAILED),
        (np.nan, 1.0, FAILED),
        (np.inf, np.inf, PASSED),
        (np.inf, -np.inf, FAILED),
        (np.inf, np.nan, FAILED),
        (1.0, 1.0 + 2.0**-23, FAILED),
    ],
)
def test_bits_are_compared(judge, dtype, one, other, verdict):
    arrays = [np.array([2.0, value], dtype) for value in (one, other)]
    assert judge.floats(32 if dtype == "float32" else 64, *map(pointer, arrays), 2) == verdict


def test_masks_are_zero_or_one(judge):
    assert judge.masks(b"\0\1", b"\0\1", 2) == PASSED
    assert judge.masks(b"\0\1", b"\0\0", 2) == FAILED
    assert judge.masks(b"\0\1", b"\0\2", 2) == FAILED


class Sum:
    """One sum and what is handed to the judge about it."""

    def __init__(self, dtype, *, high=1.0, low=0.0, gauge=1.0, k=3, fresh=False, bias=None):
        self.bits = 32 if dtype == "float32" else 64
        self.exact = [np.array([value]) for value in (high, low, gauge)]
        self.k, self.fresh, self.dtype = np.array([k], "int64"), np.array([fresh], "uint8"), dtype
        self.bias = None if bias is None else np.array([bias], dtype)

    def verdict(self, judge, before, after):
        worst = ctypes.c_double()
        arrays = [np.array([value], self.dtype) for value in (before, after)]
        given = [*self.exact, self.k, self.fresh, self.bias, *arrays]
        return judge.sums(self.bits, *map(pointer, given), 1, ctypes.byref(worst))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_pass_within_the_bound_and_fail_beyond(judge, dtype):
    unit = float(np.finfo(dtype).eps) / 2
    entry = Sum(dtype, high=0.5, gauge=0.5)
    limit = 4 * unit * 1.0  # (k + 1) u (|a| + P), |a| = P = 1/2
    assert entry.verdict(judge, 0.5, 1.0) == PASSED
    assert entry.verdict(judge, 0.5, 1.0 - limit * 0.99) == PASSED
    assert entry.verdict(judge, 0.5, 1.0 - limit * 1.5) == FAILED
    assert entry.verdict(judge, 0.5, 1.0 + limit * 1.5) == FAILED


def test_low_parts_count(judge):
    entry = Sum("float64", high=1.0, low=2.0**-54, gauge=2.0**-60, k=0)
    assert entry.verdict(judge, 0.0, 1.0) == FAILED


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("after", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_answer(judge, dtype, after):
    assert Sum(dtype).verdict(judge, 0.0, after) == FAILED


@pytest.mark.parametrize(("high", "after", "verdict"), [
    (np.nan, np.nan, PASSED), (np.nan, 1.0, FAILED), (np.nan, np.inf, FAILED),
    (np.inf, np.inf, PASSED), (np.inf, -np.inf, FAILED), (np.inf, 1.0, FAILED), (np.inf, np.nan, FAILED),
])  # fmt: skip
def test_classes_must_match(judge, high, after, verdict):
    assert Sum("float32", high=high, gauge=np.abs(high)).verdict(judge, 0.0, after) == verdict


def test_overflow_has_the_sign_of_the_sum(judge):
    big = Sum("float32", high=3.5e38, gauge=3.5e38)
    assert big.verdict(judge, 0.0, np.inf) == PASSED
    assert big.verdict(judge, 0.0, -np.inf) == FAILED
    assert big.verdict(judge, 0.0, np.nan) == FAILED
    assert Sum("float32", high=3.3e38, gauge=3.3e38).verdict(judge, 0.0, np.inf) == FAILED


def test_a_sum_of_zeros_is_zero(judge):
    entry = Sum("float32", high=0.0, gauge=0.0)
    assert entry.verdict(judge, 0.0, 0.0) == PASSED
    assert entry.verdict(judge, 0.0, 1e-45) == FAILED


def test_a_fresh_sum_forgets_what_was_before(judge):
    assert Sum("float32", fresh=True).verdict(judge, 100.0, 1.0) == PASSED
    assert Sum("float32", fresh=True).verdict(judge, 100.0, 101.0) == FAILED
    assert Sum("float32", fresh=False).verdict(judge, 100.0, 101.0) == PASSED
    assert Sum("float32", fresh=True, bias=4.0).verdict(judge, 100.0, 5.0) == PASSED
    assert Sum("float32", fresh=False, bias=4.0).verdict(judge, 100.0, 101.0) == PASSED


def test_no_claim_is_no_pass(judge):
    assert Sum("float32", k=1 << 40).verdict(judge, 0.0, 1.0) == EMPTY


@settings(max_examples=200)
@given(st.floats(-(2.0**99), 2.0**99, width=32), st.floats(-(2.0**99), 2.0**99, width=32))
def test_outputs_are_one_addition(judge, a, bias):
    for dtype in ("float32", "float64"):
        arrays = [np.array([value], dtype) for value in (a, bias)]
        y = arrays[0] + arrays[1]
        bits = 32 if dtype == "float32" else 64
        assert judge.outputs(bits, *map(pointer, arrays), 1, pointer(y)) == PASSED
        assert judge.outputs(bits, *map(pointer, arrays), 1, pointer(np.nextafter(y, np.array(np.inf, dtype)))) == FAILED
        assert judge.outputs(bits, pointer(y), None, 1, pointer(y)) == PASSED


def test_only_unit_steps_become_c(cases):
    assert any(not fits_c(case) for case in cases)
    with pytest.raises(ArgumentError, match="c-arrays"):
        c_files([case for case in cases if not fits_c(case)])
