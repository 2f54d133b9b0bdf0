"""The smallest implementation the judge can be shown: a delta-gated matrix-vector product in plain NumPy."""

import numpy as np


class Session:
    """One opened problem: reference `r`, accumulator `a`, evaluations since the reset `count`."""

    def __init__(self, problem):
        self.rule, self.dense = problem.gate_rule or problem.rule, problem.gate_rule is None  # D-11
        self.dtype, self.batch = np.dtype(problem.dtype), -1
        self.weight, self.bias = problem.weight.copy(), None if problem.bias is None else problem.bias.copy()
        self.tau = np.asarray(self.rule.threshold).astype(self.dtype)

    def reset(self, batch):
        outputs, inputs = self.weight.shape
        self.r, self.a = np.zeros((batch, inputs), self.dtype), np.zeros((batch, outputs), self.dtype)  # ValueError if < 0
        self.batch, self.count = batch, np.zeros(batch, np.int64)

    def step(self, u, mask, y):
        self.check("u", u, self.batch, self.weight.shape[1])
        self.check("mask", mask, self.batch, self.weight.shape[1], bool)
        self.check("y", y, self.batch, self.weight.shape[0])
        delta, start, refresh = u - self.r, ((self.count == 0) | self.dense)[:, None], self.rule.refresh  # D-1, D-5
        sent = ~(np.abs(delta) <= self.tau) | start  # D-2, "gt": written so that a NaN is sent
        again = ((self.count % refresh == 0)[:, None] & ~start) if refresh else np.zeros_like(start)  # D-12
        self.r = np.where(sent, u, self.r)  # D-4, "sent"
        self.a = np.where(start | again, self.dtype.type(0), self.a)
        d, used = np.where(start, u, np.where(again, self.r, delta)), sent | again
        for j in range(u.shape[1]):  # N-6: ascending j, one product and one addition at a time; D-7: sent rows only
            rows = used[:, j]
            self.a[rows] = self.a[rows] + self.weight[:, j] * d[rows, j, None]
        self.count = self.count + 1
        mask[...], y[...] = sent, self.a if self.bias is None else self.a + self.bias

    def set_state(self, r, a, count):
        for name, array, width in (("r", r, self.weight.shape[1]), ("a", a, self.weight.shape[0])):
            self.check(name, array, len(count), width)
        if count.dtype != np.int64 or (count < 0).any():
            raise ValueError(f"count: expected int64 >= 0, got {count!r}")
        self.batch, self.r, self.a, self.count = len(count), r.copy(), a.copy(), count.copy()

    def get_state(self, r, a):
        r[...], a[...] = self.r, self.a

    def check(self, name, array, batch, width, dtype=None):
        if array.shape != (batch, width) or array.dtype != (dtype or self.dtype):
            raise ValueError(f"{name}: expected {dtype or self.dtype} {(batch, width)}, got {array.dtype} {array.shape}")


class Backend:
    """What the judge is given; backend.toml says what it claims."""

    def open(self, problem):
        plain = {"compare": "gt", "memory": "sent", "start": "dense", "bias": "separate", "delta_dtype": None}
        if problem.op != "Gemm" or problem.storage or any(getattr(problem.rule, k, "") != v for k, v in plain.items()):
            raise NotImplementedError("a Gemm with the default delta rule is all there is")
        return Session(problem)
