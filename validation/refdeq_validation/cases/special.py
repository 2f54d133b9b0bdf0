"""Family ``special``: every row of the table of special values, in both dtypes.

Special inputs have cases of their own, and each stands in one sample of several: the others are ordinary, so that NaN
everywhere is as wrong as NaN swallowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from refdeq_validation.cases.building import SHORT, Array, Numbers, gemm, prepared, ruled, started, unit
from refdeq_validation.cases.model import Case

__all__ = ["cases"]

NAN, INF = float("nan"), float("inf")

WIDTH, OUTPUTS = 6, 4


def cases(dtype: str) -> Iterator[Case]:
    """Rows of the table, under the rules for which they differ."""
    for compare in ("gt", "ge"):
        yield nan_difference(dtype, compare)
        yield infinite_step(dtype, compare)
        yield threshold_zero(dtype, compare)
        yield everything_at_zero(dtype, compare)
        yield threshold_infinite(dtype, compare)
        yield per_channel_extremes(dtype, compare)
        yield subnormal_difference(dtype, compare)
    for memory in ("sent", "always"):
        yield signed_zero(dtype, memory)
        yield nan_then_back(dtype, memory)
        yield overflow(dtype, memory)
    yield from inactive_columns(dtype)
    yield subnormal_products(dtype)
    yield subnormal_threshold(dtype)
    yield negative_zero_sum(dtype)
    yield infinite_weight_sent(dtype)
    yield nan_bias(dtype)
    yield infinite_start(dtype)
    yield threshold_rounds_to_zero(dtype)


def around(
    slug: str,
    title: str,
    dtype: str,
    row: Sequence[float],
    bugs: Sequence[str],
    threshold: float | Sequence[float] = 0.5,
    reference: Sequence[float] | None = None,
    flags: Sequence[str] = (),
    then: Sequence[Sequence[float]] = (),
    **rule: str,
) -> Case:
    """A case whose first sample holds the special row (later those of `then`), the second an ordinary one, the third none."""
    number = Numbers(slug, dtype)
    weight, bias = number.signed("weight", (OUTPUTS, WIDTH), 1, 5), number.signed("bias", (OUTPUTS,), 1, 5)
    problem = gemm(weight, bias, ruled(threshold, **rule))
    r = number.integers("r", (3, WIDTH), -4, 4)
    if reference is not None:
        r[0] = reference
    steps = []
    for t, special in enumerate((row, *then)):
        u = r + number.integers(f"change{t}", (3, WIDTH), -2, 2, 0.5)
        u[0] = special
        u[2] = r[2] + (0.25 if np.ndim(threshold) == 0 and 0.25 < float(np.max(threshold)) < INF else 0.0)
        steps.append(u)
    calls = prepared(r, number.signed("a", (3, OUTPUTS), 1, 9), *steps)
    return unit("special", slug, title, bugs, problem, calls, exact=False, flags=flags)


def nan_difference(dtype: str, compare: str) -> Case:
    """NaN is sent under both comparisons."""
    slug = f"nan-swallowed-{compare}-{SHORT[dtype]}"
    title = "A NaN difference is sent: written as |delta| > tau it would be swallowed."
    row = [NAN, 1.0, 0.0, -1.0, 2.0, 0.25]
    return around(slug, title, dtype, row, ("SPECIAL_VALUES",), reference=[0.0] * 6, compare=compare)


def infinite_step(dtype: str, compare: str) -> Case:
    """Infinities are sent; in the next step Inf - Inf is NaN, sent again."""
    slug = f"infinite-then-again-{compare}-{SHORT[dtype]}"
    title = "Infinities against a finite reference, then Inf - Inf, then back to finite values."
    row, back = [INF, -INF, 0.0, 1.0, -1.0, 0.25], [1.0, 2.0, 0.0, 1.0, -2.0, 0.25]
    return around(
        slug, title, dtype, row, ("SPECIAL_VALUES", "MEMORY_RULE"), reference=[0.0] * 6, then=(row, back), compare=compare
    )


def threshold_zero(dtype: str, compare: str) -> Case:
    """Threshold 0 on some channels: gt sends what changed there, ge everything."""
    slug = f"zero-threshold-of-a-channel-{compare}-{SHORT[dtype]}"
    tiny = float(np.finfo(dtype).tiny)
    title = "Channels of threshold 0 beside ordinary ones: gt sends what differs there, ge everything."
    row = [0.0, 1.0, -0.0, tiny, 0.25, 1.0]
    tau = [0.0, 0.0, 0.0, 0.0, 0.5, 0.5]
    return around(slug, title, dtype, row, ("TIE_RULE", "THRESHOLD"), tau, [0.0, 1.0, 0.0, 0.0, 0.0, 0.0], compare=compare)


def everything_at_zero(dtype: str, compare: str) -> Case:
    """A scalar tau = 0: under ge the mask is all ones though nothing changed."""
    slug = f"zero-threshold-{compare}-{SHORT[dtype]}"
    title = "Threshold 0 for all: under ge the mask is all ones, whatever changed."
    flags = ("uniform-mask",) if compare == "ge" else ()
    row = [0.0, 1.0, 2.0, -1.0, 0.5, 0.0]
    return around(slug, title, dtype, row, ("TIE_RULE", "MASK"), 0.0, [0.0, 1.0, 2.0, -1.0, 0.0, 1.0], flags, compare=compare)


def threshold_infinite(dtype: str, compare: str) -> Case:
    """Threshold +Inf: only NaN is sent (and Inf under ge)."""
    slug = f"infinite-threshold-{compare}-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    problem = gemm(number.signed("weight", (4, 6), 1, 5), number.signed("bias", (4,), 1, 5), ruled(INF, compare=compare))
    start = number.integers("start", (3, 6), -4, 4)
    later = [start + number.signed(f"change{t}", (3, 6), 1, 50) for t in range(3)]
    later[1][0, 2], later[1][1, 4], later[2][1, 4] = NAN, INF, -INF
    title = "Threshold +Inf: after the start only NaN is sent, and infinite differences under ge."
    return unit("special", slug, title, ("SPECIAL_VALUES", "THRESHOLD"), problem, started(start, *later), exact=False)


def per_channel_extremes(dtype: str, compare: str) -> Case:
    """Thresholds 0, +Inf and ordinary ones side by side."""
    slug = f"extreme-thresholds-side-by-side-{compare}-{SHORT[dtype]}"
    title = "Thresholds 0, +Inf and finite ones side by side."
    row, tau = [1.0, 1.0, 1.0, INF, NAN, 0.25], [0.0, INF, 0.5, INF, INF, 0.25]
    return around(slug, title, dtype, row, ("THRESHOLD", "INDEXING"), tau, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0], compare=compare)


def subnormal_difference(dtype: str, compare: str) -> Case:
    """Subnormal differences at tau = 0 count as differences."""
    slug = f"subnormal-difference-flushed-{compare}-{SHORT[dtype]}"
    least, tiny = float(np.finfo(dtype).smallest_subnormal), float(np.finfo(dtype).tiny)
    title = "Subnormal differences at threshold 0 are differences; so are those between normal neighbours."
    row = [least, -least, tiny * 1.5, tiny, 0.0, 0.25]
    tau = [0.0, 0.0, 0.0, 0.0, 0.0, 0.5]
    return around(
        slug, title, dtype, row, ("SPECIAL_VALUES", "THRESHOLD"), tau, [0.0, 0.0, tiny, tiny, 0.0, 0.0], compare=compare
    )


def signed_zero(dtype: str, memory: str) -> Case:
    """-0 against +0 is no difference; what the reference keeps depends on the memory rule."""
    slug = f"sign-of-zero-{memory}-{SHORT[dtype]}"
    title = "u = -0 against r = +0: not sent; the reference takes -0 under always and keeps +0 under sent."
    row, other = [-0.0, 0.0, -0.0, 1.0, 0.0, -0.0], [0.0, -0.0, -0.0, 0.0, -0.0, 0.0]
    bugs = ("SPECIAL_VALUES", "MEMORY_RULE")
    return around(slug, title, dtype, row, bugs, reference=[0.0, -0.0, -0.0, -0.0, -0.0, 0.0], then=(other,), memory=memory)


def nan_then_back(dtype: str, memory: str) -> Case:
    """After a NaN reference every difference is NaN, hence sent."""
    slug = f"back-from-nan-{memory}-{SHORT[dtype]}"
    title = "After NaN the reference is NaN: the finite value that follows is sent whatever it is."
    row, back = [NAN, 0.0, 0.25, 0.0, 1.0, 0.0], [0.0, 0.0, 0.25, 0.0, 1.0, 0.0]
    bugs = ("SPECIAL_VALUES", "MEMORY_RULE")
    return around(slug, title, dtype, row, bugs, reference=[0.0] * 6, then=(back, back), memory=memory)


def overflow(dtype: str, memory: str) -> Case:
    """Differences that overflow, and one that a float16 would not hold."""
    slug = f"difference-overflows-{memory}-{SHORT[dtype]}"
    top = float(np.finfo(dtype).max)
    title = "60000 - (-60000) is finite, the largest number minus its negative is not."
    row, reference = [60000.0, top, -top, 1.0, 0.25, -60000.0], [-60000.0, -top, top, 1.0, 0.0, 60000.0]
    return around(slug, title, dtype, row, ("SPECIAL_VALUES", "PRECISION_DOWNGRADE"), reference=reference, memory=memory)


def inactive_columns(dtype: str) -> Iterator[Case]:
    """Columns of NaN or infinite weights whose elements are not sent: not read, so the result is finite."""
    for name, value in (("nan", NAN), ("infinite", INF)):
        slug = f"unsent-{name}-column-read-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        weight = number.signed("weight", (5, 8), 1, 5)
        weight[:, 3], weight[2, 6] = value, -value
        problem = gemm(weight, number.signed("bias", (5,), 1, 5), ruled(0.5))
        r = number.integers("r", (3, 8), -4, 4)
        change = number.signed("change", (3, 8), 1, 4)
        change[:2, 3], change[:2, 6], change[:, 0] = 0.25, 0.0, 0.5
        title = f"A column of {name} weights is skipped where its element is not sent, and read where it is."
        calls = prepared(r, number.signed("a", (3, 5), 1, 9), r + change)
        yield unit("special", slug, title, ("SPECIAL_VALUES", "MASK"), problem, calls, exact=False)
    slug = f"unsent-nan-column-sample-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    weight = number.signed("weight", (4, 5), 1, 5)
    weight[:, 1] = NAN
    r = number.integers("r", (3, 5), -4, 4)
    change = np.full((3, 5), 0.25, dtype)
    change[0, 2], change[2, 4] = 1.0, -2.0
    problem = gemm(weight, None, ruled(0.5, granularity="sample"))
    title = "Shared decisions: a sample that fires reads the NaN column, one that does not stays finite."
    calls = prepared(r, number.signed("a", (3, 4), 1, 9), r + change)
    yield unit("special", slug, title, ("SPECIAL_VALUES", "GRANULARITY"), problem, calls, exact=False)


def tiny_problem(slug: str, dtype: str, scale: float, threshold: float) -> tuple[Numbers, Array, Array]:
    """Numbers, references and changes of six inputs for cases of small numbers; the last two inputs are not sent."""
    number = Numbers(slug, dtype)
    change = np.asarray(number.signed("change", (2, 6), 5, 9) * number.array(scale))
    change[:, 4:] = number.array(threshold / 2)
    return number, np.zeros((2, 6), dtype), change


def subnormal_products(dtype: str) -> Case:
    """Products and sums below the least normal number."""
    slug = f"subnormal-products-flushed-{SHORT[dtype]}"
    tiny = float(np.finfo(dtype).tiny)
    number, r, u = tiny_problem(slug, dtype, 2.0**-10, 2.0**-9)
    weight = np.asarray(number.signed("weight", (5, 6), 1, 31) * number.array(tiny) * number.array(2.0**-3))
    a = np.asarray(number.signed("a", (2, 5), 1, 7) * number.array(tiny) * number.array(2.0**-12))
    title = "Products and sums in the subnormal range."
    bugs = ("SPECIAL_VALUES", "PRECISION_DOWNGRADE")
    return unit("special", slug, title, bugs, gemm(weight, None, ruled(2.0**-9)), prepared(r, a, u), exact=False)


def subnormal_threshold(dtype: str) -> Case:
    """A threshold below the least normal number."""
    slug = f"subnormal-threshold-flushed-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    tau = float(np.finfo(dtype).tiny) / 4
    factors = number.array([0.5, 1.0, 2.0, -1.0, -3.0, 0.0, 0.75, -1.25])
    u = np.stack([factors * number.array(tau), factors[::-1] * number.array(tau)])
    problem = gemm(number.signed("weight", (4, 8), 1, 7), None, ruled(tau, compare="ge"))
    a = np.asarray(number.signed("a", (2, 4), 1, 9) * number.array(tau))
    title = "A subnormal threshold is a threshold."
    return unit("special", slug, title, ("SPECIAL_VALUES", "THRESHOLD"), problem, prepared(np.zeros_like(u), a, u), exact=False)


def negative_zero_sum(dtype: str) -> Case:
    """Accumulators and biases of -0: +0 + -0 is +0, -0 + -0 is -0."""
    slug = f"sign-of-zero-sum-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    weight = number.signed("weight", (6, 5), 1, 5)
    weight[:3] = 0.0
    bias = number.array([-0.0, 0.0, -0.0, 1.0, -0.0, 2.0])
    r = np.zeros((3, 5), dtype)
    u = number.array([[0.0, 1.0, 0.0, 0.0, 0.25], [0.25, 0.0, -1.0, 0.0, 0.0], [0.0, -0.0, 0.25, 0.0, 0.0]])
    a = number.array([[-0.0, 0.0, 0.0, 1.0, -3.0, 2.0], [-0.0, -0.0, 0.0, 2.0, 1.0, 3.0], [-0.0, -0.0, 0.0, 1.0, -0.0, 1.0]])
    title = "Signs of zero in accumulators and outputs."
    return unit(
        "special", slug, title, ("SPECIAL_VALUES", "BIAS"), gemm(weight, bias, ruled(0.5)), prepared(r, a, u), exact=False
    )


def infinite_weight_sent(dtype: str) -> Case:
    """Infinite weights of sent elements: infinities with their sign, NaN where they meet."""
    slug = f"infinite-weights-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    weight = number.signed("weight", (5, 6), 1, 5)
    weight[0, 1], weight[1, 1], weight[2, 1], weight[2, 2] = INF, -INF, INF, -INF
    r = np.zeros((3, 6), dtype)
    u = number.array([[0.0, 1.0, 1.0, 0.25, 2.0, 0.0], [1.0, -2.0, 0.0, 0.0, 0.25, 1.0], [1.0, 0.0, 0.0, 2.0, 0.25, 1.0]])
    title = "Infinite weights: the sign of the infinity, NaN where two meet, and rows that stay finite."
    calls = prepared(r, number.signed("a", (3, 5), 1, 9), u)
    return unit("special", slug, title, ("SPECIAL_VALUES", "ACCUMULATE"), gemm(weight, None, ruled(0.5)), calls, exact=False)


def nan_bias(dtype: str) -> Case:
    """NaN and infinite biases touch the output, not the accumulator."""
    slug = f"special-bias-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    bias = number.array([NAN, INF, -INF, 1.0, 2.0])
    problem = gemm(number.signed("weight", (5, 6), 1, 5), bias, ruled(0.5))
    steps = [number.integers(f"u{t}", (2, 6), -9, 9, 0.25) for t in range(3)]
    title = "NaN and infinite biases appear in the output and leave the accumulator finite."
    return unit("special", slug, title, ("SPECIAL_VALUES", "BIAS"), problem, started(*steps), exact=False)


def infinite_start(dtype: str) -> Case:
    """A dense start reads every column: 0 times Inf is NaN there."""
    slug = f"dense-start-reads-all-{SHORT[dtype]}"
    number = Numbers(slug, dtype)
    weight = number.signed("weight", (5, 6), 1, 5)
    weight[1, 2], weight[3, 4] = INF, NAN
    start = number.signed("start", (3, 6), 1, 5)
    start[0, 2], start[1, 2] = 0.0, -1.0
    problem = gemm(weight, number.signed("bias", (5,), 1, 5), ruled(0.5))
    later = start + number.integers("change", (3, 6), -2, 2)
    title = "A dense start multiplies zeros too: 0 * Inf is NaN in its rows, the other rows are finite."
    return unit("special", slug, title, ("SPECIAL_VALUES", "START"), problem, started(start, later), exact=False)


def threshold_rounds_to_zero(dtype: str) -> Case:
    """A positive threshold below the least subnormal is 0 in the dtype; a huge one rounds to +Inf in float32."""
    slug = f"threshold-rounded-once-{SHORT[dtype]}"
    tau = [1e-60, 1e300, 0.1, 0.5, 1e-45, 1e40] if dtype == "float32" else [5e-324, 1e308, 0.1, 0.5, 1e-310, 1e300]
    least = float(np.finfo(dtype).smallest_subnormal)
    row = [least, 1e30, 0.25, 0.5, least, INF]
    title = "Thresholds that become 0, +Inf or subnormal in the dtype."
    return around(slug, title, dtype, row, ("THRESHOLD", "SPECIAL_VALUES"), tau, [0.0] * 6)
