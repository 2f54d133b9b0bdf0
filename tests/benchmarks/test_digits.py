"""The digits classifiers: their data, the gradient through the whole training step, and that training learns."""

from __future__ import annotations

import digits_classifier
import digits_training
import numpy as np
import pytest
from digits_training import NETWORKS, Settings, Training, load, moved, predict
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import refdeq as rd

TINY = Settings(epochs=8, batch=150, rate=0.02, noise=0.3, shift=0.0, rtol=1e-3, backend="reference")


@pytest.fixture(scope="module")
def digits():
    return load()


# --------------------------------------------------------------------------------------------------------------------- data


def test_held_out_images_do_not_touch_the_standardisation(digits, monkeypatch):
    images, labels = load_digits(return_X_y=True)
    _, held_out = train_test_split(np.arange(len(labels)), test_size=450, stratify=labels, random_state=0)
    images[held_out] = 16 - images[held_out]
    monkeypatch.setattr(digits_training, "load_digits", lambda return_X_y: (images, labels))
    changed = load()
    assert np.array_equal(changed.images, digits.images)
    assert np.array_equal(changed.mean, digits.mean)
    assert changed.deviation == digits.deviation
    assert not np.array_equal(changed.held_out, digits.held_out)


def test_validation_leaves_the_test_images_out(digits):
    chosen = load(validation=True)
    ours = np.concatenate([chosen.images, np.round(chosen.held_out * chosen.deviation + chosen.mean)])
    assert sorted(map(tuple, ours.astype(int))) == sorted(map(tuple, digits.images.astype(int)))


class Draws:
    """Stands in for a generator; draws what it is told."""

    def __init__(self, down, right):
        self._values = np.array([down, right], dtype=float)

    def uniform(self, low, high, shape):
        return np.broadcast_to(self._values.reshape(2, 1, 1, 1), shape)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, -1)])
def test_whole_pixels_move_without_change(digits, down, right):
    image = digits.images[:1]
    expected = np.zeros((10, 10), dtype=image.dtype)
    expected[1 + down : 9 + down, 1 + right : 9 + right] = image.reshape(8, 8)
    assert np.array_equal(moved(image, Draws(down, right), 1).reshape(8, 8), expected[1:9, 1:9])


def test_half_a_pixel_is_the_mean_of_both(digits):
    image = digits.images[:1].reshape(8, 8)
    half = moved(digits.images[:1], Draws(0.5, 0), 1).reshape(8, 8)
    assert np.array_equal(half[1:], (image[1:] + image[:-1]) / 2)  # small integers: exact
    assert np.array_equal(half[0], image[0] / 2)


# ------------------------------------------------------------------------------------------------------------------ gradient


def made(name, method, digits, hidden=12):
    """A training in float64 with tight solves, and a batch of six."""
    rng = np.random.default_rng(5)
    network = NETWORKS[name](rng, hidden=hidden, dtype="float64")
    if name == "tanh":  # one singular value far above the others: the power iteration behind the bound has converged
        network.params["W"] += 2 * np.outer(np.eye(hidden)[0], np.full(hidden, hidden**-0.5))
        for _ in range(20):
            network.cell()
    training = Training(network, method, digits, Settings(rtol=1e-14, max_eval=2000, backend="reference"), rng)
    x = (digits.images[:6].astype(float) - digits.mean) / digits.deviation
    return training, x, digits.labels[:6]


ADJOINT = rd.StopRule(rtol=1e-13, max_eval=2000)
EXACT = {"tanh": rd.Ift(stop=ADJOINT), "monotone": rd.Ift(solver=rd.PeacemanRachford(), stop=ADJOINT)}


