"""Family ``bound_k1``: sums of one to four full-mantissa products, chosen so that legal rounding uses up much of the bound.

Here the bound is as tight as it gets, so that operands or sums narrower than declared miss it by orders of magnitude.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refdeq_validation.cases.building import SHORT, Array, Numbers, conv, gemm, prepared, ruled, started, unit
from refdeq_validation.cases.model import Case

__all__ = ["adversarial", "cases"]

CANDIDATES = 192
"""Weights tried per term; the one that moves the error furthest is kept."""

BUGS = ("PRECISION_DOWNGRADE", "ACCUMULATE", "ORDER")


def cases(dtype: str) -> Iterator[Case]:
    """One to four terms onto a zero and a non-zero accumulator; after a dense start; folded; in a convolution."""
    for k in (1, 2, 3, 4):
        for accumulator in ("zero", "full"):
            yield onto(dtype, k, accumulator)
        yield from_start(dtype, k)
    for k in (1, 3):
        yield folded(dtype, k)
        yield pointwise(dtype, k)
    for k in (1, 2, 4):
        yield twice(dtype, k)


def adversarial(number: Numbers, k: int, rows: int, outputs: int, a: Array) -> tuple[Array, Array]:
    """Weights (outputs, rows * k) and values (rows, k) whose errors add up, term by term, when summed from `a` (rows, outputs).

    Each weight is the best of ``CANDIDATES`` near 1 for what was rounded before it: products just above a power of two lose
    nearly a unit roundoff, and so does a sum just above one.
    """
    dtype = np.dtype(number.dtype)
    values = near_one(number.full("values", (rows, k)))
    weight = np.zeros((outputs, rows * k), dtype)
    total, error = a.copy(), np.zeros((rows, outputs))
    for j in range(k):
        tried = near_one(number.full(f"tried{j}", (rows, outputs, CANDIDATES)))
        p = tried * values[:, j, None, None]
        s = total[..., None] + p
        after = error[..., None] + product_error(tried, values[:, j, None, None], p) + sum_error(total[..., None], p, s)
        best = np.argmax(after / np.abs(s), axis=-1)[..., None]
        weight[:, j::k] = np.take_along_axis(tried, best, -1)[..., 0].T
        total, error = (np.take_along_axis(array, best, -1)[..., 0] for array in (s, after))
    return weight, values


def near_one(drawn: Array) -> Array:
    """Full mantissas in [1, 1 + 1/32)."""
    return np.asarray(drawn.dtype.type(1.0) + np.abs(drawn) * drawn.dtype.type(2.0**-5))


def product_error(a: Array, b: Array, p: Array) -> Array:
    """``fl(ab) - ab`` as float64: exact for float32 by float64, for float64 by Dekker's product."""
    if p.dtype == np.float32:
        return p.astype(np.float64) - a.astype(np.float64) * b.astype(np.float64)
    (ah, al), (bh, bl) = halves(a), halves(b)
    return np.asarray(-(((ah * bh - p) + ah * bl + al * bh) + al * bl))


def halves(a: Array) -> tuple[Array, Array]:
    """High and low half of a float64 (Veltkamp)."""
    scaled = 134217729.0 * a
    high = scaled - (scaled - a)
    return high, a - high


def sum_error(a: Array, b: Array, s: Array) -> Array:
    """``fl(a + b) - (a + b)``, exact (Knuth)."""
    t = s - a
    return np.asarray(-((a - (s - t)) + (b - t)), dtype=np.float64)


def spread(number: Numbers, values: Array) -> tuple[Array, Array]:
    """References and inputs in which sample b sends exactly `values` in its own k columns, and almost holds still elsewhere."""
    rows, k = values.shape
    u = number.full("still", (rows, rows * k)) * number.array(2.0**-4)
    for b in range(rows):
        u[b, b * k : (b + 1) * k] = values[b]
    return np.zeros_like(u), u


