"""Solves of many rows (K2, K2b, K2c) on the simulated devices: bits in strict order, declared bounds in others, any grid."""

import sys
from pathlib import Path

import numpy as np
import pytest
from refdeq_cupy import loader
from refdeq_cupy.simulated import ShimDevice
from refdeq_gpu.plans import rows_tile
from refdeq_gpu.plans.rows_pack import bfloat16_parts, pack_pieces

import refdeq as rd
from refdeq.errors import UnsupportedError
from refdeq.types import Status

sys.path.insert(0, str(Path(__file__).parents[1] / "refdeq_numba"))
sys.path.insert(0, str(Path(__file__).parent))
from fused_cells import chain, compare, fourier, rnn, siren
from row_solving import FEEDBACK, solved, worst_share

if loader.compiler() is None:
    pytest.skip("the simulated device needs g++", allow_module_level=True)

STOP = rd.StopRule(rtol=1e-3, max_eval=9)
TAU = 1e-3
RULES = {
    "sent": rd.DeltaRule(threshold=TAU),
    "always from zero": rd.DeltaRule(threshold=TAU, compare="ge", memory="always", start="zero"),
    "feedback": rd.DeltaRule(threshold=TAU, **FEEDBACK),
    "feedback in float16": rd.DeltaRule(threshold=TAU, memory="feedback", feedback_format="float16", delta_dtype="float16"),
    "whole samples": rd.DeltaRule(threshold=0.3, granularity="sample"),
    "no rule": None,
}
MULTIPLY = list(rows_tile.PARTS)


def made(model, n, dtype=np.float32, batch=5, seed=0):
    rng = np.random.default_rng(seed)
    cell = model(rng, n, dtype) if model is not chain else chain(rng, n, dtype, "LeakyRelu", alpha=0.1)
    width = n if model is chain else 2
    return cell, rng.standard_normal((batch, width)).astype(dtype)


def weight_of(cell):
    """Inner index first."""
    [node] = cell.graph.linear_nodes
    weight = cell.parameters[node.inputs[1]]
    return weight.T if node.attributes.get("transB", 0) else weight


# Lists (K2c): the strict order, bit for bit -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("model", "n", "dtype"), [(rnn, 1, "float64"), (siren, 17, "float32"), (fourier, 64, "float32"), (chain, 131, "float64")]
)
def test_lists_have_the_bits_of_the_reference(same_bits, model, n, dtype, rule):
    cell, x = made(model, n, np.dtype(dtype))
    options = {"delta": RULES[rule], "stop": STOP, "trace": True}
    for seed, blocks in ((0, 1), (7, 3)):
        got = solved(ShimDevice(seed=seed), cell, x, plan={"blocks": blocks}, **options)
        compare(same_bits, got, rd.solve(cell, x, **options))


@pytest.mark.parametrize("rule", ["sent", "feedback in float16", "whole samples"])
def test_lists_of_numba_have_the_bits_of_the_reference(same_bits, rule):
    pytest.importorskip("numba.cuda")
    from refdeq_cuda.simulated_device import SimulatedDevice

    cell, x = made(siren, 17, batch=2)
    options = {"delta": RULES[rule], "stop": rd.StopRule(max_eval=3), "trace": True, "solver": rd.KrasnoselskiiMann(alpha=0.5)}
    compare(same_bits, solved(SimulatedDevice(seed=3), cell, x, **options), rd.solve(cell, x, **options))


STOPS = {
    "linf": rd.StopRule(atol=1e-2, max_eval=30, norm="linf"),
    "diverged": rd.StopRule(max_eval=12, divergence=1.5),
    "stagnated": rd.StopRule(max_eval=12, stagnation=(3, 0.99)),
}


