"""Every value that some legal order of a small sum may have, by rational arithmetic: all trees, every choice of fusing.

Written apart from the judge: formats are given by three integers, and rounding is that of Python's integers.
"""

from fractions import Fraction
from itertools import combinations

FORMATS = {
    "float64": (53, -1022),
    "float32": (24, -126),
    "tf32": (11, -126),
    "float16": (11, -14),
    "bfloat16": (8, -126),
}
"""Significant bits and exponent of the least normal number."""


def quantum(x, name):
    """Spacing of a format at a number other than zero."""
    digits, least = FORMATS[name]
    exponent = abs(x.numerator).bit_length() - x.denominator.bit_length()
    if abs(x) < Fraction(2) ** exponent:
        exponent -= 1
    return Fraction(2) ** (max(exponent, least) - digits + 1)


def nearest(x, name):
    """Round to nearest even; no overflow is expected."""
    if x == 0:
        return x
    step = quantum(x, name)
    return round(x / step) * step


def chopped(x, name):
    """Round towards zero."""
    if x == 0:
        return x
    step = quantum(x, name)
    return int(x / step) * step


def flushing(x, name):
    """Round to nearest; what is below the least normal number becomes zero."""
    y = nearest(x, name)
    return y if abs(y) >= Fraction(2) ** FORMATS[name][1] else Fraction(0)


def outcomes(a, products, add, multiply=None, fused=True):
    """All values of ``a + sum products`` over all trees.

    Parameters
    ----------
    a : Fraction
    products : list of Fraction
        Exact products.
    add : callable
        Rounding of one addition.
    multiply : callable or None
        Rounding of one product; the same as `add` by default.
    fused : bool
        Also round a product and an addition together, wherever a product meets a partial sum.

    Returns
    -------
    set of Fraction
    """
    multiply = multiply or add
    leaves = [("a", a)] + [("p", p) for p in products]
    everything = frozenset(range(len(leaves)))
    made = {}
    for i, (kind, x) in enumerate(leaves):
        made[frozenset([i])] = {add(x) if kind == "a" and len(leaves) > 1 else x} if kind == "a" else {add(multiply(x))}
    for size in range(2, len(leaves) + 1):
        for subset in map(frozenset, combinations(range(len(leaves)), size)):
            values = set()
            first = min(subset)
            rest = sorted(subset - {first})
            for n in range(len(rest)):
                for others in combinations(rest, n):
                    left = frozenset([first, *others])
                    right = subset - left
                    values |= {add(x + y) for x in made[left] for y in made[right]}
                    if not fused:
                        continue
                    for one, other in ((left, right), (right, left)):
                        if len(one) == 1 and leaves[min(one)][0] == "p":
                            values |= {add(leaves[min(one)][1] + y) for y in made[other]}
            made[subset] = values
    return made[everything]
