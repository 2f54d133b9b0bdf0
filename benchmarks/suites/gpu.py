"""Places for what was measured on a GPU: asv never runs these, ``python -m benchmarks.gpu.import_asv`` fills them.

A machine with a GPU need not have asv; ``benchmarks/gpu/run.py`` writes a file there, and its figures are stored as results of
these benchmarks, so that they are published beside those of the CPU.
"""

from __future__ import annotations

from typing import NoReturn

POINTS = (
    *("G1/d0.10", "G1/d0.02", "G2/d0.10", "G2/d0.02", "G3/d0.10", "G4/eager", "G4/graph", "G5/d0.25", "G5/d0.10", "G6/cupy"),
    *("G6/cuda", "G7/bf16", "G8/bf16x3", "G9/cluster", "G10/swapping", "G11/rows", "G12/a0.25", "G12/a0.10", "G13/a1.00"),
    *("G13/a0.25", "G13/a0.10", "G14/crossing", "G15/dispatch", "G16/equal", "G17/error"),
)
"""Goal and point of every figure."""


class Goals:
    """Figures of the goals G1 to G17: ratios over the baseline that each goal names, unless it asks for something else."""

    params = (list(POINTS),)
    param_names = ("goal",)
    unit = "as the goal says"

    def track_figure(self, goal: str) -> NoReturn:
        """What was measured for one goal."""
        raise NotImplementedError("measured by benchmarks/gpu/run.py on a machine with a GPU")
