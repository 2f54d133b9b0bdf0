"""Two small equilibrium classifiers of handwritten digits, and how they are trained: what digits_classifier.py measures.

Data: the 1797 images of 8 x 8 pixels that come with scikit-learn. 450 of them, every digit in proportion, are for testing and
nothing else; the settings below were chosen on 297 images taken out of the remaining 1347 (``load(validation=True)``). Pixels
are standardised by the training part: each by its own mean, all by one deviation (some pixels are nearly constant; divided by
their own deviation, a faint stroke there would outshout the digit). Training images are moved by up to half a pixel, by linear
interpolation, and get noise.

Everything that solves or differentiates is the public API: `refdeq.solve` and `refdeq.gradient`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import refdeq as rd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))  # where the training tools of the examples are
from training_tools import Adam, SpectralBound, cosine_rate

__all__ = ["NETWORKS", "Digits", "Head", "MonotoneNetwork", "Settings", "TanhNetwork", "Training", "load", "predict"]

CLASSES = 10
SIDE = 8


@dataclass(frozen=True)
class Digits:
    """Images and labels of one split, float32; the held-out images are standardised already.

    Attributes
    ----------
    images : (N, 64) array
        Training images as they come, 0 to 16.
    labels : (N,) int64
    held_out : (M, 64) array
    held_out_labels : (M,) int64
    mean : (64,) array
    deviation : float
        Of all pixels together, about their means.
    """

    images: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    held_out_labels: np.ndarray
    mean: np.ndarray
    deviation: float

    def standardise(self, images):
        """Pixels about their means, in units of the common deviation."""
        return ((images - self.mean) / self.deviation).astype(np.float32)


def load(validation=False):
    """Split for testing, or for choosing settings: then the test images are left out altogether."""
    images, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(images, labels, test_size=450, stratify=labels, random_state=0)
    if validation:
        train, test, train_labels, test_labels = train_test_split(
            train, train_labels, test_size=297, stratify=train_labels, random_state=0
        )
    mean = train.mean(0)
    deviation = float(np.sqrt(np.mean((train - mean) ** 2)))
    digits = Digits(train.astype(np.float32), train_labels, test, test_labels, mean, deviation)
    return Digits(digits.images, train_labels, digits.standardise(test), test_labels, mean, deviation)


def moved(images, rng, most):
    """Images moved by up to `most` of a pixel along both axes, linearly interpolated, zeros coming in."""
    frame = np.pad(images.reshape(-1, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
    down, right = rng.uniform(-most, most, (2, len(images), 1, 1)).astype(images.dtype)
    frame = (1 - abs(down)) * frame[:, 1:-1] + abs(down) * np.where(down > 0, frame[:, :-2], frame[:, 2:])
    frame = (1 - abs(right)) * frame[:, :, 1:-1] + abs(right) * np.where(right > 0, frame[:, :, :-2], frame[:, :, 2:])
    return frame.reshape(images.shape)


def uniform(rng, dtype, *shape):
    """Uniform within 1 / sqrt(fan_in), the last axis being what is summed over."""
    return rng.uniform(-(shape[-1] ** -0.5), shape[-1] ** -0.5, shape).astype(dtype)


def readout(rng, hidden, dtype):
    return {"V": uniform(rng, dtype, CLASSES, hidden), "c": np.zeros(CLASSES, dtype)}


class TanhNetwork:
    """``z <- tanh(W z + U x + b)`` with ``||W||_2`` held at 0.9, a contraction, and the readout ``V z + c``.

    The norm comes from a few power iterations per step, so it may be a little above 0.9.
    """

    name = "tanh"
    solver = rd.Picard()

    def __init__(self, rng, hidden=64, features=SIDE * SIDE, dtype="float32"):
        self.params = {
            "W": uniform(rng, dtype, hidden, hidden),
            "U": uniform(rng, dtype, hidden, features),
            "b": np.zeros(hidden, dtype),
            **readout(rng, hidden, dtype),
        }
        self._bounded = SpectralBound(self.params["W"], 0.9, rng)

    def cell(self):
        """The cell of the present parameters."""
        p = self.params
        return rd.models.rnn(self._bounded(p["W"]), p["U"], p["b"])

    def pull_back(self, grads):
        """Gradients of the parameters from those of the cell made last."""
        return {**grads, "W": self._bounded.pull_back(grads["W"], self.params["W"])}


class MonotoneNetwork:
    """``z <- relu(W z + U x + b)`` with ``W = (1 - m) I - A^T A + B - B^T``, m = 1, and the readout ``V z + c``."""

    name = "monotone"
    solver = rd.PeacemanRachford()

    def __init__(self, rng, hidden=64, features=SIDE * SIDE, dtype="float32"):
        a, b_skew, u, b = rd.models.random_monotone(hidden, features, rng, dtype=dtype)
        self.params = {"A": a, "B": b_skew, "U": u, "b": b, **readout(rng, hidden, dtype)}

    def cell(self):
        """The cell of the present parameters."""
        p = self.params
        return rd.models.monotone(p["A"], p["B"], p["U"], p["b"], m=1.0)

    def pull_back(self, grads):
        """Gradients of the parameters from those of the cell made last."""
        to_a, to_b = rd.models.monotone_pullback(self.params["A"], grads["W"])
        return {"A": to_a, "B": to_b, "U": grads["U"], "b": grads["b"]}


NETWORKS = {network.name: network for network in (TanhNetwork, MonotoneNetwork)}


class Head:
    """Softmax cross-entropy on ``V z + c``: gives `refdeq.gradient` the cotangent, and keeps its own gradients beside it."""

    def __init__(self, params, labels):
        self._params, self._labels = params, labels

    def __call__(self, z):
        """``dL/dz`` at the state where the method takes the loss."""
        v, c = self._params["V"], self._params["c"]
        logits = z @ v.T + c
        logits -= logits.max(1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        rows = np.arange(len(z))
        self.loss = float(-log_p[rows, self._labels].mean())
        error = np.exp(log_p)
        error[rows, self._labels] -= 1
        error /= len(z)
        self.grads = {"V": error.T @ z, "c": error.sum(0)}
        return error @ v


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is the same for every network and method.

    Attributes
    ----------
    epochs, batch : int
    rate : float
        Peak learning rate of Adam; falls along a cosine.
    noise : float
        Deviation of the noise, in units of the standardised pixels.
    shift : float
        Largest movement of a training image, in pixels.
    rtol, max_eval
        Of the forward solves.
    backend : str
        Of the forward solves.
    """

    epochs: int = 20
    batch: int = 100
    rate: float = 6e-3
    noise: float = 0.4
    shift: float = 0.5
    rtol: float = 1e-4
    max_eval: int = 100
    backend: str = "numba"

    @property
    def stop(self):
        """Of the forward solves."""
        return rd.StopRule(rtol=self.rtol, max_eval=self.max_eval)


