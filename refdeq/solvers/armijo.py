"""Backtracking by the Armijo rule, one trial per evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refdeq.checks import check_integer, check_number

__all__ = ["ArmijoLineSearch"]


@dataclass(frozen=True, kw_only=True)
class ArmijoLineSearch:
    """When a step is too long, and by how much (S-8).

    With ``phi(s) = ||g(z + s p)||^2``, the slope of the quasi-Newton model ``-2 phi(0)``: a step ``s`` is accepted when
    ``phi(s) <= (1 - 2 decrease s) phi(0)``. Otherwise the next trial is the minimiser of the parabola through ``phi(0)``, the
    slope and ``phi(s)``, not below ``shortest`` and not above ``longest`` times ``s``. After `backtracks` refused trials the
    next one is accepted as it is: where the direction does not descend, no length helps, but the secant of a short step does.

    The defaults halve a step at most twice: on nonlinear maps longer searches cost evaluations and bring nothing, because a
    quasi-Newton direction that does not descend seldom does so on a shorter step.

    Parameters
    ----------
    decrease : float
        In (0, 1/2).
    shortest, longest : float
        ``0 < shortest <= longest < 1``.
    backtracks : int
        Refused trials per step at most, at least 1.

    Examples
    --------
    >>> search = ArmijoLineSearch(shortest=0.1)
    >>> bool(search.accepts(np.array([0.9]), np.array([1.0]), np.array([1.0]))[0])
    True
    >>> search.shorten(np.array([4.0]), np.array([1.0]), np.array([1.0]))
    array([0.2])
    """

    decrease: float = 1e-4
    shortest: float = 0.5
    longest: float = 0.5
    backtracks: int = 2

    def __post_init__(self) -> None:
        check_number("decrease", self.decrease, "a number in (0, 0.5)", low=0.0, open_low=True, high=np.nextafter(0.5, 0.0))
        check_number("longest", self.longest, "a number in (0, 1)", low=0.0, open_low=True, high=np.nextafter(1.0, 0.0))
        check_number("shortest", self.shortest, "a number in (0, longest]", low=0.0, open_low=True, high=self.longest)
        check_integer("backtracks", self.backtracks, low=1)

    def accepts(self, phi: np.ndarray, before: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Whether the residual has fallen far enough; arrays are (B,) float64."""
        enough: np.ndarray = phi <= (1.0 - 2.0 * self.decrease * length) * before
        return enough

    def shorten(self, phi: np.ndarray, before: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Length of the next trial; arrays are (B,) float64, with ``phi`` not accepted."""
        with np.errstate(all="ignore"):  # whole batches come here, samples without a trial among them
            fitted = length * (length * before / (phi - before + 2.0 * length * before))
        clipped: np.ndarray = np.clip(fitted, self.shortest * length, self.longest * length)
        return clipped
