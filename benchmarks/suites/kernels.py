"""Gemm of one sample and of batches, Conv, and the evaluations of a fused solve, through a backend's interface."""

from __future__ import annotations

from typing import Any, ClassVar

from suites.common import BACKENDS, BLAS, TORCH, Error, Ratio, Saved, Timed

SLOW = {"reference": "strict sums in NumPy take seconds at this size; Gemv has the reference"}


class Gemv(Ratio, Saved, Error):
    """One sample, n inputs and outputs (P1, P2)."""

    workload = "gemv"
    param_names: ClassVar = ["backend", "n", "density"]
    params: ClassVar = (BACKENDS, (1024, 4096), (0.1, 0.5))

    def setup_cache(self) -> Any:
        return self.measure()


class GemvTime(Timed):
    """Seconds of the same, and of the dense product."""

    param_names: ClassVar = Gemv.param_names
    params: ClassVar = ((*BACKENDS, BLAS, TORCH), (1024, 4096), (0.1,))

    def work(self) -> Gemv:
        return Gemv()


class Batched(Ratio, Saved, Error):
    """A batch of 4096 samples, 256 inputs and outputs (P3, P4)."""

    workload = "gemm"
    fixed: ClassVar = {"samples": 4096, "inputs": 256}
    not_with: ClassVar = SLOW
    param_names: ClassVar = ["backend", "pattern", "density"]
    params: ClassVar = (BACKENDS, ("random", "mixed", "rows"), (0.1, 0.3))

    def setup_cache(self) -> Any:
        return self.measure()


class BatchedTime(Timed):
    """Seconds of the same, and of the dense product."""

    param_names: ClassVar = Batched.param_names
    params: ClassVar = ((*BACKENDS, BLAS, TORCH), ("random", "rows"), (0.1,))

    def work(self) -> Batched:
        return Batched()


class Conv(Ratio, Saved, Error):
    """One image of 24 x 64 pixels, 128 channels to 128 (P6 has more of both)."""

    workload = "conv"
    fixed: ClassVar = {"height": 24, "width": 64, "inputs": 128, "outputs": 128}
    not_with: ClassVar = SLOW
    param_names: ClassVar = ["backend", "kernel", "pattern", "density"]
    params: ClassVar = (BACKENDS, ("1x5", "3x3"), ("random", "rows"), (0.1, 0.25))

    def setup_cache(self) -> Any:
        return self.measure()


class ConvTime(Timed):
    """Seconds of the same, and of the dense convolution."""

    param_names: ClassVar = Conv.param_names
    params: ClassVar = ((*BACKENDS, BLAS, TORCH), ("1x5", "3x3"), ("random",), (0.1,))

    def work(self) -> Conv:
        return Conv()


class FusedStep(Ratio, Saved):
    """Evaluations of a fused solve at one density (gate, product, activation, residual) against tuned NumPy passes (P7)."""

    workload = "fused"
    fixed: ClassVar = {"samples": 1024, "evaluations": 8}
    not_with: ClassVar = {"reference": "it has no fused plans"}
    param_names: ClassVar = ["backend", "activation", "density"]
    params: ClassVar = (BACKENDS, ("Tanh", "Sin"), (0.05, 0.2))

    def setup_cache(self) -> Any:
        return self.measure()


class FusedStepTime(Timed):
    """Seconds of the same, and of the passes."""

    param_names: ClassVar = FusedStep.param_names
    params: ClassVar = ((*BACKENDS, BLAS), ("Tanh", "Sin"), (0.2,))

    def work(self) -> FusedStep:
        return FusedStep()
