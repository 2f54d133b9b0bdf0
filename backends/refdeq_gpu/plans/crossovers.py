"""What each way of forming a sum costs on a device, as measured there, or as a model says (K4).

A cost is a straight line: time in units of the dense way, at a share of what could be skipped that was not. Lines are kept per
device name and dtype in a small JSON file that a benchmark on the device writes; without one for the device at hand the
defaults of the model are used, and say that they were not measured. Costs decide times, never what is computed (see
:mod:`refdeq_gpu.plans.dispatch`).
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refdeq.errors import ArgumentError, FileFormatError

__all__ = ["DEFAULTS", "DTYPES", "SCHEMA", "WAYS", "Cost", "Costs", "costs_of", "fitted", "read", "record_path", "write"]

SCHEMA = "refdeq-gpu-crossovers/1"
WAYS = ("row", "axpy", "tile")
"""Ways beside the dense one: whole rows, those that send anything; columns, those that each row sends; tiles of images."""
DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Cost:
    """Predicted time of one way, in units of the dense way.

    Attributes
    ----------
    fixed : float
        At share 0: lists, packing, launches.
    slope : float
        What share 1 adds.

    Examples
    --------
    >>> Cost(0.25, 1.5).time(0.5), Cost(0.25, 1.5).crossover()
    (1.0, 0.5)
    """

    fixed: float
    slope: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (isinstance(value, float) and math.isfinite(value) and value >= 0.0):
                raise ArgumentError(name, expected="a finite number >= 0", got=value)

    def time(self, share: float) -> float:
        """Predicted time at a share; it never falls when the share grows."""
        return self.fixed + self.slope * share

    def crossover(self) -> float:
        """Share above which the dense way is faster, between 0 and 1."""
        if self.fixed >= 1.0:
            return 0.0
        return 1.0 if self.slope == 0.0 else min(1.0, (1.0 - self.fixed) / self.slope)


@dataclass(frozen=True)
class Costs:
    """Costs of the ways in one dtype on one device.

    Attributes
    ----------
    device : str
    ways : dict of name to Cost
        A way that is absent was never measured on the device and is not taken.
    is_measured : bool
    source : str
        Which measurement, or which model.
    """

    device: str
    ways: Mapping[str, Cost]
    is_measured: bool
    source: str

    def describe(self) -> str:
        """For people: where the numbers come from.

        >>> DEFAULTS.describe()
        'costs of the model of the H200, not measured'
        """
        return f"costs of {self.source}, {'measured' if self.is_measured else 'not measured'}"


DEFAULTS = Costs(
    device="",
    # Columns read every weight from shared memory for one product: a quarter of the rate of a product by tiles of registers.
    # Rows are gathered and scattered. Tiles pack and list what a gate made: a fifth of a whole convolution of 256 channels.
    ways={"row": Cost(0.1, 1.0), "axpy": Cost(0.05, 3.1), "tile": Cost(0.2, 1.0)},
    is_measured=False,
    source="the model of the H200",
)
"""What is used on a device without a record."""


def fitted(shares: Mapping[float, float], dense: float) -> Cost:
    """The line through the first and the last time, raised until no time is above it: a prediction that errs on the slow side.

    Parameters
    ----------
    shares : dict of share to seconds
        At two shares or more.
    dense : float
        Seconds of the dense way in the same run.

    Examples
    --------
    >>> fitted({0.0: 1.0, 0.5: 3.0, 1.0: 4.0}, 4.0)
    Cost(fixed=0.375, slope=0.75)
    """
    points = sorted((float(share), time / dense) for share, time in shares.items())
    if len(points) < 2 or not dense > 0.0:
        raise ArgumentError("shares", expected="times at two shares or more, and a dense time > 0", got=(dict(shares), dense))
    slope = max(0.0, (points[-1][1] - points[0][1]) / (points[-1][0] - points[0][0]))
    return Cost(max(0.0, *(time - slope * share for share, time in points)), slope)


def record_path() -> Path:
    """Where records lie: ``REFDEQ_GPU_CROSSOVERS``, else ``refdeq/gpu_crossovers.json`` in the user's cache folder."""
    named = os.environ.get("REFDEQ_GPU_CROSSOVERS")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refdeq" / "gpu_crossovers.json"


def read() -> dict[tuple[str, str], Costs]:
    """Records by device name and dtype; empty without a file.

    Raises
    ------
    FileFormatError
        The file is not one of records.
    """
    path = record_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        whole = json.loads(text)
        if whole["schema"] != SCHEMA:
            raise ValueError(f"schema {whole['schema']!r}")
        return {
            (device, dtype): _costs(device, str(record["source"]), ways)
            for device, record in whole["devices"].items()
            for dtype, ways in record["costs"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(
            f"{path}: not a record of crossovers ({error}); remove it, or let the GPU benchmark write a new one"
        ) from error


def _costs(device: str, source: str, ways: Mapping[str, Mapping[str, Any]]) -> Costs:
    unknown = sorted(set(ways) - set(WAYS))
    if unknown:
        raise ValueError(f"no such ways: {', '.join(unknown)}")
    found = {name: Cost(float(line["fixed"]), float(line["slope"])) for name, line in ways.items()}
    return Costs(device, found, True, source)


def write(device: str, source: str, costs: Mapping[str, Mapping[str, Cost]]) -> Path:
    """Write the record of one device, keeping those of others; whole or not at all. Return the path.

    Parameters
    ----------
    device : str
        Its name, as ``Device.describe()["device"]`` has it.
    source : str
        Which measurement it is.
    costs : dict of dtype to dict of way to Cost
    """
    path = record_path()
    devices: dict[str, Any] = {}
    for (name, dtype), kept in read().items():
        lines = {way: asdict(cost) for way, cost in kept.ways.items()}
        devices.setdefault(name, {"source": kept.source, "costs": {}})["costs"][dtype] = lines
    lines_of = {dtype: {way: asdict(cost) for way, cost in ways.items()} for dtype, ways in costs.items()}
    devices[device] = {"source": source, "costs": lines_of}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".crossovers", delete=False, encoding="utf-8") as file:
        json.dump({"schema": SCHEMA, "devices": devices}, file, indent=1, sort_keys=True)
    os.replace(file.name, path)
    return path


def costs_of(device: str, dtype: str) -> Costs:
    """Costs for a device and dtype: its record, else the defaults.

    >>> costs_of("a device that nobody measured", "float32").is_measured
    False
    """
    return read().get((device, dtype), DEFAULTS)
