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

_LISTED = "rows:i32* count:i64"
_LIST = "index:i32* values:T* ends:i32*"
define("row_axpy", "plan", "row_gate",
       f"{_LISTED} n:i32 flags:i32 compare:i32 memory:i32 delta_dtype:i32 feedback_format:i32 k:i32 z:T* entry:T* entry_step:i64 "
       f"threshold:T* before:i64* live:u8* r:T* a:T* mask:u8* {_LIST} sent:i64* nonzero:i64*",
       "gate, list and count rows (D-1 to D-5, D-10): index and values of what is sent, ascending; ends (B, blocks + 1) has how "
       "many are before every 128 columns, then all; a warp per row")  # fmt: skip
for _suffix, _text in (("", "a = fl(a + fl(w d))"), ("_fma", "a = fma(w, d, a)")):
    define("row_axpy", "plan", f"row_axpy{_suffix}", f"{_LISTED} n:i32 wide:i32 span:i32 live:u8* {_LIST} weight:T* a:T*",
           f"add what rows send, ascending: {_text}; grid (slices of 32 wide outputs, any), `span` times 128 inner rows of the "
           "slice in shared memory at a time; a warp per row")  # fmt: skip
define("row_finish", "plan", "row_finish",
       f"{_LISTED} batch:i64 n:i32 flags:i32 k:i32 activation:i32 max_eval:i32 window:i32 slope:T alpha:T beta:T rtol:f64 "
       "atol:f64 eps:f64 divergence:f64 ratio:f64 bias:T* phase:T* phase_step:i64 filter:T* filter_step:i64 live:u8* z:T* f:T* "
       "r:T* a:T* mask:u8* status:i64* n_eval:i64* norms:f64* history:f64* t_active:u8* t_z:T* t_f:T* t_norms:f64* t_r:T* "
       "t_mask:u8* t_a:T* t_linear:T* t_activated:T*",
       "value, norms, decision, trace and step of rows (S-2, S-3, S-6, S-10); a warp per row")  # fmt: skip
define("row_lists", "plan", "row_count", "flags:u8* batch:i64 counts:i32*",
       "counts[b] = set flags among rows 256 b to 256 b + 255; blocks of 256 threads")  # fmt: skip
define("row_lists", "plan", "row_scan", "blocks:i32 counts:i32* total:i32*",
       "counts[b] = sum of the counts before b, total[0] = sum of all; one block of 256 threads")  # fmt: skip
define("row_lists", "plan", "row_write", "flags:u8* batch:i64 counts:i32* rows:i32*",
       "rows = ascending indices of set flags, from what row_scan left; grid and block of row_count")  # fmt: skip
define("row_lists", "plan", "row_spread", f"{_LISTED} n:i32 live:u8* {_LIST} out:T*",
       "out[i] = what row rows[i] sends, zeros elsewhere; a block per row")  # fmt: skip
define("row_lists", "plan", "row_add", f"{_LISTED} n:i32 live:u8* sums:T* a:T*",
       "a[rows[i]] = fl(a[rows[i]] + sums[i]); a block per row")  # fmt: skip
