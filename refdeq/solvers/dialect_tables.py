"""The tables of the dialects: for every peer and method its solver and its rules, as the published code has them (S-9).

Keyword names are the peers' own but for three that all share: ``max_iter``, ``tol`` and ``mode`` (see ``dialects.py``).
Defaults are the peers'; where a peer has none, that of its callers. Sources are named in ``docs/dialects.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from refdeq.checks import check_choice, check_integer, check_number
from refdeq.errors import ArgumentError
from refdeq.solvers import dialect_libraries as libraries
from refdeq.solvers.base import Solver
from refdeq.solvers.krasnoselskii_mann import KrasnoselskiiMann
from refdeq.solvers.peer_broyden import PeerBroyden
from refdeq.solvers.peer_mixing import PeerMixing
from refdeq.solvers.peer_rules import PeerRules
from refdeq.solvers.peer_search import PeerSearch
from refdeq.solvers.picard import Picard

__all__ = ["TABLES", "Table"]

Table = Callable[..., tuple[Solver, PeerRules]]
Mode = Literal["abs", "rel"]
HEAD = 1e8
"""Residual that the DEQ codes begin with."""
SEARCH = PeerSearch(tests_parabola=False)


def _checked(max_iter: int, tol: float | None, mode: str = "rel", least: int = 1) -> None:
    check_integer("max_iter", max_iter, low=least)
    check_choice("mode", mode, ("abs", "rel"))
    if tol is not None:
        check_number("tol", tol, "a number >= 0", low=0.0)


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ArgumentError(name, expected="True or False", got=repr(value))


# ------------------------------------------------------------------------------------------------------------ locuslab/deq


def locuslab_v1_broyden(max_iter: int = 30, tol: float | None = None, ls: bool = False) -> tuple[Solver, PeerRules]:
    """``broyden`` of 2019/20, on ``g``; `tol` None is the forward pass's ``1e-6 sqrt(B N)``."""
    _checked(max_iter, tol)
    _flag("ls", ls)
    rules = PeerRules(
        pool="norm",
        tol=tol,
        mode="abs",
        max_steps=max_iter,
        stagnation="steps",
        protective=1e5,
        lowest_start=np.inf,
        aliases_start=True,
        search=SEARCH if ls else None,
        counts="made",
    )
    return PeerBroyden(label="locuslab-v1/broyden", search=rules.search), rules


def locuslab_v2_broyden(
    max_iter: int = 30, tol: float = 1e-3, mode: Mode = "rel", ls: bool = False
) -> tuple[Solver, PeerRules]:
    """``broyden`` of 2021."""
    _checked(max_iter, tol, mode)
    _flag("ls", ls)
    rules = PeerRules(
        pool="norm",
        tol=tol,
        mode=mode,
        eps=1e-9,
        max_steps=max_iter,
        first_tested=1,
        stagnation="steps",
        protective=1e6 if mode == "abs" else 1e3,
        search=SEARCH if ls else None,
        first_recorded=1,
        length=max_iter + 1,
    )
    return PeerBroyden(label="locuslab-v2/broyden", search=rules.search), rules


def locuslab_v2_anderson(
    max_iter: int = 50, tol: float = 1e-3, mode: Mode = "rel", m: int = 6, lam: float = 1e-4, beta: float = 1.0
) -> tuple[Solver, PeerRules]:
    """``anderson`` of 2021."""
    solver = _torch_mixing("locuslab-v2/anderson", max_iter, tol, mode, m, lam, "beta", beta)
    rules = PeerRules(
        pool="norm",
        tol=tol,
        mode=mode,
        eps=1e-5,
        max_steps=max_iter - 1,
        first_tested=2,
        first_recorded=2,
        length=max_iter - 2,
    )
    return solver, rules


def _torch_mixing(label: str, max_iter: int, tol: float, mode: str, m: int, lam: float, name: str, mixing: float) -> PeerMixing:
    _checked(max_iter, tol, mode, least=3)
    check_integer("m", m, low=2)
    check_number("lam", lam, "a number >= 0", low=0.0)
    check_number(name, mixing, "a finite number > 0", low=0.0, open_low=True, high=np.finfo(float).max)
    return PeerMixing(label=label, window=m, ridge=float(lam), mixing=float(mixing))


