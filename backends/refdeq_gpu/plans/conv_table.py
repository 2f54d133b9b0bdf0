"""Kernels of :mod:`refdeq_gpu.plans.conv`: convolutions over lists of tiles (K3).

Tiles are 8 rows of 16 sites, words are 32 channels of one group of the convolution (the last word of a group is filled up). `T`
arrays of the op level have channels first; what is packed has channels last. A *job* is the tile of outputs of one entry of
`rows` and one group; its *codes* are ``tap * words + word``. Integer arrays of bits are i32, one bit per channel (`sent`) or per
strip of four sites (`tile_words`).
"""

from __future__ import annotations

from refdeq_gpu.table import define

__all__: list[str] = []

_CONV = "channels:i32 height:i32 width:i32 outputs:i32 out_height:i32 out_width:i32 kernel_h:i32 kernel_w:i32"
_CONV += " stride_h:i32 stride_w:i32 pad_h:i32 pad_w:i32 dilation_h:i32 dilation_w:i32 group:i32"
_LISTS = "list:i32* length:i32* job:i32* number:i64*"

define("conv_tiles", "plan", "tile_pack", f"rows:i32* count:i64 {_CONV} has_mask:i32 d:T* mask:u8* delta:T* sent:i32* tile_words:i32*",
       "per tile of inputs and word: delta[entry, site, channel] where the site sends, +0 in the channels that it does not; sent "
       "bits per channel; tile_words bits per strip; without a mask everything is sent; blocks of 256 threads, any grid")  # fmt: skip
define("conv_tiles", "plan", "tile_list", f"count:i64 {_CONV} everything:i32 tile_words:i32* list:i32* length:i32*",
       "list[job, :length[job]] = ascending codes whose reach has a bit set, or all of them; blocks of 128 threads, "
       "any grid")  # fmt: skip
define("conv_tiles", "plan", "tile_jobs", "jobs:i64 length:i32* job:i32* number:i64*",
       "job = ascending numbers of the jobs with codes, number[0] of them, number[1] codes in all; one block of 128 "
       "threads")  # fmt: skip
define("conv_tiles", "plan", "tile_weight", "outputs:i32 inputs:i32 taps:i32 group:i32 padded_inputs:i32 padded_outputs:i32 "
       "weight:T* packed:T*", "packed[group, tap, channel, output], filled up with zeros; flat")  # fmt: skip
for _suffix, _text in (("", "a = fl(a + fl(w d))"), ("_fma", "a = fma(w, d, a)")):
    define("conv_tiles", "plan", f"conv_tiles{_suffix}", f"rows:i32* count:i64 {_CONV} delta:T* sent:i32* weight:T* {_LISTS} a:T*",
           f"a += over listed codes ascending, channels ascending, sent elements only (N-6, D-7): {_text}; blocks of 256 threads, "
           "any grid; two stages of dynamic shared memory in CUDA C++")  # fmt: skip

_NARROW: dict[str, tuple[str, ...]] = {"languages": ("cupy",), "dtypes": ("float32",)}
define("conv_tiles_mma", "plan", "tile_pack_bf16", f"rows:i32* count:i64 {_CONV} has_mask:i32 d:T* mask:u8* delta:i32* sent:i32* tile_words:i32*",
       "as tile_pack; delta holds pairs of bfloat16 numbers, the first in the low half", **_NARROW)  # fmt: skip
define("conv_tiles_mma", "plan", "tile_weight_bf16", "outputs:i32 inputs:i32 taps:i32 group:i32 padded_inputs:i32 "
       "padded_outputs:i32 parts:i32 weight:T* packed:i32*",
       "packed[group, tap, word, part, output, pair]: each weight as the sum of up to three bfloat16 numbers; flat",
       **_NARROW)  # fmt: skip
for _suffix, _text in (("", "one bfloat16 number"), ("x2", "two of them"), ("x3", "three of them")):
    define("conv_tiles_mma", "plan", f"conv_tiles_bf16{_suffix}",
           f"rows:i32* count:i64 {_CONV} delta:i32* sent:i32* weight:i32* {_LISTS} a:T*",
           f"a = fl(a + s), s the float32 sum by tensor cores of exact products over the listed codes, each weight as {_text}, "
           "unsent elements as +0 (N-7); blocks of 256 threads, any grid; three stages of dynamic shared memory",
           **_NARROW)  # fmt: skip
