"""What the two training scripts in this folder share: Adam, a spectral bound, a gradient check, saving.

The scripts use plain NumPy (BLAS) products for speed: the strict-order reference of refdeq would be far
too slow for training.  Nothing is lost by that, because the reference judges the shipped weights, not the
path that led to them.
"""

from pathlib import Path

import numpy as np

import refdeq


class Adam:
    """Adam (Kingma & Ba 2015) on a dict of arrays, updated in place."""

    def __init__(self, params, beta1=0.9, beta2=0.999, eps=1e-8):
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.first = {name: np.zeros_like(value) for name, value in params.items()}
        self.second = {name: np.zeros_like(value) for name, value in params.items()}
        self.count = 0

    def step(self, params, grads, rate):
        self.count += 1
        correct1 = 1 - self.beta1**self.count
        correct2 = 1 - self.beta2**self.count
        for name, grad in grads.items():
            first, second = self.first[name], self.second[name]
            first += (1 - self.beta1) * (grad - first)
            second += (1 - self.beta2) * (grad * grad - second)
            params[name] -= rate * (first / correct1) / (np.sqrt(second / correct2) + self.eps)


class SpectralBound:
    """The map raw W -> W / max(1, sigma(W) / bound), with sigma from power iteration.

    The left singular vector is kept from call to call: W moves little per training step, so a few
    iterations per call follow its largest singular value closely.
    """

    def __init__(self, raw, bound, rng):
        self.bound = bound
        self.left = rng.standard_normal(raw.shape[0]).astype(raw.dtype)
        self(raw, iterations=200)

    def __call__(self, raw, iterations=5):
        for _ in range(iterations):
            self.right = _unit(self.left @ raw)
            self.left = _unit(raw @ self.right)
        self.scale = max(1.0, float(self.left @ raw @ self.right) / self.bound)
        return raw / self.scale

    def exact(self, raw):
        """The bounded W with the norm taken from an SVD in float64: what is shipped.

        Power iteration approaches sigma from below, so its result may exceed the bound a little.
        """
        sigma = np.linalg.norm(raw.astype(np.float64), 2)
        return (raw * (min(1.0, self.bound / sigma) * (1 - 1e-7))).astype(raw.dtype)

    def pull_back(self, grad, raw):
        """Gradient with respect to the raw W of the last call, given that of the bounded W."""
        if self.scale == 1.0:
            return grad
        along = float(np.vdot(grad, raw)) / (self.scale * self.bound)
        return (grad - along * np.outer(self.left, self.right)) / self.scale


def _unit(vector):
    return vector / (np.linalg.norm(vector) + 1e-12)


def cosine_rate(peak, done, final_fraction=0.01):
    """Cosine decay from `peak` to `final_fraction * peak` as `done` runs from 0 to 1."""
    return peak * (final_fraction + (1 - final_fraction) * 0.5 * (1 + np.cos(np.pi * done)))


def worst_gradient_deviation(loss, params, grads, rng, entries=6, step=1e-5):
    """Largest |implicit - central difference| over random entries, relative to the largest |gradient|.

    The scale is taken per array: entries near zero would otherwise measure only the difference
    quotient's own rounding.  `loss` must solve its fixed point to (nearly) machine precision.
    """
    worst = 0.0
    for name, grad in grads.items():
        flat, slope = params[name].reshape(-1), grad.reshape(-1)
        for i in rng.choice(flat.size, size=min(entries, flat.size), replace=False):
            kept = flat[i]
            flat[i] = kept + step
            above = loss(params)
            flat[i] = kept - step
            below = loss(params)
            flat[i] = kept
            deviation = abs((above - below) / (2 * step) - slope[i])
            worst = max(worst, deviation / np.abs(slope).max())
    return worst


def save(path, cell, arrays, target, meta):
    """Write cell, inputs, target, readout and the facts about the run as one refdeq model file."""
    extras = {"x": arrays["x"], "target": target, "readout_weight": arrays["V"], "readout_bias": arrays["c"]}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    refdeq.save_cell(path, cell, extras=extras, meta={name: str(value) for name, value in meta.items()})
    print(f"saved {path}")
