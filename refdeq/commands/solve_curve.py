"""A residual curve in plain characters, for terminals and logs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from refdeq.commands.solve_report import Measure

__all__ = ["curve"]

ROWS, COLUMNS, WIDEST_STEP = 12, 72, 4
"""Rows aimed at, columns at most, columns per evaluation at most."""
WIDTH = 6
"""Characters of a label: 1e-300 has six."""


def curve(measure: Measure) -> list[str]:
    r"""Median and worst sample over the evaluations, on a logarithmic scale.

    Parameters
    ----------
    measure : Measure
        T evaluations of at least one sample.

    Returns
    -------
    list of str
        The worst is that of the samples that are finite; a ``^`` in the top row says that some are not. What is 0 stands in
        the bottom row.

    Examples
    --------
    >>> print(*curve(Measure("residual", np.array([[1.0], [1e-1], [1e-2]]), 1e-1))[:13:6], sep="\n")
    1e+00  |*
    1e-01  |----*----
    1e-02  |        *
    """
    values = np.where(np.isfinite(measure.values), measure.values, np.inf)
    shown = _columns(len(values))
    ranked = np.sort(values[shown], axis=1)
    finite = np.isfinite(ranked).sum(axis=1)
    worst = np.where(finite > 0, ranked[np.arange(len(ranked)), np.maximum(finite - 1, 0)], np.inf)
    series = {"o": ranked[:, (ranked.shape[1] - 1) // 2], "x": worst}
    scale = _scale([*series.values(), np.array([measure.tolerance or 0.0])])
    step = max(1, min(WIDEST_STEP, COLUMNS // len(shown)))
    grid = [[" "] * (step * (len(shown) - 1) + 1) for _ in range(scale.rows)]
    if measure.tolerance:
        grid[scale.row(measure.tolerance)] = ["-"] * len(grid[0])
    for mark, numbers in series.items():
        for column, value in enumerate(numbers):
            line = grid[scale.row(value)]
            both = mark == "x" and line[step * column] == "o"
            line[step * column] = "*" if both else mark
    for column in np.flatnonzero(finite < ranked.shape[1]).tolist():
        grid[0][step * column] = "^"
    lines = [f"{scale.label(row)} |{''.join(line)}".rstrip() for row, line in enumerate(grid)]
    last = f"{len(values)}"
    axis = "1".ljust(len(grid[0]) - len(last)) + last if len(grid[0]) > len(last) else "1"
    return [*lines, f"{'':{WIDTH}} +{'-' * len(grid[0])}", f"{'':{WIDTH}}  {axis}", *_legend(measure)]


def _columns(length: int) -> np.ndarray:
    """Evaluations that are shown, the first and the last among them."""
    return np.unique(np.linspace(0, length - 1, min(length, COLUMNS)).round().astype(int))


@dataclass(frozen=True)
class _Scale:
    """Rows of a logarithmic axis; powers of ten fall on rows.

    Attributes
    ----------
    high, low : int
        Exponents of the first and the last row.
    rows : int
    """

    high: int
    low: int
    rows: int

    def row(self, value: float) -> int:
        if math.isinf(value):
            return 0
        if value <= 0:
            return self.rows - 1
        share = (self.high - math.log10(value)) / (self.high - self.low)
        return min(self.rows - 1, max(0, round(share * (self.rows - 1))))

    def label(self, row: int) -> str:
        decades, parts = row * (self.high - self.low), self.rows - 1
        return " " * WIDTH if decades % parts else f"1e{self.high - decades // parts:+03d}".ljust(WIDTH)


def _scale(series: list[np.ndarray]) -> _Scale:
    """An axis for every number that has a logarithm: some rows per decade, or some decades per row."""
    drawn = [float(v) for values in series for v in values if 0 < v < math.inf]
    high = math.ceil(math.log10(max(drawn, default=1.0)))
    low = min(math.floor(math.log10(min(drawn, default=1.0))), high - 1)
    if high - low <= ROWS:
        return _Scale(high, low, (high - low) * (ROWS // (high - low)) + 1)
    decades = math.ceil((high - low) / ROWS)
    steps = math.ceil((high - low) / decades)
    return _Scale(high, high - steps * decades, steps + 1)


def _legend(measure: Measure) -> list[str]:
    words = [f"{measure.label} at evaluation 1 to {len(measure.values)}: o median, x worst, * both"]
    if measure.tolerance is not None:
        words.append(f"- tolerance {measure.tolerance:g}")
    if not np.isfinite(measure.values).all():
        words.append("^ some not finite")
    return ["; ".join([*words, "finished samples keep their last"])]
