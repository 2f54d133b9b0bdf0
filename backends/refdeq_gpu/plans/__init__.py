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

_FAMILIES = ("fc", "rows", "conv")


def make_plan(request: PlanRequest, device: Device, precision: str = "float32") -> Plan | Refusal:
    """Return the plan of a request, or all the reasons why there is none.

    Where both a solve over the whole device and one of many rows fit, the size of each batch chooses (K4).

    Parameters
    ----------
    request : PlanRequest
    device : Device
    precision : str
        Arithmetic of the products; ``float32`` is that of the cell's dtype.
    """
    plans: dict[str, Plan] = {}
    reasons = []
    for family in _FAMILIES:
        offered: Plan | Refusal = importlib.import_module(f"refdeq_gpu.plans.{family}").offer(request, device, precision)
        if isinstance(offered, Refusal):
            reasons.append(offered.reason)
        else:
            plans[family] = offered
    if "fc" in plans and "rows" in plans:
        from refdeq_gpu.plans.dispatch import BatchPlan

        return BatchPlan(plans)
    return next(iter(plans.values()), Refusal("; ".join(dict.fromkeys(reasons))))
