"""Evaluations that Anderson needs on hard maps, against SciPy's and against what jaxopt and torchdeq do (S-7)."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

import refdeq as rd
from refdeq import Anderson, StopRule

N, BUDGET = 24, 150
PEERS = {
    "torchdeq": Anderson(window=6, form="weights", ridge=1e-4, ridge_scale="absolute", safeguard=None),
    "jaxopt": Anderson(window=5, form="weights", ridge=1e-5, ridge_scale="absolute", safeguard=None, warmup=5),
}


def hard(kind, rng):
    """Maps on which Picard crawls or diverges."""
    q, _ = np.linalg.qr(rng.standard_normal((N, N)))
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    middle = {
        "contractive": np.diag(np.linspace(-0.9, 0.9, N)),
        "nearly singular": np.diag(np.linspace(-0.5, 0.999, N)),
        "rotation": np.kron(np.diag(np.linspace(0.9, 0.999, N // 2)), turn),
        "non-normal": np.triu(0.5 * rng.standard_normal((N, N)), 1) + np.diag(np.linspace(-0.8, 0.8, N)),
        "expansive": np.diag(np.linspace(-3.0, 0.9, N)),
        "tanh": 1.5 * rng.standard_normal((N, N)) / np.sqrt(N),
    }[kind]
    a, b = q @ middle @ q.T, rng.standard_normal(N)
    return (lambda z, x: np.tanh(z @ a.T + b)) if kind == "tanh" else (lambda z, x: z @ a.T + b)


def evaluations_of_scipy(f, rtol):
    """Evaluations until the relative residual is reached, as ours are counted; the budget where it is not."""
    found = []

    def g(z):
        value = f(z, None)
        found.append(np.linalg.norm(value - z) / np.linalg.norm(value))
        return value - z

    with pytest.raises(scipy.optimize.NoConvergence):
        scipy.optimize.anderson(g, np.zeros(N), alpha=1.0, line_search=None, maxiter=BUDGET, f_tol=1e-300)
    reached = np.flatnonzero(np.array(found) <= rtol)
    return reached[0] + 1 if len(reached) else BUDGET


@pytest.mark.parametrize("kind", ["contractive", "nearly singular", "rotation", "non-normal", "expansive", "tanh"])
def test_no_peer_needs_fewer_evaluations(kind, rng):
    f = hard(kind, rng)
    for rtol in (1e-3, 1e-6, 1e-10):
        stop = StopRule(rtol=rtol, max_eval=BUDGET)
        ours = rd.solve(f, z0=np.zeros((1, N)), solver=Anderson(), stop=stop)
        assert ours.converged
        theirs = {n: rd.solve(f, z0=np.zeros((1, N)), solver=s, stop=stop).n_eval[0] for n, s in PEERS.items()}
        theirs["scipy"] = evaluations_of_scipy(f, rtol)
        assert ours.n_eval[0] <= min(theirs.values()), (rtol, theirs)
