"""Other orders of summation: legal under a fast declaration, not under a strict one. The reference, but for its sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refdeq.kernels import Kernels
from refdeq.ops.conv import conv_taps
from refdeq.ops.linear import gemm_weight
from refdeq.reference import ReferenceBackend, ReferenceKernels

__all__ = ["ORDERS", "OtherOrder"]

Array = np.ndarray
Order = Callable[[Array, Array], Array]
"""``order(a, terms)``: the accumulator (N,) after adding the rows of ``terms`` (k, N), k >= 1, in some way."""


def reverse(a: Array, terms: Array) -> Array:
    """From the last term to the first."""
    for term in terms[::-1]:
        a = a + term
    return a


def pairwise(a: Array, terms: Array) -> Array:
    """A balanced tree over all terms, the accumulator first."""
    rows = [a, *terms]
    while len(rows) > 1:
        rows = [rows[i] + rows[i + 1] if i + 1 < len(rows) else rows[i] for i in range(0, len(rows), 2)]
    return rows[0]


def separate(a: Array, terms: Array) -> Array:
    """The terms from +0, then the accumulator: the separate sum that N-6 excludes."""
    total = np.zeros_like(a)
    for term in terms:
        total = total + term
    return a + total


def split(a: Array, terms: Array) -> Array:
    """Four interleaved partial sums, as a split of the inner index over four workers gives."""
    for worker in range(4):
        part = np.zeros_like(a)
        for term in terms[worker::4]:
            part = part + term
        a = a + part
    return a


def compensated(a: Array, terms: Array) -> Array:
    """Kahan's sum."""
    low = np.zeros_like(a)
    for term in terms:
        term = term - low
        total = a + term
        low = (total - a) - term
        low = np.where(np.isfinite(low), low, np.zeros_like(low))
        a = total
    return a


def sorted_by_size(a: Array, terms: Array) -> Array:
    """Small terms first, every output in its own order."""
    order = np.argsort(np.abs(terms), axis=0, kind="stable")
    for term in np.take_along_axis(terms, order, axis=0):
        a = a + term
    return a


def wide(a: Array, terms: Array) -> Array:
    """Summed in long double and rounded once."""
    return np.asarray(a.astype(np.longdouble) + terms.astype(np.longdouble).sum(axis=0)).astype(a.dtype)


ORDERS: dict[str, Order] = {
    order.__name__: order for order in (reverse, pairwise, separate, split, compensated, sorted_by_size, wide)
}


class _Kernels(ReferenceKernels):
    """The reference, with another order in the sums of gated linear nodes."""

    def __init__(self, order: Order) -> None:
        super().__init__()
        self._order = order

    def accumulate_gemm(
        self, d: Array, mask: Array | None, weight: Array, attributes: Mapping[str, Any], active: Array, a: Array
    ) -> None:
        columns = gemm_weight(weight, attributes)
        for b in np.flatnonzero(active):
            picked = np.arange(d.shape[1]) if mask is None else np.flatnonzero(mask[b])
            if len(picked):
                a[b] = self._order(a[b], columns[picked] * d[b, picked, None])

    def accumulate_conv(
        self, d: Array, mask: Array | None, weight: Array, attributes: Mapping[str, Any], active: Array, a: Array
    ) -> None:
        """Collect the terms of every output site, then add them."""
        group = attributes["group"]
        outputs, inputs = weight.shape[0] // group, weight.shape[1]
        sites = a.shape[2:]
        terms: dict[tuple[int, ...], list[Array]] = {}
        taps = list(conv_taps(d.shape[2:], sites, weight.shape[2:], attributes))
        places = np.moveaxis(np.indices(d.shape[2:]), 0, -1)
        targets = np.moveaxis(np.indices(sites), 0, -1)
        for b in np.flatnonzero(active):
            terms.clear()
            for tap, source, target in taps:
                pairs = zip(
                    places[source[1:]].reshape(-1, len(sites)), targets[target[1:]].reshape(-1, len(sites)), strict=True
                )
                for place, site in pairs:
                    for g in range(group):
                        for c in range(inputs):
                            at = (b, g * inputs + c, *place)
                            if mask is None or mask[at]:
                                column = weight[(slice(g * outputs, (g + 1) * outputs), c, *tap[1:])]
                                terms.setdefault((g, *site), []).append(column * d[at])
            for (g, *site), rows in terms.items():
                at = (b, slice(g * outputs, (g + 1) * outputs), *site)
                a[at] = self._order(a[at], np.stack(rows))


class OtherOrder(ReferenceBackend):
    """Backend record of one order; it says "fast", whatever it is judged as."""

    def __init__(self, name: str) -> None:
        self.info = replace(ReferenceBackend.info, name=name, orders=("strict", "fast"))  # type: ignore[misc]
        self._order = ORDERS[name]

    def kernels(self, *, order: str, threads: int) -> Kernels:  # type: ignore[override]
        return _Kernels(self._order)
