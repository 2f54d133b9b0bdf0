"""The published DeltaDEQ update block, reproduced: every iterate, every zero element, every FLOP of its own accounting.

The file of numbers (`tests/data/README.md`) was computed by the published code in float64. No decision in it lies near the
threshold, so a correct implementation agrees in every count; the iterates are asked for to 1e-10, as the file promises.
"""

from pathlib import Path

import numpy as np
import pytest

import refdeq as rd
from refdeq import reference
from refdeq.cost_official import official_cost
from refdeq.evaluation import Evaluator
from refdeq.models.flow import FLOW_DENSE, FLOW_MODULES
from refdeq.reference import ReferenceKernels

EVALUATIONS = 12
ITERATE_TOLERANCE = 1e-10
FLOP_TOLERANCE = 3 * 2.0**-24
"""The published code rounds nnz/numel and its product to float32; the third unit covers second-order terms and float64."""

_NUMBERS = dict(np.load(Path(__file__).parents[1] / "data" / "deqflow_tiny_f64_a.npz"))


class Mismatch(Exception):
    """The solution is not what the published code computed."""


def require(holds, what):
    if not holds:
        raise Mismatch(what)


_PARAMETERS = {name.removeprefix("param."): array for name, array in _NUMBERS.items() if name.startswith("param.")}
CELL = rd.models.flow_block(_PARAMETERS, *_NUMBERS["inp"].shape[2:], step=0.2)
GRAPH = CELL.graph


def solve_block(backend="reference", evaluations=EVALUATIONS):
    return rd.solve(
        CELL,
        {name: _NUMBERS[name] for name in GRAPH.injections},
        z0={"net": _NUMBERS["net0"], "flow": _NUMBERS["flow0"]},
        stop=rd.StopRule(max_eval=evaluations),
        delta=rd.DeltaRule.preset("deltadeq-code", threshold=float(_NUMBERS["threshold"]), dense=FLOW_DENSE),
        backend=backend,
        executor="op",
        trace=True,
    )


def multiplied(trace, t):
    """Non-zeros of what every linear node multiplied in evaluation t, from the trace alone (memory "always": r is u)."""
    counts = {}
    for node in GRAPH.linear_nodes:
        if node.name in FLOW_DENSE:  # its plain input is the ReLU of the accumulator before it, which carries the bias
            counts[node.name] = np.count_nonzero(trace.a["flow_head.conv1"][t] > 0)
            continue
        u, sent = trace.r[node.inputs[0]], trace.mask[node.inputs[0]][t]
        difference = u[t] if t == 0 else np.where(sent, u[t] - u[t - 1], 0.0)
        counts[node.name] = np.count_nonzero(difference)
        require(sent.all() if t == 0 else counts[node.name] == np.count_nonzero(sent), f"evaluation {t}, {node.name}: mask")
    return counts


def check_module(solution, module):
    """Compare one module, evaluation by evaluation, with the published numbers."""
    gated = {node.name for node in GRAPH.linear_nodes} - set(FLOW_DENSE)
    nodes = {node.name for node in GRAPH.loop_nodes if node.name.startswith(f"{module}.")}
    trace = solution.trace
    for t in range(len(trace)):
        where = f"evaluation {t}, {module}"
        iterate = {"gru": ("net", trace.f["net"]), "flow_head": ("dflow", trace.values["flow_head.conv2"])}.get(module)
        if iterate is not None:
            error = np.max(np.abs(iterate[1][t] - _NUMBERS[f"{iterate[0]}.{t}"]))
            require(error <= ITERATE_TOLERANCE, f"{where}: {iterate[0]} is off by {error:.3g}")
        zeros, elements, total, least = _NUMBERS["official_stats"][t, FLOW_MODULES.index(module)]
        cost = official_cost(GRAPH, 1, multiplied(trace, t), gated, nodes)
        require((cost.zeros, cost.elements) == (zeros, elements), f"{where}: {cost.zeros} zeros of {cost.elements}")
        require(cost.flops_dense == total, f"{where}: {cost.flops_dense} dense FLOPs")
        require(abs(cost.flops - least) <= FLOP_TOLERANCE * least, f"{where}: {cost.flops} FLOPs")


def check_totals(solution):
    """Compare the cost that the solve itself reports: its own counters, summed over evaluations and modules."""
    published = _NUMBERS["official_stats"][: len(solution.trace)].sum(axis=(0, 1))
    cost = solution.cost.official
    require((cost.zeros, cost.elements, cost.flops_dense) == tuple(published[:3]), f"totals {cost}")
    require(abs(cost.flops - published[3]) <= FLOP_TOLERANCE * published[3], f"total FLOPs {cost.flops}")


@pytest.fixture(scope="module", params=("reference", "numba"))
def solution(request):
    return solve_block(request.param)


