"""Anderson acceleration: the next argument from the last few values of f, mixed to make the residual small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from refdeq.checks import check_choice, check_integer, check_number
from refdeq.errors import ArgumentError
from refdeq.kernels import Array, Kernels
from refdeq.linear import normalised_weights, regularised, solve_gram
from refdeq.solvers.history import difference, inner, new_ring, newest_first, row_shape, write_slot

__all__ = ["Anderson", "AndersonState"]


@dataclass
class AndersonState:
    """Columns and Gram matrices of a batch; column i of a sample stands in slot ``i mod window``.

    Attributes
    ----------
    values, residuals : list of (B, N) backend arrays
        ``f`` and ``g = f - z`` of earlier evaluations, or their differences.
    rows : list of (B, N) backend arrays
        f, g, the f and g before them, and z: room for one step.
    gram : (B, window, window) float64
        Inner products of the residual columns, slot by slot.
    count, steps : (B,) int
        Columns written, and steps made, since the start or the last restart.
    best : (B,) float64
        Smallest squared residual since then.
    """

    values: list[Array]
    residuals: list[Array]
    rows: list[Array]
    gram: np.ndarray
    count: np.ndarray
    steps: np.ndarray
    best: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Anderson:
    """Anderson acceleration: least squares over the residuals of the last evaluations (S-7).

    With ``g = f(z) - z`` and the differences ``dG``, ``dF`` of successive residuals and values, per sample: gamma minimises
    ``||g - dG gamma||^2`` (plus the ridge), and the next argument is ``f - dF gamma - (1 - mixing)(g - dG gamma)``.

    Parameters
    ----------
    window : int
        Columns kept per sample, in a ring: `window` differences, hence one more evaluation; of the form "weights", `window`
        evaluations.
    mixing : float
        In (0, 2]: how much of the mixed residual is added to the mixed argument; 1 takes the mixed value of f.
    ridge : float
        Regularisation, >= 0.
    ridge_scale : {"trace", "diagonal", "absolute"}
        Relative to the mean of the Gram matrix' diagonal, relative to each diagonal entry, or as it is.
    form : {"differences", "weights"}
        "weights" mixes values with weights that sum to 1, from the Gram matrix of the residuals themselves with the ridge on
        its diagonal. A large ridge turns that form into a moving average, and the form "differences" into Picard.
    restart : int, optional
        Empty a sample's window after this many steps.
    safeguard : float, optional
        Empty a sample's full window when the residual exceeds this multiple, >= 1, of the lowest since the window was last
        empty. A window that still fills is left alone: on an expansive map residuals grow first, and full memory solves it.
    warmup : int
        Columns are collected but not used in the first `warmup` steps.
    coupled : bool
        Take the batch as one vector: inner products are summed over it, and every sample gets the same weights.

    Notes
    -----
    Weights are solved for in float64 on the host, per sample. Columns enter from the newest to the oldest; one that depends on
    newer ones to within ``window * eps`` of its squared length (or is zero, or not finite) is left out. With no column left the
    step is a Picard step (relaxed by `mixing`). So no Gram matrix is too singular, and there is no BREAKDOWN.

    Examples
    --------
    On an affine map in N dimensions, with a window of N, the mixed points are those of GMRES:

    >>> import refdeq
    >>> stop = refdeq.StopRule(atol=1e-12)
    >>> sol = refdeq.solve(lambda z, x: 1 + 3 * z, None, z0=np.zeros((1, 1)), solver=Anderson(window=1), stop=stop)
    >>> sol.z, sol.n_eval
    (array([[-0.5]]), array([3]))
    """

    window: int = 20
    mixing: float = 1.0
    ridge: float = 0.0
    ridge_scale: Literal["trace", "diagonal", "absolute"] = "trace"
    form: Literal["differences", "weights"] = "differences"
    restart: int | None = None
    safeguard: float | None = 2.0
    warmup: int = 0
    coupled: bool = False

    def __post_init__(self) -> None:
        check_integer("window", self.window, low=1)
        check_number("mixing", self.mixing, "a number in (0, 2]", low=0.0, open_low=True, high=2.0)
        check_number("ridge", self.ridge, "a finite number >= 0", low=0.0, high=np.finfo(float).max)
        check_choice("ridge_scale", self.ridge_scale, ("trace", "diagonal", "absolute"))
        check_choice("form", self.form, ("differences", "weights"))
        if self.restart is not None:
            check_integer("restart", self.restart, low=1)
        if self.safeguard is not None:
            check_number("safeguard", self.safeguard, "None or a number >= 1", low=1.0)
        check_integer("warmup", self.warmup, low=0)
        if not isinstance(self.coupled, bool):
            raise ArgumentError("coupled", expected="True or False", got=repr(self.coupled))

    @property
    def name(self) -> str:
        """Short name for tables."""
        return f"anderson({self.window})"

    def init(self, kernels: Kernels, z: Mapping[str, Array]) -> AndersonState:
        """Return empty windows."""
        shape, dtype = row_shape(kernels, z)
        batch, m = shape[0], self.window
        return AndersonState(
            values=new_ring(kernels, shape, dtype, m),
            residuals=new_ring(kernels, shape, dtype, m),
            rows=new_ring(kernels, shape, dtype, 7),
            gram=np.zeros((batch, m, m)),
            count=np.zeros(batch, dtype=np.int64),
            steps=np.zeros(batch, dtype=np.int64),
            best=np.full(batch, np.inf),
        )

    def step(
        self, kernels: Kernels, z: Mapping[str, Array], f: Mapping[str, Array], state: AndersonState, active: np.ndarray
    ) -> tuple[AndersonState, None]:
        """Take one accelerated step (S-7)."""
        now, value, residual, old_value, old_residual, d_value, d_residual = state.rows
        kernels.flatten([z[name] for name in z], active, now)
        kernels.flatten([f[name] for name in z], active, value)
        difference(kernels, value, now, active, residual)
        self._restart(state, inner(kernels, [residual], residual, active, self.coupled)[:, 0], active)
        if self.form == "differences":
            difference(kernels, value, old_value, active, d_value)
            difference(kernels, residual, old_residual, active, d_residual)
            self._append(kernels, d_value, d_residual, state, active & (state.steps > 0))
            kernels.copy_active(value, active, old_value)
            kernels.copy_active(residual, active, old_residual)
        else:
            self._append(kernels, value, residual, state, active)
        state.steps[active] += 1
        mixed = self._mixture(kernels, residual, state, active)  # weights of the newest evaluation, and of the columns in use
        used = mixed.shape[1] - 1
        columns, rest = [value, *state.values[:used]], 1.0 - self.mixing
        if rest != 0.0:
            columns, mixed = [*columns, residual, *state.residuals[:used]], np.concatenate([mixed, -rest * mixed], axis=1)
        kernels.combine(columns, mixed, active, now)
        kernels.unflatten(now, active, list(z.values()))
        return state, None

    def _restart(self, state: AndersonState, squared: np.ndarray, active: np.ndarray) -> None:
        """Empty the windows that are due, and note the lowest residual."""
        due = np.zeros_like(active)
        if self.restart is not None:
            due |= active & (state.steps >= self.restart)
        if self.safeguard is not None:
            due |= active & (squared > self.safeguard**2 * state.best) & (state.count >= self.window)
        state.count[due], state.steps[due], state.best[due] = 0, 0, np.inf
        state.best[active] = np.minimum(state.best, squared)[active]

    def _append(self, kernels: Kernels, value: Array, residual: Array, state: AndersonState, active: np.ndarray) -> None:
        """Write one column per active sample and its row of the Gram matrix."""
        slot = state.count % self.window
        write_slot(kernels, value, slot, active, state.values)
        write_slot(kernels, residual, slot, active, state.residuals)
        state.count[active] += 1
        used = self._used(state)
        products = inner(kernels, state.residuals[:used], residual, active, self.coupled)
        who = np.flatnonzero(active)
        state.gram[who, slot[who], :used] = products[who]
        state.gram[who, :used, slot[who]] = products[who]

    def _used(self, state: AndersonState) -> int:
        """Slots that any sample has written; the others need not be read."""
        return min(self.window, int(state.count.max(initial=0)))

    def _mixture(self, kernels: Kernels, residual: Array, state: AndersonState, active: np.ndarray) -> np.ndarray:
        """Weights of the newest evaluation and of the columns by slot, (B, 1 + used): ``1, -gamma`` or ``0, alpha``."""
        used = self._used(state)
        slots, valid = newest_first(state.count, used)
        valid = valid & active[:, None] & (state.steps > self.warmup)[:, None]
        gram = state.gram[np.arange(len(slots))[:, None, None], slots[:, :, None], slots[:, None, :]]
        gram = regularised(gram, valid, self.ridge, self.ridge_scale)
        mixed = np.zeros((len(active), 1 + used))
        if self.form == "differences":
            products = np.take_along_axis(inner(kernels, state.residuals[:used], residual, active, self.coupled), slots, 1)
            found, mixed[:, 0] = -solve_gram(gram, np.where(valid, products, 0.0)), 1.0
        else:
            found = normalised_weights(gram)  # all on the newest column where there is no other
        np.put_along_axis(mixed[:, 1:], slots, found, 1)
        return mixed
