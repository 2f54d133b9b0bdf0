"""refdeq: the executable specification of DeltaDEQ and of deep-equilibrium solvers.

The usual entry points are :func:`solve`, :func:`gradient`, :class:`DeltaRule`, :class:`StopRule` and
:mod:`refdeq.models`. Importing this package imports NumPy and SciPy only.
"""

from refdeq import analyze, models
from refdeq.api import solve
from refdeq.gradients.differentiate import gradient
from refdeq.gradients.ift import Ift
from refdeq.gradients.products import jvp, vjp
from refdeq.gradients.regularisation import JacobianPenalty, jacobian_penalty
from refdeq.gradients.result import Gradient
from refdeq.gradients.series import Jfb, Neumann
from refdeq.gradients.unrolled import Phantom, Unrolled
from refdeq.graph import Cell, Graph, GraphBuilder
from refdeq.io import load_cell, load_trace, save_cell, save_trace
from refdeq.registry import backend_names, load_backend
from refdeq.solution import Solution
from refdeq.solvers import (
    Anderson,
    ArmijoLineSearch,
    Broyden,
    Dialect,
    DialectReport,
    ForwardBackward,
    KrasnoselskiiMann,
    PeacemanRachford,
    Picard,
    dialect,
)
from refdeq.types import DeltaRule, GateOverride, OpCount, Status, StopRule, Trace

__version__ = "0.1.0.dev0"

__all__ = [
    "Anderson",
    "ArmijoLineSearch",
    "Broyden",
    "Cell",
    "DeltaRule",
    "Dialect",
    "DialectReport",
    "ForwardBackward",
    "GateOverride",
    "Gradient",
    "Graph",
    "GraphBuilder",
    "Ift",
    "JacobianPenalty",
    "Jfb",
    "KrasnoselskiiMann",
    "Neumann",
    "OpCount",
    "PeacemanRachford",
    "Phantom",
    "Picard",
    "Solution",
    "Status",
    "StopRule",
    "Trace",
    "Unrolled",
    "__version__",
    "analyze",
    "backend_names",
    "dialect",
    "gradient",
    "jacobian_penalty",
    "jvp",
    "load_backend",
    "load_cell",
    "load_trace",
    "models",
    "save_cell",
    "save_trace",
    "solve",
    "vjp",
]
