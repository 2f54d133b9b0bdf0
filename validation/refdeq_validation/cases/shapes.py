"""Family ``shape``: sizes at which remainders, tiles and active lists go wrong; integers throughout."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refdeq_validation.cases.building import SHORT, Array, Numbers, conv, gemm, prepared, ruled, started, unit
from refdeq_validation.cases.model import Case

__all__ = ["SIZES", "cases"]

SIZES = (
    (1, 1, 2),
    (1, 2, 3),
    (2, 1, 3),
    (2, 3, 1),
    (3, 5, 2),
    (4, 4, 4),
    (5, 8, 3),
    (7, 9, 2),
    (8, 7, 5),
    (13, 16, 3),
    (15, 17, 2),
    (16, 15, 7),
    (17, 31, 2),
    (31, 33, 2),
    (32, 13, 3),
    (33, 32, 2),
    (61, 64, 2),
    (63, 65, 1),
    (65, 63, 2),
    (127, 11, 2),
    (11, 129, 2),
    (128, 5, 3),
    (129, 3, 2),
    (3, 127, 2),
    (255, 6, 2),
    (6, 257, 2),
    (257, 4, 2),
    (4, 255, 2),
)
"""Inputs, outputs, samples: 1, 2, 3, powers of two and their neighbours, primes."""

BATCHES = (1, 2, 3, 8, 17, 33, 65)

COUNTS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257)
"""Elements sent by the samples of one case: what an active list of any block size must hold."""

BUGS = ("TAIL", "INDEXING", "CAPACITY")


def cases(dtype: str) -> Iterator[Case]:
    """Sizes of inputs and outputs, of batches, of what is sent, and positions of a single sent element."""
    for inputs, outputs, batch in SIZES:
        yield sized(dtype, inputs, outputs, batch)
    for batch in BATCHES:
        yield batched(dtype, batch)
    yield counted(dtype)
    yield last_only(dtype)
    for granularity in ("sample", "channel"):
        yield grouped(dtype, granularity)
    for width in (1, 3, 8, 17, 33):
        yield line(dtype, width)
    for height, width in ((1, 5), (5, 1), (3, 8), (9, 4)):
        yield plane(dtype, height, width)


def distinct(outputs: int, inputs: int, dtype: str) -> Array:
    """Weights that differ from each other within a row and a column: an exchange of two indices shows."""
    rows, columns = np.indices((outputs, inputs))
    return np.asarray((7 * rows + 13 * columns) % 61 - 30 + (rows == columns), dtype=dtype)


def moves(number: Numbers, name: str, shape: tuple[int, ...]) -> Array:
    """Changes of -3 to 3 whose first, last and middle elements are never zero and of which some are too small to be sent."""
    change = number.integers(name, shape, -3, 3)
    flat = change.reshape(len(change), -1)
    flat[:, 0], flat[:, -1] = 2.0, -3.0
    if flat.shape[1] > 2:
        flat[:, flat.shape[1] // 2] = 0.5
    return change


def sized(dtype: str, inputs: int, outputs: int, batch: int) -> Case:
    """A dense start and two sparse steps at one size."""
    slug = f"remainder-at-{inputs}x{outputs}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(distinct(outputs, inputs, dtype), number.signed("bias", (outputs,), 1, 9), ruled(1.0))
    start = number.integers("start", (batch, inputs), -4, 4) + number.array(0.25)
    second = start + moves(number, "second", start.shape)
    third = second + number.array(0.5)
    third[0, -1] += number.array(2.0)
    title = f"{inputs} inputs, {outputs} outputs, batch {batch}: a start and two steps."
    return unit("shape", slug, title, BUGS, problem, started(start, second, third))


def batched(dtype: str, batch: int) -> Case:
    """Many samples, each with its own mask."""
    slug = f"batch-of-{batch}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(distinct(5, 12, dtype), number.signed("bias", (5,), 1, 9), ruled(1.0))
    r = number.integers("r", (batch, 12), -4, 4)
    sent = (np.arange(12)[None, :] + 5 * np.arange(batch)[:, None]) % 7 < 3
    u = np.where(sent, r + number.signed("change", (batch, 12), 2, 4), r + number.array(0.5))
    a = number.integers("a", (batch, 5), -9, 9)
    title = f"{batch} sample{'s' if batch > 1 else ''}, each with a mask of its own."
    return unit("shape", slug, title, ("INDEXING", "MASK", "TAIL"), problem, prepared(r, a, u.astype(dtype)))


def counted(dtype: str) -> Case:
    """Samples that send 0, 1, 2, … 257 elements."""
    slug = f"active-list-capacity-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    width = 263
    counts = COUNTS if dtype == "float32" else COUNTS[-12:]  # capacities do not depend on the dtype: a pack half as large
    problem = gemm(distinct(3, width, dtype), None, ruled(0.5))
    r = np.zeros((len(counts), width), dtype)
    u = np.full((len(counts), width), 0.5, dtype)
    for b, count in enumerate(counts):
        sent = (np.arange(count) * 100 + b) % width
        u[b, sent] = number.integers(f"u{b}", (count,), 1, 4)
    a = number.integers("a", (len(counts), 3), -9, 9)
    title = f"Samples that send {counts[0]}, {counts[1]}, {counts[2]}, {counts[3]}, ... 257 of 263 elements."
    return unit("shape", slug, title, ("CAPACITY", "TAIL", "INDEXING"), problem, prepared(r, a, u))


def last_only(dtype: str) -> Case:
    """Only the first, the last, or a block's edge is sent."""
    slug = f"edge-element-only-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    places = (0, 1, 7, 8, 15, 16, 31, 32, 63, 64, 65, 66)
    problem = gemm(distinct(9, 67, dtype), number.signed("bias", (9,), 1, 9), ruled(0.5))
    r = number.integers("r", (len(places), 67), -3, 3)
    u = r + number.array(0.25)
    for b, place in enumerate(places):
        u[b, place] += number.array(b + 1)
    a = number.integers("a", (len(places), 9), -9, 9)
    title = "One element is sent: the first, the last, or one at the edge of a block."
    return unit("shape", slug, title, ("INDEXING", "TAIL"), problem, prepared(r, a, u))


