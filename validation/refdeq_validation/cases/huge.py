"""Family ``huge``: more elements than 16-bit indices count, in each place where an index may be one.

What is sent lies around the wrap, so that an index taken modulo 2^15 or 2^16 reads another element. The cheapest belongs to the
core tier, the rest is flagged ``full``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refdeq_validation.cases.building import SHORT, Array, Numbers, conv, gemm, ruled, started, unit
from refdeq_validation.cases.model import Case
from refdeq_validation.cases.shapes import distinct

__all__ = ["cases"]

BUGS = ("OVERFLOW", "INDEXING", "CAPACITY")

SHORT_WRAP, WORD_WRAP = 1 << 15, 1 << 16


def cases(dtype: str) -> Iterator[Case]:
    """Many inputs, outputs, samples, sites, weights."""
    yield inputs(dtype, SHORT_WRAP, full=False)
    yield inputs(dtype, WORD_WRAP, full=True)
    yield outputs(dtype, WORD_WRAP)
    yield samples(dtype, WORD_WRAP)
    yield sites(dtype, WORD_WRAP)
    yield weights(dtype)


def around(wrap: int, size: int) -> list[int]:
    """Places whose indices agree modulo the wrap, or lie beside it."""
    return [place for place in (0, 1, 7, wrap // 2, wrap - 1, wrap, wrap + 1, size - 1) if place < size]


def inputs(dtype: str, wrap: int, full: bool) -> Case:
    """A start from zero in which a few of many inputs are sent."""
    slug = f"inputs-beyond-{wrap}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    size = wrap + 11
    weight = distinct(1, size, dtype) + number.array(0.5)
    u = np.full((1, size), 0.25, dtype)
    places = around(wrap, size)
    u[0, places] = number.signed("u", (len(places),), 1, 9)
    problem = gemm(weight, number.array([3.0]), ruled(0.5, start="zero"))
    title = f"{size} inputs, of which those around index {wrap} are sent."
    return unit("huge", slug, title, BUGS, problem, started(u), flags=("full",) if full else ())


def outputs(dtype: str, wrap: int) -> Case:
    """Many rows of weights."""
    slug = f"outputs-beyond-{wrap}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(distinct(wrap + 11, 2, dtype), number.integers("bias", (wrap + 11,), -9, 9), ruled(0.5))
    steps = [number.array([[2.0, -3.0]]), number.array([[5.0, -2.75]]), number.array([[5.25, 1.0]])]
    return unit("huge", slug, f"{wrap + 11} outputs.", BUGS, problem, started(*steps), flags=("full",))


def samples(dtype: str, wrap: int) -> Case:
    """Many samples, each with a mask of its own."""
    slug = f"samples-beyond-{wrap}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(distinct(2, 3, dtype), number.array([3.0, -5.0]), ruled(0.5))
    start = number.integers("start", (wrap + 11, 3), -9, 9)
    second = np.asarray(start + number.integers("change", start.shape, -3, 3, 0.25))
    return unit("huge", slug, f"A batch of {wrap + 11}.", BUGS, problem, started(start, second), flags=("full",))


def sites(dtype: str, wrap: int) -> Case:
    """A long line."""
    slug = f"sites-beyond-{wrap}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = conv(distinct(1, 3, dtype).reshape(1, 1, 3), None, ruled(0.5, start="zero"), (1, wrap + 11), pads=(1, 1))
    u: Array = np.full((1, 1, wrap + 11), 0.25, dtype)
    places = around(wrap, wrap + 11)
    u[0, 0, places] = number.signed("u", (len(places),), 1, 9)
    title = f"A line of {wrap + 11} sites, of which those around index {wrap} are sent."
    return unit("huge", slug, title, (*BUGS, "CONV_HALO"), problem, started(u), flags=("full",))


def weights(dtype: str) -> Case:
    """More than 2^20 weights."""
    slug = f"weights-beyond-{1 << 20}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(distinct(1031, 1033, dtype), None, ruled(0.5, start="zero"))
    u = np.full((2, 1033), 0.25, dtype)
    u[0, [0, 1, 64, 512, 1032]] = number.signed("u", (5,), 1, 9)
    u[1, 1000:] = number.signed("v", (33,), 1, 9)
    title = "More than 2^20 weights, of which some columns are used."
    return unit("huge", slug, title, BUGS, problem, started(u), flags=("full",))
