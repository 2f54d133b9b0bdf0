"""Steps of solvers, judged from the run's own arguments and values (S-6, S-7, S-8).

A stepper sees every evaluation of a run once, in order, and compares the argument of the next one with what its solver may make
of what came before. States are rows here: one per sample, in declared order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.mixing import Mixing
from refdeq_validation.judge.secant import Secants
from refdeq_validation.judge.verdicts import Failure

__all__ = ["Damped", "Frame", "Stepper", "stepper"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Frame:
    """One evaluation of a run, for its samples that took part.

    Attributes
    ----------
    t : int
    rows : (R,) int
        Which samples those are.
    z, f : (R, N) arrays
    going : (R,) bool
        Samples that make another evaluation.
    following : (R, N) array
        Their next argument; not read for the others.
    asking : (R,) bool
        Samples that the stop rule did not end: the solver made, or could not make, a step for them.
    """

    t: int
    rows: Array
    z: Array
    f: Array
    going: Array
    following: Array
    asking: Array


class Stepper(Protocol):
    """Judges the steps of one run."""

    def judge(self, frame: Frame, compare: Comparer) -> tuple[Array, Array]:
        """Compare the next arguments; for each row, whether BREAKDOWN is possible, and whether it is certain."""


@dataclass(frozen=True)
class Damped:
    """Picard and Krasnoselskii-Mann (S-6): bits."""

    alpha: float = 1.0

    def judge(self, frame: Frame, compare: Comparer) -> tuple[Array, Array]:
        """Compare bits; these solvers never break down."""
        old, new = frame.z[frame.going], frame.f[frame.going]
        if self.alpha != 1.0:
            scalar = new.dtype.type
            new = np.add(np.multiply(scalar(1.0 - self.alpha), old), np.multiply(scalar(self.alpha), new))
        compare.bits("state", frame.t + 1, "z", new, frame.following[frame.going])
        never = np.zeros(len(frame.rows), bool)
        return never, never


class _Unknown:
    """A solver whose steps nothing here can judge: said once, as a failure."""

    def __init__(self, name: str) -> None:
        self.name = name

    def judge(self, frame: Frame, compare: Comparer) -> tuple[Array, Array]:
        compare.findings.add(Failure("structure", frame.t, "solver", (), "one that the judge knows", self.name))
        never = np.zeros(len(frame.rows), bool)
        return never, never


def stepper(solver: Mapping[str, Any], batch: int, size: int, dtype: Any) -> Stepper:
    """The judge of the steps of a solver.

    Parameters
    ----------
    solver : mapping
        ``name`` and options, as :attr:`refdeq_validation.protocol.problem.Problem.solver` has them.
    batch, size : int
        Samples, and elements of all states of one.
    dtype : dtype of the states
    """
    options = {key: value for key, value in solver.items() if key != "name"}
    name = solver["name"]
    if options.get("coupled"):
        return _Unknown(f"{name}, coupled")
    if name in ("picard", "krasnoselskii-mann"):
        return Damped(float(options.get("alpha", 1.0)))
    if name == "anderson":
        return Mixing(options, batch, size, dtype)
    if name == "broyden":
        return Secants(options, batch, size, dtype)
    return _Unknown(str(name))