# ---------------------------------------------------------------------------------------------------- torchdeq and deq-flow


def torchdeq_broyden(
    max_iter: int = 50,
    tol: float = 1e-3,
    mode: Mode = "abs",
    LBFGS_thres: int | None = None,
    ls: bool = False,
    return_final: bool = False,
) -> tuple[Solver, PeerRules]:
    """``broyden_solver``."""
    _flag("return_final", return_final)
    solver, rules = _flat_broyden("torchdeq/broyden", max_iter, tol, mode, LBFGS_thres, ls, 1e-9)
    return solver, _final(rules) if return_final else rules


def torchdeq_anderson(
    max_iter: int = 50,
    tol: float = 1e-3,
    mode: Mode = "abs",
    m: int = 6,
    lam: float = 1e-4,
    tau: float = 1.0,
    return_final: bool = False,
) -> tuple[Solver, PeerRules]:
    """``anderson_solver``."""
    _flag("return_final", return_final)
    solver = _torch_mixing("torchdeq/anderson", max_iter, tol, mode, m, lam, "tau", tau)
    rules = _flat_anderson(max_iter, tol, mode, 1e-9)
    return solver, _final(rules) if return_final else rules


def torchdeq_fixed_point_iter(
    max_iter: int = 50, tol: float = 1e-3, mode: Mode = "abs", tau: float = 1.0, return_final: bool = False
) -> tuple[Solver, PeerRules]:
    """``fixed_point_iter``."""
    _checked(max_iter, tol, mode)
    _flag("return_final", return_final)
    _damping("tau", tau)
    rules = _flat_picard(max_iter, tol, mode, tau, 1e-9)
    return KrasnoselskiiMann(alpha=tau), _final(rules) if return_final else rules


def deq_flow_broyden(
    max_iter: int = 50,
    tol: float = 1e-3,
    mode: Mode = "rel",
    LBFGS_thres: int | None = None,
    ls: bool = False,
) -> tuple[Solver, PeerRules]:
    """``broyden`` of deq-flow 2.0 and of DeltaDEQ."""
    solver, rules = _flat_broyden("deq-flow/broyden", max_iter, tol, mode, LBFGS_thres, ls, 1e-8)
    return solver, _steps_first(rules)


def deq_flow_anderson(
    max_iter: int = 50, tol: float = 1e-3, mode: Mode = "rel", m: int = 6, lam: float = 1e-4, beta: float = 1.0
) -> tuple[Solver, PeerRules]:
    """``anderson`` of deq-flow 2.0 and of DeltaDEQ."""
    solver = _torch_mixing("deq-flow/anderson", max_iter, tol, mode, m, lam, "beta", beta)
    return solver, _steps_first(_flat_anderson(max_iter, tol, mode, 1e-8))


def deq_flow_km(max_iter: int = 50, tol: float = 1e-3, mode: Mode = "rel", alpha: float = 0.9) -> tuple[Solver, PeerRules]:
    """``km_solver`` of DeltaDEQ with ``return_final=True``, its only working setting; `alpha` is its ``f_alpha``."""
    _checked(max_iter, tol, mode)
    _damping("alpha", alpha)
    rules = _flat_picard(max_iter, tol, mode, alpha, 1e-8)
    return KrasnoselskiiMann(alpha=alpha), _steps_first(rules, returned="last", latest_is_lowest=True)


def _flat_broyden(
    label: str, max_iter: int, tol: float, mode: Mode, window: int | None, ls: bool, eps: float
) -> tuple[Solver, PeerRules]:
    _checked(max_iter, tol, mode)
    _flag("ls", ls)
    if window is not None:
        check_integer("LBFGS_thres", window, low=1)
    rules = PeerRules(
        tol=tol,
        mode=mode,
        eps=eps,
        max_steps=max_iter,
        first_tested=1,
        stagnation="samples",
        search=SEARCH if ls else None,
        first_recorded=1,
        head=HEAD,
        length=max_iter + 1,
    )
    return PeerBroyden(label=label, window=window, search=rules.search), rules


