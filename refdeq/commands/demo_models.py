"""The model a demonstration shows: shipped with the package, or a cell file of the same layout."""

from __future__ import annotations

from pathlib import Path

from refdeq.errors import ArgumentError, FileFormatError
from refdeq.io import load_cell
from refdeq.models import TrainedModel, load_trained

__all__ = ["load_model"]

DEFAULT = {"sine": "sine", "image": "image_siren"}
WANTED = {
    "sine": "one state vector, one coordinate and one output per sample",
    "image": "one state vector, two coordinates and one grey value per pixel of a square picture",
}


def load_model(kind: str, name: str | None) -> TrainedModel:
    """Load a model and see that it fits the demonstration.

    Parameters
    ----------
    kind : {"sine", "image"}
    name : str or None
        A shipped model, or the path of a ``.safetensors`` cell file with extra tensors x, target, readout_weight and
        readout_bias; None takes the default.

    Raises
    ------
    ArgumentError, FileFormatError

    Examples
    --------
    >>> load_model("sine", "nowhere.safetensors")
    Traceback (most recent call last):
    ...
    refdeq.errors.FileFormatError: nowhere.safetensors: no such file
    """
    name = DEFAULT[kind] if name is None else name
    model = _from_file(Path(name)) if name.endswith(".safetensors") else load_trained(name)
    if not _fits(kind, model):
        got = f"{model.name!r}: {model.cell!r}, {len(model.x)} samples"
        raise ArgumentError("--model", expected=f"a model with {WANTED[kind]}", got=got)
    return model


def _from_file(path: Path) -> TrainedModel:
    cell, extras, meta = load_cell(path, with_extras=True)
    for name in ("x", "target", "readout_weight", "readout_bias"):
        if name not in extras:
            raise FileFormatError(f"{path}: a demonstration needs the extra tensor {name!r}")
    return TrainedModel(path.stem, cell, extras["x"], extras["target"], extras["readout_weight"], extras["readout_bias"], meta)


def _fits(kind: str, model: TrainedModel) -> bool:
    states, samples = list(model.cell.graph.states.values()), len(model.x)
    readable = len(states) == 1 and model.readout_weight.shape == (1, *states[0]) and model.target.shape == (samples, 1)
    coordinates = 1 if kind == "sine" else 2
    square = kind == "sine" or round(samples**0.5) ** 2 == samples
    return readable and samples >= 4 and model.x.shape == (samples, coordinates) and square
