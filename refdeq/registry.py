"""Backends: what one must offer, and how they are found. Nothing is imported before it is asked for, nothing falls back.

Backends are discovered through the entry-point group ``refdeq.backends``; each entry is a function without arguments that
returns a :class:`Backend`. Listing the names imports no backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from refdeq.errors import BackendUnavailableError, RefdeqError
from refdeq.kernels import GateSpec, Kernels
from refdeq.types import StopRule, Trace

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from refdeq.graph import Graph
    from refdeq.solvers import Solver

__all__ = [
    "LARGEST_BUDGET",
    "Backend",
    "BackendInfo",
    "Executor",
    "FusedResult",
    "Plan",
    "PlanRequest",
    "Refusal",
    "backend_names",
    "countable",
    "load_backend",
]

GROUP = "refdeq.backends"

LARGEST_BUDGET = 2**62
"""Evaluations that no solve ever makes, at one per nanosecond in 146 years; counters of 64 bits hold them, and some more."""


@dataclass(frozen=True)
class BackendInfo:
    """What a backend declares; every claim is tested by ``refdeq validate``.

    Attributes
    ----------
    name, summary : str
    orders : tuple of str
        ``"strict"`` (N-6: bit-identical to the reference) and/or ``"fast"`` (N-7: within the bound).
    dtypes : tuple of str
    determinism : str
        Level R0 to R5 of the determinism ladder.
    inactive_columns : {"skip", "read"}
        D-7: whether weights of inactive columns are read.
    activation, fast_activation : {"strict", "native"}
        N-8, in strict and in fast order.
    activation_ulp : float
        Largest error of native activations, in units in the last place.
    fused : bool
        Whether there are fused plans.
    simulated : bool
        Whether the kernels of a device run on something else here, such as the CPU: what is granted is granted to that.
    multiply, rounding : str
        Arithmetic of sums in fast order where it is not that of the dtype (docs/bounds.md, sections 3 and 4): the format of
        operands, such as ``"bfloat16x3"``, and ``"truncate"`` where additions need not round to nearest.
    """

    name: str
    summary: str
    orders: tuple[str, ...]
    dtypes: tuple[str, ...]
    determinism: str
    inactive_columns: str
    activation: str
    fused: bool = False
    fast_activation: str = "strict"
    activation_ulp: float = 0.0
    multiply: str = "same"
    rounding: str = "nearest"
    simulated: bool = False

    def activation_in(self, order: str) -> str:
        """What activations are in an order (N-8).

        >>> load_backend("reference").info.activation_in("strict")
        'strict'
        """
        return self.fast_activation if order == "fast" else self.activation


@dataclass(frozen=True)
class Refusal:
    """Why a backend has no fused plan for a request; it is not an error, the solve runs at op level."""

    reason: str


def countable(stop: StopRule) -> StopRule:
    """The same rule in numbers that compiled code can count to (S-3): every solve that ends takes the same decisions by it.

    A larger budget is :data:`LARGEST_BUDGET`, and a window that the budget ends before is left out, since the stagnation test
    begins with the evaluation after the first `w`.

    >>> countable(StopRule(max_eval=2**70, stagnation=(2**80, 0.9))) == StopRule(max_eval=LARGEST_BUDGET)
    True
    """
    max_eval = min(int(stop.max_eval), LARGEST_BUDGET)
    is_reached = stop.stagnation is not None and stop.stagnation[0] < max_eval
    return replace(stop, max_eval=max_eval, stagnation=stop.stagnation if is_reached else None)


@dataclass(frozen=True)
class PlanRequest:
    """What a fused plan would have to do.

    Attributes
    ----------
    graph : Graph
    solver : Solver
    gates : dict of linear node name to GateSpec, empty without a delta rule
    start, bias : str
    refresh : int
        Fits into 64 bits.
    returned : {"last", "lowest"}
    order : {"strict", "fast"}
    stop : StopRule
        The rule of the solve, with numbers of 64 bits (:func:`countable`), for plans that count in fewer or
        keep a window of residuals.
    """

    graph: Graph
    solver: Solver
    gates: Mapping[str, GateSpec]
    start: str
    bias: str
    refresh: int
    returned: str
    order: str
    stop: StopRule = field(default_factory=StopRule)


@dataclass
class FusedResult:
    """What one fused run returns: host arrays, per sample where it has a batch axis.

    ``z`` is the argument of the last evaluation (S-4). ``r``, ``mask``, ``a`` and ``count`` are the delta memory after it,
    keyed as in :class:`refdeq.delta.DeltaMemory`; they are empty without a rule. ``sent`` (per gate), ``nonzero`` (per gate)
    and ``macs`` (per linear node) are int64 counters of shape (B,). ``note`` says which kernels did the work, for people.
    """

    z: dict[str, np.ndarray]
    status: np.ndarray
    n_eval: np.ndarray
    residual: np.ndarray
    scale: np.ndarray
    r: dict[str, np.ndarray]
    mask: dict[str, np.ndarray]
    a: dict[str, np.ndarray]
    count: np.ndarray
    sent: dict[str, np.ndarray]
    nonzero: dict[str, np.ndarray]
    macs: dict[str, np.ndarray]
    note: str = ""


class Executor(Protocol):
    """A plan bound to parameter values."""

    def run(
        self,
        z0: Mapping[str, np.ndarray],
        hoisted: Mapping[str, np.ndarray],
        memory: Any,
        stop: StopRule,
        trace: Trace | None,
    ) -> FusedResult:
        """Solve every sample; `memory` is a :class:`refdeq.delta.DeltaMemory` to go on from, or None.

        `trace` has buffers for ``stop.max_eval`` evaluations of every sample, filled in place; the numbers of `stop` fit into
        64 bits (:func:`countable`).
        """


class Plan(Protocol):
    """A whole solve in one compiled routine for one graph, solver and rule."""

    @property
    def name(self) -> str:
        """Short name for ``Solution.executor``."""

    def bind(self, parameters: Mapping[str, np.ndarray], *, threads: int) -> Executor:
        """Prepare weights once; the executor may be run many times."""


class Backend(Protocol):
    """A backend: op-level kernels for everything, fused plans where it has them."""

    info: BackendInfo

    def unavailable(self) -> tuple[str, str] | None:
        """Return None when it can run here, else (reason, hint)."""

    def kernels(self, *, order: str, threads: int) -> Kernels:
        """Return op-level primitives."""

    def plan(self, request: PlanRequest) -> Plan | Refusal:
        """Return a fused plan, or say why there is none."""

    def describe(self) -> dict[str, str]:
        """Return versions, devices, threads: facts for ``refdeq info``."""


def _entries() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # a tenth of the time that importing refdeq would take

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def backend_names() -> tuple[str, ...]:
    """Names of all registered backends, the reference first; nothing is imported.

    >>> backend_names()[0]
    'reference'
    """
    return tuple(sorted({"reference", *_entries()}, key=lambda name: (name != "reference", name)))


def load_backend(name: str) -> Backend:
    """Import a backend and check that it can run.

    Raises
    ------
    BackendUnavailableError
        The name is unknown, its package cannot be imported, or it says that it cannot run here.

    Examples
    --------
    >>> load_backend("reference").info.orders
    ('strict',)
    """
    if name == "reference":
        from refdeq.reference import ReferenceBackend

        return ReferenceBackend()
    entry = _entries().get(name)
    if entry is None:
        raise BackendUnavailableError(name, "no such backend is installed", f"known: {', '.join(backend_names())}")
    try:
        backend: Backend = entry.load()()
        problem = backend.unavailable()
    except RefdeqError:
        raise
    except Exception as error:
        raise BackendUnavailableError(
            name, f"{type(error).__name__}: {error}", f"check the package behind {entry.value}"
        ) from error
    if problem is not None:
        raise BackendUnavailableError(name, *problem)
    return backend
