"""Plans that users do not get by default, as implementations for the judge.

``refdeq validate benchmarks.gpu.variants:pairs_cupy`` judges one of them, from the root of a clone. A backend hands out the
plan that suits a request; the others of the same family have kernels of their own, and no kernel goes unjudged: here each is a
backend that hands out nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refdeq_gpu.plans import fc, rows, rows_steps
from refdeq_validation.protocol.adapter import BackendImplementation

from refdeq.fc_pattern import match
from refdeq.registry import Plan, PlanRequest, Refusal, load_backend

__all__ = ["implementation"]


class _Variant:
    """A backend with another choice of plan."""

    def __init__(self, name: str, variant: str) -> None:
        self._base: Any = load_backend(name)
        self._variant = variant
        self.info = replace(self._base.info, name=f"{name} {variant}")
        if variant == "library":  # sums whole rows in an order of its own, which may depend on how many there are
            self.info = replace(self.info, determinism="R1", inactive_columns="read")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def plan(self, request: PlanRequest) -> Plan | Refusal:
        """The variant, or why it does not fit."""
        device = self._base.device
        if self._variant == "pairs":
            plan = fc.offer(request, device)
            return plan if isinstance(plan, Refusal) else replace(plan, by_pairs=True)
        offered = rows.offer(request, device, "float32")
        if isinstance(offered, Refusal):
            return offered
        return rows_steps.steps_plan(request, match(request.graph), device, by_library=self._variant == "library")


def implementation(backend: str, variant: str, order: str) -> BackendImplementation:
    """One variant of a backend: ``pairs`` (K1b), ``lists`` (K2c) or ``library`` (K2b, fast order only)."""
    chosen: Any = _Variant(backend, variant)
    return BackendImplementation(chosen, order, "fused")


def __getattr__(name: str) -> BackendImplementation:
    """``pairs_cupy``, ``lists_cuda``, ``library_cupy`` and so on: strict order where there is one, ``_fast`` in fast order."""
    variant, _, rest = name.partition("_")
    backend, _, order = rest.partition("_")
    if variant not in ("pairs", "lists", "library") or backend not in ("cupy", "cuda") or order not in ("", "fast"):
        raise AttributeError(name)
    return implementation(backend, variant, "fast" if order or variant == "library" else "strict")
