"""Implementations that break the contract of the protocol in one way each, built on the plain one."""

from __future__ import annotations

import ctypes
import time

import numpy as np
from refdeq_validation.lab.session import CLAIMS, Lab, LabSession


class Broken(Lab):
    """The plain implementation with sessions of another class."""

    def __init__(self, session, claims=CLAIMS):
        super().__init__(claims)
        self.session = session

    def open(self, problem):
        return self.session(problem)


def write_at(array, byte, value=7):
    """Write one byte at an offset from the start of an array, as C code would."""
    ctypes.memset(array.ctypes.data + byte, value, 1)


class WritesBefore(LabSession):
    def step(self, u, mask, y):
        super().step(u, mask, y)
        write_at(y, -1)


class WritesAfter(LabSession):
    def step(self, u, mask, y):
        super().step(u, mask, y)
        write_at(mask, mask.nbytes)


class WritesInput(LabSession):
    def step(self, u, mask, y):
        super().step(u, mask, y)
        write_at(u, u.nbytes - 1)


class WritesWeight(LabSession):
    def step(self, u, mask, y):
        super().step(u, mask, y)
        write_at(self.problem.weight, 0)


class LeavesMask(LabSession):
    """Writes the mask only where something was sent: elements that were not are left as they came."""

    def step(self, u, mask, y):
        own = np.zeros(mask.shape, bool)
        super().step(u, own, y)
        mask[own] = True


class LeavesOutput(LabSession):
    """Leaves the last output as it came."""

    def step(self, u, mask, y):
        own = np.empty_like(y)
        super().step(u, mask, own)
        y[..., :-1] = own[..., :-1]


class KeepsInput(LabSession):
    """Looks at what the caller passed in only when it is needed."""

    kept = None

    def set_state(self, r, a, count):
        super().set_state(r, a, count)
        self.kept = r

    def step(self, u, mask, y):
        if self.kept is not None:
            self.node.r[...], self.kept = self.kept, None
        super().step(u, mask, y)


class WritesLater(LabSession):
    """Writes its output once more during the next call."""

    def step(self, u, mask, y):
        if hasattr(self, "last"):
            self.last[...] = 0
        super().step(u, mask, y)
        self.last = y


class HandsOut(LabSession):
    """Solves return the buffer that the next solve writes."""

    def solve(self, x, z0, *, keep, trace):
        found = dict(super().solve(x, z0, keep=keep, trace=trace))
        if not hasattr(self, "buffer"):
            self.buffer = np.empty_like(found["z"])
        self.buffer[...] = found["z"]
        return {**found, "z": self.buffer}


class Remembers(LabSession):
    """Answers otherwise from the second reset on."""

    resets = 0

    def reset(self, batch):
        super().reset(batch)
        self.resets += 1

    def step(self, u, mask, y):
        super().step(u, mask, y)
        y += self.resets > 1


class Random(LabSession):
    """The last bit of an accumulator depends on nothing a caller gave."""

    calls = 0

    def step(self, u, mask, y):
        super().step(u, mask, y)
        Random.calls += 1
        if Random.calls % 3 == 0:
            self.node.a[..., -1] = np.nextafter(self.node.a[..., -1], np.float32(np.inf))
            y[...] = self.node.a + self.problem.bias


class Crashes(LabSession):
    def step(self, u, mask, y):
        raise ZeroDivisionError("the device fell off")


class Exits(LabSession):
    def step(self, u, mask, y):
        raise SystemExit(0)


class Unsupported(LabSession):
    def step(self, u, mask, y):
        raise NotImplementedError("not this one")


class Hangs(LabSession):
    def step(self, u, mask, y):
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                continue


class ReturnsNone(LabSession):
    def solve(self, x, z0, *, keep, trace):
        return None


class ChangesWhenRefusing(LabSession):
    """Refuses a wrong input after it has advanced."""

    def step(self, u, mask, y):
        shape = (len(self.node.count), *self.problem.shape) if self.node is not None else u.shape
        if u.shape != shape or u.dtype != self.problem.dtype:
            self.node.r = self.node.r + 1
            raise ValueError("wrong input")
        super().step(u, mask, y)


class Broadcasts(LabSession):
    """Takes one sample for all."""

    def step(self, u, mask, y):
        if self.node is not None and u.shape == (1, *self.problem.shape):
            batch = len(self.node.count)
            u, mask, y = (
                np.repeat(u, batch, 0),
                np.empty((batch, *mask.shape[1:]), bool),
                np.empty((batch, *y.shape[1:]), y.dtype),
            )
        super().step(u, mask, y)
