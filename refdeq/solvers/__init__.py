"""Solvers: frozen configurations that turn ``z`` and ``f(z)`` into the next argument. The loop is elsewhere, once."""

from refdeq.solvers.base import Solver, Split, SplittingSolver
from refdeq.solvers.krasnoselskii_mann import KrasnoselskiiMann
from refdeq.solvers.picard import Picard

__all__ = ["KrasnoselskiiMann", "Picard", "Solver", "Split", "SplittingSolver"]
