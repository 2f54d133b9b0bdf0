"""What the simulator reports when threads cannot go on, and what it refuses."""

import sys

import numpy as np
import pytest
from numba import cuda, float32, float64
from numba.cuda import libdevice
from refdeq_cuda.arithmetic import times
from refdeq_cuda.simulator import launch

from refdeq.errors import ArgumentError, BackendUnavailableError, LaunchError, UnsupportedError

ALL = 0xFFFFFFFF


def plain():
    pass


def with_barrier():
    cuda.syncthreads()


def by_groups():
    cuda.cg.this_grid().sync()


def turned_round(x):
    shared = cuda.shared.array(64, float32)
    shared[cuda.threadIdx.x] = cuda.threadIdx.x
    cuda.syncthreads()
    x[cuda.grid(1)] = shared[63 - cuda.threadIdx.x]


def some_wait():
    if cuda.threadIdx.x < 3:
        cuda.syncthreads()


def two_places():
    if cuda.threadIdx.x < 3:
        cuda.syncthreads()
    else:
        cuda.syncthreads()


def lane_missing():
    if cuda.laneid != 5:
        cuda.syncwarp()


def lane_left():
    if cuda.laneid == 5:
        return
    cuda.syncthreads_or(cuda.ballot_sync(ALL, True))


def not_in_mask():
    cuda.ballot_sync(1, True)


def other_operation():
    if cuda.laneid < 16:
        cuda.any_sync(ALL, True)
    else:
        cuda.all_sync(ALL, True)


def nobody_writes(words):
    while cuda.atomic.add(words, 0, 0) == 0:
        cuda.nanosleep(100)


def out_of_bounds(x):
    x[cuda.grid(1)] = 1


def float_atomic(x):
    cuda.atomic.add(x, 0, float32(1))


def converged():
    cuda.ballot_sync(cuda.activemask(), True)


def unknown():
    cuda.tensor_core()


def device_library(x):
    x[0] = libdevice.fmul_rn(x[0], x[0])


def too_much_shared(x):
    x[0] = cuda.shared.array(13000, float32)[0]


def native_function(x):
    x[0] = float32(np.float32(x[0]))
    cuda.syncthreads()
    x[0] = times(x[0], float64(x[0]))


ERRORS = [
    (some_wait, 4, (), LaunchError, ["threads 0-2: syncthreads at some_wait", "test_simulator_errors.py", "threads 3: left"]),
    (two_places, 4, (), LaunchError, ["divergent barrier", "threads 0-2", "threads 3"]),
    (
        lane_missing,
        32,
        (),
        LaunchError,
        ["syncwarp: the mask 0xffffffff names lanes that have left the kernel", "threads 5: left"],
    ),
    (lane_left, 32, (), LaunchError, ["ballot_sync: the mask", "lane_left", "threads 5: left"]),
    (not_in_mask, 2, (), LaunchError, ["ballot_sync: lane 1", "0x00000001"]),
    (other_operation, 32, (), LaunchError, ["different operations", "any_sync", "all_sync"]),
    (nobody_writes, 2, ("i4",), LaunchError, ["livelock", "blocks run one after the other", "nobody_writes"]),
    (out_of_bounds, 2, ("f4",), LaunchError, ["block (0, 0, 0), thread (1, 0, 0)", "IndexError"]),
    (float_atomic, 1, ("f4",), LaunchError, ["depend on the order of threads"]),
    (converged, 1, (), LaunchError, ["name the mask"]),
    (unknown, 1, (), LaunchError, ["cuda.tensor_core is not simulated"]),
    (too_much_shared, 1, ("f4",), LaunchError, ["52000 bytes of static shared memory"]),
    (native_function, 1, ("f4",), LaunchError, ["operands of one type", "float32 and float64"]),
    (device_library, 1, ("f4",), UnsupportedError, ["libdevice is not simulated"]),
]


@pytest.mark.parametrize(("kernel", "threads", "arrays", "error", "words"), ERRORS, ids=lambda v: getattr(v, "__name__", ""))
def test_what_cannot_go_on_is_reported(kernel, threads, arrays, error, words):
    with pytest.raises(error) as raised:
        launch(kernel, 1, threads, [np.zeros(1, kind) for kind in arrays])
    for word in words:
        assert word in str(raised.value)


def test_limits_of_a_launch():
    with pytest.raises(LaunchError, match="1024 is the most"):
        launch(plain, 1, (32, 33), ())
    with pytest.raises(LaunchError, match="bytes of dynamic shared memory"):
        launch(plain, 1, 1, (), shared=228 * 1024)
    with pytest.raises(LaunchError, match="positive"):
        launch(plain, 0, 1, ())
    with pytest.raises(LaunchError, match="not launched cooperatively"):
        launch(by_groups, 2, 1, ())


def test_the_simulator_works_after_a_failure():
    with pytest.raises(LaunchError):
        launch(some_wait, 2, 64, ())
    x = np.zeros(128)
    launch(turned_round, 2, 64, (x,))
    assert x.tolist() == [*range(63, -1, -1), *range(63, -1, -1)]


def test_the_seed_is_a_number(monkeypatch):
    monkeypatch.setenv("REFDEQ_SHIM_SEED", "up")
    with pytest.raises(ArgumentError, match="REFDEQ_SHIM_SEED: expected a whole number, got 'up'"):
        launch(plain, 1, 1, ())


def test_greenlet_is_asked_for_by_kernels_that_wait_only(monkeypatch):
    monkeypatch.setitem(sys.modules, "greenlet", None)
    launch(plain, 1, 2, ())
    with pytest.raises(BackendUnavailableError, match="pip install greenlet"):
        launch(with_barrier, 1, 2, ())
