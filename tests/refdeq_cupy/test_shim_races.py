"""Races in shared memory are found in every order of threads, also where no result is wrong; what is no race is left alone."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from refdeq_cupy import loader
from refdeq_cupy.simulated import ShimDevice

from refdeq.errors import LaunchError

LOOKS_FOR_RACES = True
SOURCE = r"""
#include "async.cuh"
extern "C" __global__ void reads_early(int* out) {
    __shared__ int room[64];
    room[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = room[threadIdx.x ^ 32];
}
extern "C" __global__ void writes_early(int* out) {
    extern __shared__ int more[];
    more[threadIdx.x] = threadIdx.x;
    __syncthreads();
    const int other = more[63 - threadIdx.x];
    more[threadIdx.x] = other;
    __syncthreads();
    out[threadIdx.x] = more[threadIdx.x];
}
extern "C" __global__ void writes_twice(int* out) {
    __shared__ int last;
    if (threadIdx.x % 32 == 0) last = 7;
    __syncthreads();
    out[threadIdx.x] = last;
}
extern "C" __global__ void reads_before_counted(int* out) {
    __shared__ int count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    if (threadIdx.x < 32) atomicAdd(&count, 1);
    else out[threadIdx.x] = count;
}
extern "C" __global__ void copies_early(int* out) {
    __shared__ __align__(16) int room[64];
    cp_async_4(&room[threadIdx.x], out + threadIdx.x);
    if (threadIdx.x < 32) out[threadIdx.x] = room[threadIdx.x + 32];
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
}
extern "C" __global__ void is_right(int* out) {
    __shared__ int room[64], count;
    __shared__ unsigned char bytes[64];
    if (threadIdx.x == 5) count = 0;
    bytes[threadIdx.x] = threadIdx.x;
    room[threadIdx.x] = threadIdx.x;
    __syncwarp();
    room[threadIdx.x ^ 1] += bytes[threadIdx.x ^ 16];
    for (int step = 0; step < 3; step++) {
        __syncthreads();
        const int other = room[63 - threadIdx.x];
        atomicAdd(&count, bytes[63] - 62);
        __syncthreads();
        room[threadIdx.x] = other + 1;
    }
    out[threadIdx.x] = count;
}
"""
RACES = {
    "reads_early": (" what warp ", "since the kernel began, of shared memory of fixed size, in tried.cu:5"),
    "writes_early": (" reads what warp ", "has written since the barrier (tried.cu:11), at byte ", "tried.cu:12"),
    "writes_twice": (" writes what warp ", "has written since the kernel began", "tried.cu:19"),
    "reads_before_counted": (" what warp ", "since the barrier (tried.cu:26)"),
    "copies_early": (" what warp ",),
}


@pytest.mark.parametrize("seed", [0, 1, 9])
@pytest.mark.parametrize("name", list(RACES))
def test_races_are_found_in_every_order(kernels, name, seed):
    error = kernels.run(name, np.zeros(64, dtype=np.int32), block=64, shared=256, seed=seed)
    error = f"{error}, in {loader.race_line()}"
    assert error.startswith(f"kernel {name}, block (0, 0, 0): race: thread (")
    for part in RACES[name]:
        assert part in error


@pytest.mark.parametrize("seed", [0, 1, 9])
def test_what_is_no_race_is_left_alone(kernels, seed):
    out = np.zeros(64, dtype=np.int32)
    assert kernels.run("is_right", out, block=64, seed=seed) is None
    assert loader.race_line() == ""
    assert (out == 192).all()


def test_a_device_that_looks_for_races_names_the_line(tmp_path):
    for header in loader.SOURCES.glob("*.cuh"):
        shutil.copy(header, tmp_path)
    text = (loader.SOURCES / "moves.cu").read_text(encoding="utf-8")
    (tmp_path / "moves.cu").write_text(text.replace("    __syncthreads();\n", "\n"), encoding="utf-8")
    device, x = ShimDevice(tmp_path, looks_for_races=True), np.zeros((32, 32))
    with pytest.raises(LaunchError, match=r"race: .* since the kernel began, .* in moves.cu:[56]\d$"):
        device.launch("transpose", 1, (32, 8), [32, 32, device.upload(x), device.empty((32, 32), "float64")])


def test_races_are_looked_for_when_the_environment_says_so(monkeypatch):
    assert not ShimDevice()._looks_for_races
    monkeypatch.setenv("REFDEQ_SHIM_RACES", "1")
    assert ShimDevice()._looks_for_races
