"""Whole solves: the trained sine and image cells, and a convolution cell (the update block of optical flow)."""

from __future__ import annotations

from typing import Any, ClassVar

from suites.common import BACKENDS, BLAS, PYTHON, Cache, Evaluations, Ratio, Saved, Solves, Timed, order_of, skipping

NO_PLANS = {"reference": "it has no fused plans"}


class Sine(Ratio, Saved):
    """One sample, 20 units, a fixed number of evaluations, against a loop over NumPy calls (P11)."""

    workload = "sine"
    fixed: ClassVar = {"evaluations": 200}
    not_with: ClassVar = NO_PLANS
    param_names: ClassVar = ["backend", "tau"]
    params: ClassVar = (BACKENDS, (0.0, 0.01))

    def setup_cache(self) -> Any:
        return self.measure()

    def track_per_evaluation(self, cache: Cache, *point: Any) -> float:
        """All of an evaluation: gate, product, tanh, residual."""
        figures = cache[point].figures
        return figures["seconds"] / figures["evaluations"]

    track_per_evaluation.unit = "seconds"  # type: ignore[attr-defined]


class SineTime(Timed):
    """Seconds of the same, and of the loop."""

    param_names: ClassVar = Sine.param_names
    params: ClassVar = ((*BACKENDS, PYTHON), (0.0, 0.01))

    def work(self) -> Sine:
        return Sine()


class Image(Ratio, Saved, Solves):
    """2048 pixels, 256 units, real weights, protocol (P) of C-4 with samples left out when only rounding is left (P8)."""

    workload = "image"
    fixed: ClassVar = {"samples": 2048}
    not_with: ClassVar = NO_PLANS
    param_names: ClassVar = ["backend", "tau"]
    params: ClassVar = (BACKENDS, (0.0, 0.01))

    def setup_cache(self) -> Any:
        return self.measure()

    def track_psnr(self, cache: Cache, *point: Any) -> float:
        """Quality of the picture."""
        return cache[point].figures["PSNR"]

    track_psnr.unit = "dB"  # type: ignore[attr-defined]


class ImageTime(Timed):
    """Seconds of the same, and of dense Picard on BLAS."""

    param_names: ClassVar = Image.param_names
    params: ClassVar = ((*BACKENDS, BLAS), (0.01,))

    def work(self) -> Image:
        return Image()


class ConvolutionCell(Ratio, Saved, Evaluations):
    """Update block of optical flow: thirteen gated convolutions, eight evaluations, against the same backend without a rule."""

    workload = "flow"
    fixed: ClassVar = {"channels": 24, "height": 16, "width": 24, "evaluations": 8}
    not_with: ClassVar = {"reference": "strict sums in NumPy take seconds at this size"}
    param_names: ClassVar = ["backend", "tau"]
    params: ClassVar = (BACKENDS, (0.01, 0.05))

    def setup_cache(self) -> Any:
        return self.measure()

    def track_dense_residual(self, cache: Cache, *point: Any) -> float:
        """Largest relative residual of the dense f at what is returned (S-2b): a budget is spent, no tolerance is met."""
        return cache[point].figures["dense residual"]

    track_dense_residual.unit = "relative"  # type: ignore[attr-defined]


class ConvolutionCellTime(Timed):
    """Seconds of the same."""

    param_names: ClassVar = ConvolutionCell.param_names
    params: ClassVar = (BACKENDS, (0.01,))

    def work(self) -> ConvolutionCell:
        return ConvolutionCell()


class Memory:
    """Peak memory of a process that loads a trained cell and solves up to 1024 samples of it, interpreter included."""

    param_names: ClassVar = ["backend", "cell"]
    params: ClassVar = (BACKENDS, ("sine", "image_siren"))

    def setup_cache(self) -> bool:
        """Solve once, so that what is compiled is on disk: compiling takes more memory than anything else.

        asv hands the result to the benchmark, unless it is None.
        """
        for backend in BACKENDS:
            for cell in self.params[1]:
                try:
                    self.peakmem_solve(True, backend, cell)
                except NotImplementedError:
                    continue  # the benchmark itself says so
        return True

    def peakmem_solve(self, _is_compiled: bool, backend: str, cell: str) -> None:
        """Load and solve with the rule at 0.01."""
        order = order_of(backend)
        with skipping():
            import refdeq as rd

            model = rd.models.load_trained(cell)
            rule, stop = rd.DeltaRule(threshold=0.01), rd.StopRule(max_eval=31)
            rd.solve(model.cell, model.x[:1024], delta=rule, stop=stop, backend=backend, order=order)
