"""The record of the Numba backend: what it declares, whether it can run here, what it hands out."""

from __future__ import annotations

import importlib.util
import os
from functools import cached_property
from typing import TYPE_CHECKING

from refdeq.registry import BackendInfo, Plan, PlanRequest, Refusal

if TYPE_CHECKING:
    from refdeq_numba.kernels import NumbaKernels

__all__ = ["NumbaBackend"]

_ACTIVATION_ULP = 2.75
"""Largest error of the activations of fast order, measured by ``benchmarks/activation_accuracy.py``: 2.06 in float32.

In float64, which cannot be measured in full, Tanh near 0.2 is worst: 2.3 was seen, and its roundings add up to at most 2.6.
"""


class NumbaBackend:
    """Compiled kernels for the CPU. Numba itself is imported by the first call that needs it.

    Examples
    --------
    >>> NumbaBackend().info.orders
    ('strict', 'fast')
    """

    @cached_property
    def info(self) -> BackendInfo:
        """What is declared; native activations in fast order need a processor with fused multiply-add."""
        from refdeq_numba.machine import has_fused_multiply_add

        return BackendInfo(
            name="numba",
            summary="Numba on the CPU: compiled kernels for every operator, fused plans for whole solves",
            orders=("strict", "fast"),
            dtypes=("float32", "float64"),
            determinism="R4",
            inactive_columns="skip",
            activation="strict",
            fused=True,
            fast_activation="native" if has_fused_multiply_add() else "strict",
            activation_ulp=_ACTIVATION_ULP if has_fused_multiply_add() else 0.0,
        )

    def unavailable(self) -> tuple[str, str] | None:
        """Return None when it can run here, else (reason, hint)."""
        for package in ("numba", "llvmlite"):
            if importlib.util.find_spec(package) is None:
                return f"{package} is not installed", "pip install numba"
        from numba.core import config

        if config.DISABLE_JIT:  # type: ignore[attr-defined]  # settings are attributes made at run time
            return "compilation is switched off by NUMBA_DISABLE_JIT", "unset NUMBA_DISABLE_JIT"
        return None

    def kernels(self, *, order: str, threads: int) -> NumbaKernels:
        """Return op-level primitives; samples are shared out among `threads`."""
        from refdeq_numba.kernels import NumbaKernels

        return NumbaKernels(order, threads)

    def plan(self, request: PlanRequest) -> Plan | Refusal:
        """Return a fused plan for a whole solve, or say why there is none."""
        from refdeq_numba.plan import make_plan

        return make_plan(request)

    def describe(self) -> dict[str, str]:
        """Facts for ``refdeq info``."""
        import llvmlite
        import llvmlite.binding as llvm
        import numba

        from refdeq_numba.compilation import cache_folder
        from refdeq_numba.compile_times import kept
        from refdeq_numba.machine import has_fused_multiply_add
        from refdeq_numba.simd import description

        folder = cache_folder()
        code = kept(folder)
        return {
            "numba": numba.__version__,
            "llvmlite": llvmlite.__version__,
            "host CPU": llvm.get_host_cpu_name(),
            "processors": str(os.cpu_count()),
            "fast order": "fused multiply-add, native activations"
            if has_fused_multiply_add()
            else "as strict: no fused multiply-add here",
            "vectors": description(),
            "machine code": str(folder),
            "kernels kept": str(code.kernels),
            "bytes kept": str(code.size),
            "seconds of compiling": f"{code.seconds:.1f} ({code.timed} timed)",
        }
