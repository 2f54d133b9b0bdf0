"""Kernels of :mod:`refdeq_gpu.plans.fc`; their arguments are laid out by :mod:`refdeq_gpu.plans.fc_layout`."""

from __future__ import annotations

from refdeq_gpu.table import define

_ARGUMENTS = (
    "choice:i64* limit:f64* weight:T* fixed:T* state:T* flags:u8* words:i32* numbers:f64* counts:i64* trace:T* control:i64*"
)

define("fc_solve", "plan", "fc_solve", _ARGUMENTS,
       "whole solve of every sample in one cooperative launch; blocks wait for each other by a barrier of their own")  # fmt: skip
define("fc_solve", "plan", "fc_step", _ARGUMENTS,
       "second half of a round: finish the evaluation, step, gate and list the argument that follows (or begin the next sample)")  # fmt: skip
define("fc_solve", "plan", "fc_add", _ARGUMENTS,
       "first half of a round: judge the evaluation that is finished, commit the gate, add the columns of the next")  # fmt: skip
