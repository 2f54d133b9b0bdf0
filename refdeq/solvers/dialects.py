"""Dialects: how other codes solve, decide, count and report, to the last detail that their numbers show (S-9)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refdeq.errors import ArgumentError
from refdeq.kernels import Array, Kernels
from refdeq.solvers.base import Solver
from refdeq.solvers.dialect_libraries import scipy_common
from refdeq.solvers.dialect_tables import TABLES, Table
from refdeq.solvers.peer_criterion import PeerCriterion
from refdeq.solvers.peer_rules import PeerRules
from refdeq.types import StopRule

__all__ = ["Dialect", "as_dialect", "dialect", "dialect_options"]

SYNONYMS = {
    "threshold": "max_iter",
    "maxiter": "max_iter",
    "iter": "max_iter",
    "eps": "tol",
    "f_tol": "tol",
    "stop_mode": "mode",
    "f_alpha": "alpha",
}
"""Names that the peers have for what all dialects share, where the tables have no option of that name (SciPy's ``iter``)."""


@dataclass(frozen=True)
class Dialect:
    """A peer's way to solve: its solver and the table of what it overrides of S-1 to S-4 (S-9).

    Made by :func:`dialect`, used as ``solve(..., dialect=...)``.

    Attributes
    ----------
    name, method : str
    options : tuple of (str, value)
        Every option, the peer's defaults included.
    solver : Solver
        The peer's step, in the place of S-6 to S-8.
    rules : PeerRules
        The rest of the table.
    """

    name: str
    method: str
    options: tuple[tuple[str, Any], ...]
    solver: Solver
    rules: PeerRules

    @property
    def label(self) -> str:
        """``name/method``."""
        return f"{self.name}/{self.method}"

    @property
    def stop(self) -> StopRule:
        """The peer's tolerance and budget in the words of S-3, as far as they go; for later verification, not for the loop."""
        rules = self.rules
        tolerance = {"rtol" if rules.mode == "rel" else "atol": rules.tol}
        budget = 100 if rules.max_steps is None else rules.max_steps + 1
        return StopRule(max_eval=budget, eps=rules.eps if rules.eps > 0.0 else 1e-9, **tolerance)  # type: ignore[arg-type]

    def criterion(self, kernels: Kernels, z: Mapping[str, Array]) -> PeerCriterion:
        """Who decides in one solve from `z`."""
        return PeerCriterion(self.rules, kernels, z)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options)
        return f"Dialect({self.label}: {options})"


def dialect(name: str, method: str | None = None, **options: Any) -> Dialect:
    """Name a peer, one of its methods, and options under the peer's own names (S-9).

    Parameters
    ----------
    name : {"locuslab-v1", "locuslab-v2", "torchdeq", "deq-flow", "jaxopt", "scipy", "hopdeq", "srs"}
    method : str, optional
        The peer's first when not given.
    **options
        ``max_iter``, ``tol`` and ``mode`` ("abs" or "rel") for what the peers call ``threshold`` or ``maxiter``, ``eps`` or
        ``f_tol``, and ``stop_mode`` (these names are understood too); everything else under the peer's own name. Defaults are
        the peer's.

    Returns
    -------
    Dialect

    Raises
    ------
    ArgumentError
        Unknown dialect, method or option, or a value that the peer could not use.

    Examples
    --------
    >>> dialect("torchdeq", "anderson", max_iter=12)
    Dialect(torchdeq/anderson: max_iter=12, tol=0.001, mode='abs', m=6, lam=0.0001, tau=1.0, return_final=False)
    >>> dialect("torchdeq", "anderson", memory=3)
    Traceback (most recent call last):
    ...
    refdeq.errors.ArgumentError: memory: expected one of max_iter, tol, mode, m, lam, tau, return_final, got 3
    """
    if name not in TABLES:
        raise ArgumentError("dialect", expected=f"one of {', '.join(TABLES)}", got=repr(name))
    methods = TABLES[name]
    method = next(iter(methods)) if method is None else method
    if method not in methods:
        raise ArgumentError(f"method of {name}", expected=f"one of {', '.join(methods)}", got=repr(method))
    defaults = dialect_options(name, method)
    given = _common(options, defaults)
    solver, rules = methods[method](**given)
    return Dialect(name, method, tuple({**defaults, **given}.items()), solver, rules)


def dialect_options(name: str, method: str) -> dict[str, Any]:
    """Options of a dialect's method, with the peer's defaults.

    >>> dialect_options("hopdeq", "anderson")
    {'max_iter': 40, 'm': 4}
    """
    return {key: value.default for key, value in _parameters(TABLES[name][method]).items()}


def _parameters(table: Table) -> dict[str, inspect.Parameter]:
    """Keyword parameters of a table; SciPy's methods share most of theirs."""
    own = dict(inspect.signature(table).parameters)
    if own.pop("common", None) is not None:
        own = {**inspect.signature(scipy_common).parameters, **own}
    return own


def _common(options: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Options under the names of the tables."""
    given: dict[str, Any] = {}
    for name, value in options.items():
        common = name if name in known else SYNONYMS.get(name, name)
        if common not in known:
            raise ArgumentError(name, expected=f"one of {', '.join(known)}", got=repr(value))
        if common in given:
            raise ArgumentError(name, hint=f"another name of {common}, which is given too")
        given[common] = value
    return given


def as_dialect(given: Any) -> Dialect:
    """Take a dialect as it is, or one by ``name`` or ``name/method`` with the peer's defaults.

    >>> as_dialect("deq-flow/km").solver
    KrasnoselskiiMann(alpha=0.9)
    """
    if isinstance(given, Dialect):
        return given
    if not isinstance(given, str):
        raise ArgumentError("dialect", expected="a Dialect or 'name/method'", got=type(given).__name__)
    name, slash, method = given.partition("/")
    return dialect(name, method if slash else None)
