"""Solves of many rows through a chosen plan, what the declared arithmetic allows them, and planted bugs."""

import dataclasses

import numpy as np
from refdeq_gpu.plans import rows, rows_steps
from refdeq_validation.judge import bounds
from refdeq_validation.judge.models import declared
from refdeq_validation.protocol.manifest import Claims

import refdeq as rd
from refdeq.fc_pattern import match
from refdeq.formats import round_to_format
from refdeq.reference import ReferenceBackend
from refdeq.registry import BackendInfo

INFO = BackendInfo("rows", "one plan", ("strict", "fast"), ("float32", "float64"), "R4", "skip", "strict", fused=True)
NATIVE = {"fast_activation": "native", "activation_ulp": 2.75, "inactive_columns": "read"}
FEEDBACK = {"memory": "feedback", "feedback_format": "bfloat16"}


class OnePlan(ReferenceBackend):
    """Runs whole solves on a device by a plan of rows, changed as asked for; nothing else of it is used."""

    def __init__(self, device, precision="float32", by_library=False, **changes):
        self.device, self.precision, self.by_library, self.changes = device, precision, by_library, changes
        self.info = INFO if precision == "float32" else dataclasses.replace(INFO, **NATIVE)

    def plan(self, request):
        offered = rows.offer(request, self.device, self.precision)
        if self.by_library:
            offered = rows_steps.steps_plan(request, match(request.graph), self.device, by_library=True)
        if hasattr(offered, "reason"):
            return offered
        changes = dict(self.changes)
        if "resident" in changes:
            resident = min(changes.pop("resident"), offered.tile.resident)
            changes["tile"] = dataclasses.replace(offered.tile, resident=resident)
        return dataclasses.replace(offered, **changes)


def solved(device, cell, x, precision="float32", plan=None, **options):
    order = options.pop("order", "strict" if precision == "float32" else "fast")
    backend = OnePlan(device, precision, **(plan or {}))
    return rd.solve(cell, x, backend=backend, executor="fused", order=order, **options)


def worst_share(solution, weight, multiply, threshold, memory=None):
    """Check every mask and reference of a traced feedback solve; return the worst share that an accumulator has of its bound.

    Masks and references follow exactly (docs/bounds.md, section 1), accumulators within the bound of the declared arithmetic.
    """
    claims = Claims(name="rows", order="fast", multiply=multiply, rounding="truncate" if multiply != "same" else "nearest")
    model, trace, worst = declared(claims, "float32"), solution.trace, 0.0
    [gate], [node] = trace.r, trace.a
    before_a = np.zeros_like(trace.z["z"][0]) if memory is None else memory.a[node]
    before_r = np.zeros_like(before_a) if memory is None else memory.r[gate]
    for t, active in enumerate(trace.active):
        u = trace.z["z"][t]
        if t == 0 and memory is None:
            sent, d, r, a = np.ones(u.shape, bool), u, u, before_a
        else:
            sent = ~(np.abs(u - before_r) <= np.float32(threshold))
            d = np.where(sent, round_to_format(np.where(sent, u - before_r, 0), "bfloat16"), np.float32(0))
            r, a = np.where(sent, before_r + d, before_r), before_a
        for b in np.flatnonzero(active):
            assert (trace.mask[gate][t, b] == sent[b]).all()
            assert (trace.r[gate][t, b] == r[b]).all()
            exact = a[b].astype(np.float64) + d[b].astype(np.float64) @ weight.astype(np.float64)
            products = np.abs(d[b]).astype(np.float64) @ np.abs(weight).astype(np.float64)
            sizes = np.abs(weight[sent[b]]).sum(axis=0) + np.abs(d[b]).sum()
            bound = bounds.accumulate(model, np.array(sent[b].sum()), np.abs(a[b]).astype(np.float64), products, sizes)
            error = np.abs(trace.a[node][t, b] - exact)
            worst = max(worst, float((error / np.where(bound.limit > 0, bound.limit, 1.0)).max()))
        before_r, before_a = trace.r[gate][t], trace.a[node][t]
    return worst


def planted_sources(folder, bugs):
    """Copy the CUDA C++ of rows with every bug in it; ``REFDEQ_PLANTED`` says which one is at work, 0 for none.

    A bug is (file, right text, wrong text). Of statements, which end in a semicolon, one of the two is executed; of other texts
    one is the value.
    """
    from refdeq_cupy.loader import SOURCES

    texts = {path.name: path.read_text() for path in SOURCES.iterdir()}
    for number, (name, right, wrong) in enumerate(bugs, 1):
        assert texts[name].count(right) == 1, f"{name}: {right!r}"
        chosen = f"(planted({number}) ? ({wrong}) : ({right}))"
        if right.partition("//")[0].rstrip().endswith(";"):
            chosen = f"if (planted({number})) {{ {wrong}\n }} else {{ {right}\n }}"
        texts[name] = texts[name].replace(right, chosen)
    texts = {name: '#include "planted.cuh"\n' + text if name != "planted.cuh" else text for name, text in texts.items()}
    texts["planted.cuh"] = """#pragma once
        #include <stdlib.h>
        inline bool planted(int bug) { return atoi(getenv("REFDEQ_PLANTED")) == bug; }
    """
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder
