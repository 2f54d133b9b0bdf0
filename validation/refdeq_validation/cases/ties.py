"""Family ``tie``: differences exactly at the threshold and one unit in the last place beside it.

Every subtraction here is exact (reference and value are multiples of one unit in the last place of the threshold), hence the
decision is certified. The cases tell ``gt`` from ``ge``, a threshold in the dtype from one rounded to a narrower format or kept
in a wider one, and ``|d| > tau`` from ``d^2 > tau^2``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refdeq_validation.cases.building import SHORT, Array, Numbers, gemm, prepared, ruled, started, unit
from refdeq_validation.cases.model import Case

__all__ = ["at_and_beside", "cases"]

THRESHOLDS = {
    "half": 0.5,
    "tenth": 0.1,
    "seven-tenths": 0.7,
    "third": 1.0 / 3.0,
    "thousandth": 1e-3,
    "nine-bits": 257.0 / 256.0,
    "twelve-bits": 2049.0 / 2048.0,
}
"""A tenth rounds up to float32 and 0.7 down; only a half is a bfloat16, and only that and the one of nine bits a float16 or
TF32 number: an implementation that rounds its threshold to those decides otherwise at the tie."""

COMPARES = ("gt", "ge")


def at_and_beside(tau: Array) -> Array:
    """The threshold, its two neighbours, and its roundings to float16 and bfloat16 with what lies halfway; of both signs."""
    kind, largest = tau.dtype.type, kind_max(tau)
    sizes = [tau, np.nextafter(tau, kind(np.inf)), np.nextafter(tau, kind(0.0))]
    for narrow in (tau.astype(np.float16).astype(tau.dtype), bfloat(tau)):
        if 0.0 < narrow < largest and narrow != tau:
            sizes += [narrow, (narrow + tau) * kind(0.5)]
    if tau.dtype == np.float64:
        single = np.float64(np.float32(tau))
        sizes += [single, (single + tau) * 0.5] if single != tau else []
    return np.array([sign * size for size in sizes for sign in (kind(1.0), kind(-1.0))], dtype=tau.dtype)


def kind_max(tau: Array) -> float:
    """Largest finite number of the dtype."""
    return float(np.finfo(tau.dtype).max)


def bfloat(tau: Array) -> Array:
    """Round to bfloat16 by adding and removing a large multiple (exact scaling, nearest even)."""
    _, exponent = np.frexp(np.float64(tau))
    unit = np.ldexp(1.0, int(exponent) - 8)
    return np.asarray(np.rint(np.float64(tau) / unit) * unit, dtype=tau.dtype)


def cases(dtype: str) -> Iterator[Case]:
    """Ties at zero and other references, per channel, over steps, shared over a sample, at the ends of the exponent range."""
    for compare in COMPARES:
        for name, threshold in THRESHOLDS.items():
            yield from_zero(dtype, compare, name, threshold)
        for name in ("half", "tenth", "seven-tenths"):
            yield from_reference(dtype, compare, name, THRESHOLDS[name])
        yield per_channel(dtype, compare)
        yield wobble(dtype, compare)
        yield shared(dtype, compare)
        for name, exponent in ends(dtype).items():
            yield at_end(dtype, compare, name, exponent)


def from_zero(dtype: str, compare: str, name: str, threshold: float) -> Case:
    """Reference zero: the difference is the value itself."""
    slug = f"rounded-threshold-{name}-{compare}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    differences = at_and_beside(number.array(threshold))
    u = np.stack([differences, differences[::-1], 2 * differences])
    u[2, ::2] = 0.0
    problem = gemm(
        number.signed("weight", (5, len(differences)), 1, 7),
        number.signed("bias", (5,), 3, 9),
        ruled(threshold, compare=compare),
    )
    title = f"|delta| at {threshold:.6g}, beside it, and at its roundings to narrower formats."
    calls = prepared(np.zeros_like(u), number.signed("a", (3, 5), 1, 9), u)
    return unit("tie", slug, title, ("TIE_RULE", "THRESHOLD", "PRECISION_DOWNGRADE"), problem, calls, exact=False)


def from_reference(dtype: str, compare: str, name: str, threshold: float) -> Case:
    """Other references: multiples of the threshold's last place, so that u - r is exact and u - r = tau is met."""
    slug = f"tie-beside-reference-{name}-{compare}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    tau = number.array(threshold)
    last = np.spacing(tau)
    width, batch = 12, 3
    away = number.signed("away", (batch, width), 1, 1 << 20)
    r = np.asarray(-np.sign(away) * np.abs(away) * last, dtype=dtype)
    side = np.resize(number.array([0, 1, -1]), (batch, width))
    u = np.asarray(r + np.where(r < 0, 1, -1) * (tau + side * last), dtype=dtype)
    problem = gemm(number.signed("weight", (4, width), 1, 7), None, ruled(threshold, compare=compare))
    title = f"u - r exactly {threshold:.6g} and one ulp beside it, r not zero, both signs."
    calls = prepared(r, number.signed("a", (batch, 4), 1, 9), u)
    return unit("tie", slug, title, ("TIE_RULE", "THRESHOLD"), problem, calls, exact=False)


def per_channel(dtype: str, compare: str) -> Case:
    """Each input at its own threshold: a threshold read from a neighbour decides otherwise."""
    slug = f"threshold-of-the-neighbour-{compare}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    sizes = number.array([0.5, 0.75, 0.625, 1.5, 0.25, 2.0, 0.875, 0.375])
    tau = tuple(float(size) for size in sizes)
    u = np.stack([sizes, -sizes, np.roll(sizes, 1), sizes * number.array(np.arange(8) % 2)])
    problem = gemm(number.signed("weight", (5, 8), 1, 7), number.signed("bias", (5,), 1, 5), ruled(tau, compare=compare))
    title = "Each input exactly at its own threshold."
    calls = prepared(np.zeros_like(u), number.signed("a", (4, 5), 1, 9), u)
    return unit("tie", slug, title, ("THRESHOLD", "TIE_RULE", "INDEXING"), problem, calls)


def wobble(dtype: str, compare: str) -> Case:
    """Values that go to and fro by exactly the threshold: gt never sends them, ge every time."""
    slug = f"wobble-by-the-threshold-{compare}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    base = number.integers("base", (3, 9), -4, 4)
    swing = number.array([0.5, -0.5, 0.5, -0.5, 0.25, 0, 1, -1, -0.25])
    problem = gemm(number.signed("weight", (4, 9), 1, 7), number.signed("bias", (4,), 1, 5), ruled(0.5, compare=compare))
    steps = [base + number.array(factor) * swing for factor in (0, 1, 0, 1, -1)]
    title = "Values go to and fro by exactly the threshold over four steps, others by half and twice of it."
    return unit("tie", slug, title, ("TIE_RULE", "MEMORY_RULE"), problem, started(*steps))


def shared(dtype: str, compare: str) -> Case:
    """One decision per sample that hangs on a single tie."""
    slug = f"one-tie-decides-the-sample-{compare}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    r = number.integers("r", (4, 7), -3, 3)
    change = number.array(np.full((4, 7), 0.25))
    change[0, 3], change[1, 0], change[2, 6], change[3, 2] = 0.5, -0.5, 0.75, 0.25
    rule = ruled(0.5, compare=compare, granularity="sample")
    problem = gemm(number.signed("weight", (5, 7), 1, 7), None, rule)
    title = "A single difference at the threshold decides for its whole sample."
    calls = prepared(r, number.signed("a", (4, 5), 1, 9), r + change)
    return unit("tie", slug, title, ("TIE_RULE", "GRANULARITY"), problem, calls)


def ends(dtype: str) -> dict[str, int]:
    """Exponents of thresholds whose squares underflow or overflow."""
    return {"small": -80, "large": 80} if dtype == "float32" else {"small": -560, "large": 560}


def at_end(dtype: str, compare: str, name: str, exponent: int) -> Case:
    """Thresholds whose square is zero or infinite: d^2 > tau^2 decides otherwise."""
    slug = f"square-of-{name}-threshold-{compare}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    threshold = float(np.ldexp(1.0, exponent))
    tau = number.array(threshold)
    factors = number.array([1, -1, 2, -2, 0.5, -0.5, 1.25, -0.75])
    u = np.stack([factors * tau, factors[::-1] * tau])
    problem = gemm(number.signed("weight", (4, 8), 1, 7), None, ruled(threshold, compare=compare))
    a = np.asarray(number.signed("a", (2, 4), 1, 9) * tau)
    title = f"A threshold of 2^{exponent}, whose square is not a number of the format."
    return unit("tie", slug, title, ("THRESHOLD", "TIE_RULE"), problem, prepared(np.zeros_like(u), a, u))