@pytest.mark.parametrize("name", STOPS)
def test_every_stop_rule_decides_as_the_reference(same_bits, name):
    """Lists bit by bit; tiles by the same sequence of statuses, from a cell that grows where it should diverge."""
    rng = np.random.default_rng(3)
    cell = siren(rng, 17, np.float32, norm=6.0 if name != "linf" else 0.7)
    x = rng.standard_normal((6, 2)).astype(np.float32)
    options = {"delta": RULES["feedback"], "stop": STOPS[name], "trace": True}
    expected = rd.solve(cell, x, **options)
    compare(same_bits, solved(ShimDevice(seed=1), cell, x, **options), expected)
    got = solved(ShimDevice(seed=1), cell, x, "bfloat16x3", **options)
    own = [STATUS_OF[name](got.trace.residual[:n, b], got.trace.scale[:n, b]) for b, n in enumerate(got.n_eval)]
    assert [(Status(s), n) for s, n in zip(got.status, got.n_eval, strict=True)] == own


def replayed(stop, residual, scale):
    """Status and evaluations by the clause (S-3), from the residuals that a solve reports."""
    for made_so_far in range(1, len(residual) + 1):
        distance = residual[made_so_far - 1]
        if stop.atol is not None and distance <= stop.atol:
            return Status.CONVERGED, made_so_far
        if stop.divergence is not None and distance > stop.divergence * residual[0]:
            return Status.DIVERGED, made_so_far
        if stop.stagnation is not None and made_so_far > stop.stagnation[0]:
            window, ratio = stop.stagnation
            last, before = residual[made_so_far - window : made_so_far], residual[: made_so_far - window]
            if not last.min() < ratio * before.min():
                return Status.STAGNATED, made_so_far
    return Status.MAX_EVAL, len(residual)


STATUS_OF = {name: (lambda residual, scale, stop=stop: replayed(stop, residual, scale)) for name, stop in STOPS.items()}


def test_rows_that_are_final_leave_the_list(same_bits):
    """More rows than a block lists, ending at different evaluations: the list is shortened, and each row has its own count."""
    cell, x = made(rnn, 9, batch=300)
    x[::3] = 0.0
    options = {"delta": rd.DeltaRule(threshold=1e-2), "stop": rd.StopRule(rtol=1e-2, max_eval=30)}
    expected = rd.solve(cell, x, **options)
    assert len(set(expected.n_eval)) > 2
    compare(same_bits, solved(ShimDevice(seed=2), cell, x, **options), expected)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 70_000])
