"""Family ``bound``: sums of 8 to 4096 full-mantissa products, a thousand per case, for the bound and the statistic of errors.

Decisions are clear: what is sent lies at least a third of the threshold above it, and what is not at least a third below.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refdeq_validation.cases.building import SHORT, Numbers, conv, gemm, prepared, ruled, started, unit
from refdeq_validation.cases.model import Case
from refdeq_validation.judge.statistic import FLAG

__all__ = ["TERMS", "cases"]

TERMS = (8, 16, 32, 64, 256, 1024, 4096)


def cases(dtype: str) -> Iterator[Case]:
    """Many terms onto an accumulator, after a dense start, in a convolution, of mixed sizes."""
    for k in TERMS:
        yield onto(dtype, k)
    yield from_start(dtype)
    yield folded(dtype)
    yield in_convolution(dtype)
    yield wide_range(dtype)


def onto(dtype: str, k: int) -> Case:
    """Terms of either sign, onto an accumulator of their size or (many) from zero."""
    slug = f"narrow-operands-{k}-terms-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    # Nothing passes off as float64 that the bound would not show at 4096 terms too: no statistic, and fewer sums.
    few = dtype == "float64" and k > 64
    rows, outputs = (1, 32) if few else (32, 32)
    width = k + max(1, k // 32)
    weight, a = number.full("weight", (outputs, width)), number.full("a", (rows, outputs))
    u = number.full("u", (rows, width))
    u = np.asarray(np.sign(u) * (number.array(0.5) + np.abs(u) * number.array(0.5)))
    for b in range(rows):
        u[b, (k + 1 + np.arange(width - k) * 7 + b) % width] *= number.array(2.0**-2)
    flags = () if few else (FLAG,)
    bugs = ("PRECISION_DOWNGRADE", "ACCUMULATE")
    title = f"About {k} full-mantissa products per sum, {rows * outputs} sums."
    if k > 256:  # from a reset: a state of this size would weigh as much as the weights
        problem = gemm(weight, None, ruled(0.375, start="zero"))
        return unit("bound", slug, title, bugs, problem, started(u), exact=False, flags=flags)
    problem = gemm(weight, None, ruled(0.375))
    return unit("bound", slug, title, bugs, problem, prepared(np.zeros_like(u), a, u), exact=False, flags=flags)


def from_start(dtype: str) -> Case:
    """A dense start and two sparse steps of 1024 sums each."""
    slug = f"narrow-start-48-terms-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(number.full("weight", (32, 48)), number.full("bias", (32,)), ruled(0.375))
    base = number.full("u0", (32, 48))
    steps = [base]
    for t in (1, 2):
        kept = number.integers(f"kept{t}", (32, 48), 0, 3) > 0
        base = np.asarray(np.where(kept, base, base + number.signed(f"c{t}", (32, 48), 1, 1)))
        steps.append(np.asarray(base + number.full(f"still{t}", (32, 48)) * number.array(2.0**-4)))
    title = "A dense start of 48 terms and two sparse steps."
    return unit(
        "bound", slug, title, ("PRECISION_DOWNGRADE", "START", "BIAS"), problem, started(*steps), exact=False, flags=(FLAG,)
    )


def folded(dtype: str) -> Case:
    """Folded bias over three steps."""
    slug = f"folded-bias-24-terms-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    rule = ruled(0.375, bias="folded", memory="always")
    problem = gemm(number.full("weight", (32, 24)), number.full("bias", (32,)), rule)
    steps = [number.full(f"u{t}", (32, 24)) for t in range(3)]
    title = "Folded bias over a dense start and two steps."
    return unit("bound", slug, title, ("PRECISION_DOWNGRADE", "BIAS"), problem, started(*steps), exact=False, flags=(FLAG,))


def in_convolution(dtype: str) -> Case:
    """A 3 x 3 convolution of 4 channels: 1024 sums of up to 36 terms."""
    slug = f"narrow-operands-36-taps-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = conv(number.full("weight", (8, 4, 3, 3)), None, ruled(0.375), (4, 8, 8), pads=(1, 1, 1, 1))
    u = number.full("u", (2, 4, 8, 8))
    a = number.full("a", (2, 8, 8, 8))
    title = "A 3 x 3 convolution of 4 channels, full mantissas."
    bugs = ("PRECISION_DOWNGRADE", "ACCUMULATE", "CONV_GEOMETRY")
    return unit("bound", slug, title, bugs, problem, prepared(np.zeros_like(u), a, u), exact=False, flags=(FLAG,))


def wide_range(dtype: str) -> Case:
    """Weights over twenty binades: an error relative to the largest sum hides in the small ones."""
    slug = f"small-rows-beside-large-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    scale = np.ldexp(number.array(np.ones(40)), -(np.arange(40) // 2)).astype(dtype)
    weight = np.asarray(number.full("weight", (40, 24)) * scale[:, None])
    u = number.full("u", (26, 24))
    a = np.asarray(number.full("a", (26, 40)) * scale)
    problem = gemm(weight, np.asarray(number.full("bias", (40,)) * scale), ruled(0.375))
    title = "Rows of weights over twenty binades."
    bugs = ("PRECISION_DOWNGRADE", "ACCUMULATE", "INDEXING")
    return unit("bound", slug, title, bugs, problem, prepared(np.zeros_like(u), a, u), exact=False, flags=(FLAG,))
