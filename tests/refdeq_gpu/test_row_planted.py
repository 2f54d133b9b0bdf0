"""Bugs that are typical of kernels, planted in copies of the kernels of rows: each must change a result or be an error."""

import sys
from pathlib import Path

import numpy as np
import pytest
from refdeq_cupy import loader
from refdeq_cupy.simulated import ShimDevice

import refdeq as rd
from refdeq.errors import LaunchError

sys.path.insert(0, str(Path(__file__).parents[1] / "refdeq_numba"))
sys.path.insert(0, str(Path(__file__).parent))
from fused_cells import rnn
from row_solving import FEEDBACK, planted_sources, solved

if loader.compiler() is None:
    pytest.skip("the simulated device needs g++", allow_module_level=True)

PRODUCT = "if (quiet != (1u << TILE_M) - 1u) multiply_tile(tile, weights, at, 0, quiet, has_odd, c);"
TILES = [
    ("row_tile_block.cuh", "value_rows<IS_DENSE>(task, slots, at, partial, kept, c, f);\n        __syncthreads();",
     "value_rows<IS_DENSE>(task, slots, at, partial, kept, c, f);"),
    ("row_tile_block.cuh", "if (row >= 0) row = decide_row<IS_DENSE>(task, slots, at, partial, row);\n        __syncthreads();",
     "if (row >= 0) { row = decide_row<IS_DENSE>(task, slots, at, partial, row); __syncthreads(); }"),
    ("row_tile_block.cuh", PRODUCT + "\n            __syncthreads();", PRODUCT),
    ("row_tile_solve.cuh", "is_inside ? task.threshold[column + e] : 0.0f", "task.threshold[column + e]"),
    ("row_tile_block.cuh", "slots.counts[slot] = 0;", "if (state) slots.counts[slot] = 0;"),
    ("row_tile_block.cuh", "if (row >= task.batch) row = -1;", "if (row >= task.batch - 1) row = -1;"),
    ("row_tile_product.cuh", "step < weights.steps", "step < weights.steps - 1"),
    ("row_tile_product.cuh", "from[at.warp * 64 + at.lane + 32]", "from[at.warp * 64 + at.lane]"),
    ("row_tile_product.cuh", "2 * step + (at.lane >> 4)", "2 * step + (at.lane >> 3 & 1)"),
    ("row_tile_product.cuh", "next = read_piece(weights, at, 0, step + 1);", "next = read_piece(weights, at, 0, step);"),
    ("row_tile_product.cuh", "index < weights.resident", "index <= weights.resident"),
    ("row_tile_solve.cuh", "__any_sync(EVERY_LANE, slots.counts[16 * m + (at.lane & 15)] >> 16)", "__any_sync(0xffffu, 1)"),
    ("row_tile_solve.cuh", "own[2 * h] = a.x;", "own[2 * h] = 0.0f;"),
    ("row_tile_solve.cuh", "return x + __shfl_xor_sync(EVERY_LANE, x, 2);", "return x + __shfl_xor_sync(EVERY_LANE, x, 4);"),
    ("row_tile_solve.cuh", "warp < at.warps", "warp < at.warps - 1"),
    ("row_tile_solve.cuh", "reference + rounded", "reference + difference"),
]  # fmt: skip
LISTS = [
    ("row_axpy.cu", "__syncthreads();  // nobody reads the part before any more", ";"),
    ("row_axpy.cu", "output < n", "true"),
    ("row_axpy.cu", "__shfl_sync(EVERY_LANE, column, s)", "__shfl_sync(0xffffu, column, s)"),
    ("row_axpy.cu", "min(blocks, from + span)", "min(blocks, from + span) - 1"),
    ("row_axpy.cu", "min(32, end - t)", "min(31, end - t)"),
    ("row_axpy.cu", "gated = u;", "gated = 0;"),
    ("row_finish.cu", "live[row] = 0;", ";"),
    ("row_finish.cu", "lane < 32", "lane < 31"),
    ("row_lists.cu", "w < warp ? of_warps[w] : 0", "0"),
    ("row_lists.cu", "carry += part[TILE - 1];", "carry += part[TILE - 2] - 1;"),
]
RULE = rd.DeltaRule(threshold=1e-3, **FEEDBACK)


def outcome(solution):
    """What a bug could change, as bytes."""
    arrays = [getattr(solution, name) for name in ("z", "status", "n_eval", "residual", "scale")]
    for part in (solution.memory.r, solution.memory.a, solution.memory.mask):
        arrays += part.values()
    return [np.ascontiguousarray(array).tobytes() for array in arrays] + [str(solution.cost.by_gate).encode()]


def by_tiles(folder):
    """Rows of two warps, more of them than a block has slots, with weights in both places; then a few, in another order."""
    rng = np.random.default_rng(1)
    cell, x, z0 = rnn(rng, 50, np.float32), *(rng.standard_normal((66, width)).astype(np.float32) for width in (2, 50))
    results = []
    for seed, count in ((0, 66), (1, 5), (9, 5)):
        device = ShimDevice(folder, seed=seed, multiprocessors=1)
        options = {"delta": RULE, "stop": rd.StopRule(rtol=1e-2, max_eval=4), "plan": {"resident": 2}, "z0": z0[:count]}
        results.append(outcome(solved(device, cell, x[:count], "bfloat16x2", **options)))
    return results


def by_lists(folder):
    """Two blocks of columns and more rows than one block lists; shuffled threads."""
    rng = np.random.default_rng(2)
    results = []
    for n, count, evaluations in ((130, 2, 2), (3, 260, 6)):
        cell, x, z0 = rnn(rng, n, np.float32), *(rng.standard_normal((count, width)).astype(np.float32) for width in (2, n))
        options = {"delta": RULE, "stop": rd.StopRule(rtol=2e-2, max_eval=evaluations), "plan": {"blocks": 2}, "z0": z0}
        device = ShimDevice(folder, seed=3)
        device.max_shared = 128 * 128 * 4  # one block of columns at a time
        results.append(outcome(solved(device, cell, x, **options)))
    return results


@pytest.mark.parametrize(("bugs", "run"), [(TILES, by_tiles), (LISTS, by_lists)], ids=["tiles", "lists"])
def test_planted_bugs_are_found(tmp_path, monkeypatch, bugs, run):
    folder = planted_sources(tmp_path, bugs)
    monkeypatch.setenv("REFDEQ_PLANTED", "0")
    expected = run(folder)
    survivors = []
    for number, bug in enumerate(bugs, 1):
        monkeypatch.setenv("REFDEQ_PLANTED", str(number))
        try:
            if run(folder) == expected:
                survivors.append(bug)
        except LaunchError:
            pass
    assert survivors == []
