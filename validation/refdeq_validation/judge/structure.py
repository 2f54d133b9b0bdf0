"""What must hold of a run before its numbers can be judged: which arrays there are, their shapes and dtypes, who took part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.nodes import NodeData
from refdeq_validation.judge.run import Run

__all__ = ["has_structure"]

_SUMS = ("Gemm", "Conv", "MatMul", "ReduceMean", "DFT")
"""Operators whose bits depend on the order of a sum; where no gate holds their accumulator, a trace records their value."""


def has_structure(run: Run, compare: Comparer, hoisted: Sequence[NodeData], loop: Sequence[NodeData], gated: set[str]) -> bool:
    """Compare names, shapes, dtypes and the bookkeeping of who took part; False when the numbers cannot be judged.

    Parameters
    ----------
    run : Run
    compare : Comparer
        Records what is wrong.
    hoisted, loop : sequences of nodes
        Nodes that depend on x only, and the others.
    gated : set of str
        Loop nodes behind a gate.
    """
    trace, dtype = run.trace, np.dtype(run.graph["dtype"])
    length, batch = trace.active.shape
    ok = compare.bits("structure", -1, "n_eval against trace", trace.active.sum(axis=0), run.n_eval)
    ok &= compare.equal("structure", "batch of trace", len(run.status), batch)
    if batch:
        ok &= compare.equal("structure", "length of trace", int(run.n_eval.max()), length)
    for part in ("z", "f"):
        for state, shape in run.graph["states"].items():
            array = getattr(trace, part).get(state)
            wanted = ((length, batch, *shape), dtype)
            got = None if array is None else (array.shape, array.dtype)
            ok &= compare.equal("structure", f"trace.{part}[{state}]", wanted, got)
    watched = {node["inputs"][0] for node in loop if node["name"] in gated}
    sums = {node["name"] for node in loop if node["op"] in _SUMS and node["name"] not in gated} - run.hidden
    names = {"a": gated, "r": watched, "mask": watched, "values": sums | set(trace.values)}
    for part, expected in names.items():
        arrays = getattr(trace, part)
        ok &= compare.equal("structure", f"trace.{part}", sorted(expected), sorted(arrays))
        for name, array in arrays.items():
            ok &= compare.equal("structure", f"batch of trace.{part}[{name}]", (length, batch), array.shape[:2])
    ok &= compare.equal("structure", "trace.hoisted", sorted(node["name"] for node in hoisted), sorted(trace.hoisted))
    for name, array in trace.hoisted.items():
        ok &= compare.equal("structure", f"batch of trace.hoisted[{name}]", batch, len(array))
    if run.rule is not None:
        for part, expected in (("r", watched), ("mask", watched), ("a", gated)):
            if part not in run.shows:
                continue
            ok &= compare.equal("structure", f"memory.{part}", sorted(expected), sorted(run.after.get(part, {})))
    return ok
