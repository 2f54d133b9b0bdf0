"""What a dialect overrides of S-1 to S-4: the residual, who decides, when, and what is returned and reported (S-9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from refdeq.solvers.peer_search import PeerSearch

__all__ = ["PeerRules", "SciPyTermination"]


@dataclass(frozen=True, kw_only=True)
class SciPyTermination:
    """SciPy's test: every condition given must hold, all in the largest magnitude over the batch (S-9).

    ``|F| <= f_tol`` and ``|F| / f_rtol <= |F0|`` and ``|dx| <= x_tol`` and ``|dx| / x_rtol <= |x|``, where dx is the direction
    of the last step, before the line search shortened it (infinite before the first). ``F = 0`` always ends the solve.

    Attributes
    ----------
    f_rtol, x_tol, x_rtol : float
        Infinite when not given.
    iterations : int, optional
        SciPy's ``iter``: exactly so many steps, no test but ``F = 0``.
    """

    f_rtol: float = float("inf")
    x_tol: float = float("inf")
    x_rtol: float = float("inf")
    iterations: int | None = None


@dataclass(frozen=True, kw_only=True)
class PeerRules:
    """The table of one dialect: S-1 to S-4 field by field, and the form of its report (S-9).

    "Iterate" is an accepted point, numbered from 0; without a line search that is every evaluation.

    Attributes
    ----------
    pool : {"samples", "norm", "mean"}
        S-1. The largest residual of the samples decides for all of them; or one norm of the whole batch does; or nobody does,
        and the mean is reported.
    tol : float, optional
        S-3. None: v1's ``1e-6 sqrt(B N)`` with `pool` "norm", no test with "mean".
    mode : {"abs", "rel"}
        S-2, S-3. Which residual is tested and which one "lowest" means.
    compare : {"<", "<="}
        S-3.
    eps : float
        S-2. ``rel = abs / (scale + eps)``.
    scale : {"f", "z"}
        S-2. Whose norm is the scale.
    damping : float
        S-2, S-6. The residual is that of the damped step, ``||z' - z||`` with ``z' = damping f + (1 - damping) z``, and the
        scale ``||z'||``.
    max_steps : int, optional
        S-3. Number of the last iterate; None is SciPy's ``100 (B N + 1)``.
    first_tested, tests_last
        S-3. Number of the first iterate that is tested, and whether the last one is.
    tests_tolerance : bool
        S-3. False runs all steps (``return_final`` of torchdeq).
    latest_is_lowest : bool
        S-4. The latest residual counts as the lowest, whatever it is.
    stagnation : {None, "steps", "samples"}
        S-3. After iterate 30, when the residual is below ``3 tol``: ended when, over the last 30 iterates, largest / smallest
        < 1.3. "steps" compares the iterates with each other; "samples" compares, at each iterate, the samples with each other
        (the reduction over the wrong axis that the later codes share; a batch of one always stagnates).
    protective : float, optional
        S-3. DIVERGED when the residual exceeds that of the first recorded iterate times this times the length of the sequence
        (last axis of states of shape (B, d, L), else 1).
    termination : SciPyTermination, optional
        S-3. In the place of `tol`, `compare` and `mode`; `tol` is then ``f_tol``.
    returned : {"lowest", "last"}
        S-4. Lowest of the `mode` residual, strictly below all before it.
    value : {"z", "f"}
        S-4. The iterate, or the (damped) value of f there.
    lowest_start : float
        S-4. What the first residual must be below to count; z0 is returned when none is.
    aliases_start : bool
        S-4. v1 updates the variable that "lowest" is initialised with in place: if no later iterate beats the first, the *last*
        one is returned.
    search : PeerSearch, optional
        Which evaluations are trials.
    first_recorded : int
        First iterate of the trace.
    head : float, optional
        What stands before it.
    length : int, optional
        Length up to which a trace is filled with the lowest residual.
    layout : {"samples first", "steps first"}
        Axes of a trace with `pool` "samples".
    counts : {"lowest", "made", "tests"}
        Whether the peer's step number is that of the lowest iterate, of the last one, or the number of tests made.
    offset : int
        Added to the number of an iterate to get the peer's.
    """

    pool: Literal["samples", "norm", "mean"] = "samples"
    tol: float | None = None
    mode: Literal["abs", "rel"] = "rel"
    compare: Literal["<", "<="] = "<"
    eps: float = 0.0
    scale: Literal["f", "z"] = "f"
    damping: float = 1.0
    max_steps: int | None
    first_tested: int = 0
    tests_last: bool = True
    tests_tolerance: bool = True
    latest_is_lowest: bool = False
    stagnation: Literal["steps", "samples"] | None = None
    protective: float | None = None
    termination: SciPyTermination | None = None
    returned: Literal["lowest", "last"] = "lowest"
    value: Literal["z", "f"] = "z"
    lowest_start: float = 1e8
    aliases_start: bool = False
    search: PeerSearch | None = None
    first_recorded: int = 0
    head: float | None = None
    length: int | None = None
    layout: Literal["samples first", "steps first"] = "samples first"
    counts: Literal["lowest", "made", "tests"] = "lowest"
    offset: int = 0

    def tolerance(self, size: int) -> float:
        """Tolerance for a batch of so many numbers in all."""
        return 1e-6 * float(np.sqrt(size)) if self.tol is None else self.tol

    def pooled(self, absolute: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Residuals ``abs`` and ``rel`` as the peer pools those of its samples: one each, or one for the batch (S-1, S-2)."""
        if self.pool == "norm":
            absolute, scale = (np.sqrt((part * part).sum(keepdims=True)) for part in (absolute, scale))
        relative = absolute / (scale + self.eps)
        if self.pool == "mean" and len(absolute):
            absolute, relative = absolute.mean(keepdims=True), relative.mean(keepdims=True)
        return absolute, relative

    def met(self, absolute: np.ndarray, scale: np.ndarray, size: int) -> np.ndarray:
        """Where a residual of S-2, of another evaluation, meets the peer's tolerance (S-2b).

        SciPy's largest magnitude is bounded by the norm over the square root of the number of elements: where even that is too
        large, the tolerance is missed for certain.
        """
        absolute = self.damping * absolute
        if self.termination is not None:
            absolute = absolute / np.sqrt(size)
        residual = self.pooled(absolute, scale)[self.mode == "rel"]
        tolerance = self.tolerance(size)
        below = residual <= tolerance if self.compare == "<=" else residual < tolerance
        return np.broadcast_to(below, absolute.shape)
