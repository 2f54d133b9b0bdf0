"""The table of kernels: name, arguments and meaning, the same for both languages they are written in.

An argument is ``name:kind``. ``T`` is the real type that a module is compiled for (float32 or float64); a star marks an array,
flat and C-contiguous; ``i32``, ``i64``, ``f64``, ``u8`` are what they say. ``rows`` holds the ascending indices of the active
samples, ``count`` of them; samples that are not listed are neither read nor written. A sample is a row of `n` elements, so that
element k of sample b is ``x[b * n + k]``.

How a kernel is launched is part of its meaning: *flat* kernels go over ``count * n`` elements by a grid-stride loop and run
with any grid and block; *row* kernels have one block of :data:`ROW_THREADS` threads for each entry of `rows`; *warp* kernels
one block of 32 threads for each.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

__all__ = ["KERNELS", "ROW_THREADS", "Argument", "Kernel", "all_kernels", "define", "kernel_names"]

ROW_THREADS = 128

_R = "rows:i32* count:i64 n:i64"
_CONV = "channels:i32 height:i32 width:i32 outputs:i32 out_height:i32 out_width:i32 kernel_h:i32 kernel_w:i32"
_CONV += " stride_h:i32 stride_w:i32 pad_h:i32 pad_w:i32 dilation_h:i32 dilation_w:i32 group:i32"


@dataclass(frozen=True)
class Argument:
    """One argument of a kernel.

    >>> Argument("out", "T", True).kind
    'T'
    """

    name: str
    kind: str
    is_array: bool


@dataclass(frozen=True)
class Kernel:
    """One kernel of both backends.

    Attributes
    ----------
    name : str
    module : str
        File it is in, without its ending.
    shape : {"flat", "row", "warp", "tile", "plan"}
        How it is launched; ``plan`` kernels are launched by the plan that owns them.
    arguments : tuple of Argument
    meaning : str
    languages : tuple of str
        ``"cuda"`` (Numba-CUDA) and ``"cupy"`` (CUDA C++).
    dtypes : tuple of str
        Real types it is compiled for.
    """

    name: str
    module: str
    shape: str
    arguments: tuple[Argument, ...]
    meaning: str
    languages: tuple[str, ...] = ("cuda", "cupy")
    dtypes: tuple[str, ...] = ("float32", "float64")


KERNELS: dict[str, Kernel] = {}
"""Name to kernel of the op level; :func:`all_kernels` adds those of the plans."""

_PLAN_TABLES = ("refdeq_gpu.plans.fc_table", "refdeq_gpu.plans.rows_table", "refdeq_gpu.plans.conv_table")


def define(
    module: str,
    shape: str,
    name: str,
    arguments: str,
    meaning: str,
    *,
    languages: tuple[str, ...] = ("cuda", "cupy"),
    dtypes: tuple[str, ...] = ("float32", "float64"),
) -> None:
    """Add a kernel to the table.

    >>> KERNELS["fill"].arguments[-1]
    Argument(name='out', kind='T', is_array=True)
    """
    parsed = []
    for word in arguments.split():
        label, _, kind = word.partition(":")
        parsed.append(Argument(label, kind.rstrip("*"), kind.endswith("*")))
    KERNELS[name] = Kernel(name, module, shape, tuple(parsed), meaning, languages, dtypes)


def all_kernels() -> dict[str, Kernel]:
    """The whole table, that of the plans included: each of their tables calls :func:`define` when it is imported.

    >>> "gate" in all_kernels()
    True
    """
    for module in _PLAN_TABLES:
        importlib.import_module(module)
    return KERNELS


def kernel_names(language: str) -> tuple[str, ...]:
    """Names of the kernels of one language.

    >>> "gate" in kernel_names("cuda")
    True
    """
    return tuple(name for name, kernel in all_kernels().items() if language in kernel.languages)


# Moves: bits are copied, nothing is rounded -----------------------------------------------------------------------------------
define("moves", "flat", "fill", f"{_R} value:T out:T*", "out[b, k] = value")
define("moves", "flat", "fill_flags", f"{_R} value:i32 out:u8*", "out[b, k] = value (0 or 1)")
define("moves", "flat", "clear_words", "count:i64 out:i32*", "out[i] = 0 for i < count; no samples")
define("moves", "flat", "copy", f"{_R} x:T* out:T*", "out[b, k] = x[b, k]")
define("moves", "flat", "gather", f"{_R} x:T* x_step:i64 position:i64* out:T*",
       "out[b * n + k] = x[b * x_step + position[k]]; a step of 0 reads one parameter for every sample")  # fmt: skip
define("moves", "flat", "scatter", f"{_R} x:T* position:i64* out:T* width:i64", "out[b * width + position[k]] = x[b * n + k]")
define("moves", "flat", "move", f"{_R} x:T* x_width:i64 x_at:i64 out:T* out_width:i64 out_at:i64",
       "out[b * out_width + out_at + k] = x[b * x_width + x_at + k]")  # fmt: skip
define("moves", "tile", "transpose", "height:i32 width:i32 x:T* out:T*",
       "out[j * height + i] = x[i * width + j], by tiles of 32 x 32 in shared memory (33 columns); blocks of (32, 8)")  # fmt: skip

# Elementwise: one rounding per operation, never contracted --------------------------------------------------------------------
define("elementwise", "flat", "neg", f"{_R} x:T* out:T*", "-x")
define("elementwise", "flat", "relu", f"{_R} x:T* out:T*", "+0 where x <= 0, else x (NaN stays)")
define("elementwise", "flat", "leaky_relu", f"{_R} x:T* alpha:T out:T*", "alpha * x where x < 0, else x")
for _op, _text in (("add", "+"), ("sub", "-"), ("mul", "*")):
    define("elementwise", "flat", _op, f"{_R} x:T* x_step:i64 y:T* y_step:i64 out:T*",
           f"out[b * n + k] = x[b * x_step + k] {_text} y[b * y_step + k]; a step is n, or 0 for a parameter")  # fmt: skip
define(
    "elementwise", "flat", "relax", f"{_R} beta:T z:T* alpha:T f:T* out:T*", "fl(fl(beta z) + fl(alpha f)) (S-6); out may be z"
)
define("elementwise", "flat", "add_bias", f"{_R} a:T* alpha:T bias:T* beta:T has_bias:i32 out:T*",
       "fl(fl(alpha a) + fl(beta bias[k])), or fl(alpha a) without a bias (D-6, N-6); a factor of 1 changes no bits; out may be a")  # fmt: skip
define("elementwise", "flat", "fold_bias", f"{_R} s:T* bias:T* a:T*", "a = fl(fl(fl(s + bias[k]) + a) - bias[k]) (D-6)")
define("elementwise", "flat", "mean", f"{_R} terms:i64 x_width:i64 x:T* position:i64* out:T*",
       "total = +0; total = fl(total + x[b * x_width + position[k * terms + j]]) for ascending j; out = fl(total / terms)")  # fmt: skip
for _op in ("tanh", "sigmoid", "sin", "cos", "exp"):
    define("activations", "flat", f"{_op}", f"{_R} x:T* out:T*",
           f"strict {_op} of refdeq.scalar in float64, rounded once to T (N-8), never contracted")  # fmt: skip

# Gates ------------------------------------------------------------------------------------------------------------------------
_CHOICES = "compare:i32 memory:i32 delta_dtype:i32 feedback_format:i32"
define("gates", "flat", "gate", f"{_R} u:T* threshold:T* {_CHOICES} r:T* mask:u8* d:T*",
       "a gate of elements (D-1 to D-4): decide, write mask and gated difference, update r; choices as in refdeq_gpu.choices")  # fmt: skip
define("gates", "flat", "gate_decide", f"{_R} groups:i64 u:T* threshold:T* group:i32* compare:i32 delta_dtype:i32 r:T* any:i32* d:T*",
       "d = difference (D-1); where its element decides to send (D-2), any[b * groups + group[k]] |= 1 (atomic or, of integers)")  # fmt: skip
define("gates", "flat", "gate_share", f"{_R} groups:i64 u:T* group:i32* any:i32* memory:i32 feedback_format:i32 r:T* mask:u8* d:T*",
       "second half of a gate of groups (D-10): the group's decision; then D-3, D-4 from the difference in d")  # fmt: skip
define("gates", "row", "count_sent", f"{_R} mask:u8* many:i32 fan_out:i64* position:i64* out:i64*",
       "out[b] = sum over sent k of fan_out[many ? position[k] : 0]; written, not added; integers (C-1)")  # fmt: skip
define("gates", "row", "count_nonzero", f"{_R} values:T* out:i64*", "out[b] = number of elements != 0; NaN is not zero (C-3)")
define("gates", "row", "list_sent", f"{_R} mask:u8* index:i32* length:i32*",
       "index[b * n + t] = t-th sent element of sample b, ascending, by ballots and prefix sums; length[b] = how many")  # fmt: skip

# Sums: N-6 without, N-7 with fused multiply-add -------------------------------------------------------------------------------
for _suffix, _text in (("", "a = fl(a + fl(w d))"), ("_fma", "a = fma(w, d, a)")):
    define("sums", "tile", f"gemm_listed{_suffix}",
           "rows:i32* count:i64 inner:i64 n:i64 d:T* index:i32* length:i32* weight:T* a:T*",
           f"a (B, n) += over t ascending of weight[index[t] * n + i] * d[b * inner + index[t]]: {_text}; lists of the stride "
           "inner; grid (tiles of 128 outputs, count), 128 threads; index and d are staged in shared memory by the block")  # fmt: skip
    define("sums", "tile", f"gemm_dense{_suffix}",
           "rows:i32* count:i64 inner:i64 n:i64 d:T* has_mask:i32 mask:u8* weight:T* a:T*",
           f"the same over all inner columns, where has_mask those with mask[b * inner + k]: {_text}, else a stays; grid (tiles of "
           "32 outputs, tiles of 8 entries of rows), block (32, 8); d and weight staged 32 columns at a time, k ascending")  # fmt: skip
    define("sums", "tile", f"matmul{_suffix}",
           "rows:i32* count:i64 products:i64 height:i64 inner:i64 width:i64 left_step:i64 left_pick:i64* left:T* "
           "right_step:i64 right_pick:i64* right:T* out:T*",
           "out[b, p] = left[b, left_pick[p]] @ right[b, right_pick[p]], from +0 in ascending inner index: "
           f"{_text}; steps are elements per sample, 0 for a parameter; flat over count * products * height * width")  # fmt: skip
    define("sums", "tile", f"conv{_suffix}",
           f"rows:i32* count:i64 {_CONV} has_mask:i32 d:T* mask:u8* weight:T* a:T*",
           f"a (B, outputs, oh, ow) += Conv over sent elements, order (kh, kw, c), padded taps absent: {_text}; "
           "weight (outputs, channels / group, kh, kw); flat over count * outputs * oh * ow")  # fmt: skip

# Norms: the pinned tree of S-2 ------------------------------------------------------------------------------------------------
define("norms", "warp", "residual_part", f"{_R} f:T* z:T* offset:i64 is_linf:i32 lanes:f64* lanes_of_f:f64*",
       "lane l of lanes (B, 32) goes on with the elements k of this part with (offset + k) % 32 == l, ascending: squares of "
       "float64(f) - float64(z), and of f; linf: largest magnitude of its elements, NaN wins")  # fmt: skip
define("norms", "warp", "residual_finish", "rows:i32* count:i64 is_linf:i32 lanes:f64* lanes_of_f:f64* norms:f64*",
       "norms[2 b] and norms[2 b + 1]: sqrt of the lanes added in ascending order from +0; linf: their largest, NaN wins")  # fmt: skip
define("norms", "warp", "inner", f"{_R} columns:i64 which:i64 column:T* row:T* out:f64*",
       "out[b * columns + which] = tree sum of fl64(column[k]) * fl64(row[k]): 32 lanes of ascending stride, each product and sum "
       "rounded, lanes added in ascending order from +0")  # fmt: skip
define("norms", "flat", "combine_add", f"{_R} columns:i64 which:i64 column:T* weights:f64* total:f64*",
       "w = weights[b * columns + which]; where w != 0: total = fl(total + fl(w * fl64(column))); where w == 0 nothing is read")  # fmt: skip
define("norms", "flat", "combine_round", f"{_R} total:f64* out:T*", "out = total, rounded once to T")
