"""Solvers: frozen configurations that turn ``z`` and ``f(z)`` into the next argument. The loop is elsewhere, once."""

from refdeq.solvers.anderson import Anderson
from refdeq.solvers.armijo import ArmijoLineSearch
from refdeq.solvers.base import Solver, Split, SplittingSolver
from refdeq.solvers.broyden import Broyden
from refdeq.solvers.dialects import Dialect, as_dialect, dialect
from refdeq.solvers.forward_backward import ForwardBackward, forward_backward_limit
from refdeq.solvers.krasnoselskii_mann import KrasnoselskiiMann
from refdeq.solvers.peaceman_rachford import PeacemanRachford, peaceman_rachford_alpha
from refdeq.solvers.peer_report import DialectReport
from refdeq.solvers.picard import Picard
from refdeq.solvers.splitting import monotone_constants

__all__ = [
    "Anderson",
    "ArmijoLineSearch",
    "Broyden",
    "Dialect",
    "DialectReport",
    "ForwardBackward",
    "KrasnoselskiiMann",
    "PeacemanRachford",
    "Picard",
    "Solver",
    "Split",
    "SplittingSolver",
    "as_dialect",
    "dialect",
    "forward_backward_limit",
    "monotone_constants",
    "peaceman_rachford_alpha",
]
