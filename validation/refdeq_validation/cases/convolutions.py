"""Family ``conv``: geometry of convolutions behind a gate, layouts, groups and halos; integers throughout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from refdeq_validation.cases.building import SHORT, Array, Numbers, conv, prepared, ruled, started, unit
from refdeq_validation.cases.model import Case

__all__ = ["GEOMETRIES", "cases"]

Geometry = tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]

GEOMETRIES: tuple[Geometry, ...] = (
    ("plain-1d", (2, 7), (3, 2, 3), {}),
    ("stride-2-1d", (2, 8), (3, 2, 3), {"strides": (2,)}),
    ("stride-3-pads-1d", (1, 10), (2, 1, 4), {"strides": (3,), "pads": (2, 1)}),
    ("dilation-2-1d", (2, 9), (2, 2, 3), {"dilations": (2,)}),
    ("pads-at-start-only-1d", (2, 5), (2, 2, 3), {"pads": (2, 0)}),
    ("pads-at-end-only-1d", (2, 5), (2, 2, 3), {"pads": (0, 2)}),
    ("kernel-larger-than-input-1d", (2, 3), (2, 2, 5), {"pads": (2, 3)}),
    ("one-tap-1d", (4, 6), (3, 4, 1), {}),
    ("groups-1d", (4, 6), (6, 2, 3), {"group": 2, "pads": (1, 1)}),
    ("depthwise-1d", (3, 7), (3, 1, 3), {"group": 3, "pads": (1, 1)}),
    ("depthwise-multiplier-1d", (2, 6), (6, 1, 3), {"group": 2, "pads": (1, 1)}),
    ("plain-2d", (2, 5, 6), (3, 2, 3, 3), {}),
    ("not-square-kernel-2d", (2, 5, 7), (3, 2, 2, 4), {}),
    ("not-square-input-2d", (1, 3, 9), (2, 1, 3, 3), {"pads": (1, 1, 1, 1)}),
    ("stride-2-2d", (2, 7, 6), (2, 2, 3, 3), {"strides": (2, 2)}),
    ("strides-differ-2d", (1, 7, 8), (2, 1, 3, 3), {"strides": (1, 3), "pads": (1, 1, 1, 1)}),
    ("stride-beyond-kernel-2d", (2, 7, 7), (2, 2, 2, 2), {"strides": (3, 3)}),
    ("dilations-differ-2d", (2, 7, 8), (2, 2, 3, 2), {"dilations": (2, 3)}),
    ("pads-all-differ-2d", (1, 4, 5), (2, 1, 3, 3), {"pads": (0, 1, 2, 3)}),
    ("pads-beyond-kernel-2d", (1, 3, 3), (2, 1, 2, 2), {"pads": (3, 2, 2, 3)}),
    ("kernel-larger-than-input-2d", (2, 2, 3), (2, 2, 4, 5), {"pads": (1, 2, 2, 1)}),
    ("one-tap-2d", (5, 3, 4), (4, 5, 1, 1), {}),
    ("one-tap-stride-2d", (3, 5, 4), (4, 3, 1, 1), {"strides": (2, 3)}),
    ("groups-2d", (4, 4, 5), (4, 2, 3, 3), {"group": 2, "pads": (1, 1, 1, 1)}),
    ("groups-more-outputs-2d", (4, 4, 4), (8, 1, 3, 3), {"group": 4, "pads": (1, 1, 1, 1)}),
    ("groups-fewer-outputs-2d", (6, 4, 4), (2, 3, 3, 3), {"group": 2, "pads": (1, 1, 1, 1)}),
    ("depthwise-2d", (3, 5, 4), (3, 1, 3, 3), {"group": 3, "pads": (1, 1, 1, 1)}),
    ("depthwise-stride-dilation-2d", (2, 7, 8), (2, 1, 2, 3), {"group": 2, "strides": (2, 1), "dilations": (3, 2)}),
    (
        "everything-at-once-2d",
        (4, 6, 7),
        (6, 2, 2, 3),
        {"group": 2, "strides": (2, 1), "dilations": (1, 2), "pads": (1, 0, 2, 3)},
    ),
)
"""Name, sample, weight and attributes."""

GRAINS: tuple[tuple[str, tuple[int, int, int] | None], ...] = (
    ("sample", None),
    ("channel", None),
    ("pixel", None),
    ("tile", (2, 2, 1)),
    ("tile", (1, 3, 2)),
    ("tile", (3, 1, 3)),
    ("tile", (2, 4, 2)),
)


def cases(dtype: str) -> Iterator[Case]:
    """Every geometry; single sites whose halo shows; granularities; ties; gates over several steps."""
    for name, shape, weight, attributes in GEOMETRIES:
        yield geometry(dtype, name, shape, weight, attributes)
    yield from halos(dtype)
    yield from grains(dtype)
    yield from gates(dtype)


def kernel(number: Numbers, shape: tuple[int, ...]) -> Array:
    """Weights all different where they fit into a byte, none zero: flips, transposes and exchanged channels show."""
    size = int(np.prod(shape))
    values = (np.arange(size) * 37 + 11) % 127 - 63
    return np.where(values == 0, 64, values).astype(number.dtype).reshape(shape)


def geometry(dtype: str, name: str, shape: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, Any]) -> Case:
    """A dense start and two sparse steps."""
    slug = f"{name}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = conv(kernel(number, weight), number.signed("bias", weight[:1], 1, 50), ruled(0.5), shape, **attributes)
    start = number.integers("start", (2, *shape), -5, 5)
    steps = [start]
    for t in (1, 2):
        moved = number.integers(f"moved{t}", start.shape, 0, 2) == 0
        change = np.where(moved, number.signed(f"change{t}", start.shape, 1, 4), number.array(0.25))
        steps.append(np.asarray(steps[-1] + change))
    bugs = ["CONV_GEOMETRY", "INDEXING"] + (["CONV_GROUPS"] if "group" in attributes else [])
    bugs += ["CONV_HALO"] if "pads" in attributes else []
    title = f"A convolution {list(weight)} on {list(shape)}, {attributes or 'no attributes'}: a start and two steps."
    return unit("conv", slug, title, bugs, problem, started(*steps))


def halos(dtype: str) -> Iterator[Case]:
    """One site sent per sample: its image is the kernel, cut at the borders."""
    placed: tuple[tuple[str, tuple[tuple[int, int], ...], dict[str, Any]], ...] = (
        ("corners", ((0, 0), (0, 5), (4, 0), (4, 5)), {"pads": (1, 1, 1, 1)}),
        ("borders", ((0, 2), (2, 0), (4, 3), (3, 5)), {"pads": (1, 1, 1, 1)}),
        ("no-pads", ((0, 0), (4, 5), (2, 2), (1, 4)), {}),
        ("tile-seams", ((1, 1), (2, 2), (1, 3), (3, 4)), {"pads": (2, 1, 0, 1)}),
    )
    for name, sites, attributes in placed:
        slug = f"one-site-at-{name}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        problem = conv(kernel(number, (3, 2, 3, 3)), number.signed("bias", (3,), 1, 9), ruled(0.5), (2, 5, 6), **attributes)
        r = number.integers("r", (4, 2, 5, 6), -5, 5)
        u = r + number.array(0.25)
        for b, site in enumerate(sites):
            u[(b, b % 2, *site)] += number.array(b + 1)
        a = number.integers("a", (4, *problem.out_shape), -99, 99)
        title = f"One site sent per sample ({name}): its image is the kernel, cut at the border."
        yield unit("conv", slug, title, ("CONV_HALO", "CONV_GEOMETRY", "INDEXING"), problem, prepared(r, a, u))
    slug = f"one-site-1d-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = conv(kernel(number, (3, 2, 3)), None, ruled(0.5), (2, 9), pads=(1, 1))
    r = number.integers("r", (9, 2, 9), -5, 5)
    u = r + number.array(0.25)
    for b in range(9):
        u[b, b % 2, b] += number.array(b + 1)
    a = number.integers("a", (9, 3, 9), -99, 99)
    title = "One site of a line sent per sample, each in turn."
    yield unit("conv", slug, title, ("CONV_HALO", "INDEXING"), problem, prepared(r, a, u))


def grains(dtype: str) -> Iterator[Case]:
    """Granularities of images and lines: one element fires, its group is sent; ragged tiles at the edges."""
    for granularity, tile in GRAINS:
        name = granularity if tile is None else "tile-" + "x".join(map(str, tile))
        for shape, kind in (((3, 5, 7), "2d"), ((3, 7), "1d")):
            slug = f"granularity-{name}-{kind}-{SHORT[dtype]}"
            number = Numbers(slug, dtype)
            taps = (2, 3, *(3,) * (len(shape) - 1))
            pads = (1,) * (2 * (len(shape) - 1))
            rule = ruled(0.5, granularity=granularity, tile=tile)
            problem = conv(kernel(number, taps), number.signed("bias", (2,), 1, 9), rule, shape, pads=pads)
            start = number.integers("start", (4, *shape), -5, 5)
            steps = [start]
            for t in range(2):
                u = np.asarray(steps[-1] + number.array(0.125 * (t + 1)))
                last = tuple(n - 1 for n in shape)
                for b, place in enumerate(((0,) * len(shape), last, tuple(n // 2 for n in shape))):
                    at = place if t == 0 else tuple((p + 1) % n for p, n in zip(place, shape, strict=True))
                    u[(b, *at)] += number.array(4.0)
                steps.append(u)
            title = f"Granularity {name} in {kind}: the first, last or middle element fires, the fourth sample stays silent."
            yield unit("conv", slug, title, ("GRANULARITY", "MASK", "CONV_HALO"), problem, started(*steps))


def gates(dtype: str) -> Iterator[Case]:
    """What the Gemm families test, at one convolution each: ties, memories, refresh, sessions, NaN taps, special values."""
    for compare in ("gt", "ge"):
        slug = f"tie-per-channel-{compare}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        tau = [0.5, 0.75, 1.5]
        sizes = number.array(tau)[:, None, None]
        problem = conv(kernel(number, (2, 3, 2, 2)), None, ruled(tau, compare=compare), (3, 3, 4))
        r = number.integers("r", (2, 3, 3, 4), -5, 5)
        sign = number.signed("sign", r.shape, 1, 1)
        factor = number.array([1.0, 0.5, 1.25])[(np.arange(r.size) % 3).reshape(r.shape)]
        title = "Differences at, below and above the threshold of their channel."
        calls = prepared(r, number.integers("a", (2, 2, 2, 3), -99, 99), np.asarray(r + sign * factor * sizes))
        yield unit("conv", slug, title, ("TIE_RULE", "THRESHOLD"), problem, calls)
    for memory, start, bias, refresh in (
        ("sent", "zero", "separate", 0),
        ("always", "dense", "folded", 0),
        ("feedback", "dense", "separate", 0),
        ("always", "zero", "separate", 3),
        ("sent", "dense", "folded", 2),
    ):
        slug = f"six-steps-{memory}-{start}-{bias}-{refresh}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        narrow = {"feedback_format": "float16"} if memory == "feedback" else {}
        rule = ruled(0.5, memory=memory, start=start, bias=bias, refresh=refresh, **narrow)
        problem = conv(kernel(number, (2, 2, 3, 2)), number.signed("bias", (2,), 1, 9), rule, (2, 4, 4), pads=(1, 0, 1, 1))
        steps = [number.integers("u0", (2, 2, 4, 4), -8, 8, 0.5)]
        for t in range(5):
            steps.append(np.asarray(steps[-1] + number.integers(f"c{t}", (2, 2, 4, 4), -4, 4, 0.25)))
        title = f"Six steps of a convolution, memory {memory}, start {start}, bias {bias}, refresh {refresh}."
        yield unit("conv", slug, title, ("MEMORY_RULE", "START", "BIAS", "REFRESH"), problem, started(*steps))
    slug = f"reset-and-two-sessions-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = conv(kernel(number, (2, 2, 3)), number.signed("bias", (2,), 1, 9), ruled(1.0), (2, 6), pads=(1, 1))
    runs = [[number.integers(f"u{i}{t}", (b, 2, 6), -8, 8, 0.5) for t in range(3)] for i, b in enumerate((2, 3, 1))]
    one, two, three = started(*runs[0]), started(*runs[1], session=1), started(*runs[2])
    mixed = tuple(call for pair in zip(one, two, strict=True) for call in pair)
    title = "Two sessions of a convolution in turns, then a reset with another batch."
    yield unit("conv", slug, title, ("STATE_LEAK", "RESET"), problem, (*mixed, *three))
    slug = f"unsent-nan-taps-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    weight = kernel(number, (3, 2, 2, 2))
    weight[1, 1] = np.nan
    problem = conv(weight, None, ruled(0.5), (2, 4, 4))
    r = number.integers("r", (2, 2, 4, 4), -5, 5)
    u = np.asarray(r + number.array(0.25))
    u[0, 0, ::2] += 2.0
    u[1, 0, 1] -= 3.0
    u[1, 1, 0, 0] += 2.0
    title = "NaN taps of one channel: read only where that channel is sent."
    calls = prepared(r, number.integers("a", (2, 3, 3, 3), -99, 99), u)
    yield unit("conv", slug, title, ("SPECIAL_VALUES", "CONV_GEOMETRY"), problem, calls, exact=False)
    slug = f"special-sites-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = conv(kernel(number, (2, 1, 3)), number.signed("bias", (2,), 1, 9), ruled(0.5), (1, 9), pads=(1, 1))
    r = number.integers("r", (3, 1, 9), -5, 5)
    u = np.asarray(r + number.integers("c", (3, 1, 9), -1, 1))
    u[0, 0, 0], u[0, 0, 8], u[1, 0, 4] = np.nan, np.inf, -np.inf
    title = "NaN and infinities spread over the kernel's width and no further."
    calls = prepared(r, number.integers("a", (3, 2, 9), -99, 99), u, r)
    yield unit("conv", slug, title, ("SPECIAL_VALUES", "CONV_HALO"), problem, calls, exact=False)
