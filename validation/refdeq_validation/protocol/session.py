"""The protocol itself: an implementation opens problems, and a session answers calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from refdeq_validation.protocol.problem import Problem

__all__ = ["Implementation", "Session"]

Array = np.ndarray[Any, Any]


class Session(Protocol):
    """One opened problem; holds gate state between calls. Arrays have the batch on axis 0 and the dtype of the problem.

    An implementation may leave out the methods of groups its manifest does not offer (``state``, ``solve``, ``trace``,
    ``gradient``). A call with wrong shapes, dtypes or values raises ``ValueError`` or ``TypeError`` (or a subclass) and changes
    nothing; any other exception counts as a crash.

    Inputs are only read, and may be arrays that cannot be written. Nothing that was passed in is kept, and nothing that was
    returned is touched again: callers overwrite both as soon as a call is over. Outputs are full of rubbish when they come, and
    nothing else is written. Arrays are C-contiguous; with the claim ``alignment = "any"`` they may start at any byte. In other
    layouts (transposed, strided, reversed, broadcast, of the other byte order), and where `u` and `y` share memory, a call
    either gives the same bits as ever or is refused.

    Two methods more are optional. ``threads(count)``: use so many threads from now on (R2). And ``poison(value)``, of the
    implementation: fill memory that is allocated from now on with this number, or leave it as it comes when None; reading it
    before it was written then shows.
    """

    def reset(self, batch: int) -> None:
        """Forget all gate state; the steps that follow have this batch size (D-9)."""

    def step(self, u: Array, mask: Array, y: Array) -> None:
        """One evaluation of the linear node for all samples (D-1 to D-12).

        Parameters
        ----------
        u : (B, *shape)
        mask : (B, *shape) bool, filled
            What the gate sent; all true at a dense start. Thresholds and granularity are those of ``rule.gates["z"]`` where it
            names them. Where the problem has no rule, or ``rule.dense`` lists ``linear``, there is no gate (D-11): all true,
            and neither the mask nor the state is judged, `y` alone is.
        y : (B, *out_shape), filled
            Output of the node: ``fl(a + b)``, or the accumulator where there is no bias or it is folded.
        """

    def set_state(self, r: Array, a: Array, count: Array) -> None:
        """Continue from this reference, accumulator and number of evaluations since the reset, (B,) int64 (group ``state``)."""

    def get_state(self, r: Array, a: Array) -> None:
        """Write reference (B, *shape) and accumulator (B, *out_shape) as they are now (group ``state``)."""

    def solve(self, x: Array, z0: Array, *, keep: bool, trace: bool) -> Mapping[str, Array]:
        """Solve ``z = phi((A z + b) + x)`` with the problem's rule, solver and stop (group ``solve``; S-1 to S-8).

        Parameters
        ----------
        x : (B, *out_shape)
        z0 : (B, *shape)
        keep : bool
            Go on from the gate state (``reuse="state+memory"``); otherwise it is reset first.
        trace : bool
            Also return what happened (group ``trace``), from the same computation.

        Returns
        -------
        mapping of str to ndarray
            ``z``, ``status`` (values of :class:`refdeq.types.Status`), ``n_eval``, ``residual``, ``scale`` (float64); with
            `trace` also ``trace.z``, ``trace.f``, ``trace.residual``, ``trace.scale``, ``trace.active`` and, with a rule,
            ``trace.r``, ``trace.mask``, ``trace.a``, all of shape (T, B, ...) with T the largest ``n_eval``; rows of samples
            that took no part in an evaluation are not read.
        """

    def gradient(self, x: Array, z: Array, cotangent: Array, *, jacobian: str) -> Mapping[str, Array]:
        """Implicit gradient at `z` (group ``gradient``; G-1).

        Returns
        -------
        mapping of str to ndarray
            ``v`` (B, *shape): the adjoint ``(I - J^T)^-1 cotangent``; ``x`` (B, *out_shape), ``weight``, ``bias`` (summed over
            the batch).
        """

    def close(self) -> None:
        """Free what the session holds."""


class Implementation(Protocol):
    """What is judged."""

    def manifest(self) -> Mapping[str, Any]:
        """The contents of its ``backend.toml`` (:mod:`refdeq_validation.protocol.manifest`)."""

    def open(self, problem: Problem) -> Session:
        """Prepare a problem; one that the manifest excludes raises ``NotImplementedError``."""
