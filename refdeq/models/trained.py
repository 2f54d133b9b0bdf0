"""Trained models shipped with the package: a cell, its inputs, its targets and its readout, in one file each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refdeq.errors import ArgumentError
from refdeq.graph import Cell

__all__ = ["TrainedModel", "load_trained", "trained_names"]

_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class TrainedModel:
    """A trained cell with everything needed to say how good its solutions are.

    Attributes
    ----------
    name : str
    cell : Cell
    x : (B, d) ndarray
        All inputs.
    target : (B, k) ndarray
    readout_weight, readout_bias : (k, n) and (k,) ndarrays
    meta : dict of str to str
        Provenance: training script, seed, licence of the data.
    """

    name: str
    cell: Cell
    x: np.ndarray
    target: np.ndarray
    readout_weight: np.ndarray
    readout_bias: np.ndarray
    meta: dict[str, str]

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Readout ``V z + c`` of (B, n) states."""
        decoded: np.ndarray = z @ self.readout_weight.T + self.readout_bias
        return decoded

    def mse(self, z: np.ndarray) -> float:
        """Mean squared error of the readout against the target, in float64."""
        return float(np.mean((self.decode(z.astype(np.float64)) - self.target) ** 2))

    def psnr(self, z: np.ndarray) -> float:
        """Peak signal-to-noise ratio in dB of an image model: targets span [-1, 1], a range of 2; nothing is clipped."""
        return float(10.0 * np.log10(4.0 / self.mse(z)))


def trained_names() -> tuple[str, ...]:
    """Names of the shipped models.

    >>> "sine" in trained_names()
    True
    """
    return tuple(sorted(path.stem for path in _DATA.glob("*.safetensors")))


def load_trained(name: str) -> TrainedModel:
    """Load a shipped model.

    Parameters
    ----------
    name : str
        One of :func:`trained_names`.

    Returns
    -------
    TrainedModel

    Examples
    --------
    >>> load_trained("sine").cell.graph.states
    {'z': (20,)}
    """
    from refdeq.io import load_cell

    if name not in trained_names():
        raise ArgumentError("name", expected=f"one of {trained_names()}", got=repr(name))
    cell, extras, meta = load_cell(_DATA / f"{name}.safetensors", with_extras=True)
    return TrainedModel(name, cell, extras["x"], extras["target"], extras["readout_weight"], extras["readout_bias"], meta)
