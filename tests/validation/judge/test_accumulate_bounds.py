"""Bounds of one accumulate: no legal order exceeds them, by brute force in rationals, and some order nearly reaches each."""

from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from rational.crafting import answers_to, claims, one_sum
from rational.orders import chopped, flushing, nearest, outcomes
from refdeq_validation.judge import bounds
from refdeq_validation.judge.models import declared, plain
from refdeq_validation.judge.steps import judge_steps
from refdeq_validation.lab.roundings import pieces
from refdeq_validation.protocol.transcript import Answer

MODELS = {
    "float64": ("float64", {}),
    "float32": ("float32", {}),
    "tf32 operands": ("float32", {"multiply": "tf32"}),
    "bfloat16 operands": ("float32", {"multiply": "bfloat16"}),
    "float16 operands": ("float32", {"multiply": "float16"}),
    "float16 sums": ("float32", {"accumulate": "float16"}),
    "bfloat16 sums": ("float32", {"accumulate": "bfloat16"}),
    "float16 throughout": ("float32", {"multiply": "float16", "accumulate": "float16"}),
    "truncating": ("float32", {"rounding": "truncate"}),
    "truncating double": ("float64", {"rounding": "truncate"}),
    "flushing": ("float32", {"subnormals": "ftz"}),
}


def every(name, a, weights, values):
    """All legal outcomes of a sum under a model, its exact value, ``G``, and the bound."""
    dtype, options = MODELS[name]
    subnormals = "ftz" if "subnormals" in options else "ieee"
    model = declared(claims(**options), dtype, subnormals)
    rounding = chopped if "rounding" in options else flushing if subnormals == "ftz" else nearest
    form, sums = options.get("multiply", dtype), options.get("accumulate", dtype)
    w, v = ([Fraction(float(x)) for x in column] for column in (weights, values))
    exact = [x * y for x, y in zip(w, v, strict=True)]
    seen = [nearest(x, form) * nearest(y, form) for x, y in zip(w, v, strict=True)]
    found = outcomes(Fraction(float(a)), seen, partial(rounding, name=sums), partial(rounding, name=dtype))
    size = [np.array(float(n)) for n in (abs(Fraction(float(a))), sum(map(abs, exact)), sum(map(abs, w)) + sum(map(abs, v)))]
    bound = bounds.accumulate(model, np.array(len(w)), *size)
    return found, Fraction(float(a)) + sum(exact), bound


def drawn(rng, dtype, k, narrow):
    """Operands of the shapes that round worst: near powers of two, half-way, cancelling, of mixed size, tiny."""
    real = np.dtype(dtype).type
    u = 2.0**-53 if dtype == "float64" else 2.0**-24
    kind = rng.integers(5)
    mantissa = 1.0 + (rng.integers(0, 4, k + 1) if rng.random() < 0.5 else rng.random(k + 1) / u / 2) * 2 * u
    scale = 2.0 ** (rng.integers(-3, 4, k + 1) if kind < 2 else rng.integers(-14, 2, k + 1))
    d = rng.choice([-1.0, 1.0], k + 1) * mantissa * scale
    if kind == 2:
        d[1:] = u * (1.0 - 4.0 * u * rng.integers(0, 4, k))
    if kind == 3:
        d *= 2.0**-120 if dtype == "float32" and not narrow else 2.0**-10
    w = rng.choice([-1.0, 1.0], k) * (1.0 + rng.integers(0, 1 << 10, k) * 2.0 ** rng.integers(-23, -10))
    return real(d[0]), w.astype(dtype), d[1:].astype(dtype)


@pytest.mark.parametrize("name", MODELS)
def test_no_order_exceeds_the_bound(name):
    dtype, options = MODELS[name]
    rng = np.random.default_rng(20_260)
    worst = Fraction(0)
    for n in range(160):
        k = 1 + n % 4
        found, exact, bound = every(name, *drawn(rng, dtype, k, "float16" in options.values()))
        assert not bound.unclaimed
        limit = Fraction(float(bound.limit))
        for value in found:
            assert abs(value - exact) <= limit
            worst = max(worst, abs(value - exact) / limit if limit else Fraction(0))
    assert worst > 0


