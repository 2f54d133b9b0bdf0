"""The tables of the two general libraries, jaxopt and SciPy: both take the whole batch for one vector (S-9)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from refdeq.checks import check_choice, check_integer, check_number
from refdeq.solvers.base import Solver
from refdeq.solvers.peer_broyden import PeerBroyden
from refdeq.solvers.peer_differences import PeerDifferences
from refdeq.solvers.peer_mixing import PeerMixing
from refdeq.solvers.peer_rules import PeerRules, SciPyTermination
from refdeq.solvers.peer_search import PeerSearch
from refdeq.solvers.picard import Picard

__all__ = [
    "jaxopt_anderson",
    "jaxopt_broyden",
    "jaxopt_fixed_point",
    "scipy_anderson",
    "scipy_broyden1",
    "scipy_broyden2",
    "scipy_common",
]

LARGEST = float(np.finfo(np.float64).max)


def jaxopt_anderson(
    max_iter: int = 100,
    tol: float = 1e-5,
    history_size: int = 5,
    beta: float = 1.0,
    ridge: float = 1e-5,
    mixing_frequency: int = 1,
) -> tuple[Solver, PeerRules]:
    """``AndersonAcceleration``: as many Picard steps as the window holds before the first mixing."""
    check_integer("history_size", history_size, low=2)
    check_integer("mixing_frequency", mixing_frequency, low=1)
    check_number("beta", beta, "a finite number > 0", low=0.0, open_low=True, high=LARGEST)
    check_number("ridge", ridge, "a number >= 0", low=0.0)
    solver = PeerMixing(
        label="jaxopt/anderson",
        window=history_size,
        ridge=float(ridge),
        mixing=float(beta),
        first_mix=history_size,
        every=mixing_frequency,
        coupled=True,
    )
    return solver, _jaxopt_fixed(max_iter, tol)


def jaxopt_fixed_point(max_iter: int = 100, tol: float = 1e-5) -> tuple[Solver, PeerRules]:
    """``FixedPointIteration``."""
    return Picard(), _jaxopt_fixed(max_iter, tol)


def _jaxopt_fixed(max_iter: int, tol: float) -> PeerRules:
    check_integer("max_iter", max_iter, low=1)
    check_number("tol", tol, "a number >= 0", low=0.0)
    return PeerRules(
        pool="norm",
        tol=tol,
        mode="abs",
        compare="<=",
        max_steps=max_iter - 1,
        returned="last",
        value="f",
        lowest_start=np.inf,
        counts="made",
        offset=1,
    )


def jaxopt_broyden(
    max_iter: int = 500,
    tol: float = 1e-3,
    history_size: int | None = None,
    gamma: float = 1.0,
    stepsize: float = 1.0,
) -> tuple[Solver, PeerRules]:
    """``Broyden`` of ``z - f(z)`` (of ``f(z) - z`` it needs gamma of the other sign), with a given stepsize.

    jaxopt's default ``stepsize=0`` is a line search by Wolfe's condition, which needs derivatives of f.
    """
    check_integer("max_iter", max_iter, low=1)
    check_number("tol", tol, "a number >= 0", low=0.0)
    if history_size is not None:
        check_integer("history_size", history_size, low=1)
    check_number("gamma", gamma, "a finite number", low=-LARGEST, high=LARGEST)
    check_number("stepsize", stepsize, "a number > 0 (0, jaxopt's line search, needs derivatives)", low=0.0, open_low=True)
    rules = PeerRules(
        pool="norm",
        tol=tol,
        mode="abs",
        compare="<=",
        max_steps=max_iter,
        first_tested=1,
        returned="last",
        lowest_start=np.inf,
        first_recorded=1,
        counts="made",
    )
    solver = PeerBroyden(
        label="jaxopt/broyden",
        window=history_size,
        alpha=float(gamma),
        stepsize=float(stepsize),
        zero="break",
        coupled=True,
    )
    return solver, rules


# ------------------------------------------------------------------------------------------------------------------- SciPy


def scipy_broyden1(
    max_rank: int | None = None, reduction_method: Literal["restart", "simple"] = "restart", **common: Any
) -> tuple[Solver, PeerRules]:
    """``scipy.optimize.broyden1``."""
    return _scipy_broyden("broyden1", max_rank, reduction_method, **common)


def scipy_broyden2(
    max_rank: int | None = None, reduction_method: Literal["restart", "simple"] = "restart", **common: Any
) -> tuple[Solver, PeerRules]:
    """``scipy.optimize.broyden2``."""
    return _scipy_broyden("broyden2", max_rank, reduction_method, **common)


def _scipy_broyden(method: str, max_rank: int | None, reduction: str, **common: Any) -> tuple[Solver, PeerRules]:
    if max_rank is not None:
        check_integer("max_rank", max_rank, low=2)
    check_choice("reduction_method", reduction, ("restart", "simple"))
    first, rules = scipy_common(**common)
    solver = PeerBroyden(
        label=f"scipy/{method}",
        method="good" if method == "broyden1" else "bad",
        window=max_rank,
        reduction="oldest" if reduction == "simple" else "restart",
        zero="reset",
        **first,
    )
    return solver, rules


def scipy_anderson(M: int = 5, w0: float = 0.01, **common: Any) -> tuple[Solver, PeerRules]:
    """``scipy.optimize.anderson``."""
    check_integer("M", M, low=0)
    check_number("w0", w0, "a finite number", low=-LARGEST, high=LARGEST)
    first, rules = scipy_common(**common)
    return PeerDifferences(label="scipy/anderson", window=M, w0=float(w0), **first), rules


def scipy_common(
    max_iter: int | None = None,
    tol: float | None = None,
    f_rtol: float | None = None,
    x_tol: float | None = None,
    x_rtol: float | None = None,
    iter: int | None = None,
    alpha: float | None = None,
    line_search: Literal["armijo"] | None = "armijo",
) -> tuple[dict[str, Any], PeerRules]:
    """What SciPy's three methods share: arguments of the solver, and the rules; `tol` is SciPy's ``f_tol``."""
    for name, value in (("max_iter", max_iter), ("iter", iter)):
        if value is not None:
            check_integer(name, value, low=1)
    for name, number in (("tol", tol), ("f_rtol", f_rtol), ("x_tol", x_tol), ("x_rtol", x_rtol)):
        if number is not None:
            check_number(name, number, "None or a number > 0", low=0.0, open_low=True)
    if alpha is not None:
        check_number("alpha", alpha, "None or a finite number", low=-LARGEST, high=LARGEST)
    check_choice("line_search", line_search, (None, "armijo"))
    search = PeerSearch(tests_parabola=True) if line_search == "armijo" else None
    limits = [limit for limit in (iter, max_iter) if limit is not None]
    rules = PeerRules(
        pool="norm",
        tol=float(np.finfo(np.float64).eps ** (1.0 / 3.0)) if tol is None else tol,
        mode="abs",
        compare="<=",
        max_steps=min(limits) if limits else None,
        tests_last=iter is not None and (max_iter is None or max_iter > iter),
        termination=SciPyTermination(
            f_rtol=np.inf if f_rtol is None else float(f_rtol),
            x_tol=np.inf if x_tol is None else float(x_tol),
            x_rtol=np.inf if x_rtol is None else float(x_rtol),
            iterations=iter,
        ),
        returned="last",
        lowest_start=np.inf,
        search=search,
        first_recorded=1,
        counts="tests",
    )
    return {"alpha": None if alpha is None else float(alpha), "search": search, "coupled": True}, rules
