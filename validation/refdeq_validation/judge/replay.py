"""Trace replay: every transition of a backend's own run, recomputed from the backend's own stored bits.

Masks, references, elementwise values, steps, residual decisions and counts must equal the specification bit for bit; sums
must equal it bit for bit when the backend declared strict order, and lie within the bound of N-7 otherwise. By induction the
whole run then is a valid execution, whichever way its rounding made borderline decisions fall.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refdeq.types import GateOverride
from refdeq_validation.judge import arithmetic, bounds, stops
from refdeq_validation.judge.bounds_solver import activation_error, exact_activation
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.ending import Totals, judge_ending
from refdeq_validation.judge.hidden import judge_hidden
from refdeq_validation.judge.models import plain
from refdeq_validation.judge.nodes import LinearNode, classify, linear_node
from refdeq_validation.judge.run import Run
from refdeq_validation.judge.splitting import judge_split
from refdeq_validation.judge.stepping import Frame, stepper
from refdeq_validation.judge.structure import has_structure
from refdeq_validation.judge.verdicts import Findings

__all__ = ["replay"]

Array = np.ndarray
Arrays = dict[str, np.ndarray]

ACTIVATIONS = ("Tanh", "Sigmoid", "Sin", "Cos", "Exp")

TRIG_LIMIT = 2.0**30
"""Beyond this argument a sine or cosine may be NaN (N-8)."""


def replay(run: Run) -> Findings:
    """Judge one traced solve (validation levels L1 and L2).

    Parameters
    ----------
    run : Run

    Returns
    -------
    Findings
    """
    findings = Findings()
    with np.errstate(all="ignore"):
        _Replay(run, findings).judge()
    return findings


class _Replay:
    def __init__(self, run: Run, findings: Findings) -> None:
        self.run, self.findings, self.trace = run, findings, run.trace
        self.compare = Comparer(findings, run.model)
        self.declared = None if run.linear is None else run.linear(self.compare)
        self.dtype = np.dtype(run.graph["dtype"])
        self.hoisted, self.loop, self.gated = classify(run.graph, run.rule)
        self.batch = len(run.status)
        self.linear: dict[str, LinearNode] = {}
        count = np.zeros(self.batch, dtype=np.int64) if run.memory is None else run.memory["count"].copy()
        self.totals = Totals(count)
        self.may_break = np.zeros(self.batch, bool)
        solver = {"name": "krasnoselskii-mann", "alpha": run.alpha} if run.solver is None else run.solver
        size = sum(int(np.prod(shape)) for shape in run.graph["states"].values())
        self.stepper = stepper(solver, self.batch, size, self.dtype)

    # ------------------------------------------------------------------------------------------------------------- overall

    def judge(self) -> None:
        if not has_structure(self.run, self.compare, self.hoisted, self.loop, self.gated):
            return
        env: Arrays = {**self.run.parameters, **self.run.x}
        self._judge_hoisted(env)
        self.iterate = {state: z0.copy() for state, z0 in self.run.z0.items()}
        if self.run.split is None:
            for state, z0 in self.run.z0.items():
                self.compare.bits("state", 0, f"z[{state}]", z0, self.trace.z[state][0])
        previous = self._initial_memory()
        self.expected = stops.statuses(self.trace, self.run.stop, self.run.status)
        for t in range(len(self.trace)):
            rows = np.flatnonzero(self.trace.active[t])
            previous = self._judge_evaluation(t, rows, env, previous)
        judge_ending(self.run, self.compare, self.expected, self.may_break, previous, self.totals)

    def _judge_hoisted(self, env: Arrays) -> None:
        """Nodes that depend on x only: exact operators bitwise, sums by order."""
        rows = np.arange(self.batch)
        for node in self.hoisted:
            got = self.trace.hoisted[node["name"]]
            self._judge_free_node(-1, node, env, rows, got)
            env[node["name"]] = got

    def _initial_memory(self) -> dict[str, Arrays]:
        """References and accumulators before the first evaluation (D-5, D-9)."""
        if self.run.memory is not None:
            return {"r": self.run.memory["r"], "a": self.run.memory["a"]}
        r = {value: np.zeros(self.trace.r[value].shape[1:], self.dtype) for value in self.trace.r}
        a = {}
        for name in self.gated:
            a[name] = np.zeros(self.trace.a[name].shape[1:], self.dtype)
            node = self._linear(name)
            if self._folded(node):
                a[name] = a[name] + node.bias
        return {"r": r, "a": a}

    def _folded(self, node: LinearNode) -> bool:
        return self.run.rule is not None and self.run.rule.bias == "folded" and node.bias is not None

    def _linear(self, name: str) -> LinearNode:
        if name not in self.linear:
            node = next(node for node in (*self.hoisted, *self.loop) if node["name"] == name)
            self.linear[name] = linear_node(node, self.run.parameters)
        return self.linear[name]

    # ------------------------------------------------------------------------------------------------------ one evaluation

    def _judge_evaluation(self, t: int, rows: Array, env: Arrays, previous: dict[str, Arrays]) -> dict[str, Arrays]:
        """Judge evaluation `t` for the samples that took part; return the memory after it."""
        trace, run = self.trace, self.run
        local: Arrays = {name: value for name, value in env.items() if name in run.parameters}
        local |= {name: value[rows] for name, value in env.items() if name not in run.parameters}
        for state in run.graph["states"]:
            local[state] = trace.z[state][t][rows] if run.split is None else self.iterate[state][rows]
        count, never = self.totals.count[rows], np.zeros(len(rows), bool)
        dense_start = count == 0 if run.rule is not None and run.rule.start == "dense" else never
        every = run.rule.refresh if run.rule is not None else 0
        refresh = (count > 0) & (count % every == 0) & ~dense_start if every else never
        after = {"r": dict(previous["r"]), "a": dict(previous["a"])}
        gates: dict[str, tuple[Array, Array]] = {}
        for node in self.loop:
            name = node["name"]
            if name in self.gated:
                value = node["inputs"][0]
                if value not in gates:
                    gates[value] = self._judge_gate(t, value, local[value], rows, dense_start, previous, after)
                local[name] = self._judge_gated(t, name, gates[value], rows, dense_start, refresh, previous, after)
            elif name in trace.values:
                got = trace.values[name][t][rows]
                self._judge_free_node(t, node, local, rows, got)
                local[name] = got
            elif name in run.hidden and run.order == "strict":
                local[name] = self._summed(node, local)
            elif name in run.hidden:
                judge_hidden(run, self.compare, t, rows, self._linear(name), local)
                return self._judge_outcome(t, rows, None, after)
            elif run.native_ulp is not None and node["op"] in ACTIVATIONS:
                local[name] = self._judge_native(t, node, local, rows)
            else:
                local[name] = self._exact(node, local)
        return self._judge_outcome(t, rows, local, after)

    def _summed(self, node: Mapping[str, Any], local: Arrays) -> Array:
        """A sum that the trace does not show, in strict order."""
        linear, data = self._linear(node["name"]), local[node["inputs"][0]]
        base = np.zeros_like(data)  # such a sum has the shape of the state it is to become
        total: Array = linear.output(linear.strict(data, np.ones(data.shape, bool), base))
        return total

    def _judge_native(self, t: int, node: Mapping[str, Any], local: Arrays, rows: Array) -> Array:
        """An activation of the implementation's own within its declared ulp (N-8); replay goes on from its bits."""
        name, op, argument = node["name"], node["op"], local[node["inputs"][0]]
        shown = [state for state, value in self.run.graph["outputs"].items() if value == name]
        if not shown:
            self.compare.equal("structure", f"trace of native {name}", "recorded", "nothing")
            return self._exact(node, local)
        got: Array = self.trace.f[shown[0]][t][rows]
        self._within_ulp(t, name, op, argument, got)
        return got

    def _within_ulp(self, t: int, tensor: str, op: str, argument: Array, got: Array) -> None:
        value = exact_activation(op, argument)
        if op in ("Tanh", "Sin"):  # an error bound does not see the sign of a zero
            zero = argument == 0
            self.compare.bits("value", t, tensor, argument[zero], got[zero])
        limit = activation_error(op, value, got.dtype, self.run.native_ulp).astype(np.float64)
        error = np.abs(got - value).astype(np.float64)
        beyond = (np.abs(argument) > TRIG_LIMIT) & np.isnan(got) if op in ("Sin", "Cos") else None
        self.compare.within("value", t, tensor, value.astype(np.float64), got, error, limit, excused=beyond)

    def _exact(self, node: Mapping[str, Any], local: Arrays) -> Array:
        inputs = [local[name] for name in node["inputs"]]
        return arithmetic.apply_exact(node["op"], inputs, node["attributes"])

    def _judge_gate(
        self, t: int, value: str, u: Array, rows: Array, start: Array, previous: dict[str, Arrays], after: dict[str, Arrays]
    ) -> tuple[Array, Array]:
        """Decisions and reference of one gate, bit for bit (D-1 to D-5, D-10)."""
        rule = self.run.rule
        assert rule is not None
        override = rule.gates.get(value, GateOverride())
        threshold = rule.threshold if override.threshold is None else override.threshold
        tau = np.asarray(threshold, dtype=np.float64).astype(self.dtype)
        tau = tau.reshape(-1, *(1,) * (u.ndim - 2)) if tau.ndim else tau
        granularity, tile = rule.granularity, rule.tile
        if override.granularity is not None:
            granularity, tile = override.granularity, override.tile
        r = previous["r"][value][rows]
        delta, fires = arithmetic.decide_all(u, r, tau, rule.compare, rule.delta_dtype)
        sent = arithmetic.or_over_groups(fires, granularity, tile)
        d, r_next = arithmetic.next_reference(u, r, delta, sent, rule.memory, rule.feedback_format)
        lift = start.reshape(-1, *(1,) * (u.ndim - 1))
        sent, r_next, d = sent | lift, np.where(lift, u, r_next), np.where(lift, u, d)
        got_mask, got_r = self.trace.mask[value][t][rows], self.trace.r[value][t][rows]
        self.findings.decisions += got_mask.size
        self.compare.bits("mask", t, f"mask[{value}]", sent, got_mask)
        self.compare.bits("memory", t, f"r[{value}]", r_next, got_r)
        after["r"][value] = _replaced(previous["r"][value], rows, got_r)
        self.totals.sent[value] = self.totals.sent.get(value, 0) + int(sent.sum())
        return d, sent

    def _judge_gated(
        self,
        t: int,
        name: str,
        gate: tuple[Array, Array],
        rows: Array,
        start: Array,
        refresh: Array,
        previous: dict[str, Arrays],
        after: dict[str, Arrays],
    ) -> Array:
        """Accumulator of one gated node against its previous bits (D-6, D-7, D-12, N-6, N-7); returns the node's output."""
        node, (d, sent) = self._linear(name), gate
        before, got = previous["a"][name][rows], self.trace.a[name][t][rows]
        dense = start | refresh
        values = np.where(_lift(refresh, d), after["r"][node.data][rows], d)
        base = np.where(_lift(dense, before), before.dtype.type(0), before)
        everything = sent | _lift(dense, sent)
        if self.declared is not None:
            self.declared.judge_shown(t, values, everything, dense, before, got, self.declared.output(got))
        elif self._folded(node):
            self._judge_folded(t, name, node, values, everything, base, before, dense, got)
        else:
            self.compare.accumulate(t, f"a[{name}]", node, values, everything, base, got, self.run.order)
        after["a"][name] = _replaced(previous["a"][name], rows, got)
        totals = self.totals
        totals.macs[name] = totals.macs.get(name, 0) + node.macs(everything, got.shape)
        totals.zeros, totals.elements = totals.zeros + int((d == 0).sum()), totals.elements + d.size
        return got if self._folded(node) else node.output(got)

    def _judge_folded(
        self,
        t: int,
        name: str,
        node: LinearNode,
        values: Array,
        sent: Array,
        base: Array,
        before: Array,
        dense: Array,
        got: Array,
    ) -> None:
        """Folded bias (D-6): dense rows hold ``fl(A u + b)``, the others ``fl(fl(fl(s + b) + a) - b)``."""
        bias, zero = np.broadcast_to(node.bias_array, got.shape), np.zeros_like(base)
        if self.run.order == "strict":
            s = node.strict(values, sent, zero)
            expected = np.where(_lift(dense, s), s + bias, ((s + bias) + before) - bias)
            self.compare.bits("value", t, f"a[{name}]", expected, got)
            return
        wide, shift = before.astype(np.float64), bias.astype(np.float64)
        _, gauge, k, total = node.exact(values, sent, zero, got)
        lifted = _lift(dense, got)
        model = plain(self.dtype.name) if self.run.model is None else self.run.model
        sizes = None if model.operands is None else node.sizes(values, sent, zero)
        bound = bounds.folded(model, k, gauge, wide, shift, lifted, sizes)
        target = np.where(lifted, total + shift, total + wide)
        self.compare.within("value", t, f"a[{name}]", target, got, np.abs(got - target), bound.limit, bound)

    def _judge_free_node(self, t: int, node: Mapping[str, Any], local: Arrays, rows: Array, got: Array) -> None:
        """A node without a gate: exact operators bitwise; sums bitwise or within the bound, by order."""
        tensor = node["name"]
        if node["op"] in ("Gemm", "Conv") and node["inputs"][1] in self.run.parameters:
            linear, data = self._linear(tensor), local[node["inputs"][0]]
            self.compare.dense(t, tensor, linear, data, got, self.run.order)
        elif node["op"] in ("MatMul", "ReduceMean"):
            self.compare.summed(t, tensor, node, [local[name] for name in node["inputs"]], got, self.run.order)
        elif self.run.native_ulp is not None and node["op"] in ACTIVATIONS:
            self._within_ulp(t, tensor, node["op"], local[node["inputs"][0]], got)
        elif node["op"] == "DFT":
            self.compare.transformed(t, tensor, node, local[node["inputs"][0]], got, self.run.order)
        else:
            self.compare.bits("value", t, tensor, self._exact(node, local), got)

    # -------------------------------------------------------------------------------------------------- after the last node

    def _judge_outcome(self, t: int, rows: Array, local: Arrays | None, after: dict[str, Arrays]) -> dict[str, Arrays]:
        """Value of f, residual, step (E-1, S-2, S-6 to S-8); `local` is None where f has been judged already."""
        trace, run = self.trace, self.run
        states = list(run.graph["states"])
        if local is not None:
            self._judge_value(t, rows, local)
        f, z = ([part[state][t][rows] for state in states] for part in (trace.f, trace.z))
        expected = arithmetic.norms(f, z, run.stop.norm)
        for title, wanted, got in zip(("residual", "scale"), expected, (trace.residual, trace.scale), strict=True):
            self.compare.norm(t, title, wanted, got[t][rows], sum(part[0].size for part in z if len(part)), run.order)
        if run.split is None:
            self._judge_step(t, rows, z, f)
        self.totals.count[rows] += 1
        return after

    def _judge_value(self, t: int, rows: Array, local: Arrays) -> None:
        run, states = self.run, list(self.run.graph["states"])
        values = run.graph["outputs"] if run.split is None else run.split["value"]
        for state in states:
            self.compare.bits("value", t, f"f[{state}]", local[values[state]], self.trace.f[state][t][rows])
        if run.split is None:
            return
        judge_split(run, self.compare, t, {**run.parameters, **local})
        for state in states:
            self.compare.bits("state", t, f"z[{state}]", local[run.split["argument"][state]], self.trace.z[state][t][rows])
            self.iterate[state][rows] = local[run.graph["outputs"][state]]

    def _judge_step(self, t: int, rows: Array, z: list[Array], f: list[Array]) -> None:
        """The next argument, by the judge of the solver (S-6 to S-8)."""
        trace = self.trace
        going = np.zeros(len(rows), bool) if t + 1 == len(trace) else trace.active[t + 1][rows]
        following = z if t + 1 == len(trace) else [trace.z[state][t + 1][rows] for state in self.run.graph["states"]]
        flat = [_flat(parts) for parts in (z, f, following)]
        frame = Frame(t, rows, flat[0], flat[1], going, flat[2], self.expected.asking(t)[rows])
        possible, _ = self.stepper.judge(frame, self.compare)
        self.may_break[rows] = possible


def _flat(parts: list[Array]) -> Array:
    """States of each sample as one row, in declared order."""
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _lift(rows: Array, like: Array) -> Array:
    """A per-sample flag, shaped to broadcast against a batched array."""
    return rows.reshape(-1, *(1,) * (like.ndim - 1))


def _replaced(old: Array, rows: Array, new: Array) -> Array:
    merged = old.copy()
    merged[rows] = new
    return merged
