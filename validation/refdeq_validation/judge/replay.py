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
from refdeq_validation.judge.comparing import Comparer
from refdeq_validation.judge.nodes import LinearNode, classify, linear_node
from refdeq_validation.judge.run import Run
from refdeq_validation.judge.structure import has_structure
from refdeq_validation.judge.verdicts import Findings

__all__ = ["replay"]

Array = np.ndarray
Arrays = dict[str, np.ndarray]


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
        self.compare = Comparer(findings)
        self.dtype = np.dtype(run.graph["dtype"])
        self.hoisted, self.loop, self.gated = classify(run.graph, run.rule)
        self.batch = len(run.status)
        self.linear: dict[str, LinearNode] = {}
        self.count = np.zeros(self.batch, dtype=np.int64) if run.memory is None else run.memory["count"].copy()
        self.sent_total: dict[str, int] = {}
        self.macs_total: dict[str, int] = {}
        self.zeros, self.elements = 0, 0

    # ------------------------------------------------------------------------------------------------------------- overall

    def judge(self) -> None:
        if not has_structure(self.run, self.compare, self.hoisted, self.loop, self.gated):
            return
        env: Arrays = {**self.run.parameters, **self.run.x}
        self._judge_hoisted(env)
        for state, z0 in self.run.z0.items():
            self.compare.bits("state", 0, f"z[{state}]", z0, self.trace.z[state][0])
        previous = self._initial_memory()
        for t in range(len(self.trace)):
            rows = np.flatnonzero(self.trace.active[t])
            previous = self._judge_evaluation(t, rows, env, previous)
        self._judge_ending(previous)

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
        local |= {state: trace.z[state][t][rows] for state in run.graph["states"]}
        dense_start = self.count[rows] == 0 if run.rule is not None and run.rule.start == "dense" else np.zeros(len(rows), bool)
        every = run.rule.refresh if run.rule is not None else 0
        refresh = (self.count[rows] > 0) & (self.count[rows] % every == 0) & ~dense_start if every else ~(rows == rows)
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
            else:
                local[name] = self._exact(node, local)
        self._judge_outcome(t, rows, local)
        self.count[rows] += 1
        return after

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
        self.sent_total[value] = self.sent_total.get(value, 0) + int(sent.sum())
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
        if self._folded(node):
            self._judge_folded(t, name, node, values, everything, base, before, dense, got)
        else:
            self.compare.accumulate(t, f"a[{name}]", node, values, everything, base, got, self.run.order)
        after["a"][name] = _replaced(previous["a"][name], rows, got)
        self.macs_total[name] = self.macs_total.get(name, 0) + node.macs(everything, got.shape)
        self.zeros, self.elements = self.zeros + int((d == 0).sum()), self.elements + d.size
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
        wide = before.astype(np.float64)
        _, gauge, k, total = node.exact(values, sent, zero, got)
        lifted = _lift(dense, got)
        limit = np.where(
            lifted,
            bounds.folded_bound(k, gauge, total, np.zeros_like(wide), bias.astype(np.float64), self.dtype),
            bounds.folded_bound(k, gauge, total, wide, bias.astype(np.float64), self.dtype),
        )
        target = np.where(lifted, total + bias, total + wide)
        self.compare.within("value", t, f"a[{name}]", target, got, np.abs(got - target), limit)

    def _judge_free_node(self, t: int, node: Mapping[str, Any], local: Arrays, rows: Array, got: Array) -> None:
        """A node without a gate: exact operators bitwise; sums bitwise or within the bound, by order."""
        tensor = node["name"]
        if node["op"] in ("Gemm", "Conv") and node["inputs"][1] in self.run.parameters:
            linear, data = self._linear(tensor), local[node["inputs"][0]]
            self.compare.dense(t, tensor, linear, data, got, self.run.order)
        elif node["op"] in ("MatMul", "ReduceMean"):
            self.compare.summed(t, tensor, node, [local[name] for name in node["inputs"]], got, self.run.order)
        elif node["op"] == "DFT":
            self.compare.transformed(t, tensor, node, local[node["inputs"][0]], got, self.run.order)
        else:
            self.compare.bits("value", t, tensor, self._exact(node, local), got)

    # -------------------------------------------------------------------------------------------------- after the last node

    def _judge_outcome(self, t: int, rows: Array, local: Arrays) -> None:
        """Value of f, residual, step (E-1, S-2, S-6)."""
        trace, run = self.trace, self.run
        states = list(run.graph["states"])
        f = [local[run.graph["outputs"][state]] for state in states]
        for state, value in zip(states, f, strict=True):
            self.compare.bits("value", t, f"f[{state}]", value, trace.f[state][t][rows])
        z = [trace.z[state][t][rows] for state in states]
        expected = arithmetic.norms([trace.f[state][t][rows] for state in states], z, run.stop.norm)
        for title, wanted, got in zip(("residual", "scale"), expected, (trace.residual, trace.scale), strict=True):
            self.compare.norm(t, title, wanted, got[t][rows], sum(part[0].size for part in z if len(part)), run.order)
        if t + 1 == len(trace):
            return
        going = np.flatnonzero(trace.active[t + 1])
        for state in states:
            old, new = trace.z[state][t][going], trace.f[state][t][going]
            if run.alpha != 1.0:
                scalar = self.dtype.type
                new = np.add(np.multiply(scalar(1.0 - run.alpha), old), np.multiply(scalar(run.alpha), new))
            self.compare.bits("state", t + 1, f"z[{state}]", new, trace.z[state][t + 1][going])

    def _judge_ending(self, previous: dict[str, Arrays]) -> None:
        """Statuses, who went on, returned point, memory and counts (S-1, S-3, S-4, D-8, C-1)."""
        trace, run = self.trace, self.run
        expected = stops.statuses(trace, run.stop)
        self.compare.bits("stop_rule", -1, "status", expected.final, run.status)
        self.compare.bits("stop_rule", -1, "active", expected.active, trace.active)
        picked = stops.returned_evaluation(trace, run.stop, run.returned)
        samples = np.arange(self.batch)
        for state in run.graph["states"]:
            self.compare.bits("state", -1, f"returned z[{state}]", trace.z[state][picked, samples], run.z[state])
        self.compare.bits("state", -1, "returned residual", trace.residual[picked, samples], run.residual)
        self.compare.bits("state", -1, "returned scale", trace.scale[picked, samples], run.scale)
        if run.rule is None:
            return
        for name, array in previous["r"].items():
            self.compare.bits("memory", -1, f"final r[{name}]", array, run.after["r"][name])
        for name, array in previous["a"].items():
            self.compare.bits("memory", -1, f"final a[{name}]", array, run.after["a"][name])
        last = run.n_eval - 1
        for name, mask in trace.mask.items():
            self.compare.bits("memory", -1, f"final mask[{name}]", mask[last, samples], run.after["mask"][name])
        self.compare.bits("count", -1, "count", self.count, run.after["count"])
        for value, total in self.sent_total.items():
            self.compare.equal("count", f"sent[{value}]", total, run.sent.get(value))
        for name, total in self.macs_total.items():
            self.compare.equal("count", f"macs[{name}]", total, run.macs.get(name))
        if self.gated:
            self.compare.equal("count", "zeros and elements", (self.zeros, self.elements), run.zeros)


def _lift(rows: Array, like: Array) -> Array:
    """A per-sample flag, shaped to broadcast against a batched array."""
    return rows.reshape(-1, *(1,) * (like.ndim - 1))


def _replaced(old: Array, rows: Array, new: Array) -> Array:
    merged = old.copy()
    merged[rows] = new
    return merged
