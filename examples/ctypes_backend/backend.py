"""The glue between refdeq's protocol and delta.c: checks arguments, owns the state, passes pointers."""

import ctypes
import tomllib
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
TYPES = {"float32": (ctypes.c_float, "float"), "float64": (ctypes.c_double, "double")}
POINTER, SIZE, FLAG = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32


class Node(ctypes.Structure):
    """``struct node_REAL`` of step.h; its pointers hide the type, so that one layout serves both."""

    _fields_ = [
        *(("inputs", SIZE), ("outputs", SIZE), ("weight", POINTER), ("bias", POINTER), ("threshold", POINTER)),
        *(("refresh", SIZE), ("ge", FLAG), ("always", FLAG), ("dense_start", FLAG)),
    ]


class Session:
    """One opened problem: reference `r`, accumulator `a` and `count` live in arrays that nobody else holds."""

    def __init__(self, problem, library):
        rule, self.dense = problem.gate_rule or problem.rule, problem.gate_rule is None  # D-11
        self.dtype, self.batch = np.dtype(problem.dtype), None
        self.outputs, self.inputs = problem.weight.shape
        tau = np.broadcast_to(np.asarray(rule.threshold).astype(self.dtype), (self.inputs,))
        self.arrays = [np.array(v, self.dtype, order="C") for v in (problem.weight, tau, problem.bias) if v is not None]
        address = [array.ctypes.data for array in self.arrays] + [None]
        self.node = Node(self.inputs, self.outputs, address[0], address[2], address[1], rule.refresh)
        self.node.ge, self.node.always = rule.compare == "ge", rule.memory == "always"
        self.node.dense_start = self.dense or rule.start == "dense"
        self.function = getattr(library, "step_" + TYPES[problem.dtype][1])
        self.function.argtypes, self.function.restype = [POINTER, SIZE, *[POINTER] * 7], None

    def reset(self, batch):
        if isinstance(batch, bool) or not isinstance(batch, int | np.integer) or batch < 0:
            raise ValueError(f"batch: expected an integer >= 0, got {batch!r}")
        self.batch, self.count = int(batch), np.zeros(batch, np.int64)
        self.r, self.a = np.zeros((batch, self.inputs), self.dtype), np.zeros((batch, self.outputs), self.dtype)

    def step(self, u, mask, y):
        u = self.checked("u", u, (self.batch, self.inputs))
        self.checked("mask", mask, u.shape, bool), self.checked("y", y, self.a.shape)
        if self.dense:
            self.count[...] = 0  # without a gate every step is a dense start
        sent, out = np.empty(u.shape, np.uint8), np.empty((self.batch, self.outputs), self.dtype)
        arrays = (self.r, self.a, self.count, u, sent, out, np.empty(self.inputs, self.dtype))
        self.function(ctypes.addressof(self.node), self.batch, *(array.ctypes.data for array in arrays))
        mask[...], y[...] = sent, out

    def set_state(self, r, a, count):
        count = self.checked("count", count, np.shape(count)[:1], np.int64)
        if (count < 0).any():
            raise ValueError(f"count: expected numbers >= 0, got {count}")
        r = self.checked("r", r, (len(count), self.inputs))
        self.a = self.checked("a", a, (len(count), self.outputs)).copy()
        self.r, self.count, self.batch = r.copy(), count.copy(), len(count)

    def get_state(self, r, a):
        self.checked("r", r, (self.batch, self.inputs)), self.checked("a", a, (self.batch, self.outputs))
        r[...], a[...] = self.r, self.a

    def checked(self, name, array, shape, dtype=None):
        """An aligned C-contiguous array of the expected shape and dtype, or an error before anything has changed."""
        if None in shape:
            raise ValueError("call reset or set_state first")
        if not isinstance(array, np.ndarray) or array.shape != shape or not shape:
            raise ValueError(f"{name}: expected an array of shape {shape}, got {np.shape(array)}")
        if array.dtype != (dtype or self.dtype):
            raise TypeError(f"{name}: expected dtype {dtype or self.dtype}, got {array.dtype}")
        return np.require(array, requirements=["C", "ALIGNED"])


class Backend:
    """What the judge is given; backend.toml says what it claims."""

    def __init__(self, library=HERE / "libdelta.so"):
        self.library = ctypes.CDLL(str(library))
        self.claims = tomllib.loads((HERE / "backend.toml").read_text(encoding="utf-8"))["claims"]

    def open(self, problem):
        rule = problem.rule
        if problem.op != "Gemm" or rule is None or problem.storage or rule.delta_dtype or rule.tile:
            raise NotImplementedError("a gated Gemm with differences in its own dtype is all there is")
        for name in ("compare", "memory", "start", "bias", "granularity"):
            if getattr(rule, name) not in self.claims[name]:
                raise NotImplementedError(f"{name} {getattr(rule, name)!r} is not in backend.toml")
        return Session(problem, self.library)
