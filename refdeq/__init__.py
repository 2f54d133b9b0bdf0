"""refdeq: the executable specification of DeltaDEQ and of deep-equilibrium solvers.

The usual entry points are :func:`solve`, :func:`gradient`, :class:`DeltaRule`, :class:`StopRule` and
:mod:`refdeq.models`. Importing this package imports NumPy and SciPy only.
"""

from refdeq import models
from refdeq.api import gradient, solve
from refdeq.graph import Cell, Graph, GraphBuilder
from refdeq.io import load_cell, save_cell
from refdeq.registry import backend_names, load_backend
from refdeq.solution import Solution
from refdeq.solvers import KrasnoselskiiMann, Picard
from refdeq.types import DeltaRule, GateOverride, OpCount, Status, StopRule, Trace

__version__ = "0.1.0.dev0"

__all__ = [
    "Cell",
    "DeltaRule",
    "GateOverride",
    "Graph",
    "GraphBuilder",
    "KrasnoselskiiMann",
    "OpCount",
    "Picard",
    "Solution",
    "Status",
    "StopRule",
    "Trace",
    "__version__",
    "backend_names",
    "gradient",
    "load_backend",
    "load_cell",
    "models",
    "save_cell",
    "solve",
]
