"""The strict order against the fast order of the same backend, on another workload's inputs (*orders*)."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

from refdeq.errors import ArgumentError
from refdeq_bench.workloads.case import Case, Workload
from refdeq_bench.workloads.convolutions import CONV
from refdeq_bench.workloads.fused_step import FUSED
from refdeq_bench.workloads.products import GEMM, GEMV

__all__ = ["ORDERS", "prepare_orders"]

_OF = {workload.name: workload for workload in (GEMV, GEMM, CONV, FUSED)}


def prepare_orders(backend: str, *, order: str = "strict", threads: int = 1, of: str = "gemm", **point: Any) -> Case:
    """The backend's contenders of both orders; the fast one is the baseline. What `order` says is not looked at."""
    if of not in _OF:
        raise ArgumentError("of", expected=f"one of {', '.join(_OF)}", got=repr(of))
    known = inspect.signature(_OF[of].prepare).parameters
    for name in point:
        if name not in known:
            raise ArgumentError(name, expected=f"a parameter of {of}", got=repr(name))
    fast, strict = (_OF[of].prepare(backend, order=kind, threads=threads, **point) for kind in ("fast", "strict"))
    contenders = replace(fast.ours, role="baseline"), strict.ours
    return Case("orders", backend, "strict", threads, {"of": of, **strict.point}, contenders)


ORDERS = Workload(
    "orders",
    "strict order against the fast order of the same backend",
    prepare_orders,
    (
        {"of": "gemv", "n": 2048, "density": 0.2},
        {"of": "gemm", "samples": 65536, "density": 0.2},
        {"of": "conv", "density": 0.25},
        {"of": "fused", "density": 0.2},
    ),
    {"of": "gemm", "samples": 256, "inputs": 64, "density": 0.25},
)
