"""Kernels of :mod:`refdeq_gpu.plans.rows`."""

from __future__ import annotations

from refdeq_gpu.table import define

_TILE = (
    "batch:i64 n:i32 width:i32 parts:i32 resident:i32 flags:i32 activation:i32 max_eval:i32 window:i32 slope:T alpha:T beta:T rtol:f64 "
    "atol:f64 eps:f64 divergence:f64 ratio:f64 threshold:T* pieces:i32* z0:T* entry:T* entry_step:i64 bias:T* phase:T* phase_step:i64 "
    "filter:T* filter_step:i64 r_in:T* a_in:T* before:i64* queue:i32* z:T* r:T* a:T* mask:u8* status:i64* n_eval:i64* "
    "norms:f64* sent:i64* nonzero:i64* history:f64* t_active:u8* t_z:T* t_f:T* t_norms:f64* t_r:T* t_mask:u8* t_a:T* "
    "t_linear:T* t_activated:T*"
)
_TILE_START = (
    "batch:i64 n:i32 width:i32 parts:i32 resident:i32 is_finite_weight:i32 pieces:i32* z0:T* entry:T* entry_step:i64 "
    "before:i64* a_in:T*"
)
_TILES = (("row_tile", 64, 256), ("row_tile_wide", 32, 512))

for _module, _rows, _most in _TILES:
    define(_module, "plan", _module, _TILE,
           f"K2: whole delta solves by tiles of {_rows} rows of at most {_most} columns, products on tensor cores; rows from a queue",
           languages=("cupy",), dtypes=("float32",))  # fmt: skip
    define(_module, "plan", f"{_module}_dense", _TILE, f"{_module} without a gate: every evaluation multiplies all of the state",
           languages=("cupy",), dtypes=("float32",))  # fmt: skip
    define(_module, "plan", f"{_module}_start", _TILE_START, "a_in = A (z0 + entry) for rows that made no evaluation (D-5)",
           languages=("cupy",), dtypes=("float32",))  # fmt: skip
