"""Whole solves on a device: which plan there is for a request, and how each runs.

Modules: :mod:`~refdeq_gpu.plans.fc` (K1: one fully connected solve over the whole device), :mod:`~refdeq_gpu.plans.rows`
(K2: many independent rows), :mod:`~refdeq_gpu.plans.conv` (K3: lists of tiles), :mod:`~refdeq_gpu.plans.dispatch` (K4: which).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from refdeq.registry import Plan, PlanRequest, Refusal

if TYPE_CHECKING:
    from refdeq_gpu.device import Device

__all__ = ["make_plan"]

_FAMILIES = ("fc", "conv")


def make_plan(request: PlanRequest, device: Device, precision: str = "float32") -> Plan | Refusal:
    """Return the first plan that fits a request, or all the reasons why none does.

    Parameters
    ----------
    request : PlanRequest
    device : Device
    precision : str
        Arithmetic of the sums; ``float32`` is that of the cell's dtype.
    """
    reasons = []
    for family in _FAMILIES:
        offered: Plan | Refusal = importlib.import_module(f"refdeq_gpu.plans.{family}").offer(request, device, precision)
        if not isinstance(offered, Refusal):
            return offered
        reasons.append(offered.reason)
    return Refusal("; ".join(dict.fromkeys(reasons)))
