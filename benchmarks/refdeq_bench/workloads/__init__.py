"""What is measured: workloads, each of which builds contenders for one backend at one point of its parameters.

>>> from refdeq_bench.measuring import Settings
>>> case = WORKLOADS["gemv"].prepare("numba", order="strict", threads=1, n=64, dtype="float32", density=0.25)
>>> [contender.role for contender in case.contenders][-1], case.ours.quality["density"]
('ours', 0.25)
>>> measured = case.measure(Settings(rounds=3, sample_seconds=1e-5))
>>> best = measured.fastest([contender.name for contender in case.baselines])
>>> measured.ratio(best, case.ours.name).median > 0
True

The interface, in the order in which it is used:

`WORKLOADS[name]`
    A `Workload`: `name`, `summary`, `points` (parameters that ``refdeq bench`` runs), `quick` (a point as small
    as can be), `prepare`.
`prepare(backend, *, order="fast", threads=1, **point) -> Case`
    Builds seeded inputs, hands the weights over, compiles (by running), and checks every contender's result: nothing wrong
    gets timed (`refdeq_bench.checking.WrongResultError`). A backend that cannot run here raises `BackendUnavailableError`,
    an order or parameter that does not exist `ArgumentError`: both are in `refdeq.errors`, and whoever lists many backends
    skips by name.
`Case`
    `contenders` (baselines first), `ours` (the backend's first one), `baselines`, `skipped` (baselines that cannot run
    here, with reasons), `measure(settings)` (interleaved: `refdeq_bench.measuring.Measured`, with `median`, `quartiles`,
    `ratio(baseline, name)`, `fastest(names)` and `noise()`).
`Contender`
    `name`, `run` (one unit of the work, for ``time_`` benchmarks), `role` ("ours", "baseline", "other") and `quality`:
    figures that show whether the work was done (``density``, ``macs``, ``saved``, ``err/bound``, ``evaluations``,
    ``status``), for ``track_`` benchmarks.

BLAS has to run on `threads` threads. `prepare` and `Case.measure` see to it with threadpoolctl, or refuse unless the
process was started with OPENBLAS_NUM_THREADS set to that; whoever calls `Contender.run` himself starts the process so, or
uses `refdeq_bench.baselines.threads_of_libraries(threads)`.
"""

from __future__ import annotations

from refdeq_bench.workloads.case import Case, Contender, Quality, Workload
from refdeq_bench.workloads.convolutions import CONV
from refdeq_bench.workloads.fused_step import FUSED
from refdeq_bench.workloads.image import IMAGE
from refdeq_bench.workloads.judging import JUDGE
from refdeq_bench.workloads.orders import ORDERS
from refdeq_bench.workloads.products import GEMM, GEMV
from refdeq_bench.workloads.sine import SINE
from refdeq_bench.workloads.solving import FLOW, GRADIENTS, SOLVERS
from refdeq_bench.workloads.starting import START

__all__ = ["WORKLOADS", "Case", "Contender", "Quality", "Workload"]

_ALL = (GEMV, GEMM, CONV, FUSED, IMAGE, SINE, FLOW, SOLVERS, GRADIENTS, ORDERS, JUDGE, START)
WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in _ALL}
