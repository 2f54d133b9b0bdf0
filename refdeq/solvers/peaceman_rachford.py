"""Peaceman-Rachford splitting of monotone operator networks: one product with a fixed inverse per evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from refdeq import circular
from refdeq.checks import check_choice, check_number
from refdeq.errors import ArgumentError
from refdeq.graph import Cell
from refdeq.kernels import Array, Kernels
from refdeq.solvers.base import Split
from refdeq.solvers.picard import Picard
from refdeq.solvers.splitting import MonotoneForm, Rewriter, match_form, monotone_constants, resolvent

__all__ = ["PeacemanRachford", "peaceman_rachford_alpha"]


def peaceman_rachford_alpha(cell: Cell) -> float:
    """Step length ``1 / sqrt(m L)`` from the constants of ``I - W`` (S-6b).

    The best one when W is symmetric, where it minimises ``max |1 - alpha l| / |1 + alpha l|`` over the spectrum [m, L]; a place
    to start from otherwise. Peaceman-Rachford converges for every alpha > 0.

    Examples
    --------
    >>> import refdeq
    >>> cell = refdeq.models.monotone(np.diag([1.0, 0.0]), np.zeros((2, 2)), np.ones((2, 1)), np.zeros(2), m=2.0)
    >>> round(peaceman_rachford_alpha(cell) ** -2, 12)  # the spectrum of I - W is {2, 3}
    6.0
    """
    m, lipschitz = monotone_constants(cell)
    if not m > 0.0:
        raise ArgumentError(
            "alpha", got="'auto'", hint=f"I - W is not strongly monotone here: its constant is {m:.3g}, not > 0"
        )
    return 1.0 / math.sqrt(m * lipschitz)


@dataclass(frozen=True, kw_only=True)
class PeacemanRachford:
    """Peaceman-Rachford iteration of a cell ``z <- relu(W z + beta)`` (S-6b).

    With ``V = ((1 + alpha) I - alpha W)^-1``, formed once per cell: ``z = relu(u)``, ``h = 2 z - u``,
    ``y = V (h + alpha beta)``, ``u <- 2 y - h``. A splitting solver: it rewrites the cell, so that one evaluation costs one
    product with V. Reported are the argument y and the value ``relu(p)`` with ``p = ((1 + alpha) y - h) / alpha``, which is
    ``W y + beta`` without a product with W: the residual is that of the cell. Converges for every alpha > 0 when ``I - W`` is
    strongly monotone.

    A warm start by the same solver goes on from u (kept as ``Solution.iterate``); any other start takes u = z.

    Parameters
    ----------
    alpha : float or "auto"
        Step length > 0; every factor is formed in float64 and rounded once to the dtype of z. "auto" takes
        :func:`peaceman_rachford_alpha`.
    inverse : {"fft", "dense"}
        How V is applied for a circular convolution: per frequency, between two transforms; or as one matrix over the whole
        state, which a delta rule can gate. Gemm cells always have the matrix.

    Examples
    --------
    >>> import refdeq as rd
    >>> cell = rd.models.monotone(np.eye(1), np.array([[0.0]]), np.eye(1), np.zeros(1))  # z <- relu(-z + x)
    >>> sol = rd.solve(cell, np.array([[3.0]]), solver=PeacemanRachford(alpha=1.0), stop=rd.StopRule(rtol=1e-9))
    >>> sol.converged, round(float(sol.z[0, 0]), 6)
    (True, 1.5)
    """

    alpha: float | Literal["auto"] = "auto"
    inverse: Literal["fft", "dense"] = "fft"

    def __post_init__(self) -> None:
        if not isinstance(self.alpha, str) or self.alpha != "auto":
            check_number("alpha", self.alpha, "a finite number > 0 or 'auto'", low=0.0, open_low=True, high=1e300)
            object.__setattr__(self, "alpha", float(self.alpha))
        check_choice("inverse", self.inverse, ("fft", "dense"))

    @property
    def name(self) -> str:
        """Short name for tables."""
        return f"pr({self.alpha if self.alpha == 'auto' else format(self.alpha, 'g')})"

    def step_length(self, cell: Cell) -> float:
        """Return the alpha that a solve of `cell` takes."""
        return peaceman_rachford_alpha(cell) if self.alpha == "auto" else self.alpha

    def split(self, cell: Cell) -> Split:
        """Replace W by the resolvent V; the state of the new cell is u (S-6b)."""
        alpha = self.step_length(cell)
        return self.rewrite(match_form(cell), alpha, resolvent(cell, alpha, self.inverse == "dense"))

    def rewrite(self, form: MonotoneForm, alpha: float, v: np.ndarray) -> Split:
        """Rewrite a cell whose parts and whose resolvent are known."""
        new = Rewriter(form.cell, form.cell.graph.hoisted)
        z = new.project(form.state, form, "positive")
        half = new.node("Sub", new.node("Add", z, z, name="twice"), form.state, name="half")
        y = _apply_resolvent(new, form, v, _shifted(new, form, alpha, half))
        following = new.node("Sub", new.node("Add", y, y, name="twice_point"), half, name="next")
        # p = W y + beta = ((1 + alpha) y - h) / alpha
        far = new.node("Mul", y, new.parameter("far", (1.0 + alpha) / alpha), name="far_point")
        near = new.node("Mul", half, new.parameter("near", 1.0 / alpha), name="near_half")
        value = new.project(new.node("Sub", far, near, name="argument"), form, "f")
        return Split(new.build(form.state, following), {form.state: y}, {form.state: value})

    def init(self, kernels: Kernels, z: Mapping[str, Array]) -> None:
        """No state beside u, which stands in the place of z."""

    def step(
        self, kernels: Kernels, z: Mapping[str, Array], f: Mapping[str, Array], state: None, active: np.ndarray
    ) -> tuple[None, None]:
        """Take the value of the rewritten cell (S-6b)."""
        return Picard().step(kernels, z, f, state, active)


def _shifted(new: Rewriter, form: MonotoneForm, alpha: float, half: str) -> str:
    """``h + alpha beta``: what depends on x only is scaled once per solve."""
    for number, shift in enumerate(form.shifts):
        scaled = new.node("Mul", shift, new.parameter("alpha", alpha), name=f"scaled_{number}")
        half = new.node("Add", half, scaled, name=f"shifted_{number}")
    if form.bias is not None:
        half = new.node("Add", half, new.parameter("scaled_bias", alpha * form.bias), name="shifted")
    return half


def _apply_resolvent(new: Rewriter, form: MonotoneForm, v: np.ndarray, value: str) -> str:
    """Multiply by V: one Gemm, over the whole state of a convolution where V is a matrix; or frequency by frequency."""
    if v.ndim > 2:
        return _by_frequency(new, form, v, value)
    if not form.size:
        return new.node("Gemm", value, new.parameter("V", v), transB=1, name="resolvent")
    flat = new.node("Reshape", value, shape=(0, -1), name="flat")
    product = new.node("Gemm", flat, new.parameter("V", v), transB=1, name="resolvent")
    return new.node("Reshape", product, shape=(0, *form.shape), name="point")


def _by_frequency(new: Rewriter, form: MonotoneForm, v_hat: np.ndarray, value: str) -> str:
    """Multiply a state (C, ...) by a symbol: transforms along every axis, one real matrix per frequency, and back."""
    rank, channels = len(form.size), form.shape[0]
    axes = tuple(range(2, 2 + rank))
    matrices = new.parameter("V", circular.embedding(v_hat))
    waves = new.node("Reshape", value, shape=(0, *form.shape, 1), name="real")
    for axis in axes:
        waves = new.node("DFT", waves, axis=axis, name=f"transform_{axis}")
    last = 2 + rank
    columns = new.node("Transpose", waves, perm=(0, *axes, last, 1), name="by_frequency")
    columns = new.node("Reshape", columns, shape=(0, *form.size, 2 * channels, 1), name="columns")
    columns = new.node("MatMul", matrices, columns, name="resolvent")
    waves = new.node("Reshape", columns, shape=(0, *form.size, 2, channels), name="parts")
    waves = new.node("Transpose", waves, perm=(0, last, *range(1, 1 + rank), 1 + rank), name="by_channel")
    for axis in axes:
        waves = new.node("DFT", waves, axis=axis, inverse=1, name=f"back_{axis}")
    real = new.node("Slice", waves, starts=(0,), ends=(1,), axes=(last,), name="real_part")
    return new.node("Reshape", real, shape=(0, *form.shape), name="point")
