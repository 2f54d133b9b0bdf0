"""Tiny models of both demonstrations, and a way to run the command line in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import refdeq as rd
from refdeq.cli import app
from refdeq.models import TrainedModel


@dataclass
class Stored:
    """A model and the file it is stored in."""

    path: Path
    model: TrainedModel


def _store(path, cell, x, target, weight, bias):
    extras = {"x": x, "target": target, "readout_weight": weight, "readout_bias": bias}
    rd.save_cell(path, cell, extras=extras)
    return Stored(path, TrainedModel(path.stem, cell, x, target, weight, bias, {}))


@pytest.fixture
def tiny_sine(tmp_path, rng):
    """A recurrent cell of 5 units on 12 points, float64."""
    w = rng.standard_normal((5, 5))
    w *= 0.8 / np.linalg.norm(w, 2)
    cell = rd.models.rnn(w, rng.standard_normal((5, 1)), rng.standard_normal(5))
    x = np.linspace(-3, 3, 12).reshape(-1, 1)
    return _store(tmp_path / "tiny_sine.safetensors", cell, x, np.sin(x), rng.standard_normal((1, 5)), np.zeros(1))


@pytest.fixture
def tiny_image(tmp_path, rng):
    """A SIREN-like cell of 6 units on a picture of 8 x 8, float32."""
    w = rng.standard_normal((6, 6))
    w *= 0.8 / np.linalg.norm(w, 2)
    first, second = (rng.uniform(-4, 4, (6, 2)).astype(np.float32) for _ in range(2))
    b0, b1 = (rng.uniform(-1, 1, 6).astype(np.float32) for _ in range(2))
    cell = rd.models.siren(w.astype(np.float32), first, b0, second, b1)
    axis = np.linspace(-1, 1, 8, dtype=np.float32)
    x = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    target = rng.uniform(-1, 1, (64, 1)).astype(np.float32)
    weight = rng.standard_normal((1, 6)).astype(np.float32) / 3
    return _store(tmp_path / "tiny_image.safetensors", cell, x, target, weight, np.zeros(1, dtype=np.float32))


@pytest.fixture
def refdeq_command():
    """Run ``refdeq ARGS`` in this process; the result has exit_code, stdout and stderr."""

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="refdeq")

    return run


@pytest.fixture
def small(tmp_path, tanh_cell):
    """A cell file and an input file: 7 samples of 2 numbers for a recurrent cell of 6 units, float64."""
    cell, x = tanh_cell(), np.random.default_rng(5).standard_normal((7, 2))
    rd.save_cell(tmp_path / "cell.safetensors", cell)
    np.savez(tmp_path / "input.npz", x=x)
    return Small(tmp_path / "cell.safetensors", tmp_path / "input.npz", cell, x)


@dataclass
class Small:
    """A cell and an input with the files they are stored in."""

    cell_file: Path
    input_file: Path
    cell: rd.Cell
    x: np.ndarray


@pytest.fixture
def solve_small(refdeq_command, small):
    """Run ``refdeq solve`` on the small cell and the reference backend."""

    def run(*options):
        return refdeq_command("solve", small.cell_file, small.input_file, "--backend", "reference", *options)

    return run
