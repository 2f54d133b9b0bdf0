"""A plain implementation of the protocol: what mutants, canaries and legal variants are made of.

It is written from ``docs/semantics.md``, apart from the reference and from the judge: a mistake in one of the three shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from refdeq_validation.lab.gradient import gradient
from refdeq_validation.lab.node import Node
from refdeq_validation.lab.solve import solve
from refdeq_validation.lab.style import STRICT, Style
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.problem import Problem

__all__ = ["CLAIMS", "Lab", "LabSession"]

Array = np.ndarray[Any, Any]


class LabSession:
    """One opened problem."""

    def __init__(self, problem: Problem, style: Style = STRICT) -> None:
        self.problem, self.style = problem, style
        self.node: Node | None = None

    def reset(self, batch: int) -> None:
        """Forget r and a (D-9)."""
        if batch < 0:
            raise ValueError(f"batch: expected an integer >= 0, got {batch}")
        self.node = Node(self.problem, batch, self.style)

    def step(self, u: Array, mask: Array, y: Array) -> None:
        """One evaluation."""
        node = self.ready()
        batch = len(node.count)
        self.check("u", u, batch, self.problem.shape)
        self.check("mask", mask, batch, self.problem.shape, "bool")
        self.check("y", y, batch, self.problem.out_shape)
        with np.errstate(all="ignore"):
            mask[...], y[...] = node.evaluate(u, np.arange(batch))

    def ready(self) -> Node:
        """The gate state; calling before a reset is a mistake."""
        if self.node is None:
            raise ValueError("call reset or set_state first")
        return self.node

    def set_state(self, r: Array, a: Array, count: Array) -> None:
        """Continue from a given state."""
        batch = len(count)
        self.check("r", r, batch, self.problem.shape)
        self.check("a", a, batch, self.problem.out_shape)
        if count.dtype.kind not in "iu" or count.ndim != 1 or (count < 0).any():
            raise ValueError(f"count: expected integers >= 0, one per sample, got {count!r}")
        node = Node(self.problem, batch, self.style)
        node.r, node.a, node.count = r.copy(), a.copy(), count.astype(np.int64)
        self.node = node

    def get_state(self, r: Array, a: Array) -> None:
        """Write the state."""
        node = self.ready()
        r[...], a[...] = node.r, node.a

    def solve(self, x: Array, z0: Array, *, keep: bool, trace: bool) -> Mapping[str, Array]:
        """Solve for the fixed point of the cell."""
        batch = len(z0)
        self.check("z0", z0, batch, self.problem.shape)
        self.check("x", x, batch, self.problem.out_shape)
        if keep and len(self.ready().count) != batch:
            raise ValueError(f"z0: expected the batch of the kept state, {len(self.ready().count)}, got {batch}")
        if not keep:
            self.node = Node(self.problem, batch, self.style)
        with np.errstate(all="ignore"):
            return solve(self.problem, self.ready(), x, z0, trace)

    def gradient(self, x: Array, z: Array, cotangent: Array, *, jacobian: str) -> Mapping[str, Array]:
        """Implicit gradient at a point (G-1)."""
        batch = len(z)
        self.check("z", z, batch, self.problem.shape)
        self.check("x", x, batch, self.problem.out_shape)
        self.check("cotangent", cotangent, batch, self.problem.shape)
        if jacobian not in ("dense", "frozen-mask"):
            raise ValueError(f"jacobian: expected 'dense' or 'frozen-mask', got {jacobian!r}")
        frozen = None
        if jacobian == "frozen-mask":
            frozen = self.masks(batch)
        with np.errstate(all="ignore"):
            return gradient(self.problem, x, z, cotangent, frozen)

    def masks(self, batch: int) -> Array:
        """Masks of the last evaluation (G-1)."""
        node = self.ready()
        if self.problem.rule is None or len(node.count) != batch:
            raise ValueError("jacobian: 'frozen-mask' needs a solve with a delta rule and the same batch before it")
        return node.sent

    def check(self, name: str, array: Array, batch: int, shape: tuple[int, ...], dtype: str | None = None) -> None:
        """Refuse wrong shapes and dtypes; the dtype is that of the problem unless another is named."""
        if not isinstance(array, np.ndarray) or array.shape != (batch, *shape):
            raise ValueError(f"{name}: expected shape {(batch, *shape)}, got {getattr(array, 'shape', array)}")
        if array.dtype != np.dtype(dtype or self.problem.dtype):
            raise TypeError(f"{name}: expected {dtype or self.problem.dtype}, got {array.dtype}")

    def close(self) -> None:
        """Forget everything."""
        self.node = None


class Lab:
    """The implementation.

    Parameters
    ----------
    claims : Claims, optional
        What it declares; by default everything the protocol has, in strict order.
    style : Style
        How it is built; the claims have to be true of it.
    """

    def __init__(self, claims: Claims | None = None, style: Style = STRICT) -> None:
        self.claims = CLAIMS if claims is None else claims
        self.style = style

    def manifest(self) -> Mapping[str, Any]:
        """What it claims: everything the protocol has."""
        return self.claims.manifest()

    def open(self, problem: Problem) -> LabSession:
        """Open a problem."""
        if problem.rule is not None and (problem.rule.gates or problem.rule.dense):
            problem = replace(problem, rule=problem.gate_rule)  # D-11
        return LabSession(problem, self.style)


CLAIMS = Claims(
    name="lab",
    version="1",
    offers=("state", "solve", "trace", "gradient"),
    ops=("Gemm", "Conv"),
    dtypes=("float32", "float64"),
    storage=("float16", "bfloat16"),
    solvers=("picard", "krasnoselskii-mann", "anderson", "broyden"),
    activations=("Identity", "Relu", "LeakyRelu", "Tanh", "Sigmoid", "Sin", "Cos", "Exp"),
    compare=("gt", "ge"),
    memory=("sent", "always", "feedback"),
    start=("dense", "zero"),
    bias=("separate", "folded"),
    granularity=("element", "sample", "channel", "pixel", "tile"),
    determinism="R4",
)
