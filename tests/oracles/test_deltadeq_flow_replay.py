"""The flow block in float32: every transition of a backend's run recomputed from the bits it stored itself.

Two legal float32 runs may part for ever after one rounding, so their iterates are not compared. Gated differences, decisions
and references are one correctly rounded operation each and must match in bits; accumulators must lie within the bound of N-7.
"""

import copy
from pathlib import Path

import numpy as np
import pytest

import refdeq as rd
from refdeq import scalar
from refdeq.models.flow import FLOW_DENSE
from refdeq.registry import load_backend

EVALUATIONS = 6
U = 2.0**-24
ETA = 2.0**-150
"""Unit roundoff of float32, and half its least subnormal."""

_NUMBERS = dict(np.load(Path(__file__).parents[1] / "data" / "deqflow_tiny_f64_a.npz"))
_PARAMETERS = {name.removeprefix("param."): array for name, array in _NUMBERS.items() if name.startswith("param.")}
CELL = rd.models.flow_block(_PARAMETERS, *_NUMBERS["inp"].shape[2:]).astype("float32")
RULE = rd.DeltaRule.preset("deltadeq-code", threshold=float(_NUMBERS["threshold"]), dense=FLOW_DENSE)
X = {name: _NUMBERS[name].astype(np.float32) for name in CELL.graph.injections}


class Mismatch(Exception):
    """A transition does not follow from the bits before it."""


def require(holds, what):
    if not holds:
        raise Mismatch(what)


def same_bits(a, b):
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def by_scalar(function):
    """A strict activation (N-8): the scalar formula in float64, rounded once."""
    return lambda x: np.array([function(float(v)) for v in x.ravel()], dtype=np.float64).astype(x.dtype).reshape(x.shape)


EXACT_OPERATORS = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Relu": lambda a: np.maximum(a, np.float32(0)) + np.float32(0),
    "Concat": lambda *parts: np.concatenate(parts, axis=1),
    "ReduceMean": lambda a: (a[:, :1] + a[:, 1:]) / np.float32(2),
    "Sigmoid": by_scalar(scalar.sigmoid),
    "Tanh": by_scalar(scalar.tanh),
}
"""The operators of the block but its convolutions; a mean of two channels has one order of summation only."""

NATIVE = ("Sigmoid", "Tanh")
"""Those whose values a run with native activations stores (N-8)."""


