"""Narrow storage (N-1): inputs, references, weights, biases and outputs in float16 or bfloat16, sums in float32.

The cases are those of other families, on the points at which narrow storage differs: differences and thresholds are rounded to
the format, sums are not, and an output is rounded once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refdeq_validation.cases.building import Array, Numbers, conv, gemm, prepared, ruled, started, unit
from refdeq_validation.cases.convolutions import kernel
from refdeq_validation.cases.model import Case
from refdeq_validation.judge.arithmetic import round_narrow
from refdeq_validation.judge.statistic import FLAG

__all__ = ["cases"]

FORMATS = {"float16": ("f16", 11), "bfloat16": ("bf16", 8)}
"""Name in slugs, and significant bits."""

NAN, INF = float("nan"), float("inf")


def cases(dtype: str) -> Iterator[Case]:
    """Both formats, whose carrier is float32."""
    if dtype == "float32":
        for storage in FORMATS:
            yield from sums(storage)
            yield from thresholds(storage)
            yield from specials(storage)
            yield from sequences(storage)


def sums(storage: str) -> Iterator[Case]:
    """Sums stay in float32: integers beyond the format, few and many full-mantissa terms, one rounding at the store."""
    short, bits = FORMATS[storage]
    slug = f"sums-in-{short}"
    number = Numbers(slug, "float32")
    problem = gemm(number.signed("weight", (6, 12), 1, 63), number.signed("bias", (6,), 1, 63), ruled(0.5), storage)
    r = number.integers("r", (3, 12), -9, 9)
    u = r + number.integers("change", (3, 12), -9, 9)
    a = np.asarray(number.signed("a", (3, 6), 1 << 12, 1 << 16) * number.array(2.0) + number.array(1.0))
    title = f"Storage {storage}: integer sums of more bits than the format are exact in float32."
    bugs = ("PRECISION_DOWNGRADE", "ACCUMULATE")
    yield unit("exact", slug, title, bugs, problem, prepared(r, a, u))
    for k in (1, 2, 4):
        slug = f"accumulator-in-{short}-{k}-terms"
        number = Numbers(slug, "float32")
        weight, bias = number.narrow("weight", (16, 4 * k), storage), number.narrow("bias", (16,), storage)
        r = np.zeros((4, 4 * k), np.float32)
        u = np.full_like(r, 0.125)
        for b in range(4):
            values = number.narrow(f"u{b}", (k,), storage)
            u[b, b * k : (b + 1) * k] = round_narrow(np.copysign(0.5 + np.abs(values) / 2, values), storage)
        a = number.full("a", (4, 16))
        title = f"Storage {storage}: {k} full-mantissa product{'s' if k > 1 else ''} onto a float32 accumulator."
        yield unit("bound_k1", slug, title, bugs, gemm(weight, bias, ruled(0.25), storage), prepared(r, a, u), exact=False)
    slug = f"accumulator-in-{short}-64-terms"
    number = Numbers(slug, "float32")
    weight = number.narrow("weight", (32, 68), storage)
    u = number.narrow("u", (32, 68), storage)
    problem, a = gemm(weight, None, ruled(0.0625), storage), number.full("a", (32, 32))
    title = f"Storage {storage}: about 64 terms, 1024 sums."
    calls = prepared(np.zeros_like(u), a, u)
    yield unit("bound", slug, title, bugs, problem, calls, exact=False, flags=(FLAG,))
    slug = f"output-rounded-once-{short}"
    number = Numbers(slug, "float32")
    weight = number.signed("weight", (8, 5), 1, 3)
    a = np.asarray((number.array(1 << bits) + number.integers("a", (4, 8), 0, 40) + number.array(0.5)) * number.array(2.0))
    bias = number.array([1.0, -1.0, 0.5, -0.5, 2.0, 0.25, -0.25, 0.0])
    r = number.integers("r", (4, 5), -3, 3)
    u = r + number.array(np.eye(4, 5)) * number.signed("change", (4, 5), 1, 2)
    title = f"Storage {storage}: outputs halfway between two numbers of the format, rounded once, to even."
    yield unit(
        "exact", slug, title, ("PRECISION_DOWNGRADE", "BIAS"), gemm(weight, bias, ruled(0.5), storage), prepared(r, a, u)
    )


def thresholds(storage: str) -> Iterator[Case]:
    """Thresholds and differences are rounded to the format."""
    short, bits = FORMATS[storage]
    for compare in ("gt", "ge"):
        for name, threshold in (("tenth", 0.1), ("seven-tenths", 0.7), ("third", 1.0 / 3.0)):
            slug = f"threshold-not-rounded-{name}-{compare}-{short}"
            number = Numbers(slug, "float32")
            tau = float(round_narrow(number.array([threshold]), storage)[0])
            last = float(2.0 ** (np.frexp(tau)[1] - bits))
            row = number.array([tau, -tau, tau + last, -tau - last, tau - last, last - tau, 2 * tau, 0.0])
            u = np.stack([row, row[::-1]])
            problem = gemm(number.signed("weight", (4, 8), 1, 7), None, ruled(threshold, compare=compare), storage)
            title = f"Storage {storage}: |delta| at {threshold:.6g} as rounded to the format and one ulp beside it."
            calls = prepared(np.zeros_like(u), number.signed("a", (2, 4), 1, 9), u)
            yield unit("tie", slug, title, ("THRESHOLD", "TIE_RULE"), problem, calls, exact=False)
    slug = f"difference-not-rounded-{short}"
    number = Numbers(slug, "float32")
    one, spacing = number.array(1.0), number.array(2.0 ** (1 - bits))
    r = np.stack([np.resize([one, 1 + spacing, 1 + 3 * spacing], 9), np.resize([-one, -1 - spacing, 2 * one], 9)]).astype(
        np.float32
    )
    small = number.integers("small", (2, 9), 1, 15) * spacing / number.array(8.0)
    problem = gemm(number.signed("weight", (4, 9), 1, 7), None, ruled(1.0), storage)
    title = f"Storage {storage}: differences of more bits than the format has are rounded to it, ties among them."
    calls = prepared(r, number.signed("a", (2, 4), 1, 9), round_narrow(-small, storage))
    yield unit("tie", slug, title, ("THRESHOLD", "PRECISION_DOWNGRADE"), problem, calls, exact=False)


def specials(storage: str) -> Iterator[Case]:
    """NaN, infinities, overflow of differences and stores, subnormals of the format, signs of zero, NaN columns."""
    short, _ = FORMATS[storage]
    large = 60000.0 if storage == "float16" else 3.0e38
    least = 2.0**-24 if storage == "float16" else 2.0**-133
    rows: dict[str, tuple[list[float], list[float], list[float], dict[str, str]]] = {
        "nan-and-inf": ([NAN, INF, -INF, 1.0, 0.25, 0.0], [0.0] * 6, [0.5] * 6, {}),
        "difference-overflows": ([large, -large, 1.0, 0.25, 0.0, 2.0], [-large, large, 0.0, 0.0, 0.0, 0.0], [0.5] * 6, {}),
        "subnormals": ([least, -least, 3 * least, 0.25, 1.0, 0.0], [0.0, 0.0, least, 0.0, 0.0, 0.0], [0.0] * 3 + [0.5] * 3, {}),
        "sign-of-zero": ([-0.0, 0.0, -0.0, 1.0, -0.0, 0.25], [0.0, -0.0, 1.0, 0.0, -0.0, 0.0], [0.5] * 6, {"memory": "always"}),
        "extreme-thresholds": ([1.0, 1.0, least, 0.5, 0.25, 0.0], [0.0] * 6, [1e-60, 1e30, 0.0, 0.1, 1e300, 0.5], {}),
    }
    if storage == "float16":
        rows["difference-in-float32"] = (*rows["difference-overflows"][:3], {"delta_dtype": "float32"})
    for name, (row, reference, tau, rule) in rows.items():
        slug = f"{name}-{short}"
        number = Numbers(slug, "float32")
        r = number.integers("r", (3, 6), -4, 4)
        r[0] = reference
        u = r + number.integers("change", (3, 6), -2, 2, 0.5)
        u[0], u[2] = row, r[2]
        problem = gemm(number.signed("weight", (4, 6), 1, 5), number.signed("bias", (4,), 1, 5), ruled(tau, **rule), storage)
        title = f"Storage {storage}: {name.replace('-', ' ')}."
        calls = prepared(r, number.signed("a", (3, 4), 1, 9), u, r)
        yield unit("special", slug, title, ("SPECIAL_VALUES", "THRESHOLD"), problem, calls, exact=False)
    slug = f"store-overflows-{short}"
    number = Numbers(slug, "float32")
    weight = round_narrow(number.signed("weight", (4, 6), 1, 5) * number.array(large / 8), storage)
    r = np.zeros((3, 6), np.float32)
    u = number.integers("u", (3, 6), -2, 2)
    u[2] = number.array([0.0, 0.0, 0.0, 0.5, 0.25, 0.0])
    title = f"Storage {storage}: outputs beyond the largest number of the format are infinite, accumulators are not."
    a = number.signed("a", (3, 4), 1, 9)
    yield unit(
        "special", slug, title, ("SPECIAL_VALUES",), gemm(weight, None, ruled(0.25), storage), prepared(r, a, u), exact=False
    )
    slug = f"unsent-nan-column-{short}"
    number = Numbers(slug, "float32")
    weight = number.signed("weight", (5, 6), 1, 5)
    weight[:, 2] = NAN
    r = number.integers("r", (2, 6), -4, 4)
    change = number.signed("change", (2, 6), 1, 3)
    change[0, 2], change[:, 5] = 0.25, 0.5
    title = f"Storage {storage}: a NaN column is read only where its element is sent."
    calls = prepared(r, number.signed("a", (2, 5), 1, 9), r + change)
    yield unit("special", slug, title, ("SPECIAL_VALUES", "MASK"), gemm(weight, None, ruled(0.5), storage), calls, exact=False)


def walk(number: Numbers, shape: tuple[int, ...], steps: int, storage: str) -> list[Array]:
    """Values of the format that wander."""
    values = [number.narrow("u0", shape, storage)]
    for t in range(1, steps):
        values.append(round_narrow(values[-1] + number.full(f"u{t}", shape) * number.array(0.75), storage))
    return values


def sequences(storage: str) -> Iterator[Case]:
    """Six steps under each memory and start; folded; a convolution; a state that is set; a reset."""
    short, _ = FORMATS[storage]
    for memory, start, bias in (
        ("sent", "dense", "separate"),
        ("always", "dense", "separate"),
        ("sent", "zero", "separate"),
        ("sent", "dense", "folded"),
    ):
        slug = f"six-steps-{memory}-{start}-{bias}-{short}"
        number = Numbers(slug, "float32")
        weight, shift = number.narrow("weight", (5, 9), storage), number.narrow("bias", (5,), storage)
        problem = gemm(weight, shift, ruled(0.375, memory=memory, start=start, bias=bias), storage)
        title = f"Storage {storage}: six steps, memory {memory}, start {start}, bias {bias}."
        calls = started(*walk(number, (3, 9), 6, storage))
        yield unit("sequence", slug, title, ("MEMORY_RULE", "START", "BIAS"), problem, calls, exact=False)
    slug = f"convolution-{short}"
    number = Numbers(slug, "float32")
    weight = round_narrow(kernel(number, (3, 2, 3)), storage)
    problem = conv(weight, number.narrow("bias", (3,), storage), ruled(0.375), (2, 7), storage, pads=(1, 1), strides=(2,))
    title = f"Storage {storage}: four steps of a convolution of stride 2."
    calls = started(*walk(number, (2, 2, 7), 4, storage))
    yield unit("conv", slug, title, ("CONV_GEOMETRY", "MEMORY_RULE"), problem, calls, exact=False)
    slug = f"reset-and-state-{short}"
    number = Numbers(slug, "float32")
    problem = gemm(number.narrow("weight", (4, 7), storage), number.narrow("bias", (4,), storage), ruled(0.375), storage)
    first, second = walk(number, (2, 7), 3, storage), walk(Numbers(slug + "/", "float32"), (3, 7), 2, storage)
    r, a = number.narrow("r", (2, 7), storage), number.full("a", (2, 4))
    title = f"Storage {storage}: a run, a reset with another batch, and a state whose accumulator is float32."
    calls = (*started(*first), *started(*second), *prepared(r, a, *first))
    yield unit("reset", slug, title, ("RESET", "WARM_START", "STATE_LEAK"), problem, calls, exact=False)
