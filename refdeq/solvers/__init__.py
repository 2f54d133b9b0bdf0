"""Solvers: frozen configurations that turn ``z`` and ``f(z)`` into the next argument. The loop is elsewhere, once."""

from refdeq.solvers.base import Solver, Split, SplittingSolver
from refdeq.solvers.forward_backward import ForwardBackward, forward_backward_limit
from refdeq.solvers.krasnoselskii_mann import KrasnoselskiiMann
from refdeq.solvers.peaceman_rachford import PeacemanRachford, peaceman_rachford_alpha
from refdeq.solvers.picard import Picard
from refdeq.solvers.splitting import monotone_constants

__all__ = [
    "ForwardBackward",
    "KrasnoselskiiMann",
    "PeacemanRachford",
    "Picard",
    "Solver",
    "Split",
    "SplittingSolver",
    "forward_backward_limit",
    "monotone_constants",
    "peaceman_rachford_alpha",
]
