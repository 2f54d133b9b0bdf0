"""Kernels of linear nodes, in strict order (N-6) and with fused multiply-add (N-7); see :mod:`refdeq_gpu.table`.

Each is written once, around the step ``a + w d`` that one term makes, and made twice: the terms and their order are the same.
"""

from __future__ import annotations

from numba import cuda, int32

from refdeq_cuda.arithmetic import fma, plus, times

__all__ = ["conv", "conv_fma", "gemm_dense", "gemm_dense_fma", "gemm_listed", "gemm_listed_fma", "matmul", "matmul_fma"]

_THREADS = 128
_SIDE, _ENTRIES, _PADDED = 32, 8, 33
_FULL = 0xFFFFFFFF


@cuda.jit(device=True)
def _rounded_step(w, d, a):
    """``fl(a + fl(w d))``."""
    return plus(a, times(w, d))


@cuda.jit(device=True)
def _fused_step(w, d, a):
    """``fma(w, d, a)``."""
    return fma(w, d, a)


def _gemm_listed(step):
    @cuda.jit
    def kernel(rows, count, inner, n, d, index, length, weight, a):
        columns = cuda.shared.array(_THREADS, int32)
        values = cuda.shared.array(_THREADS, d.dtype)
        thread = cuda.threadIdx.x
        i = cuda.blockIdx.x * _THREADS + thread
        for entry in range(cuda.blockIdx.y, count, cuda.gridDim.y):
            b = rows[entry]
            many = length[b]
            total = a[b * n + i] if i < n else a.dtype.type(0)
            for first in range(0, many, _THREADS):
                if first + thread < many:
                    column = index[b * inner + first + thread]
                    columns[thread] = column
                    values[thread] = d[b * inner + column]
                cuda.syncthreads()
                if i < n:
                    for t in range(min(_THREADS, many - first)):
                        total = step(weight[columns[t] * n + i], values[t], total)
                cuda.syncthreads()
            if i < n:
                a[b * n + i] = total

    return kernel


def _gemm_dense(step):
    @cuda.jit
    def kernel(rows, count, inner, n, d, has_mask, mask, weight, a):
        values = cuda.shared.array((_ENTRIES, _SIDE), d.dtype)
        weights = cuda.shared.array((_SIDE, _PADDED), d.dtype)
        lane, line = cuda.threadIdx.x, cuda.threadIdx.y
        i = cuda.blockIdx.x * _SIDE + lane
        for tile in range(cuda.blockIdx.y, (count + _ENTRIES - 1) // _ENTRIES, cuda.gridDim.y):
            entry = tile * _ENTRIES + line
            b = rows[entry] if entry < count else 0
            is_own = entry < count and i < n
            total = a[b * n + i] if is_own else a.dtype.type(0)
            for first in range(0, inner, _SIDE):
                is_sent = False
                if entry < count and first + lane < inner:
                    at = b * inner + first + lane
                    values[line, lane] = d[at]
                    is_sent = has_mask == 0 or mask[at] != 0
                sent = cuda.ballot_sync(_FULL, is_sent)  # of the entry's warp: the others' terms are left out, not added as 0
                for j in range(line, _SIDE, _ENTRIES):
                    if first + j < inner and i < n:
                        weights[j, lane] = weight[(first + j) * n + i]
                cuda.syncthreads()
                if is_own:
                    for j in range(min(_SIDE, inner - first)):
                        if (sent >> j) & 1:
                            total = step(weights[j, lane], values[line, j], total)
                cuda.syncthreads()
            if is_own:
                a[b * n + i] = total

    return kernel


def _matmul(step):
    @cuda.jit
    def kernel(
        rows,
        count,
        products,
        height,
        inner,
        width,
        left_step,
        left_pick,
        left,
        right_step,
        right_pick,
        right,
        out,
    ):
        size = height * width
        for i in range(cuda.grid(1), count * products * size, cuda.gridsize(1)):
            b, p, at = rows[i // (products * size)], i // size % products, i % size
            of_left = b * left_step + left_pick[p] * height * inner + at // width * inner
            of_right = b * right_step + right_pick[p] * inner * width + at % width
            total = out.dtype.type(0)
            for k in range(inner):
                total = step(left[of_left + k], right[of_right + k * width], total)
            out[(b * products + p) * size + at] = total

    return kernel


def _conv(step):
    @cuda.jit
    def kernel(
        rows,
        count,
        channels,
        height,
        width,
        outputs,
        out_height,
        out_width,
        kernel_h,
        kernel_w,
        stride_h,
        stride_w,
        pad_h,
        pad_w,
        dilation_h,
        dilation_w,
        group,
        has_mask,
        d,
        mask,
        weight,
        a,
    ):
        sites = out_height * out_width
        own_channels, own_outputs = channels // group, outputs // group
        for i in range(cuda.grid(1), count * outputs * sites, cuda.gridsize(1)):
            b, o, site = rows[i // (outputs * sites)], i // sites % outputs, i % sites
            top = site // out_width * stride_h - pad_h
            left = site % out_width * stride_w - pad_w
            first_channel = b * channels + o // own_outputs * own_channels
            at = (b * outputs + o) * sites + site
            total = a[at]
            for p in range(kernel_h):
                y = top + p * dilation_h
                if y < 0 or y >= height:
                    continue
                for q in range(kernel_w):
                    x = left + q * dilation_w
                    if x < 0 or x >= width:
                        continue
                    for c in range(own_channels):
                        of_d = ((first_channel + c) * height + y) * width + x
                        if has_mask == 0 or mask[of_d] != 0:
                            of_weight = ((o * own_channels + c) * kernel_h + p) * kernel_w + q
                            total = step(weight[of_weight], d[of_d], total)
            a[at] = total

    return kernel


gemm_listed, gemm_listed_fma = _gemm_listed(_rounded_step), _gemm_listed(_fused_step)
gemm_dense, gemm_dense_fma = _gemm_dense(_rounded_step), _gemm_dense(_fused_step)
matmul, matmul_fma = _matmul(_rounded_step), _matmul(_fused_step)
conv, conv_fma = _conv(_rounded_step), _conv(_fused_step)
