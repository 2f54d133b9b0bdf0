"""A barrier of all blocks of a cooperative launch: one atomic per block, and a word that says which generation it is."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import cuda, types
from numba.cuda.extending import intrinsic

from refdeq_cuda.simulator_cuda import CUDA
from refdeq_cuda.simulator_linker import substitute

__all__ = ["grid_barrier"]

ARRIVED, GENERATION = 0, 32  # words in lines of 128 bytes of their own


@intrinsic
def load_volatile(typing_context: Any, array: Any, index: Any) -> Any:
    """An element of an int32 array as it is now: the load is neither moved nor answered by a cache that may be stale."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.gep(data, [arguments[1]])
        kind = ir.FunctionType(ir.IntType(32), [pointer.type])
        load = ir.InlineAsm(kind, "ld.volatile.b32 $0, [$1];", "=r,l", side_effect=True)
        return builder.call(load, [pointer])

    return types.int32(array, types.int64), lower


substitute(load_volatile, CUDA.ldcv)


@cuda.jit(device=True)
def grid_barrier(words):
    """Wait for all blocks.

    A block reads the generation before it arrives, so that it cannot miss the release; the last to arrive clears the count
    before it releases the others. The fences order what each block wrote before against what others read after.
    """
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        before = load_volatile(words, GENERATION)
        cuda.threadfence()
        if cuda.atomic.add(words, ARRIVED, 1) == cuda.gridDim.x - 1:
            cuda.atomic.exch(words, ARRIVED, 0)
            cuda.threadfence()
            cuda.atomic.add(words, GENERATION, 1)
        else:
            while load_volatile(words, GENERATION) == before:
                pass
        cuda.threadfence()
    cuda.syncthreads()
