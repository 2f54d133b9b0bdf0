"""Family ``exact``: integers and dyadic fractions whose sums are representable in every order: bits are asked of everyone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from refdeq.types import DeltaRule
from refdeq_validation.cases.building import SHORT, Numbers, gemm, prepared, started, unit
from refdeq_validation.cases.model import Case

__all__ = ["cases"]


def cases(dtype: str) -> Iterator[Case]:
    """Plain steps of small integers, with and without bias, from a given state and from a reset."""
    for compare, bias in product(("gt", "ge"), (True, False)):
        slug = f"integers-{compare}-{'bias' if bias else 'plain'}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        weight = number.signed("weight", (9, 13), 1, 7)
        shift = number.signed("bias", (9,), 17, 31) if bias else None
        problem = gemm(weight, shift, DeltaRule(threshold=2.0, compare=compare))  # type: ignore[arg-type]
        r, a = number.integers("r", (3, 13), -6, 6), number.integers("a", (3, 9), -200, 200)
        yield unit(
            "exact",
            slug,
            "Integers from a given state: every sum is exact, whatever its order.",
            ("ACCUMULATE", "BIAS", "INDEXING"),
            problem,
            prepared(r, a, r + number.integers("change", (3, 13), -5, 5)),
        )
    for memory in ("sent", "always"):
        slug = f"dyadic-walk-{memory}-{SHORT[dtype]}"
        number = Numbers(slug, dtype)
        weight = number.signed("weight", (7, 10), 1, 15, 0.125)
        problem = gemm(weight, number.signed("bias", (7,), 1, 9), DeltaRule(threshold=0.5, memory=memory))  # type: ignore[arg-type]
        steps = [number.integers(f"u{t}", (2, 10), -24, 24, 0.0625) for t in range(5)]
        yield unit(
            "exact",
            slug,
            "Sixteenths over five steps from a reset: the accumulator stays exact.",
            ("ACCUMULATE", "MEMORY_RULE", "BIAS"),
            problem,
            started(*steps),
        )
