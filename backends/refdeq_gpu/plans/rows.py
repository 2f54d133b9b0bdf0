"""Plans of many independent rows (K2): which of them serves a request.

Rows of a fully connected cell do not see each other (S-1), so that rows which are final cost nothing more. Three plans make use
of that. *Tiles* (:mod:`~refdeq_gpu.plans.rows_tile`, K2) keep rows on chip for the whole solve and multiply on tensor cores, in
precisions that are declared. *Lists* (:mod:`~refdeq_gpu.plans.rows_steps`, K2c) add the columns of what each row sends, in the
dtype of the cell, in strict order bit for bit. *Products* (there too, K2b) gather the rows that go on and have a library
multiply them; since that reads what was not sent (D-7) no backend is given them unasked: :func:`steps_plan` makes them.
"""

from __future__ import annotations

from refdeq.fc_pattern import Pattern, recognise
from refdeq.registry import Plan, PlanRequest, Refusal
from refdeq_gpu.choices import SOLVERS
from refdeq_gpu.device import Device
from refdeq_gpu.plans.rows_data import LARGEST_BUDGET
from refdeq_gpu.plans.rows_steps import steps_plan
from refdeq_gpu.plans.rows_tile import PARTS, tile_plan

__all__ = ["offer"]


def offer(request: PlanRequest, device: Device, precision: str = "float32") -> Plan | Refusal:
    """The plan of independent rows for a request, or what keeps it from having one.

    Parameters
    ----------
    request : PlanRequest
    device : Device
    precision : {"float32", "bfloat16", "bfloat16x2", "bfloat16x3"}
        Declared arithmetic of products: the dtype of the cell, or a weight in so many bfloat16 parts. Nothing narrower than
        what is declared ever runs.
    """
    pattern = _matched(request)
    if isinstance(pattern, Refusal):
        return pattern
    if precision in PARTS:
        return tile_plan(request, pattern, device, precision)
    if precision != "float32":
        return Refusal(f"rows know the precisions float32, {', '.join(PARTS)}, not {precision}")
    return steps_plan(request, pattern, device)


def _matched(request: PlanRequest) -> Pattern | Refusal:
    """What all plans of rows ask of a request."""
    pattern = recognise(request, SOLVERS)
    if isinstance(pattern, Refusal):
        return pattern
    if request.stop.max_eval > LARGEST_BUDGET:
        return Refusal(f"rows count up to {LARGEST_BUDGET} evaluations, the budget is larger")
    if request.gates and request.refresh:
        return Refusal(f"rows are not refreshed, the rule asks for it every {request.refresh} evaluations")
    if request.gates and request.bias == "folded" and pattern.bias is not None:
        return Refusal("rows carry no bias in their accumulators, the rule folds it in")
    return pattern