def test_flags_become_ascending_lists(count):
    flags = np.random.default_rng(count).random(count) < 0.3
    flags[-1] = True
    device = ShimDevice(seed=5)
    blocks = -(-count // 256)
    live, counts, rows = device.upload(flags), device.empty((blocks,), np.int32), device.empty((count,), np.int32)
    total = device.empty((1,), np.int32)
    device.launch("row_count", blocks, 256, [live, count, counts])
    device.launch("row_scan", 1, 256, [blocks, counts, total])
    device.launch("row_write", blocks, 256, [live, count, counts, rows])
    [many] = device.download(total)
    assert (device.download(rows)[:many] == np.flatnonzero(flags)).all()
    assert many == flags.sum()


# Products of gathered rows (K2b) ----------------------------------------------------------------------------------------------


def test_products_of_gathered_rows_stay_within_the_bound():
    cell, x = made(rnn, 33, batch=7)
    options = {"delta": RULES["feedback"], "stop": STOP, "trace": True, "order": "fast"}
    got = solved(ShimDevice(seed=4), cell, x, plan={"by_library": True}, **options)
    assert 0 < worst_share(got, weight_of(cell), "same", TAU) <= 1
    assert (got.status == Status.CONVERGED).all()


# Tiles (K2): declared precisions ----------------------------------------------------------------------------------------------


SIZES = [(1, 2, MULTIPLY), (17, 70, MULTIPLY), (64, 3, MULTIPLY), (256, 1, ["bfloat16x3"]), (300, 1, ["bfloat16"])]


@pytest.mark.parametrize(("n", "batch", "multiply"), [(n, batch, name) for n, batch, names in SIZES for name in names])
def test_tiles_stay_within_their_declared_bound(n, batch, multiply):
    cell, x = made(rnn, n, batch=batch)
    options = {"delta": RULES["feedback"], "stop": rd.StopRule(rtol=1e-3, max_eval=9 if n < 200 else 2), "trace": True}
    got = solved(ShimDevice(seed=6), cell, x, multiply, **options)
    worst = worst_share(got, weight_of(cell), multiply, TAU)
    assert worst <= 1
    finer = {"bfloat16": "bfloat16x2", "bfloat16x2": "same"}.get(multiply)
    if n == 17 and finer:  # and it is a claim: a finer one would be wrong
        assert worst_share(got, weight_of(cell), finer, TAU) > 1


@pytest.mark.parametrize("model", [fourier, chain])
def test_operands_of_a_cell_reach_the_tiles(model):
    """Entry, bias, phase and filter, damping and a start from zero: with three parts, what is left is rounding."""
    cell, x = made(model, 17, batch=4)
    rule = rd.DeltaRule(threshold=TAU, compare="ge", start="zero", **FEEDBACK)
    options = {"delta": rule, "stop": rd.StopRule(max_eval=4), "solver": rd.KrasnoselskiiMann(alpha=0.7)}
    got, expected = solved(ShimDevice(), cell, x, "bfloat16x3", **options), rd.solve(cell, x, **options)
    assert got.cost.by_gate == expected.cost.by_gate
    # Each evaluation errs by 3 (k + 1) 2u G, where G is at most 2 * 17 times the largest weight and value, by 2.75 ulp and by
    # roundings of four operands, and multiplies what the one before erred by at most the largest filter.
    largest = max(1.0, np.abs(expected.z).max(), *(np.abs(p).max() for p in cell.parameters.values()))
    once = (3 * 18 * 2 * 2 * 17 * largest**2 + (2.75 + 4) * largest) * 2.0**-24
    assert np.abs(got.z - expected.z).max() <= once * sum(largest**t for t in range(4))


def test_feedback_has_fixed_points_as_good_as_dense_float32():
    """G17: error feedback in three parts against float64, not more than twice the error of dense float32."""
    errors = {"dense": [], "feedback": []}
    for seed in range(2):
        cell, x = made(rnn, 48, batch=12, seed=seed)
        wide = rd.models.rnn(*(cell.parameters[name].astype(np.float64) for name in ("W", "U", "b")))
        exact = rd.solve(wide, x.astype(np.float64), stop=rd.StopRule(rtol=1e-14, max_eval=400)).z
        stop = rd.StopRule(max_eval=200)
        rule = rd.DeltaRule(threshold=0.0, **FEEDBACK)
        for name, z in (
            ("dense", rd.solve(cell, x, stop=stop).z),
            ("feedback", solved(ShimDevice(), cell, x, "bfloat16x3", delta=rule, stop=stop).z),
        ):
            errors[name].append(np.linalg.norm(z - exact) / np.linalg.norm(exact))
    assert max(errors["feedback"]) <= 2 * max(errors["dense"])


WAYS = [
    {},
    {"blocks": 1},
    {"blocks": 3, "is_swapping": False},
    {"blocks": 2, "resident": 1},
    {"resident": 0},
]


@pytest.mark.parametrize("rule", ["feedback", "no rule"])
def test_rows_do_not_depend_on_tile_slot_grid_or_order(same_bits, rule):
    """Other grids, orders of threads, orders of rows, without swapping, weights elsewhere: bits of every row stay."""
    cell, x = made(siren, 40, batch=90)
    x[5], x[6] = np.inf, np.nan
    options = {"delta": RULES[rule], "stop": STOP}
    first = solved(ShimDevice(), cell, x, "bfloat16x3", **options)
    assert len(set(first.n_eval)) > 2
    assert (first.status[5:7] == Status.NONFINITE).all()
    assert (np.delete(first.status, [5, 6]) == Status.CONVERGED).all()
    for seed, way in enumerate(WAYS[1:], 1):
        order = np.random.default_rng(seed).permutation(len(x))
        again = solved(ShimDevice(seed=seed, multiprocessors=4), cell, x[order], "bfloat16x3", plan=way, **options)
        for name in ("z", "status", "n_eval", "residual", "scale"):
            same_bits(getattr(again, name), getattr(first, name)[order])
        if first.memory is not None:
            for part in ("r", "a", "mask"):
                for name, array in getattr(first.memory, part).items():
                    same_bits(getattr(again.memory, part)[name], array[order])


def test_nobody_one_row_and_rows_that_are_final_at_once():
    cell, x = made(rnn, 20, batch=70)
    loose = rd.StopRule(rtol=1e9, max_eval=5)
    for batch in (0, 1, 70):
        got = solved(ShimDevice(seed=8), cell, x[:batch], "bfloat16", delta=RULES["feedback"], stop=loose)
        assert (got.n_eval == 1).all()
        assert (got.z == 0).all()
        assert len(got.z) == batch


def test_infinite_weights_and_differences():
    """What is not finite has one part (docs/bounds.md, section 3): infinities stay infinities, other rows are left alone."""
    cell, x = made(chain, 17, batch=3)
    z0 = np.zeros((3, 17), np.float32)
    z0[1, 4] = np.inf
    options = {"delta": rd.DeltaRule(threshold=0.0, start="zero", **FEEDBACK), "stop": rd.StopRule(max_eval=1), "trace": True}
    got, expected = solved(ShimDevice(), cell, x, "bfloat16x3", z0=z0, **options), rd.solve(cell, x, z0=z0, **options)
    np.testing.assert_array_equal(np.isfinite(got.trace.f["z"]), np.isfinite(expected.trace.f["z"]))
    np.testing.assert_array_equal(np.isnan(got.trace.f["z"]), np.isnan(expected.trace.f["z"]))
    assert np.isinf(got.trace.f["z"][0, 1]).any()


def test_a_memory_is_gone_on_from(same_bits):
    cell, x = made(rnn, 17, batch=4)
    options = {"delta": RULES["feedback"], "stop": rd.StopRule(max_eval=3), "trace": True}
    first = solved(ShimDevice(), cell, x, "bfloat16x2", **options)
    rest = solved(ShimDevice(), cell, x, "bfloat16x2", warm=first, reuse="state+memory", **options)
    assert worst_share(rest, weight_of(cell), "bfloat16x2", TAU, first.memory) <= 1
    assert (rest.memory.count == 6).all()
    same_bits(rest.trace.z["z"][0], first.z)


# Packing, and what is refused -------------------------------------------------------------------------------------------------


def test_parts_add_up_and_pieces_hold_every_weight():
    weight = np.random.default_rng(0).standard_normal((70, 70)).astype(np.float32)
    weight[0, :2] = np.inf, -np.inf
    parts = bfloat16_parts(weight, 3)
    assert (parts.astype(np.float64).sum(axis=0) == weight).all()
    words = pack_pieces(weight, 1).view(np.uint32)
    halves = np.sort(np.concatenate([words & 0xFFFF, words >> 16]))
    expected = np.zeros(128 * 128, np.uint32)
    expected[: weight.size] = (parts[0].view(np.uint32) >> 16).reshape(-1)
    assert (halves == np.sort(expected)).all()


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("tensor cores, which add up to three bfloat16 products", {"precision": "float32x"}),
        ("memory 'sent'", {"delta": RULES["sent"]}),
        ("strict order", {"order": "strict"}),
        ("not granularity 'sample'", {"delta": rd.DeltaRule(threshold=1.0, granularity="sample", **FEEDBACK)}),
        ("not by Anderson", {"solver": rd.Anderson()}),
        ("not the lowest", {"returned": "lowest"}),
        ("refreshed", {"delta": rd.DeltaRule(threshold=1.0, refresh=3, **FEEDBACK)}),
        ("at most 512", {"n": 513}),
    ],
)
def test_refusals_say_why(reason, changes):
    cell, x = made(rnn, changes.pop("n", 8))
    options = {"delta": RULES["feedback"], "stop": STOP, "precision": "bfloat16x3", **changes}
    if options["precision"] == "float32x":
        from refdeq.fc_pattern import match

        class Request:
            graph, order, gates = cell.graph, "fast", {}

        assert reason in rows_tile.tile_plan(Request, match(cell.graph), ShimDevice(), "float32").reason
        return
    with pytest.raises(UnsupportedError, match=reason):
        solved(ShimDevice(), cell, x, **options)


def test_tiles_name_the_memory_that_they_lack():
    assert rows_tile.tile_of(256, 3, 166912).resident == 0  # compute capability 8.0: all of the weight comes from the cache
    assert rows_tile.tile_of(512, 3, 166912).rows == 32
    assert "164864 bytes" in rows_tile.tile_of(256, 1, 101376)
