"""Dense baselines: torch, eager and as a CUDA graph, in the precision that is named. Needs torch on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Dense", "convolution", "eager_solve", "graph_solve"]

_FUNCTIONS = {"Tanh": "tanh_", "Sin": "sin_", "Relu": "relu_", "Identity": "positive"}


class Dense:
    """A fully connected cell as torch has it.

    Parameters
    ----------
    weight : (n, n) array
        ``z' = act(W z + u)``.
    u : (B, n) array
    activation : str
        ONNX name.
    precision : {"float32", "tf32", "bfloat16"}
    is_vector : bool
        Multiply a matrix by a vector, for one row.
    """

    def __init__(self, weight: np.ndarray, u: np.ndarray, activation: str, precision: str, is_vector: bool = False) -> None:
        import torch

        self._torch = torch
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.uses_tf32 = precision == "tf32"
        own = torch.tensor(weight).to("cuda", dtype)
        self.weight = own if is_vector else own.t().contiguous()
        self.is_vector = is_vector
        self.u = torch.as_tensor(u).to("cuda", dtype)
        self.z = [torch.zeros_like(self.u), torch.zeros_like(self.u)]
        self._act = _FUNCTIONS[activation]

    def evaluate(self, k: int) -> Any:
        """One evaluation: a product that adds u, and the activation."""
        out = self.z[(k + 1) % 2]
        if self.is_vector:
            self._torch.addmv(self.u[0], self.weight, self.z[k % 2][0], out=out[0])
        else:
            self._torch.addmm(self.u, self.z[k % 2], self.weight, out=out)
        return getattr(out, self._act)()

    def solve(self, budget: int) -> None:
        """So many evaluations from zero."""
        self._torch.backends.cuda.matmul.allow_tf32 = self.uses_tf32
        self.z[0].zero_()
        for k in range(budget):
            self.evaluate(k)

    def result(self, budget: int) -> np.ndarray:
        """The argument of the last evaluation."""
        found: np.ndarray = self.z[(budget - 1) % 2].float().cpu().numpy()
        return found


def graph_solve(dense: Dense, budget: int) -> Callable[[], None]:
    """A solve of fixed length as one CUDA graph: the reference baseline."""
    import torch

    cuda: Any = torch.cuda
    side = cuda.Stream()
    side.wait_stream(cuda.current_stream())
    with cuda.stream(side):  # libraries set themselves up before they are captured
        dense.solve(budget)
    cuda.synchronize()
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        dense.solve(budget)
    replay: Callable[[], None] = graph.replay
    return replay


def eager_solve(dense: Dense, budget: int, tolerance: float) -> Callable[[], None]:
    """A loop as people write it: kernel by kernel, with a residual that the host looks at after each evaluation."""

    def solve() -> None:
        dense._torch.backends.cuda.matmul.allow_tf32 = dense.uses_tf32
        dense.z[0].zero_()
        for k in range(budget):
            f = dense.evaluate(k)
            difference = (f - dense.z[k % 2]).norm(dim=1)
            if float((difference / (f.norm(dim=1) + 1e-9)).max()) < tolerance:
                return

    return solve


def convolution(x: np.ndarray, weight: np.ndarray, padding: tuple[int, int], precision: str) -> Callable[[], Any]:
    """One cuDNN convolution, channels last."""
    import torch

    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    data = torch.as_tensor(x).to("cuda", dtype).to(memory_format=torch.channels_last)
    kernel = torch.as_tensor(weight).to("cuda", dtype).to(memory_format=torch.channels_last)
    torch.backends.cudnn.benchmark = True

    def call() -> Any:
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        return torch.nn.functional.conv2d(data, kernel, padding=padding)

    call()
    return call
