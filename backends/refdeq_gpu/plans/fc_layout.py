"""Where everything of a fully connected solve lies: few arrays with many parts each, because every argument of a launch costs.

The numbers here are positions. The kernels of both languages use the same: those in Python import this module, those in CUDA
C++ have the lists once more in ``fc_layout.cuh`` (a test compares them).
"""

from __future__ import annotations

__all__ = [
    "ABSENT",
    "CHOICES",
    "CHUNK",
    "CONTROLS",
    "COUNTERS",
    "COUNT_AT",
    "INDEX_AT",
    "LARGEST_GRID",
    "LIMITS",
    "MEASURES",
    "NONZERO_AT",
    "PHASES",
    "SLOTS",
    "VERDICT_AT",
    "WORK_ROWS",
]

CHOICES = (
    "N",  # width of the state
    "BATCH",
    "ACTIVATION",  # position in refdeq.fc_pattern.ACTIVATIONS
    "IS_FAST",  # order of the sums: multiply and add rounded apart (N-6), or once (N-7)
    "IS_GATED",
    "IS_GE",  # D-2
    "IS_ALWAYS",  # D-4
    "IS_DENSE_START",  # D-5
    "IS_FOLDED",  # D-6; false without a bias
    "BY_SAMPLE",  # D-10
    "REFRESH",  # D-12
    "IS_PICARD",  # S-6
    "IS_LINF",  # S-2
    "MAX_EVAL",
    "WINDOW",  # of the stagnation test, 0 for none
    "WIDTH",  # neighbouring outputs of one thread
    "TILE",  # outputs of one job, at most those of all threads of a block
    "SPLITS",  # parts that the list of columns may be cut into; depends on N only
    "BIAS_AT",  # positions in `fixed`, ABSENT for a part that the cell lacks; a step is 0 for a parameter, N for a value of x
    "ENTRY_AT",
    "ENTRY_STEP",
    "PHASE_AT",
    "PHASE_STEP",
    "FILTER_AT",
    "FILTER_STEP",
    "THRESHOLD_AT",
    "R_AT",  # positions in `state`; z is at 0
    "A_AT",
    "ROW_STEP",  # from the accumulator of a sample to that of the next: N with gates, 0 without
    "WORK_AT",
    "FIRED_AT",  # position in `flags`; the masks are at 0
    "RECENT_AT",  # positions in `numbers`; residual and scale are at 0 and BATCH
    "MEASURE_AT",
    "TRACE_RESIDUAL",  # positions in `numbers`, ABSENT without a trace
    "TRACE_SCALE",
    "TRACE_Z",  # positions in `trace`
    "TRACE_F",
    "TRACE_R",
    "TRACE_A",
    "TRACE_LINEAR",
    "TRACE_ACTIVATED",
    "TRACE_MASK",  # position in `flags`
)
"""Whole numbers of a solve, int64, in this order."""

LIMITS = ("RTOL", "ATOL", "EPS", "DIVERGENCE", "RATIO")
"""Real numbers of the stop rule, float64; a negative tolerance means none."""

CONTROLS = (
    "SAMPLE",  # under way, -1 before the first
    "MADE",  # evaluations of it that are finished
    "COUNT",  # evaluations since the reset of its memory
    "PHASE",
    "TOTAL",  # entries of all lists
    "USED",  # columns that the evaluation under way adds
    "IS_FRESH",  # whether it begins its sum anew
    "LENGTH",  # columns of one part of the list
    "DIFFERENT",  # differences that count as not zero, known to the first block
)
"""What the blocks go on from, int64."""

PHASES = ("RUN", "NEXT", "DONE")
"""What a step does: finish an evaluation, begin the next sample, nothing."""

MEASURES = ("FIRST", "OLDER", "DISTANCE", "SCALE")
"""What the stop rule remembers of a sample, float64."""

COUNTERS = ("STATUS", "N_EVAL", "EVALUATIONS", "SENT", "NONZERO", "MACS", "WHOLE", "QUIET")
"""Rows of `counts`, one number per sample; the last two count evaluations that added all columns, or none."""

SLOTS = 2
"""Copies of controls and measures in global memory: a kernel reads one and writes the other, so that no block reads what
another one of the same launch has written."""

WORK_ROWS = 6
"""Rows of N in the workspace before the partial sums: f, its argument, the next argument, what the columns are multiplied by,
what by instead where a whole sample sends nothing, and the factors of listed columns beside their indices."""

LARGEST_GRID = 1024
"""Blocks: the lists of so many are put together in shared memory."""

CHUNK = 1024
"""Columns, or elements, that a block stages in shared memory at a time."""

VERDICT_AT, COUNT_AT = 64, 96
NONZERO_AT, INDEX_AT = COUNT_AT + LARGEST_GRID, COUNT_AT + 2 * LARGEST_GRID
"""Positions in `words`: the status that the last evaluation led to, entries of each block's list, differences among them that
are not zero, the lists. The barrier comes first, with its two words in lines of 128 bytes of their own."""

ABSENT = -1