def grouped(dtype: str, granularity: str) -> Case:
    """Shared decisions at an odd size."""
    slug = f"granularity-{granularity}-at-37-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(distinct(6, 37, dtype), number.signed("bias", (6,), 1, 9), ruled(0.5, granularity=granularity))
    start = number.integers("start", (5, 37), -3, 3)
    second = start + number.array(0.25)
    second[1, 36], second[3, 0], second[4, 18] = 5.0, -5.0, 6.0
    third = second + number.array(0.5)
    title = f"Granularity {granularity} of a Gemm: samples that fire by their first, middle or last element."
    bugs = ("GRANULARITY", "TAIL")
    return unit("shape", slug, title, bugs, problem, started(start, second, third))


def line(dtype: str, width: int) -> Case:
    """A 1-D convolution at one width."""
    slug = f"remainder-at-width-{width}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    weight = distinct(3, 6, dtype).reshape(3, 2, 3)
    problem = conv(weight, number.signed("bias", (3,), 1, 9), ruled(1.0), (2, width), pads=(1, 1))
    start = number.integers("start", (2, 2, width), -4, 4) + number.array(0.25)
    second = start + moves(number, "second", start.shape)
    third = second + number.array(0.5)
    title = f"A 1-D convolution of width {width}."
    return unit("shape", slug, title, ("TAIL", "CONV_GEOMETRY"), problem, started(start, second, third))


def plane(dtype: str, height: int, width: int) -> Case:
    """A 2-D convolution at one size."""
    slug = f"remainder-at-{height}-by-{width}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    weight = distinct(3, 18, dtype).reshape(3, 2, 3, 3)
    problem = conv(weight, number.signed("bias", (3,), 1, 9), ruled(1.0), (2, height, width), pads=(1, 1, 1, 1))
    start = number.integers("start", (2, 2, height, width), -4, 4) + number.array(0.25)
    second = start + moves(number, "second", start.shape)
    third = second + number.array(0.5)
    title = f"A 2-D convolution of {height} by {width}."
    return unit("shape", slug, title, ("TAIL", "CONV_GEOMETRY"), problem, started(start, second, third))
