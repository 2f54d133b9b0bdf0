"""What a backend must offer at op level: a dozen primitives and one function per ONNX operator.

Conventions of every primitive: arrays are the backend's own, batch on axis 0, C-contiguous; inputs first, outputs last; nothing
is allocated, printed or raised; ``active`` is a (B,) bool array in host memory and samples that are not active are neither read
nor written. Host arrays are NumPy arrays. The reference implementation is :mod:`refdeq.reference`.

Primitives that choose between ways of equal meaning may also have ``note() -> str``, which ends ``Solution.executor``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

__all__ = ["Array", "GateSpec", "Kernels", "OpFunction"]

Array = Any
"""An array of the backend (``numpy.ndarray`` for CPU backends)."""


@dataclass(frozen=True)
class GateSpec:
    """What one gate does, resolved from a rule for one graph value (D-1 to D-4, D-10, D-11).

    Attributes
    ----------
    value : str
        Name of the watched graph value.
    threshold : ndarray
        Rounded once to the dtype of the value; shape () or, per channel, broadcastable against a sample.
    compare, memory, granularity, tile, feedback_format, delta_dtype
        As in :class:`refdeq.types.DeltaRule`.
    """

    value: str
    threshold: np.ndarray
    compare: str
    memory: str
    granularity: str
    tile: tuple[int, int, int] | None
    feedback_format: str | None
    delta_dtype: str | None


class OpFunction(Protocol):
    """One ONNX operator of a backend.

    ``inputs[i]`` is a batched value where ``batched[i]``, else a parameter; the result goes to ``out`` for active samples.
    """

    def __call__(
        self, inputs: Sequence[Array], batched: Sequence[bool], attributes: Mapping[str, Any], active: np.ndarray, out: Array
    ) -> None:
        """Evaluate the operator for the active samples."""


class Kernels(Protocol):
    """Primitives of a backend; the loop and the delta rule in the core are written in terms of these alone."""

    ops: Mapping[str, OpFunction]

    def upload(self, array: np.ndarray) -> Array:
        """Return a contiguous copy of a host array that the backend owns."""

    def constant(self, array: np.ndarray) -> Array:
        """As :meth:`upload`, for a parameter: nobody writes to the copy, so that other layouts of it may be kept beside it."""

    def download(self, array: Array) -> np.ndarray:
        """Return a host copy of a backend array."""

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return an array for later results; its contents are undefined."""

    def fill(self, value: float, active: np.ndarray, out: Array) -> None:
        """Set every element of the active samples to `value`."""

    def copy_active(self, source: Array, active: np.ndarray, out: Array) -> None:
        """Copy the active samples."""

    def gate(self, u: Array, spec: GateSpec, active: np.ndarray, r: Array, mask: Array, d: Array) -> None:
        """Apply D-1 to D-4 and D-10: decide, write mask and gated difference, update the reference in place."""

    def accumulate_gemm(
        self, d: Array, mask: Array | None, weight: Array, attributes: Mapping[str, Any], active: np.ndarray, a: Array
    ) -> None:
        """Add ``d @ B`` over the sent columns to `a` (N-6 or N-7, D-7); ``mask=None`` reads all columns."""

    def accumulate_conv(
        self, d: Array, mask: Array | None, weight: Array, attributes: Mapping[str, Any], active: np.ndarray, a: Array
    ) -> None:
        """Add ``Conv(d, W)`` over the sent elements to `a` (N-6 or N-7, D-7); ``mask=None`` reads all elements."""

    def add_bias(self, a: Array, bias: Array | None, alpha: float, beta: float, active: np.ndarray, out: Array) -> None:
        """Output of a linear node: ``fl(fl(alpha a) + fl(beta b))`` (D-6, N-6); factors of 1 round nothing."""

    def fold_bias(self, s: Array, bias: Array, active: np.ndarray, a: Array) -> None:
        """Folded bias (D-6): ``a <- fl(fl(fl(s + b) + a) - b)``."""

    def count_sent(self, mask: Array, fan_out: Array, active: np.ndarray, out: np.ndarray) -> None:
        """Add, per active sample, the fan-outs of its sent elements to the host counter `out` (C-1)."""

    def count_nonzero(self, values: Array, active: np.ndarray, out: np.ndarray) -> None:
        """Add, per active sample, the number of its elements that are not zero to the host counter `out` (C-3)."""

    def residual(
        self, f: Sequence[Array], z: Sequence[Array], norm: str, active: np.ndarray, residual: np.ndarray, scale: np.ndarray
    ) -> None:
        """Write ``||f - z||`` and ``||f||`` of the active samples to host arrays, by the pinned tree (S-2)."""

    def relax(self, z: Array, f: Array, alpha: float, active: np.ndarray, out: Array) -> None:
        """Krasnoselskii-Mann step (S-6); `out` may be `z`; ``alpha = 1`` copies f."""

    def flatten(self, parts: Sequence[Array], active: np.ndarray, out: Array) -> None:
        """Concatenate the states of a sample, in declared order, into its row of `out`, shape (B, N)."""

    def unflatten(self, rows: Array, active: np.ndarray, parts: Sequence[Array]) -> None:
        """Take rows of shape (B, N) apart into the states: the inverse of :meth:`flatten`."""

    def inner(self, columns: Sequence[Array], row: Array, active: np.ndarray, out: np.ndarray) -> None:
        """Write ``<columns[i][b], row[b]>`` to the host array ``out[b, i]`` (S-7, S-8).

        Products and sums in float64, by the pinned tree of S-2: 32 lanes of ascending stride, added in ascending order.
        """

    def combine(self, columns: Sequence[Array], weights: np.ndarray, active: np.ndarray, out: Array) -> None:
        """Write ``sum_i weights[b, i] * columns[i][b]`` to ``out[b]`` (S-7, S-8); `weights` is a (B, k) float64 host array.

        Formed in float64 from +0 in ascending i, each product and sum rounded, then rounded once to the dtype. A column whose
        weight for a sample is 0 is not read for it. `out` may be one of the columns.
        """
