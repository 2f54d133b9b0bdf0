"""K4 at op level: whether a gated Gemm goes over lists of sent columns or over all columns under the mask.

Both ways add the same terms in the same order by the same operation, and none for a column that was not sent, so that no bit
ever depends on the choice (N-6, N-7, D-7). It follows from counts that the host has anyway and from the record of the device.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np

from refdeq_gpu.arrays import DeviceArray
from refdeq_gpu.device import Device
from refdeq_gpu.plans.crossovers import Costs, costs_of
from refdeq_gpu.plans.dispatch import Counts, choose, note

__all__ = ["GemmWays"]


class GemmWays:
    """Chooses between the listed way ("axpy") and the dense way under a mask ("dense"), and counts what was chosen.

    Counts belong to one mask array and end with it: neither another array nor another solve sees them.

    Parameters
    ----------
    device : Device
        Its name picks the record of costs.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._sent: WeakKeyDictionary[DeviceArray, np.ndarray] = WeakKeyDictionary()
        self._costs: dict[str, Costs] = {}
        self.chosen: Counter[str] = Counter()

    def remember(self, mask: DeviceArray, active: np.ndarray, sent: np.ndarray) -> None:
        """Keep how many elements of each active sample a mask sends; the other samples keep their last numbers."""
        kept = self._sent.get(mask)
        if kept is None:
            kept = self._sent[mask] = np.full(len(mask), mask.size // max(1, len(mask)), dtype=np.int64)
        kept[active] = sent[active]

    def choose(self, mask: DeviceArray, active: np.ndarray, dtype: np.dtype) -> str:
        """The way of the next Gemm over the active samples under a mask; without counts everything counts as sent."""
        kept = self._sent.get(mask)
        counts = None
        if kept is not None:
            own = kept[active]
            counts = Counts(len(own), int((own > 0).sum()), mask.size // len(mask), int(own.sum()))
        way = choose(counts, self._costs_in(dtype.name), ("dense", "axpy")).way
        self.chosen[way] += 1
        return way

    def note(self) -> str:
        """What was chosen so far, for ``Solution.executor``; empty when there was nothing to choose."""
        return note(self.chosen)

    def _costs_in(self, dtype: str) -> Costs:
        if dtype not in self._costs:
            self._costs[dtype] = costs_of(self._name, dtype)
        return self._costs[dtype]

    @cached_property
    def _name(self) -> str:
        return self._device.describe()["device"]
