"""What the workloads of single primitives share: the backend's kernels, and contenders that were checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError
from refdeq.kernels import Kernels
from refdeq.ops import OPS
from refdeq.registry import load_backend
from refdeq_bench.baselines import Dense
from refdeq_bench.checking import Expected
from refdeq_bench.workloads.case import Contender

__all__ = ["accumulating", "attributes", "constant", "dense_contenders", "kernels_of", "label"]

Accumulate = Callable[..., None]


def kernels_of(backend: str, order: str, threads: int) -> Kernels:
    """Kernels of a backend.

    Raises
    ------
    BackendUnavailableError
        It cannot run here.
    ArgumentError
        It does not offer that order.
    """
    loaded = load_backend(backend)
    if order not in loaded.info.orders:
        raise ArgumentError("order", expected=f"one of {', '.join(loaded.info.orders)} ({backend})", got=repr(order))
    return loaded.kernels(order=order, threads=threads)


def constant(kernels: Kernels, array: np.ndarray) -> Any:
    """Hand a parameter over; versions from before ``Kernels.constant`` only had ``upload``."""
    hand_over: Callable[[np.ndarray], Any] = getattr(kernels, "constant", kernels.upload)
    return hand_over(array)


def attributes(op: str, **given: Any) -> dict[str, Any]:
    """Attributes of an operator, defaults filled in."""
    return {**OPS[op].attributes, **given}


def label(backend: str, order: str) -> str:
    """Name of the backend's contender."""
    return f"{backend} {order}"


def dense_contenders(paths: Sequence[Dense], expected: Expected) -> list[Contender]:
    """Run every dense path once and check it."""
    contenders = []
    for path in paths:
        path.run()
        share = expected.check(path.name, path.result())
        contenders.append(Contender(path.name, path.run, "baseline", {"err/bound": share}))
    return contenders


def accumulating(
    name: str,
    kernels: Kernels,
    accumulate: Accumulate,
    inputs: Sequence[tuple[np.ndarray, np.ndarray | None]],
    weight: Any,
    given: Mapping[str, Any],
    start: np.ndarray,
    expected: Expected,
    quality: Mapping[str, float | str],
) -> Contender:
    """A contender that adds to an accumulator again and again, taking the inputs by turns.

    The first of the inputs is checked against `expected`, from `start`. What the accumulator holds grows with every call, by as
    much; it stays far from the ends of its format, and the time of a multiply-add does not depend on it.
    """
    active = np.ones(len(start), dtype=bool)
    uploaded = [(kernels.upload(d), None if mask is None else kernels.upload(mask)) for d, mask in inputs]
    a = kernels.upload(start)
    accumulate(*uploaded[0], weight, given, active, a)
    share = expected.check(name, kernels.download(a))
    if len(uploaded) == 1:
        d, mask = uploaded[0]
        return Contender(name, lambda: accumulate(d, mask, weight, given, active, a), "ours", {**quality, "err/bound": share})
    turn = cycle(uploaded)

    def run() -> None:
        accumulate(*next(turn), weight, given, active, a)

    return Contender(name, run, "ours", {**quality, "err/bound": share})
