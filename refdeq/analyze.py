"""What can be known about a cell at a point: the spectrum of its Jacobian."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdeq.checks import check_choice, check_integer, check_number
from refdeq.eigenvalues import dense_dominant, krylov_dominant, krylov_norm
from refdeq.errors import ArgumentError
from refdeq.gradients.linearisation import CellMap, CellPoint
from refdeq.gradients.products import frozen_masks, pushed
from refdeq.graph import Cell
from refdeq.solution import Solution
from refdeq.validate_inputs import batch_of, check_values

__all__ = ["DENSE_UP_TO", "Spectrum", "spectrum"]

DENSE_UP_TO = 256
"""Elements of z per sample up to which ``method="auto"`` forms the Jacobian."""


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum:
    """Spectrum of ``J = df/dz`` at one point per sample.

    Attributes
    ----------
    radius : (B,) float64
        Spectral radius: the largest modulus of an eigenvalue; NaN where J is not finite.
    radius_error : (B,) float64
        Estimate of its error, to first order: residual and rounding times the condition of the eigenvalue.
    norm, norm_error : (B,) float64
        Largest singular value, and its error.
    dominant : (B,) complex128
        The eigenvalue of largest modulus, with imaginary part >= 0.
    complex_pair : (B,) bool
        Whether it is one of a complex pair: further from the real axis than its error.
    converged : (B,) bool
        Whether radius and norm are known to the relative error asked for. Where this is False the numbers are the best that
        was found, and may be wrong by more than the errors say.
    eigenvalues : (B, n) complex128 or None
        All of them, from a dense J.
    method : {"dense", "krylov"}
    jacobian : {"dense", "frozen-mask"}
    products : int
        Products with J and with its transpose: n for a dense J, else the most that a sample took.
    """

    radius: np.ndarray
    radius_error: np.ndarray
    norm: np.ndarray
    norm_error: np.ndarray
    dominant: np.ndarray
    complex_pair: np.ndarray
    converged: np.ndarray
    eigenvalues: np.ndarray | None
    method: str
    jacobian: str
    products: int

    def __repr__(self) -> str:
        if not len(self.radius):
            return f"Spectrum({self.method}; no samples)"
        parts = [
            f"{len(self.radius)} samples",
            f"radius {_range(self.radius)}",
            f"norm {_range(self.norm)}",
            f"complex pairs {int(self.complex_pair.sum())}",
            f"converged {int(self.converged.sum())}",
        ]
        return f"Spectrum({self.method}, {self.jacobian} J; {'; '.join(parts)})"


def _range(values: np.ndarray) -> str:
    low, high = f"{np.min(values):.4g}", f"{np.max(values):.4g}"
    return low if low == high else f"{low} to {high}"


def spectrum(
    cell: Cell,
    z: Any,
    x: Any = None,
    *,
    jacobian: str = "dense",
    method: str = "auto",
    rtol: float = 1e-6,
    budget: int = 1024,
    rng: int | np.random.Generator = 0,
) -> Spectrum:
    """Spectral radius and norm of the Jacobian ``df/dz``, sample by sample.

    A Picard iteration converges locally if and only if the radius is below 1, and then by that factor per evaluation in the
    long run; the norm bounds what one evaluation can do. Everything is computed in float64, at the numbers given, whatever the
    cell's dtype.

    Parameters
    ----------
    cell : Cell
    z : Solution, or (B, ...) ndarray, or dict of state name to ndarray
        Where; a solution brings its injections with it.
    x : (B, ...) ndarray, or dict of injection name to ndarray
        Only beside arrays in `z`; None for a cell without injections.
    jacobian : {"dense", "frozen-mask"}
        The latter, of the delta-evaluated cell with its final masks frozen (G-1), needs a solution.
    method : {"auto", "dense", "krylov"}
        ``dense`` forms J by one product per element of z and finds all its eigenvalues; ``krylov`` forms products only, and
        is right for complex pairs too (:mod:`refdeq.eigenvalues`). ``auto`` is dense up to ``DENSE_UP_TO`` elements.
    rtol : float
        Relative error up to which radius and norm count as converged, > 0. A defective eigenvalue of multiplicity m is known
        to the m-th root of rounding only, and will not be called converged.
    budget : int
        Products that each of the four iterations of ``krylov`` (norm, radius, left eigenvector, rivals) may spend on a sample.
    rng : int or numpy.random.Generator
        Of the start vectors of ``krylov``.

    Returns
    -------
    Spectrum
        Samples at points that are not finite have NaN and are not converged; the others are not touched by them.

    Raises
    ------
    ArgumentError, ShapeError, DTypeError, MemoryMismatchError

    Examples
    --------
    >>> import refdeq as rd
    >>> turn = 0.9 * np.array([[0.6, -0.8], [0.8, 0.6]])
    >>> cell = rd.models.rnn(turn, np.eye(2), np.zeros(2))  # z = tanh(W z + x): J = W at 0
    >>> rd.analyze.spectrum(cell, np.zeros((1, 2)), np.zeros((1, 2)))
    Spectrum(dense, dense J; 1 samples; radius 0.9; norm 0.9; complex pairs 1; converged 1)
    """
    check_choice("method", method, ("auto", "dense", "krylov"))
    check_number("rtol", rtol, "a number > 0 and < 1", low=0.0, open_low=True, high=1.0)
    check_integer("budget", budget, low=1)
    if not isinstance(rng, np.random.Generator):
        check_integer("rng (a seed, or a numpy.random.Generator)", rng, low=0)
    with np.errstate(all="ignore"):
        products = _Products(_linearise(cell, z, x, jacobian))
        dense = method == "dense" or (method == "auto" and products.n <= DENSE_UP_TO)
        return _dense(products, rtol, jacobian) if dense else _krylov(products, rtol, budget, rng, jacobian)


def _linearise(cell: Any, z: Any, x: Any, jacobian: Any) -> CellPoint:
    """The cell in float64 at the point, checked in its own dtype."""
    check_choice("jacobian", jacobian, ("dense", "frozen-mask"))
    if not isinstance(cell, Cell):
        raise ArgumentError("cell", expected="a Cell (a plain callable has no graph to differentiate)", got=type(cell).__name__)
    frozen: dict[str, np.ndarray] = {}
    if isinstance(z, Solution):
        if x is not None:
            raise ArgumentError("x", hint="a solution brings its own injections")
        frozen = frozen_masks(cell, z) if jacobian == "frozen-mask" else {}
        z, x = z.states, dict(z.x)
    elif jacobian == "frozen-mask":
        raise ArgumentError("jacobian", hint="'frozen-mask' needs a solution made with a delta rule")
    states = check_values("z", z, cell.graph.states, cell.dtype)
    batch = batch_of(states)
    injections = check_values("x", x, cell.graph.injections, cell.dtype, batch)
    wide = cell.astype("float64")
    return CellMap(wide, _wide(injections), batch, frozen).linearise(_wide(states))


def _wide(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.astype(np.float64) for name, array in arrays.items()}


class _Products:
    """Products with J and its transpose on rows: all states of a sample, in declared order."""

    def __init__(self, point: CellPoint) -> None:
        self.point = point
        self._shapes = point.cell.graph.states
        self._ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes.values()])
        self.n = int(self._ends[-1])
        self.batch = len(point.values[next(iter(self._shapes))])

    def _named(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        parts = np.split(rows, self._ends[:-1], axis=1)
        return {name: p.reshape(len(rows), *shape) for (name, shape), p in zip(self._shapes.items(), parts, strict=True)}

    def _rows(self, named: Mapping[str, np.ndarray]) -> np.ndarray:
        sizes = np.diff(self._ends, prepend=0)
        parts = [named[name].reshape(self.batch, size) for name, size in zip(self._shapes, sizes, strict=True)]
        return np.concatenate(parts, axis=1)

    def forward(self, rows: np.ndarray) -> np.ndarray:
        """``J v`` for every sample; (B, n)."""
        return self._rows(pushed(self.point, self._named(rows)))

    def transpose(self, rows: np.ndarray) -> np.ndarray:
        """``J^T v`` for every sample; (B, n)."""
        return self._rows(self.point.transpose(self._named(rows)))

    def of_sample(self, row: int) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
        """Products of one sample alone, forward and transposed, (n,) to (n,)."""
        alone = _Products(self.point.sample(row))
        return lambda v: alone.forward(v[None])[0], lambda v: alone.transpose(v[None])[0]

    def matrix(self) -> np.ndarray:
        """J of every sample, column by column; (B, n, n)."""
        columns = np.empty((self.batch, self.n, self.n))
        for j in range(self.n):
            unit = np.zeros((self.batch, self.n))
            unit[:, j] = 1.0
            columns[:, :, j] = self.forward(unit)
        return columns


def _dense(products: _Products, rtol: float, jacobian: str) -> Spectrum:
    matrices = products.matrix()
    found, eigenvalues, norm = dense_dominant(matrices)
    norm_error = products.n**1.5 * 2.0**-53 * norm  # n units of the Frobenius norm, which is at most sqrt(n) norms
    radius = np.abs(found.value)
    possible = radius <= (1 + rtol) * norm
    converged = found.found & possible & (found.error <= rtol * radius) & (norm_error <= rtol * norm)
    complex_pair = found.value.imag > found.error
    errors = {"radius_error": found.error, "norm_error": norm_error}
    named = {"radius": radius, "norm": norm, "dominant": found.value, "complex_pair": complex_pair, "converged": converged}
    return Spectrum(**named, **errors, eigenvalues=eigenvalues, method="dense", jacobian=jacobian, products=products.n)


def _krylov(products: _Products, rtol: float, budget: int, rng: int | np.random.Generator, jacobian: str) -> Spectrum:
    """One sample after the other: what a sample takes, and what comes out, does not depend on its neighbours."""
    starts = np.random.default_rng(rng).standard_normal((3, products.n))  # the same for every sample
    batch = products.batch
    radius_error, norm, norm_error = np.empty(batch), np.empty(batch), np.empty(batch)
    dominant, converged = np.empty(batch, dtype=np.complex128), np.empty(batch, dtype=bool)
    spent = 0
    for b in range(batch):
        forth, back = products.of_sample(b)
        norm[b], norm_error[b], sure, first = krylov_norm(forth, back, starts[2], rtol, budget)
        found, second = krylov_dominant(forth, back, (starts[0], starts[1]), rtol, budget, norm[b])
        dominant[b], radius_error[b] = found.value[0], found.error[0]
        radius = np.abs(dominant[b])
        possible = radius <= (1 + rtol) * norm[b]  # whatever is found: no eigenvalue exceeds the norm
        small = radius_error[b] <= rtol * radius and norm_error[b] <= rtol * norm[b]
        converged[b] = found.found[0] and sure and possible and small
        spent = max(spent, first + second)
    return Spectrum(
        radius=np.abs(dominant),
        radius_error=radius_error,
        norm=norm,
        norm_error=norm_error,
        dominant=dominant,
        complex_pair=dominant.imag > radius_error,
        converged=converged,
        eigenvalues=None,
        method="krylov",
        jacobian=jacobian,
        products=spent,
    )
