"""Which elements of a batch are sent: seeded masks with exactly the density that was asked for, and values for them.

*random*: any element, independently. *mixed*: as in solves that converge, some samples are quiet as a whole and so are some
features, more or less, in all of them; a square root of the density falls to either. *rows*: whole samples (of a convolution:
whole pixels). In *mixed* samples are active or quiet in runs, as neighbouring pixels of an image are.
"""

from __future__ import annotations

import numpy as np

from refdeq.errors import ArgumentError

__all__ = ["PATTERNS", "pattern", "values_of"]

PATTERNS = ("random", "mixed", "rows")
RUN = 32
"""Neighbouring samples that are active together, in *mixed*."""
SKEW = 0.35
"""First parameter of the beta distribution of how often a feature is sent, in *mixed*: most features are seldom or often."""


def pattern(kind: str, shape: tuple[int, int], density: float, seed: int = 0) -> np.ndarray:
    """Mask of the elements that are sent.

    Parameters
    ----------
    kind : {"random", "mixed", "rows"}
    shape : (samples, features)
    density : float
        In (0, 1]. Exactly ``round(density * samples * features)`` elements are sent; with *rows* whole samples, so the nearest
        number of them.
    seed : int

    Returns
    -------
    mask : (samples, features) bool

    Raises
    ------
    ArgumentError
        No such pattern, a density outside (0, 1], or one that sends nothing.

    Examples
    --------
    >>> int(pattern("random", (10, 10), 0.3).sum()), int(pattern("rows", (10, 10), 0.3).any(axis=1).sum())
    (30, 3)
    """
    if kind not in PATTERNS:
        raise ArgumentError("pattern", expected=f"one of {', '.join(PATTERNS)}", got=repr(kind))
    samples, features = shape
    unit = features if kind == "rows" else 1
    sent = round(density * samples * features / unit)
    if not 0 < density <= 1 or sent == 0:
        raise ArgumentError(
            "density", expected="a number in (0, 1] that sends something", got=density, hint=f"shape {shape}, pattern {kind!r}"
        )
    if density == 1.0:
        return np.ones(shape, dtype=bool)
    rng = np.random.default_rng(seed)
    if kind == "rows":
        mask = np.zeros(shape, dtype=bool)
        mask[rng.choice(samples, sent, replace=False)] = True
        return mask
    allowed = np.ones(samples, dtype=bool) if kind == "random" else _runs(rng, samples, density)
    likely = np.full(features, density) if kind == "random" else _features(rng, features, density)
    mask = (rng.random(shape, dtype=np.float32) < likely) & allowed[:, None]
    return _with_exactly(rng, mask, allowed, sent)


def _runs(rng: np.random.Generator, samples: int, density: float) -> np.ndarray:
    """Samples that may send, in runs: about a square root of the density of all, never too few for the elements asked for."""
    length = max(1, min(RUN, samples // 8))
    runs = -(-samples // length)
    chosen = np.zeros(runs, dtype=bool)
    chosen[rng.choice(runs, min(runs, max(1, round(density**0.5 * runs) + 1)), replace=False)] = True
    return np.repeat(chosen, length)[:samples]


def _features(rng: np.random.Generator, features: int, density: float) -> np.ndarray:
    """How likely each feature is sent by a sample that sends: a square root of the density on average."""
    mean = density**0.5
    likely: np.ndarray = rng.beta(SKEW, SKEW * (1.0 - mean) / mean, features)
    return likely


def _with_exactly(rng: np.random.Generator, mask: np.ndarray, allowed: np.ndarray, sent: int) -> np.ndarray:
    """Switch some elements of allowed samples so that exactly `sent` are on."""
    surplus = int(mask.sum()) - sent
    candidates = np.flatnonzero(mask if surplus > 0 else ~mask & allowed[:, None])
    mask.reshape(-1)[rng.choice(candidates, abs(surplus), replace=False)] = surplus < 0
    return mask


def values_of(shape: tuple[int, ...], dtype: str, seed: int, scale: float = 1.0) -> np.ndarray:
    """Numbers of either sign with magnitudes in [scale / 2, 3 scale / 2): none is zero, subnormal or huge.

    >>> bool(np.all(abs(values_of((5,), "float32", 0)) >= 0.5))
    True
    """
    if dtype not in ("float32", "float64"):
        raise ArgumentError("dtype", expected="float32 or float64", got=repr(dtype))
    rng = np.random.default_rng(seed)
    drawn = rng.random(shape, dtype=np.dtype(dtype).type)
    drawn += drawn.dtype.type(0.5)
    drawn *= drawn.dtype.type(scale)
    flip = rng.integers(0, 2, size=shape, dtype=np.int8).view(bool)
    np.negative(drawn, out=drawn, where=flip)
    return drawn