def convolve(d, weight):
    """Same-size convolution in float64: products of float32 numbers are exact, and the sum errs far less than the bound."""
    rows, columns = weight.shape[2:]
    padded = np.pad(d.astype(np.float64), ((0, 0), (0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), axis=(2, 3))
    return np.einsum("bchwij,mcij->bmhw", windows, weight.astype(np.float64), optimize=True)


def check_convolution(where, d, sent, node, before, got):
    """Bound for ``fl(fl(fl(s + b) + a) - b)``, or ``fl(s + b)`` without `before`; ``s`` sums k terms, any order (N-7, D-6)."""
    weight, bias = (CELL.parameters[name].astype(np.float64) for name in node.inputs[1:])
    bias = bias[:, None, None]
    terms = convolve(sent, np.ones_like(weight))
    exact = convolve(d, weight)
    error = (terms + 1) * U * convolve(np.abs(d), np.abs(weight)) + terms * ETA
    steps = [exact + bias]
    if before is not None:
        steps += [exact + bias + before, exact + before]
    for value in steps:
        error = error + U * (np.abs(value) + error)
    allowed = error * (1 + 2.0**-20)  # the bound itself and `exact` are float64
    require(np.all(np.abs(got - steps[-1]) <= allowed), f"{where}: accumulator")


def check_native(where, strict, got, ulp):
    """Native activation within `ulp` units in the last place of the value, which the strict one is within 0.51 of (N-8)."""
    distance = np.abs(got.astype(np.float64) - strict.astype(np.float64))
    require(np.all(distance <= (ulp + 0.51) * np.spacing(np.abs(strict)).astype(np.float64)), f"{where}: activation")


def check_gate(where, trace, t, value, u):
    """One gate's decisions and reference (D-1, D-2, D-4), in bits; returns the gated difference."""
    sent, difference = np.ones(u.shape, dtype=bool), u
    if t > 0:
        difference = u - trace.r[value][t - 1]
        sent = ~(np.abs(difference) <= np.float32(RULE.threshold))
    require(np.array_equal(trace.mask[value][t], sent), f"{where}: mask")
    require(same_bits(trace.r[value][t], u), f"{where}: reference")
    return np.where(sent, difference, np.float32(0)), sent


def replay(trace, native_ulp=None):
    """Check every transition of a run; with `native_ulp`, activations may be off by that many units in the last place."""
    for t in range(len(trace)):
        values = {**CELL.parameters, **X, **{state: array[t] for state, array in trace.z.items()}}
        gated = {}
        for node in CELL.graph.loop_nodes:
            where, first = f"evaluation {t}, {node.name}", node.inputs[0]
            if node.op == "Conv" and node.name not in FLOW_DENSE:
                if first not in gated:
                    gated[first] = check_gate(where, trace, t, first, values[first])
                before = trace.a[node.name][t - 1].astype(np.float64) if t else None
                check_convolution(where, *gated[first], node, before, trace.a[node.name][t])
                values[node.name] = trace.a[node.name][t]
            elif node.op == "Conv":
                everything = np.ones(values[first].shape, dtype=bool)
                check_convolution(where, values[first], everything, node, None, trace.values[node.name][t])
                values[node.name] = trace.values[node.name][t]
            else:
                values[node.name] = EXACT_OPERATORS[node.op](*(values[name] for name in node.inputs))
                if native_ulp is not None and node.op in NATIVE:
                    check_native(where, values[node.name], trace.values[node.name][t], native_ulp)
                    values[node.name] = trace.values[node.name][t]
        for state, value in CELL.graph.outputs.items():
            require(same_bits(trace.f[state][t], values[value]), f"evaluation {t}: {state}")
            require(t == 0 or same_bits(trace.z[state][t], trace.f[state][t - 1]), f"evaluation {t}: Picard step of {state}")


def solve_block(backend, order):
    start = {"net": _NUMBERS["net0"].astype(np.float32), "flow": _NUMBERS["flow0"].astype(np.float32)}
    stop = rd.StopRule(max_eval=EVALUATIONS)
    return rd.solve(CELL, X, z0=start, stop=stop, delta=RULE, backend=backend, order=order, executor="op", trace=True)


@pytest.mark.parametrize(("name", "order"), [("reference", "strict"), ("numba", "strict"), ("numba", "fast")])
def test_every_transition_follows_from_the_stored_bits(name, order):
    trace = solve_block(name, order).trace
    assert len(trace) == EVALUATIONS
    share = {gate: mask[1:].mean() for gate, mask in trace.mask.items()}
    assert any(0 < sent < 1 for sent in share.values()), "the rule decided nothing: the replay would be empty"
    info = load_backend(name).info
    replay(trace, info.activation_ulp if info.activation_in(order) == "native" else None)


@pytest.fixture(scope="module")
def reference_trace():
    return solve_block("reference", "strict").trace


def flips_a_decision(trace):
    trace.mask["gru.hx2"][3, 0, 5, 2, 2] ^= True


def moves_a_reference_by_one_ulp(trace):
    r = trace.r["corr"]
    r[2, 0, 7, 1, 1] = np.nextafter(r[2, 0, 7, 1, 1], np.float32(9))


def loses_one_difference(trace):
    """The accumulator as if one sent element had not been added: the smallest mistake a kernel can make."""
    weight = CELL.parameters["flow_head.conv1.weight"]
    h, sent = trace.r["gru.h2"], trace.mask["gru.h2"]
    c, y, x = np.argwhere(sent[1, 0])[0]
    trace.a["flow_head.conv1"][1, 0, :, y, x] -= weight[:, c, 1, 1] * (h[1, 0, c, y, x] - h[0, 0, c, y, x])


def damps_the_step(trace):
    trace.z["flow"][4] = np.float32(0.5) * (trace.z["flow"][3] + trace.f["flow"][3])


def swallows_a_result(trace):
    trace.a["gru.convq1"][2, 0, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    "tamper",
    [flips_a_decision, moves_a_reference_by_one_ulp, loses_one_difference, damps_the_step, swallows_a_result],
)
def test_a_tampered_run_is_rejected(reference_trace, tamper):
    tampered = copy.deepcopy(reference_trace)
    tamper(tampered)
    with pytest.raises(Mismatch):
        replay(tampered)
