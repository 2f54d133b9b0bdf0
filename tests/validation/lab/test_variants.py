"""Legal variants: those in strict order equal it in bits, the others keep the bound of their order, all keep their claims."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refdeq_validation.cases.draw import uniform
from refdeq_validation.judge.arithmetic import same_bits
from refdeq_validation.lab.roundings import fused, truncated
from refdeq_validation.lab.session import Lab
from refdeq_validation.lab.variants import VARIANTS
from refdeq_validation.protocol.problem import Problem

from refdeq.types import DeltaRule, StopRule

RULE = DeltaRule(threshold=0.3)
GEOMETRIES = [
    ((6, 7), (4, 3, 3), {"pads": (1, 1), "group": 2}),
    ((4, 5, 6), (6, 2, 3, 2), {"pads": (1, 0, 2, 1), "strides": (2, 1), "group": 2}),
    ((2, 6, 7), (3, 2, 2, 3), {"dilations": (2, 2), "pads": (1, 2, 0, 1)}),
    ((3, 4, 4), (2, 3, 1, 1), {}),
]
STRICT_KERNELS = [name for name, variant in VARIANTS.items() if variant.claims.order == "strict"]
FAST_KERNELS = [name for name, variant in VARIANTS.items() if variant.claims.order == "fast"]
UNIT = {"tf32": 2.0**-11, "bfloat16": 2.0**-8, "float16": 2.0**-11}


def problems(dtype: str) -> list[Problem]:
    gemm = Problem("Gemm", dtype, (21,), uniform(1, "W", (13, 21), dtype), uniform(1, "b", (13,), dtype), RULE)
    convs = [
        Problem("Conv", dtype, shape, uniform(2, "W", weight, dtype), None, RULE, attributes)
        for shape, weight, attributes in GEOMETRIES
    ]
    return [gemm, *convs]


def run(name: str, problem: Problem, steps: int = 3) -> list[tuple[np.ndarray, ...]]:
    session = VARIANTS[name].implementation().open(problem)
    session.reset(3)
    answers = []
    for t in range(steps):
        u = uniform(t, "u", (3, *problem.shape), problem.dtype)
        mask, y = np.zeros(u.shape, bool), np.zeros((3, *problem.out_shape), problem.dtype)
        session.step(u, mask, y)
        r, a = np.zeros_like(u), np.zeros_like(y)
        session.get_state(r, a)
        answers.append((mask, y, r, a))
    return answers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", STRICT_KERNELS)
def test_strict_kernels_equal_the_strict_loop(name: str, dtype: str) -> None:
    for problem in problems(dtype):
        for found, wanted in zip(run(name, problem), run("strict", problem), strict=True):
            assert all(same_bits(left, right).all() for left, right in zip(found, wanted, strict=True))


@pytest.mark.parametrize("name", FAST_KERNELS)
def test_fast_kernels_differ_by_rounding_alone(name: str) -> None:
    """A coarse check against the strict loop: (k + 3) u (|a| + P) a step, u that of the declared operands."""
    variant = VARIANTS[name]
    different = False
    for dtype in variant.claims.dtypes:
        for problem in problems(dtype):
            if problem.op not in variant.claims.ops:
                continue
            magnitude = replace(problem, weight=np.abs(problem.weight), bias=None, rule=None)
            session, size = Lab().open(magnitude), np.zeros((3, *problem.out_shape), dtype)
            session.reset(3)
            session.step(np.full((3, *problem.shape), 2, dtype), np.zeros((3, *problem.shape), bool), size)
            u = UNIT.get(variant.claims.multiply, np.finfo(dtype).eps)
            for t, (found, wanted) in enumerate(zip(run(name, problem), run("strict", problem), strict=True)):
                assert (found[0] == wanted[0]).all()
                assert same_bits(found[2], wanted[2]).all()
                terms = problem.weight[0].size
                assert (np.abs(found[3] - wanted[3]) <= 2 * (t + 1) * (terms + 3) * u * size).all()
                different |= not same_bits(found[3], wanted[3]).all()
    assert different or name in ("ftz", "zeros")


def test_narrow_operands_are_narrower_than_float32() -> None:
    """One product of full-mantissa numbers tells TF32, float16 and bfloat16 apart from float32."""
    weight, u = uniform(3, "W", (1, 1), "float32"), uniform(4, "u", (1, 1), "float32")
    found = {}
    for name in ("strict", "tf32", "float16", "bfloat16", "tf32x3", "bfloat16x3"):
        session = VARIANTS[name].implementation().open(Problem("Gemm", "float32", (1,), weight, None, RULE))
        session.reset(1)
        y = np.zeros((1, 1), np.float32)
        session.step(u, np.zeros((1, 1), bool), y)
        found[name] = abs(float(y[0, 0]) - float(weight[0, 0]) * float(u[0, 0])) / abs(float(y[0, 0]))
    assert found["strict"] <= 2.0**-24
    assert all(2.0**-20 < found[name] < 2.0**-9 for name in ("tf32", "float16"))
    assert 2.0**-20 < found["bfloat16"] < 2.0**-6
    assert all(found[name] < 2.0**-21 for name in ("tf32x3", "bfloat16x3"))


DOUBLES = st.floats(min_value=-1e20, max_value=1e20).filter(lambda v: v == 0 or abs(v) > 1e-20)
SINGLES = st.floats(min_value=-(2.0**60), max_value=2.0**60, width=32).filter(lambda v: v == 0 or abs(v) > 1e-18)


@given(DOUBLES, DOUBLES, DOUBLES)
def test_fused_float64_is_one_rounding(a: float, w: float, d: float) -> None:
    exact = Fraction(a) + Fraction(w) * Fraction(d)
    assert fused(np.array([a]), np.array([w]), np.array([d]))[0] == float(exact)


@given(SINGLES, SINGLES, SINGLES)
def test_fused_float32_is_one_rounding(a: float, w: float, d: float) -> None:
    exact = Fraction(a) + Fraction(w) * Fraction(d)
    found = Fraction(float(fused(*(np.array([v], np.float32) for v in (a, w, d)))[0]))
    near = np.float32(float(exact))
    for neighbour in (np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))):
        assert abs(found - exact) <= abs(Fraction(float(neighbour)) - exact)


@given(DOUBLES, DOUBLES)
def test_truncated_sums_round_towards_zero(left: float, right: float) -> None:
    exact = Fraction(left) + Fraction(right)
    found = Fraction(float(truncated(np.array([left]), np.array([right]))[0]))
    assert abs(found) <= abs(exact)
    assert abs(exact - found) <= Fraction(2, 2**52) * abs(exact)


def test_storage_rounds_once_at_the_store() -> None:
    """y is bfloat16, a is float32: a sum that bfloat16 steps would lose is kept (N-1)."""
    weight = np.array([[1.0, 2.0**-9, 2.0**-9]], np.float32)
    problem = Problem("Gemm", "float32", (3,), weight, None, DeltaRule(threshold=0.0), storage="bfloat16")
    session = Lab().open(problem)
    session.reset(1)
    mask, y = np.zeros((1, 3), bool), np.zeros((1, 1), np.float32)
    session.step(np.array([[1.0, 1.0, 1.5]], np.float32), mask, y)
    r, a = np.zeros((1, 3), np.float32), np.zeros((1, 1), np.float32)
    session.get_state(r, a)
    assert a[0, 0] == 1.0 + 2.5 * 2.0**-9
    assert y[0, 0] == 1.0 + 2.0**-7


def test_flushing_turns_a_subnormal_difference_into_zero() -> None:
    problem = Problem("Gemm", "float32", (1,), np.ones((1, 1), np.float32), None, DeltaRule(threshold=0.0, start="zero"))
    masks = {}
    for name in ("strict", "ftz"):
        session = VARIANTS[name].implementation().open(problem)
        session.reset(1)
        mask = np.zeros((1, 1), bool)
        session.step(np.full((1, 1), 1e-40, np.float32), mask, np.zeros((1, 1), np.float32))
        masks[name] = bool(mask[0, 0])
    assert masks == {"strict": True, "ftz": False}


def test_variants_solve() -> None:
    """Every variant solves and differentiates; those in strict order give the bits of the strict one."""
    weight = uniform(5, "W", (6, 6), "float32") * np.float32(0.2)
    problem = Problem(
        "Gemm",
        "float32",
        (6,),
        weight,
        None,
        RULE,
        activation="Tanh",
        stop=StopRule(atol=1e-4, max_eval=30),
        solver={"name": "broyden"},
    )
    x, z0 = uniform(6, "x", (2, 6), "float32"), np.zeros((2, 6), np.float32)
    wanted = VARIANTS["strict"].implementation().open(problem).solve(x, z0, keep=False, trace=True)
    for name, variant in VARIANTS.items():
        session = variant.implementation().open(problem)
        found = session.solve(x, z0, keep=False, trace=True)
        assert np.abs(found["z"] - wanted["z"]).max() < 0.02, name
        if variant.claims.order == "strict" and not variant.style.native:
            assert all(same_bits(found[key], wanted[key]).all() for key in wanted), name
        assert np.isfinite(session.gradient(x, found["z"], x, jacobian="dense")["v"]).all()