@pytest.mark.parametrize("method", ["ift", "jfb"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_gradient_of_a_training_step(name, method, digits):
    """Head, solve, adjoint and parametrisation against central differences along one direction of all parameters.

    With D(h) = s + c h^2 + O(h^4), |D(h) - s| is a third of |D(2h) - D(h)|: the whole of it leaves room for the next term and
    for rounding, some 1e-13. One term of the series (`jfb`) must miss that.
    """
    h = 1e-3
    training, x, labels = made(name, EXACT[name] if method == "ift" else rd.Jfb(), digits)
    step = training.differentiate(*training.solve(x), labels)
    params = training.network.params
    assert set(step.grads) == set(params)
    assert step.converged.all() or method == "jfb"
    rng = np.random.default_rng(9)
    direction = {key: rng.standard_normal(value.shape) for key, value in params.items()}
    length = np.sqrt(sum(np.vdot(value, value) for value in direction.values()))
    start = {key: value.copy() for key, value in params.items()}
    signs = []

    def loss(t):
        for key, value in params.items():
            value[...] = start[key] + t / length * direction[key]
        cell, sol = training.solve(x)
        signs.append(np.sign(sol.z))
        return training.differentiate(cell, sol, labels).loss

    single, double = (loss(h) - loss(-h)) / (2 * h), (loss(2 * h) - loss(-2 * h)) / (4 * h)
    assert all(np.array_equal(signs[0], other) for other in signs)  # no kink of a Relu on the way: the loss is smooth there
    slope = sum(float(np.vdot(step.grads[key], direction[key])) for key in params) / length
    assert (abs(single - slope) <= abs(double - single)) == (method == "ift")


# ------------------------------------------------------------------------------------------------------------------ training


def linear_accuracy(digits):
    """Least-squares linear classifier on the same split."""
    ones = [np.ones((len(part), 1)) for part in (digits.images, digits.held_out)]
    train = np.hstack([digits.standardise(digits.images), ones[0]])
    weights = np.linalg.lstsq(train, np.eye(10)[digits.labels], rcond=None)[0]
    return np.mean((np.hstack([digits.held_out, ones[1]]) @ weights).argmax(1) == digits.held_out_labels)


@pytest.mark.parametrize("method", ["ift", "phantom", "jfb"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_training_beats_a_linear_classifier(name, method, digits):
    rng = np.random.default_rng(0)
    network = NETWORKS[name](rng, hidden=32)
    training = Training(network, digits_classifier.METHODS[name][method], digits, TINY, rng)
    losses = [np.mean([step.loss for step in training.epoch()]) for _ in range(TINY.epochs)]
    assert losses[-1] < losses[1] < losses[0]
    sol = rd.solve(network.cell(), digits.held_out, solver=network.solver, stop=TINY.stop)
    assert sol.converged
    assert np.mean(predict(network.params, sol.z) == digits.held_out_labels) > linear_accuracy(digits)


# -------------------------------------------------------------------------------------------------------------------- tables


def test_rows_of_the_benchmark():
    """One run as the benchmark makes it: counts, memory of a step, and the delta rows beside the dense one."""
    settings = Settings(epochs=1, batch=400, backend="reference")
    epochs = []
    row = digits_classifier.train("tanh", "ift", 0, settings, True, lambda *progress: epochs.append(progress))
    unrolled = digits_classifier.train("tanh", "unrolled", 0, settings, True, lambda *_: None)
    assert [number for number, _ in epochs] == [1]
    assert row["steps"] == unrolled["steps"] == 3  # 1050 images
    assert (unrolled["forward"], unrolled["backward"], unrolled["delta"]) == (1.0, 20.0, [])
    # it keeps the state of every step where the implicit gradient keeps one: 400 x 64 float32 more, each
    assert unrolled["peak_gradient"] > row["peak_gradient"] + 10 * 400 * 64 * 4
    dense, zero, *_, widest = row["delta"]
    assert (dense["threshold"], dense["agreement"], dense["saved_same_evaluations"]) == (None, 1.0, 0.0)
    assert zero["threshold"] == 0.0
    assert widest["macs"] < dense["macs"] == dense["evaluations"] * 64 * 64
