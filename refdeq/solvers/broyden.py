"""Broyden's method: a quasi-Newton iteration on ``f(z) - z = 0``, its inverse Jacobian a sum of outer products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from refdeq.checks import check_choice, check_integer
from refdeq.errors import ArgumentError
from refdeq.kernels import Array, Kernels
from refdeq.solvers.armijo import ArmijoLineSearch
from refdeq.solvers.history import difference, inner, new_ring, new_row, row_shape, write_slot

__all__ = ["Broyden", "BroydenState", "apply_inverse"]


@dataclass
class BroydenState:
    """Outer products of a batch, ``H = -I + sum_i u_i v_i^T`` per sample, and where its last step began.

    Attributes
    ----------
    u, v : list of (B, N) backend arrays
        Columns; pair k of a sample stands in slot k, or ``k mod window``. Slots not written yet hold zeros.
    count : (B,) int
        Pairs written.
    rows : list of (B, N) backend arrays
        Argument, residual and direction of the last accepted step, and room for the next one.
    started : (B,) bool
        Whether there is a last step.
    phi, length : (B,) float64
        Squared residual at the last accepted argument; length of the step taken from it.
    refused : (B,) int
        Trials of the present line search that were too long.
    """

    u: list[Array]
    v: list[Array]
    count: np.ndarray
    rows: list[Array]
    started: np.ndarray
    phi: np.ndarray
    length: np.ndarray
    refused: np.ndarray

    def valid(self) -> np.ndarray:
        """Slots that hold a pair, (B, K) bool."""
        present: np.ndarray = np.arange(len(self.u)) < self.count[:, None]
        return present


@dataclass(frozen=True, kw_only=True)
class Broyden:
    """Quasi-Newton iteration with rank-one updates of the inverse Jacobian (S-8).

    The first step is a Picard step (``H = -I``). Then ``z <- z - H g`` with ``g = f(z) - z``, and after each step
    ``H <- H + u v^T`` such that ``H dg = dz`` for the step just made. On an affine map in N dimensions the exact solution is
    reached after at most 2 N steps.

    Parameters
    ----------
    window : int, optional
        Pairs kept per sample, in a ring: pair k overwrites slot ``k mod window``. The oldest pair is dropped *before* the new
        one is formed, so that the newest secant always holds. None keeps all of them (memory grows by two rows per step).
    update : {"good", "bad"}
        ``v = H^T dz`` (changes the Jacobian least), or ``v = dg`` (changes the inverse least).
    line_search : None, "armijo" or ArmijoLineSearch
        Every trial is an ordinary evaluation: it counts, it advances gates (D-8), and a sample may end on it.
    coupled : bool
        Take the batch as one vector: inner products are summed over it and every sample gets the same step.

    Notes
    -----
    A zero denominator ``v . dg``, one whose reciprocal is not finite, or a column u that overflows, ends the sample with
    BREAKDOWN at its last argument. A
    sample whose residual is exactly zero stays where it is, and needs no update.

    Examples
    --------
    >>> import refdeq
    >>> stop = refdeq.StopRule(atol=1e-12)
    >>> sol = refdeq.solve(lambda z, x: 1 + 3 * z, None, z0=np.zeros((1, 1)), solver=Broyden(), stop=stop)
    >>> sol.z, sol.n_eval
    (array([[-0.5]]), array([3]))
    """

    window: int | None = None
    update: Literal["good", "bad"] = "good"
    line_search: ArmijoLineSearch | Literal["armijo"] | None = None
    coupled: bool = False

    def __post_init__(self) -> None:
        if self.window is not None:
            check_integer("window", self.window, low=1)
        check_choice("update", self.update, ("good", "bad"))
        if self.line_search == "armijo":
            object.__setattr__(self, "line_search", ArmijoLineSearch())
        if not isinstance(self.line_search, ArmijoLineSearch | None):
            raise ArgumentError("line_search", expected="None, 'armijo' or an ArmijoLineSearch", got=repr(self.line_search))
        if not isinstance(self.coupled, bool):
            raise ArgumentError("coupled", expected="True or False", got=repr(self.coupled))

    @property
    def name(self) -> str:
        """Short name for tables."""
        return f"broyden({'inf' if self.window is None else self.window})"

    def init(
        self, kernels: Kernels, z: Mapping[str, Array], start: tuple[Sequence[Array], Sequence[Array]] | None = None
    ) -> BroydenState:
        """Return the state before the first step.

        Parameters
        ----------
        kernels : Kernels
        z : dict of state name to backend array
            Gives shapes and dtypes.
        start : (u, v), optional
            Columns of (B, N) rows to begin with instead of ``H = -I``, copied. Those of another solve, swapped, are the
            transposed inverse Jacobian: an adjoint solve can begin where the forward solve ended.
        """
        shape, dtype = row_shape(kernels, z)
        u, v = ([], []) if start is None else ([kernels.upload(kernels.download(c)) for c in side] for side in start)
        if len(u) != len(v) or any(tuple(column.shape) != shape for column in [*u, *v]):
            raise ArgumentError("start", expected=f"as many u as v, of shape {shape}", got=[tuple(c.shape) for c in [*u, *v]])
        if self.window is not None and len(u) > self.window:
            raise ArgumentError("start", expected=f"at most {self.window} pairs, the window", got=len(u))
        batch = shape[0]
        return BroydenState(
            u=u,
            v=v,
            count=np.full(batch, len(u), dtype=np.int64),
            rows=new_ring(kernels, shape, dtype, 10),
            started=np.zeros(batch, dtype=bool),
            phi=np.full(batch, np.inf),
            length=np.ones(batch),
            refused=np.zeros(batch, dtype=np.int64),
        )

    def step(
        self, kernels: Kernels, z: Mapping[str, Array], f: Mapping[str, Array], state: BroydenState, active: np.ndarray
    ) -> tuple[BroydenState, np.ndarray]:
        """Accept the step and make the next one, or make the last one shorter (S-8)."""
        now, value, residual, following, base, old, direction = state.rows[:7]
        kernels.flatten([z[name] for name in z], active, now)
        kernels.flatten([f[name] for name in z], active, value)
        difference(kernels, value, now, active, residual)
        phi = inner(kernels, [residual], residual, active, self.coupled)[:, 0]
        shorter = self._shorten(state, phi, active)
        kernels.combine([base, direction], np.stack([np.ones(len(active)), state.length], axis=1), shorter, following)
        accepted = active & ~shorter
        broken = self._update(kernels, state, accepted & state.started & (phi > 0.0))
        going = accepted & ~broken
        products = inner(kernels, state.v, residual, going, self.coupled)
        ones = np.ones((len(active), 1))
        kernels.combine([value, *state.u], np.concatenate([ones, -products], axis=1), going, following)
        kernels.copy_active(now, going, base)
        kernels.copy_active(residual, going, old)
        difference(kernels, following, now, going, direction)
        state.phi[going], state.length[going], state.refused[going], state.started[going] = phi[going], 1.0, 0, True
        kernels.unflatten(following, going | shorter, list(z.values()))
        return state, broken

    def _shorten(self, state: BroydenState, phi: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Samples that take their last step again, shorter; sets the lengths."""
        search = self.line_search
        if not isinstance(search, ArmijoLineSearch):
            return np.zeros_like(active)
        trial = active & state.started & (state.refused < search.backtracks)
        shorter: np.ndarray = trial & ~search.accepts(phi, state.phi, state.length)
        state.length[shorter] = search.shorten(phi, state.phi, state.length)[shorter]
        state.refused[shorter] += 1
        return shorter

    def _update(self, kernels: Kernels, state: BroydenState, active: np.ndarray) -> np.ndarray:
        """Add the pair of the step just made; returns the samples whose denominator is zero or not finite (S-8)."""
        now, _, residual, u, base, old, _, dz, dg, v = state.rows  # u is formed in the row of the next argument
        difference(kernels, now, base, active, dz)
        difference(kernels, residual, old, active, dg)
        slot = state.count if self.window is None else state.count % self.window
        kept = np.arange(len(state.u)) != slot[:, None]  # a full ring drops its oldest pair before it forms the new one
        image = inner(kernels, state.v, dg, active, self.coupled) * kept
        if self.update == "good":
            transposed = inner(kernels, state.u, dz, active, self.coupled) * kept
            kernels.combine([dz, *state.v], np.concatenate([-np.ones((len(active), 1)), transposed], axis=1), active, v)
        else:
            kernels.copy_active(dg, active, v)
        with np.errstate(all="ignore"):
            reciprocal = 1.0 / inner(kernels, [v], dg, active, self.coupled)
            weights = np.concatenate([reciprocal, reciprocal, -reciprocal * image], axis=1)
        broken: np.ndarray = active & ~np.isfinite(reciprocal[:, 0])
        going = active & ~broken
        kernels.combine([dz, dg, *state.u], weights, going, u)
        overflowed = going & ~np.isfinite(inner(kernels, [u], u, going, False)[:, 0])
        broken, going = broken | overflowed, going & ~overflowed
        for row, ring in ((u, state.u), (v, state.v)):
            while going.any() and len(ring) <= slot[going].max():
                ring.append(new_row(kernels, tuple(row.shape), str(row.dtype)))
            write_slot(kernels, row, slot, going, ring)
        state.count[going] += 1
        return broken


def apply_inverse(kernels: Kernels, state: BroydenState, rows: np.ndarray, *, transpose: bool = False) -> np.ndarray:
    """Apply the inverse Jacobian of ``f(z) - z`` that a solve has built up (S-8).

    Parameters
    ----------
    kernels : Kernels
        Of the backend that made `state`.
    state : BroydenState
    rows : (B, N) ndarray
        In the dtype of the state.
    transpose : bool
        Apply ``H^T`` instead of ``H``.

    Returns
    -------
    (B, N) ndarray
        ``-rows + sum_i u_i <v_i, rows>``, each row in float64 and rounded once.
    """
    left, right = (state.v, state.u) if transpose else (state.u, state.v)
    row = kernels.upload(rows)
    everyone = np.ones(len(rows), dtype=bool)
    products = inner(kernels, right, row, everyone, False)
    kernels.combine([row, *left], np.concatenate([-np.ones((len(rows), 1)), products], axis=1), everyone, row)
    return kernels.download(row)