def hardest(name, k):
    """A sum that some order gets as wrong as the bound allows, or nearly."""
    dtype, options = MODELS[name]
    u = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(options.get("accumulate"), 2.0**-53 if dtype == "float64" else 2.0**-24)
    if "rounding" in options:
        return 1.0, [1.0] * k, [2.0 * u * (1.0 - 2.0**-10)] * k
    if "multiply" in options and "accumulate" not in options:
        half = {"tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}[options["multiply"]]
        return 0.0, [1.0 + half] * k, [1.0 + half] * k
    if "subnormals" in options:
        tiny = 2.0**-126
        return tiny, [1.0 - 2.0**-22] * k, [tiny] * k
    return 1.0, [1.0] * k, [u] * k


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("name", MODELS)
def test_some_order_attains_it(name, k):
    found, exact, bound = every(name, *hardest(name, k))
    worst = max(found, key=lambda value: abs(value - exact))
    reached = float(abs(worst - exact) / Fraction(float(bound.limit)))
    assert 0.4 <= reached <= 1.0
    # The judge of steps finds the same ratio, and rejects what lies beyond.
    dtype, options = MODELS[name]
    case = one_sum(dtype, *hardest(name, k))
    findings = judge_steps(case, answers_to(case, float(worst)), claims(**options))
    assert findings.passed
    assert findings.worst == pytest.approx(reached, rel=2.0**-20)
    beyond = float(exact) + (1.25 if worst > exact else -1.25) * float(bound.limit) * 1.5
    assert not judge_steps(case, answers_to(case, beyond), claims(**options)).passed


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize(("storage", "top"), [("float16", 2048.0), ("bfloat16", 256.0)])
def test_a_narrow_store_attains_its_bound_and_does_not_exceed_it(storage, top, k):
    """Of sessions that show no state; where they do, the store is known in bits."""
    # They add up to 1, and the store meets a tie.
    values = {1: [1.0], 2: [0.5, 0.5], 3: [0.5, 0.25, 0.25], 4: [0.25] * 4}[k]
    case = one_sum("float32", top, [1.0] * k, values, storage=storage)
    unseen = claims(offers=())
    for y, legal in ((top, True), (np.nextafter(np.float32(top), np.float32(0.0)), False), (top * 1.01, False)):
        transcript = answers_to(case, 0.0, y)
        transcript.answers[1] = Answer("step", {name: transcript.answers[1].results[name] for name in ("mask", "y")})
        findings = judge_steps(case, transcript, unseen)
        assert findings.passed is legal
        if legal:
            assert 0.4 <= findings.worst <= 1.0


def folded_orders(dtype, a, b, weights, values):
    products = [Fraction(float(w)) * Fraction(float(v)) for w, v in zip(weights, values, strict=True)]
    add = partial(nearest, name=dtype)
    s = outcomes(Fraction(0), products, add)
    a, b = Fraction(float(a)), Fraction(float(b))
    literal = {add(add(add(x + b) + a) - b) for x in s}
    return literal, a + sum(products)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_folded_bias_attains_its_bound_and_does_not_exceed_it(dtype):
    u = 2.0**-53 if dtype == "float64" else 2.0**-24
    for k in (1, 2, 3, 4):
        # Small products lie just above half an ulp and go up; b, a and -b then meet ties, and go up to the even number.
        first = 1.0 + 2.0 * u * (1 if k % 2 else 2)
        a, b, weights, values = -u, u, [1.0] * k, [first] + [u * (1.0 + 4.0 * u)] * (k - 1)
        found, exact = folded_orders(dtype, a, b, weights, values)
        gauge, wide_a, wide_b = np.array(first + u * k), np.array(a), np.array(b)
        bound = bounds.folded(plain(dtype), np.array(k), gauge, wide_a, wide_b, np.array(False))
        reached = max(abs(value - exact) for value in found) / Fraction(float(bound.limit))
        assert 0.7 <= reached <= 1
        start = bounds.folded(plain(dtype), np.array(k), np.array(k * u), np.array(0.0), np.array(1.0), np.array(True))
        lost = k * Fraction(u)  # fl(1 + u) = 1, k times
        assert 0.4 <= lost / Fraction(float(start.limit)) <= 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_order_of_a_folded_bias_exceeds_its_bound(dtype):
    rng = np.random.default_rng(9)
    for n in range(60):
        k = 1 + n % 3
        a, weights, values = drawn(rng, dtype, k, False)
        b = drawn(rng, dtype, k, False)[0]
        products = [Fraction(float(w)) * Fraction(float(v)) for w, v in zip(weights, values, strict=True)]
        found, exact = folded_orders(dtype, a, b, weights, values)
        # any tree over all summands is legal as well: b and -b among them
        add, wide = partial(nearest, name=dtype), Fraction(float(b))
        others = outcomes(Fraction(float(a)), [*products, wide, -wide], add) if k < 3 else set()
        sizes = [np.array(float(n)) for n in (sum(map(abs, products)), Fraction(float(a)), wide)]
        limit = Fraction(float(bounds.folded(plain(dtype), np.array(k), *sizes, np.array(False)).limit))
        assert all(abs(value - exact) <= limit for value in found | others)


def test_two_bfloat16_parts_stay_within_their_share():
    """What ``bfloat16x2`` drops of a product (docs/bounds.md, section 3): within its share, of which a third is reached."""
    theta = Fraction(bounds.operand_unit(declared(claims(multiply="bfloat16x2"), "float32")))
    rng = np.random.default_rng(20_261)
    w, d = (np.append(1.0 + rng.random(300), 1.0 + 2.0**-8 * (1.0 - 2.0**-15)).astype(np.float32) for _ in range(2))
    worst = Fraction(0)
    (wh, wl), (dh, dl) = pieces(w, "bfloat16", 2), pieces(d, "bfloat16", 2)
    for values in zip(w, d, wh, wl, dh, dl, strict=True):
        x, y, xh, xl, yh, yl = (Fraction(float(value)) for value in values)
        worst = max(worst, abs(x * y - (xh * yh + xh * yl + xl * yh)) / (x * y))
    assert theta * Fraction(3, 10) < worst <= theta