def onto(dtype: str, k: int, accumulator: str) -> Case:
    """Products onto a given accumulator."""
    slug = f"narrow-operands-{k}-terms-onto-{accumulator}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    rows, outputs = 6, 5
    a = near_one(number.full("a", (rows, outputs))) if accumulator == "full" else np.zeros((rows, outputs), dtype)
    a = np.asarray(a * number.array(2.0 ** -(k % 3)))
    weight, values = adversarial(number, k, rows, outputs, a)
    r, u = spread(number, values)
    problem = gemm(weight, None, ruled(0.25))
    title = f"{k} full-mantissa product{'s' if k > 1 else ''} onto a {accumulator} accumulator, errors aligned."
    return unit("bound_k1", slug, title, BUGS, problem, prepared(r, a, u), exact=False)


def from_start(dtype: str, k: int) -> Case:
    """A dense start of k inputs, then one element sent."""
    slug = f"narrow-start-{k}-inputs-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    weight, values = adversarial(number, k, 1, 9, np.zeros((1, 9), dtype))
    second = values.copy()
    second[0, 1:] *= number.array(1.0 + 2.0**-8)
    second[0, 0] = number.array(-0.40625) * near_one(number.full("second", ()))
    problem = gemm(weight, number.full("bias", (9,)), ruled(0.25))
    other = np.asarray(number.full("other", (3, k)))
    later = np.concatenate([second, other * number.array(1.0 + 2.0**-6)])
    title = f"A dense start of {k} full-mantissa product{'s' if k > 1 else ''}, then one sent."
    calls = started(np.concatenate([values, other]), later)
    return unit("bound_k1", slug, title, (*BUGS, "START", "BIAS"), problem, calls, exact=False)


def folded(dtype: str, k: int) -> Case:
    """The bias added and taken away again, rounding three times."""
    slug = f"folded-bias-{k}-terms-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    rows, outputs = 5, 6
    a = number.full("a", (rows, outputs))
    weight, values = adversarial(number, k, rows, outputs, np.zeros_like(a))
    r, u = spread(number, values)
    problem = gemm(weight, number.full("bias", (outputs,)), ruled(0.25, bias="folded"))
    title = f"{k} full-mantissa product{'s' if k > 1 else ''}, folded bias."
    return unit("bound_k1", slug, title, (*BUGS, "BIAS"), problem, prepared(r, a, u), exact=False)


def pointwise(dtype: str, k: int) -> Case:
    """The same in a convolution of one tap."""
    slug = f"narrow-operands-{k}-channels-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    sites, outputs = 7, 4
    weight, values = adversarial(number, k, 1, outputs, np.zeros((1, outputs), dtype))
    u = number.full("u", (2, k, sites)) * number.array(2.0**-4)
    u[0, :, 2], u[1, :, 5], u[1, :, 6] = values[0], values[0] * number.array(1.25), -values[0]
    problem = conv(weight[:, :, None], number.full("bias", (outputs,)), ruled(0.25), (k, sites))
    a = number.full("a", (2, outputs, sites))
    title = f"A convolution of one tap and {k} channel{'s' if k > 1 else ''} of full mantissa."
    return unit("bound_k1", slug, title, (*BUGS, "CONV_GEOMETRY"), problem, prepared(np.zeros_like(u), a, u), exact=False)


def twice(dtype: str, k: int) -> Case:
    """Three steps that go on from the implementation's own accumulator: what it stores narrower is missed in the next."""
    slug = f"narrow-accumulator-{k}-terms-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    weight = number.full("weight", (6, 12))
    problem = gemm(weight, number.full("bias", (6,)), ruled(0.25))
    base = number.full("u0", (3, 12))
    steps = [base]
    for t in range(1, 4):
        moved = np.zeros((3, 12), bool)
        for b in range(3):
            moved[b, (5 * t + 4 * b + np.arange(k)) % 12] = True
        change = np.where(moved, number.signed(f"s{t}", (3, 12), 1, 1) * near_one(number.full(f"c{t}", (3, 12))), 0)
        base = np.asarray(base + change.astype(dtype))
        steps.append(np.asarray(base + number.full(f"still{t}", (3, 12)) * number.array(2.0**-4)))
    title = f"Three further steps of {k} term{'s' if k > 1 else ''} onto the implementation's own accumulator."
    return unit("bound_k1", slug, title, (*BUGS, "MEMORY_RULE"), problem, started(*steps), exact=False)
