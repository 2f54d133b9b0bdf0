"""Histograms of all findings of a run, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refdeq_validation.judge.verdicts import EDGES, Findings

__all__ = ["histograms"]

Array = np.ndarray[Any, Any]


def histograms(findings: Sequence[Findings]) -> dict[str, Mapping[str, Any] | None]:
    """Sums of the histograms of error/bound and of decision margins.

    Parameters
    ----------
    findings : sequence of Findings

    Returns
    -------
    dict
        ``ratio`` and ``margin``: ``edges`` (binary logarithms, :data:`refdeq_validation.judge.verdicts.EDGES`) and ``counts``,
        one more than edges; null where nothing was counted.

    Examples
    --------
    >>> found = Findings()
    >>> found.ratios(np.array([0.5, 0.25, 0.3]))
    >>> sum(histograms([found])["ratio"]["counts"]), histograms([found])["margin"]
    (3, None)
    """
    ratio = _summed([found.ratio_histogram for found in findings])
    return {"ratio": ratio, "margin": _summed([found.margin_histogram for found in findings])}


def _summed(arrays: Sequence[Array]) -> Mapping[str, Any] | None:
    counts = np.sum(arrays, axis=0, dtype=np.int64) if arrays else np.zeros(0, np.int64)
    return {"edges": list(EDGES), "counts": counts.tolist()} if counts.any() else None
