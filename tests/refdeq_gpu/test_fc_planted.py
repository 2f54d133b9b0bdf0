"""Bugs planted into the kernels of fully connected solves, in both languages, are found by comparing whole solves."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from refdeq_cupy import loader
from refdeq_cupy.simulated import ShimDevice

import refdeq as rd
from refdeq.errors import LaunchError

sys.path.insert(0, str(Path(__file__).parent))
from fc_solving import planted_kernels, planted_sources, solved
from fused_cells import chain, compare, rnn

CHUNK = 64  # so that small cells fill several
N = 150

BUGS = [
    # nobody waits
    ("fc_solve.cu", "grid_barrier(words);\n        add_columns(s, m);", "add_columns(s, m);"),
    ("fc_solve.cu", "grid_barrier(words);\n        step(s, m);", "step(s, m);"),
    ("fc_barrier.cuh", "atomicExch(words, 0);", ";"),
    ("fc_judge.cuh", "__syncthreads();  // what is staged is there, and nobody reads the other buffer any more", ";"),
    ("fc_sums.cuh", "__syncthreads();  // this chunk is there, and nobody reads the other buffer any more", ";"),
    ("fc_step.cuh", "__syncthreads();  // the counts of the warps are written again", ";"),
    # not everybody waits
    ("fc_sums.cuh", "if (!is_mine) continue;", "if (!is_mine) break;"),
    # what nobody adds is read nevertheless, behind the last row of the weight
    ("fc_sums.cuh", "if (!is_mine) continue;", ";"),
    # what is staged is stale, or overwritten
    (
        "fc_sums.cuh",
        "stage_columns(s, m, start + CHUNK, last, 1 - buffer);",
        "stage_columns(s, m, start + CHUNK, last, buffer);",
    ),
    ("fc_sums.cuh", "stage_columns(s, m, first, last, 0);", ";"),
    ("fc_judge.cuh", "m.pool + (first / VALUES + 1 & 1) * 2 * VALUES", "m.pool + (first / VALUES & 1) * 2 * VALUES"),
    ("fc_sums.cuh", "__syncthreads();  // nobody reads the buffers of the last job", ";"),
    # lists
    ("fc_step.cuh", "__ballot_sync(EVERY_LANE, is_sent)", "__ballot_sync(0x7FFFFFFFu, is_sent)"),
    ("fc_step.cuh", "sent & ((1u << lane) - 1)", "sent & ((2u << lane) - 1)"),
    ("fc_step.cuh", "before += other < warp ? m.warp_count[other] : 0;", "before += other <= warp ? m.warp_count[other] : 0;"),
    ("fc_sums.cuh", "m.offset[middle] <= entry", "m.offset[middle] < entry"),
    ("fc_sums.cuh", "s.first_of(low) + (entry - m.offset[low])", "s.first_of(low) + (entry - m.offset[low + 1] + 1)"),
    ("fc_sums.cuh", "before + sum - own", "before + sum"),
    # what only the next round may know
    ("fc_step.cuh", "z[i] = s.argument()[i];", "z[i] = s.next()[i];"),
    ("fc_judge.cuh", "s.words[VERDICT_AT] = status;", "if (status != 0) s.words[VERDICT_AT] = status;"),
    ("fc_step.cuh", "s.next()[i] = z;", "s.next()[i] = s.argument()[i] = z;"),
    ("fc_step.cuh", "m.control[COUNT] + (is_first ? 0 : 1)", "m.control[COUNT]"),
    ("fc_solve.cu", "write_account(s, control, 1, m);", "write_account(s, control, 0, m);"),
    # arithmetic
    ("fc_sums.cuh", "return a + w * d;", "return fma(w, d, a);"),
    ("fc_judge.cuh", "lane[l] <= total || total != total ? total : lane[l]", "lane[l] > total ? lane[l] : total"),
    ("fc_judge.cuh", "total + lane[l]", "total + lane[31 - l]"),
    ("fc_judge.cuh", "recent[(made - 1 - window) % (window + 1)]", "recent[(made - window) % (window + 1)]"),
    ("fc_step.cuh", "((a + e.bias) + e.a) - e.bias", "a + e.a"),
]

PYTHON_BUGS = [
    ("fc_step", "        m.control[COUNT] += 1\n", "        m.control[COUNT] += 2\n"),
    ("fc_barrier", "cuda.atomic.exch(words, ARRIVED, 0)", "pass"),
    ("fc_solve", "        grid_barrier(words)\n        step(s, m)", "        step(s, m)"),
    ("fc_sums", "        cuda.syncthreads()  # this chunk is there", "        pass  # this chunk is there"),
    ("fc_sums", "stage_columns(s, m, start + CHUNK, last, CHUNK - buffer)", "stage_columns(s, m, start + CHUNK, last, buffer)"),
    ("fc_sums", "buffer = 0\n    cuda.syncthreads()", "buffer = 0\n    if is_mine:\n        cuda.syncthreads()"),
    ("fc_step", "cuda.ballot_sync(EVERY_LANE, ", "cuda.ballot_sync(0x7FFFFFFF, "),
    ("fc_step", "sent & ((1 << lane) - 1)", "sent & ((2 << lane) - 1)"),
    ("fc_sums", "m.offset[middle] <= entry", "m.offset[middle] < entry"),
    ("fc_sums", "total = total + times(s.weight", "total = fma(s.weight[0], s.weight[1], total) + times(s.weight"),
]


@pytest.fixture(scope="module")
def solves():
    """Solves that together use every part, each with the ways to launch it and what the reference makes of it."""
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, (2, 2)).astype("float32")
    wide, narrow = rnn(rng, N, "float32"), chain(rng, 40, "float32", "Relu")
    bad = rng.standard_normal((2, 40)).astype("float32")
    bad[0, 3] = np.nan
    rule, stop = rd.DeltaRule(threshold=0.02), rd.StopRule(max_eval=4)
    listed = [
        (wide, x, {"delta": rule, "stop": stop}, {"blocks": 3, "threads": 64}),
        (wide, x, {"delta": rule, "stop": rd.StopRule(max_eval=12, stagnation=(2, 0.9))}, {"blocks": 1, "threads": 64}),
        (wide, x, {"stop": stop}, {"blocks": 2, "threads": 96}),
        (wide, x, {"delta": rule, "stop": stop}, {"blocks": 3, "threads": 64, "by_pairs": True}),
        (narrow, bad, {"delta": rd.DeltaRule(threshold=0.05, bias="folded"), "stop": rd.StopRule(norm="linf")}, {"blocks": 2}),
    ]
    return [
        (cell, value, options, shape, rd.solve(cell, value, trace=True, **options)) for cell, value, options, shape in listed
    ]


def is_found(same_bits, solves, devices):
    """Whether some solve fails, or differs from the reference."""
    for device in devices:
        for cell, x, options, shape, expected in solves:
            try:
                compare(same_bits, solved(device, cell, x, shape, trace=True, **options), expected)
            except (LaunchError, AssertionError):
                return True
    return False


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    if loader.compiler() is None:
        pytest.skip("the simulated device needs g++")
    folder = planted_sources(tmp_path_factory.mktemp("planted"), BUGS, CHUNK)
    return [ShimDevice(folder, seed=seed) for seed in (0, 1, 7)]


@pytest.mark.parametrize("bug", range(len(BUGS) + 1), ids=lambda bug: BUGS[bug - 1][1][:40] if bug else "none")
def test_bugs_in_cuda(same_bits, solves, planted, monkeypatch, bug):
    monkeypatch.setenv("REFDEQ_PLANTED", str(bug))
    assert is_found(same_bits, solves, planted if bug else planted[2:]) == (bug > 0)


@pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None or importlib.util.find_spec("greenlet") is None, reason="no simulator here"
)
@pytest.mark.parametrize("bug", [None, *PYTHON_BUGS], ids=lambda bug: bug[1].strip()[:40] if bug else "none")
def test_bugs_in_python(same_bits, tmp_path, bug):
    from refdeq_cuda.simulated_device import SimulatedDevice

    module = planted_kernels(tmp_path, bug, CHUNK)
    rng = np.random.default_rng(6)
    cell, x = rnn(rng, 100, "float32"), rng.uniform(-1, 1, (1, 2)).astype("float32")
    options = {"delta": rd.DeltaRule(threshold=0.3), "stop": rd.StopRule(max_eval=3)}
    one = [(cell, x, options, {"blocks": 3, "threads": 64}, rd.solve(cell, x, trace=True, **options))]
    seeds = (0,) if bug is None else (0, 1, 7)
    devices = [SimulatedDevice(seed=seed, find=lambda name: getattr(module, name)) for seed in seeds]
    assert is_found(same_bits, one, devices) == (bug is not None)
