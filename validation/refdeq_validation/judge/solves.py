"""Level L2 of whole solves: every transition of a traced solve, from the implementation's own bits (trace replay)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq.types import Trace
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge.accumulating import Linear
from refdeq_validation.judge.calls import Memory, answered, has_arrays
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.free_running import judge_end
from refdeq_validation.judge.replay import replay
from refdeq_validation.judge.returned import RETURNED, arithmetic_of, memory_after, shapes_returned
from refdeq_validation.judge.run import Run
from refdeq_validation.judge.sessions import Sessions
from refdeq_validation.judge.verdicts import Failure, Findings
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.transcript import Transcript

__all__ = ["judge_solves", "judge_traced"]

Array = np.ndarray[Any, Any]


def judge_solves(case: Case, transcript: Transcript, claims: Claims) -> Findings:
    """Judge the solves of a transcript.

    A solve without a trace must give the bits of the traced one before it with the same arguments and the same kept state
    (S-10); where there was none, only its end is judged (level L4).

    Parameters
    ----------
    case : Case
    transcript : Transcript
    claims : Claims

    Returns
    -------
    Findings
    """
    findings = Findings()
    compare = Comparer(findings)
    memories = Sessions()
    traced: dict[int, tuple[Call, Memory | None, Mapping[str, Array]]] = {}
    with np.errstate(all="ignore"):
        for t, call, answer in answered(case, transcript, compare):
            number = memories.begun(case, call)
            if call.name == "solve":
                before = memories.kept(number, call)
                if call.options.get("trace"):
                    ok = judge_traced(case, t, call, before, answer.results, claims, findings)
                    traced[number] = (call, before, answer.results)
                else:
                    ok = _judge_untraced(case, t, call, before, answer.results, traced.get(number), claims, compare)
                if not ok:
                    break
                memories[number] = memory_after(case, call, before, answer.results)
            elif call.name not in ("reset", "set_state"):
                findings.add(Failure("declaration", t, call.name, (), "solves of an open session", call.name))
                break
    return findings


def judge_traced(
    case: Case,
    t: int,
    call: Call,
    before: Memory | None,
    results: Mapping[str, Array],
    claims: Claims,
    findings: Findings,
) -> bool:
    """Judge one traced solve from the state before it; False where its results cannot be read."""
    problem, batch, compare = case.problem, len(call.arrays["z0"]), Comparer(findings)
    wanted = shapes_returned(case, batch, claims)
    if not has_arrays(compare, t, results, wanted):
        return False
    length = int(results["n_eval"].max(initial=0))
    stacked: dict[str, tuple[tuple[int, ...], Any]] = {
        "z": (problem.shape, problem.dtype),
        "f": (problem.shape, problem.dtype),
        "residual": ((), "float64"),
        "scale": ((), "float64"),
        "active": ((), "bool"),
    }
    if problem.rule is not None:
        stacked |= {
            "r": (problem.shape, problem.dtype),
            "mask": (problem.shape, "bool"),
            "a": (problem.out_shape, problem.dtype),
        }
    shapes = {f"trace.{name}": ((length, batch, *shape), dtype) for name, (shape, dtype) in stacked.items()}
    if not has_arrays(compare, t, results, shapes):
        return False
    if before is not None and (before.r is None or before.a is None) and problem.rule is not None:
        return compare.equal("structure", f"call {t}: state before", "shown", "not shown")
    if batch:
        findings.merge(replay(_run(case, call, before, results, claims)))
    return True


def _run(case: Case, call: Call, before: Memory | None, results: Mapping[str, Array], claims: Claims) -> Run:
    problem, model = case.problem, arithmetic_of(claims, case.problem.dtype)
    part = {name.removeprefix("trace."): array for name, array in results.items() if "." in name}
    gated = problem.rule is not None
    memory = None
    if gated and before is not None:
        memory = {"r": {"z": before.r}, "a": {"linear": before.a}, "count": before.count}
    shown = gated and "r" in results
    return Run(
        graph=problem.graph(),
        parameters={"W": problem.weight} | ({} if problem.bias is None else {"b": problem.bias}),
        x={"x": call.arrays["x"]},
        z0={"z": call.arrays["z0"]},
        rule=problem.rule,
        stop=problem.stop,
        alpha=1.0,
        order="strict" if model.strict and model.is_plain and not model.flushes else "fast",
        memory=memory,
        trace=Trace(
            active=part["active"],
            z={"z": part["z"]},
            f={"z": part["f"]},
            residual=part["residual"],
            scale=part["scale"],
            r={"z": part["r"]} if gated else {},
            mask={"z": part["mask"]} if gated else {},
            a={"linear": part["a"]} if gated else {},
        ),
        z={"z": results["z"]},
        status=results["status"],
        n_eval=results["n_eval"],
        residual=results["residual"],
        scale=results["scale"],
        after={"r": {"z": results["r"]}, "a": {"linear": results["a"]}} if shown else {},
        returned=problem.returned,
        solver=problem.solver,
        native_ulp=claims.activation_ulp if claims.activation == "native" else None,
        hidden=frozenset() if gated else frozenset({"linear"}),
        shows=("r", "a") if shown else (),
        linear=(lambda compare: Linear(problem, problem.rule, model, False, compare, None)) if gated else None,
        model=model,
    )


def _judge_untraced(
    case: Case,
    t: int,
    call: Call,
    before: Memory | None,
    results: Mapping[str, Array],
    traced: tuple[Call, Memory | None, Mapping[str, Array]] | None,
    claims: Claims,
    compare: Comparer,
) -> bool:
    """Bits of the traced solve before it, from the same arguments and state (S-10)."""
    batch = len(call.arrays["z0"])
    if not has_arrays(compare, t, results, shapes_returned(case, batch, claims)):
        return False
    if traced is None or not _same_call(call, before, *traced[:2]):
        judge_end(case, claims, Memory.fresh(case, batch) if before is None else before, call, t, results, compare)
        return True
    for name in (*RETURNED, "r", "a"):
        if name in traced[2] and name in results:
            compare.bits("state", t, f"untraced {name}", traced[2][name], results[name])
    return True


def _same_call(call: Call, before: Memory | None, other: Call, memory: Memory | None) -> bool:
    """Whether two solves start from the same arguments and the same kept state."""
    if any(call.arrays[name].tobytes() != other.arrays[name].tobytes() for name in ("x", "z0")):
        return False
    if before is None or memory is None:
        return before is memory
    if before.r is None or memory.r is None or before.a is None or memory.a is None:
        return False
    pairs = ((before.r, memory.r), (before.a, memory.a), (before.count, memory.count))
    return all(left.tobytes() == right.tobytes() for left, right in pairs)
