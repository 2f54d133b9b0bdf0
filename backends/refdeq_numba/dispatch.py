"""Which kernel treats what, from counts and measured crossovers (P9); the choice changes time, never a bit (N-6).

Crossovers are shares of the columns. The defaults were measured at 256 columns with vectors of 32 bytes; ``refdeq tune``
measures them on the machine at hand (see :mod:`refdeq_numba.tuning`).
"""

from __future__ import annotations

from typing import NamedTuple

from refdeq_numba.compilation import uncounted

__all__ = ["DEFAULTS", "FEW_SAMPLES", "Crossovers", "blocks_per_pass", "is_worth_filling"]

FEW_SAMPLES = 4
"""Samples below which weights are read by whole columns, at the rate of the memory, instead of by panels."""


class Crossovers(NamedTuple):
    """Where one kernel becomes faster than another.

    Attributes
    ----------
    whole : float
        Share of sent columns above which a sample is filled with zeros and treated whole, in a group.
    one_block, two_blocks : float
        Share of listed columns above which lists are gone through by one or two blocks of 64 columns at a time; below both,
        by whole lists.
    """

    whole: float
    one_block: float
    two_blocks: float


DEFAULTS = Crossovers(whole=0.8, one_block=0.4, two_blocks=0.12)


@uncounted
def is_worth_filling(crossovers, used, possible):
    """Whether a sample that sends `used` of `possible` columns is better treated whole."""
    return used > crossovers.whole * possible


@uncounted
def blocks_per_pass(crossovers, used, possible, blocks):
    """Blocks of columns per pass of the lists: few keep the panels in cache, many spare the accumulators' traffic."""
    if used > crossovers.one_block * possible:
        return 1
    return 2 if used > crossovers.two_blocks * possible else blocks
