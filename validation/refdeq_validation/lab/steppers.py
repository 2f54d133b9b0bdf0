"""Steps of the solvers, one sample at a time: what a sample's next argument is, from its argument and value (S-6 to S-8)."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from refdeq_validation.lab.anderson import AndersonStep
from refdeq_validation.lab.broyden import BroydenStep
from refdeq_validation.lab.formats import store
from refdeq_validation.protocol.problem import Problem

__all__ = ["Stepper", "make_stepper"]

Array = np.ndarray[Any, Any]


class Stepper(Protocol):
    """A solver working on one sample."""

    def step(self, z: Array, f: Array) -> Array | None:
        """Next argument, or None at a breakdown (S-3)."""


class PicardStep:
    """``z <- f(z)`` (S-6)."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def step(self, z: Array, f: Array) -> Array | None:
        """Take the value."""
        return f.copy()


class DampedStep:
    """Krasnoselskii-Mann: ``z <- fl(fl(beta z) + fl(alpha f))`` (S-6)."""

    def __init__(self, problem: Problem, alpha: float = 0.9) -> None:
        self.problem = problem
        self.alpha = store(problem, np.asarray(alpha))
        self.beta = store(problem, np.asarray(1.0 - alpha))
        self.plain = alpha == 1.0

    def step(self, z: Array, f: Array) -> Array | None:
        """Blend argument and value; alpha = 1 is Picard exactly."""
        if self.plain:
            return f.copy()
        kept, taken = store(self.problem, self.beta * z), store(self.problem, self.alpha * f)
        return store(self.problem, kept + taken)


STEPPERS: dict[str, Any] = {
    "picard": PicardStep,
    "krasnoselskii-mann": DampedStep,
    "anderson": AndersonStep,
    "broyden": BroydenStep,
}


def make_stepper(problem: Problem) -> Stepper:
    """A fresh stepper for one sample."""
    options = dict(problem.solver)
    name = options.pop("name")
    if name not in STEPPERS:
        raise NotImplementedError(f"solver {name!r} is not offered")
    stepper: Stepper = STEPPERS[name](problem, **options)
    return stepper