def test_the_file_holds_every_evaluation():
    assert _NUMBERS["official_stats"].shape == (EVALUATIONS, len(FLOW_MODULES), 4)
    assert all(np.isfinite(_NUMBERS[f"{name}.{t}"]).all() for name in ("net", "dflow") for t in range(EVALUATIONS))


@pytest.mark.parametrize("module", FLOW_MODULES)
def test_module_agrees_with_the_published_code(solution, module):
    assert len(solution.trace) == EVALUATIONS
    check_module(solution, module)


def test_reported_cost_agrees_with_the_published_accounting(solution):
    check_totals(solution)


def test_both_gates_of_a_half_step_share_one_memory(solution):
    assert sorted(solution.trace.r) == sorted({node.inputs[0] for node in GRAPH.linear_nodes if node.name not in FLOW_DENSE})
    assert len(solution.trace.r) == 10
    assert len(solution.trace.a) == 12


def test_strict_backends_agree_bit_for_bit(solution):
    ours = solve_block().trace
    for part in ("z", "f", "r", "mask", "a", "values"):
        for name, array in getattr(ours, part).items():
            assert array.tobytes() == getattr(solution.trace, part)[name].tobytes(), f"{part} {name}"


# ------------------------------------------------------------------------------------------------- planted bugs (mutants)

_gate, _run_gated, _accumulate = ReferenceKernels.gate, Evaluator._run_gated, reference.accumulate_conv


def remembers_only_what_was_sent(self, u, spec, active, r, mask, d):
    old = r.copy()
    _gate(self, u, spec, active, r, mask, d)
    r[...] = np.where(mask, r, old)


def never_remembers(self, u, spec, active, r, mask, d):
    _gate(self, u, spec, active, r.copy(), mask, d)


def gates_with_the_last_mask(self, u, spec, active, r, mask, d):
    last, difference = mask.copy(), u - r
    _gate(self, u, spec, active, r, mask, d)
    mask[active] = last[active]
    d[active] = np.where(last, difference, 0.0)[active]


def advances_a_gate_once_per_reader(self, node, active):
    readers = [other.name for other in self.cell.graph.linear_nodes if other.inputs[0] == node.inputs[0]]
    if node.name != readers[0]:
        self._advance_gate(node.inputs[0], active)
    _run_gated(self, node, active)


def mirrors_the_kernel(d, sent, weight, attributes, a):
    _accumulate(d, sent, weight[..., ::-1, ::-1], attributes, a)


def sends_whole_pixels(sent, granularity, tile):
    return np.broadcast_to(sent.any(axis=1, keepdims=True), sent.shape)


def adds_the_bias_at_every_evaluation(self, s, bias, active, a):
    a[active] = (s[active] + bias) + a[active]


def drops_the_last_channel(d, sent, weight, attributes, a):
    kept = weight.copy()
    kept[:, -1] = 0.0
    _accumulate(d, sent, kept, attributes, a)


def counts_every_element(self, values, active, out):
    out[active] += values[0].size


MUTANTS = {
    "difference reversed": (reference, "difference", lambda u, r, dtype: r - u),
    "sign kept in the comparison": (reference, "decide", lambda delta, tau, compare: ~(delta <= tau)),
    "squared difference compared": (reference, "decide", lambda delta, tau, compare: ~(delta * delta <= tau)),
    "whole pixels sent": (reference, "group", sends_whole_pixels),
    "memory rule of another preset": (ReferenceKernels, "gate", remembers_only_what_was_sent),
    "memory never written": (ReferenceKernels, "gate", never_remembers),
    "mask of the last evaluation": (ReferenceKernels, "gate", gates_with_the_last_mask),
    "bias added at every evaluation": (ReferenceKernels, "fold_bias", adds_the_bias_at_every_evaluation),
    "kernel mirrored": (reference, "accumulate_conv", mirrors_the_kernel),
    "last channel dropped": (reference, "accumulate_conv", drops_the_last_channel),
    "shared gate advanced twice": (Evaluator, "_run_gated", advances_a_gate_once_per_reader),
    "first evaluation not dense": (Evaluator, "_starting", lambda self, active: np.zeros_like(active)),
    "every element counted as non-zero": (ReferenceKernels, "count_nonzero", counts_every_element),
}


@pytest.mark.parametrize("bug", MUTANTS)
def test_planted_bug_is_rejected(monkeypatch, bug):
    monkeypatch.setattr(*MUTANTS[bug])
    mutant = solve_block(evaluations=4)
    with pytest.raises(Mismatch):
        judge(mutant)


def judge(solution):
    for module in FLOW_MODULES:
        check_module(solution, module)
    check_totals(solution)


def test_reference_passes_where_mutants_are_judged():
    judge(solve_block(evaluations=4))