@dataclass(frozen=True)
class Step:
    """One gradient: loss, gradients, and per sample the evaluations and whether both solves met their tolerance."""

    loss: float
    grads: dict
    forward: np.ndarray
    backward: np.ndarray
    converged: np.ndarray


class Training:
    """A network, a gradient method and the state of the optimiser.

    Parameters
    ----------
    network : TanhNetwork or MonotoneNetwork
    method : gradient method of refdeq
    digits : Digits
    settings : Settings
    rng : numpy.random.Generator
    """

    def __init__(self, network, method, digits, settings, rng):
        self.network, self.method, self.digits, self.settings, self.rng = network, method, digits, settings, rng
        self._adam = Adam(network.params)
        self._done = 0
        self._steps = settings.epochs * -(-len(digits.labels) // settings.batch)

    def draw(self, rows):
        """Training images as the network sees them: moved, standardised, with noise."""
        images = self.digits.standardise(moved(self.digits.images[rows], self.rng, self.settings.shift))
        return images + self.rng.normal(0.0, self.settings.noise, images.shape).astype(images.dtype)

    def solve(self, x):
        """Forward solve of a batch: the cell of the present parameters, and its solution."""
        cell = self.network.cell()
        # unrolling makes its own way from z = 0: of the solution it takes the input only, so one evaluation is enough
        stop = rd.StopRule(max_eval=1) if self._unrolls else self.settings.stop
        return cell, rd.solve(cell, x, solver=self.network.solver, stop=stop, backend=self.settings.backend)

    def differentiate(self, cell, sol, labels):
        """Mean loss of the batch, and its gradients by the method."""
        head = Head(self.network.params, labels)
        grad = rd.gradient(cell, sol, head, method=self.method)
        met = np.ones(len(labels), dtype=bool) if self._unrolls else sol.status == rd.Status.CONVERGED
        if isinstance(self.method, rd.Ift):
            met &= grad.status == rd.Status.CONVERGED
        grads = {**self.network.pull_back(grad.parameters), **head.grads}
        return Step(head.loss, grads, sol.n_eval, grad.n_eval, met)

    @property
    def _unrolls(self):
        return isinstance(self.method, rd.Unrolled)

    def epoch(self):
        """One pass over the training part; returns its steps."""
        order, size = self.rng.permutation(len(self.digits.labels)), self.settings.batch
        steps = []
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            step = self.differentiate(*self.solve(self.draw(rows)), self.digits.labels[rows])
            self._adam.step(self.network.params, step.grads, cosine_rate(self.settings.rate, self._done / self._steps))
            self._done += 1
            steps.append(step)
        return steps


def predict(params, z):
    return (z @ params["V"].T + params["c"]).argmax(1)