def _flat_anderson(max_iter: int, tol: float, mode: Mode, eps: float) -> PeerRules:
    return PeerRules(
        tol=tol,
        mode=mode,
        eps=eps,
        max_steps=max_iter - 1,
        first_tested=2,
        value="f",
        first_recorded=2,
        head=HEAD,
        length=max_iter - 1,
        offset=1,
    )


def _damping(name: str, value: Any) -> None:
    check_number(name, value, "a number in (0, 2]", low=0.0, open_low=True, high=2.0)


def _flat_picard(max_iter: int, tol: float, mode: Mode, damping: float, eps: float) -> PeerRules:
    return PeerRules(
        tol=tol,
        mode=mode,
        eps=eps,
        damping=float(damping),
        max_steps=max_iter - 1,
        value="f",
        head=HEAD,
        length=max_iter + 1,
        offset=1,
    )


def _steps_first(rules: PeerRules, **changes: Any) -> PeerRules:
    return replace(rules, layout="steps first", **changes)


def _final(rules: PeerRules) -> PeerRules:
    """``return_final=True``: no test of the tolerance, the last iterate, and its residual as the lowest."""
    return replace(rules, returned="last", tests_tolerance=False, latest_is_lowest=True)


# --------------------------------------------------------------------------------------------------------- hopdeq and SRS


def hopdeq_picard(max_iter: int = 40) -> tuple[Solver, PeerRules]:
    """``picard``: a fixed number of evaluations."""
    return Picard(), _hopdeq(max_iter, least=1)


def hopdeq_anderson(max_iter: int = 40, m: int = 4) -> tuple[Solver, PeerRules]:
    """``anderson``: a fixed number of evaluations; Picard's argument where it looks better."""
    check_integer("m", m, low=2)
    rules = _hopdeq(max_iter, least=2)
    return PeerMixing(label="hopdeq/anderson", window=m, ridge=1e-10, safeguard=True), rules


def _hopdeq(max_iter: int, least: int) -> PeerRules:
    check_integer("max_iter", max_iter, low=least)
    return PeerRules(
        pool="mean",
        scale="z",
        max_steps=max_iter - 1,
        returned="last",
        value="f",
        lowest_start=np.inf,
        counts="made",
        offset=1,
    )


def srs_anderson(
    max_iter: int = 50, tol: float = 1e-3, mode: Mode = "rel", m: int = 6, lam: float = 1e-4, beta: float = 1.0
) -> tuple[Solver, PeerRules]:
    """``anderson`` of serialized randomised smoothing: one iterate more than its model, and the last one returned."""
    solver = _torch_mixing("srs/anderson", max_iter, tol, mode, m, lam, "beta", beta)
    rules = PeerRules(
        tol=tol,
        mode=mode,
        eps=1e-8,
        max_steps=max_iter + 1,
        first_tested=2,
        returned="last",
        first_recorded=2,
        head=HEAD,
        length=max_iter,
        layout="steps first",
        offset=-1,
    )
    return replace(solver, repeats=True), rules


TABLES: dict[str, dict[str, Table]] = {
    "locuslab-v1": {"broyden": locuslab_v1_broyden},
    "locuslab-v2": {"broyden": locuslab_v2_broyden, "anderson": locuslab_v2_anderson},
    "torchdeq": {
        "fixed_point_iter": torchdeq_fixed_point_iter,
        "anderson": torchdeq_anderson,
        "broyden": torchdeq_broyden,
    },
    "deq-flow": {"broyden": deq_flow_broyden, "anderson": deq_flow_anderson, "km": deq_flow_km},
    "jaxopt": {
        "anderson": libraries.jaxopt_anderson,
        "fixed_point": libraries.jaxopt_fixed_point,
        "broyden": libraries.jaxopt_broyden,
    },
    "scipy": {
        "broyden1": libraries.scipy_broyden1,
        "broyden2": libraries.scipy_broyden2,
        "anderson": libraries.scipy_anderson,
    },
    "hopdeq": {"anderson": hopdeq_anderson, "picard": hopdeq_picard},
    "srs": {"anderson": srs_anderson},
}
"""Dialect, method, table; the first method of a dialect is the one meant when none is named."""
