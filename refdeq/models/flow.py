"""The update block of optical-flow networks: motion encoder, separable ConvGRU and flow head, iterated to a fixed point.

Sources: Teed, Deng, "RAFT", ECCV 2020 (the block); Bai et al., "Deep Equilibrium Optical Flow Estimation", CVPR 2022 (its fixed
point); Wang et al., "DeltaDEQ", NeurIPS 2024 (its delta form: every convolution gated but the head's second). The widths are
read off the weights, so every published configuration is built by the same code.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from refdeq.errors import ArgumentError
from refdeq.graph import Cell, GraphBuilder

__all__ = ["FLOW_DENSE", "FLOW_MODULES", "flow_block"]

FLOW_MODULES = ("encoder", "gru", "flow_head")
"""Modules of the block; the names of their nodes begin with ``module.``."""

FLOW_DENSE = ("flow_head.conv2",)
"""Linear nodes that DeltaDEQ leaves ungated: pass them as ``DeltaRule(dense=FLOW_DENSE)``."""


class _Block:
    """A graph under construction, with the one kind of convolution that the block uses."""

    def __init__(self, parameters: Mapping[str, np.ndarray], dtype: str) -> None:
        self.builder = GraphBuilder(dtype)
        self.dtype = dtype
        self._parameters = parameters

    def conv(self, name: str, value: str) -> str:
        """Convolution with its own bias, padded so that the image keeps its size."""
        kept = []
        for part in ("weight", "bias"):
            key = f"{name}.{part}"
            if key not in self._parameters:
                raise ArgumentError("parameters", expected=f"an array named {key!r}", got=sorted(self._parameters))
            kept.append(self.builder.parameter(key, self._parameters[key]))
        kernel = self._parameters[kept[0]].shape[2:]
        return self.builder.node("Conv", value, *kept, name=name, pads=[k // 2 for k in kernel] * 2)

    def node(self, op: str, *inputs: str, name: str) -> str:
        """Any other node; every Concat of the block joins channels."""
        return self.builder.node(op, *inputs, name=name, **({"axis": 1} if op == "Concat" else {}))


def flow_block(parameters: Mapping[str, np.ndarray], height: int, width: int, *, step: float = 0.2) -> Cell:
    """Build ``(net, flow) <- (net', flow + step dflow)`` with ``(net', dflow) = block(net, inp, corr, flow)``.

    The correlation features a real network looks up at the current flow are replaced by their linearisation
    ``corr = corr_base + corr_slope * mean over channels of flow``, which makes the cell self-contained.

    Parameters
    ----------
    parameters : mapping of str to (O, I, kH, kW) and (O,) float32 or float64 arrays
        ``encoder.{convc1,convc2,convf1,convf2,conv}``, ``gru.conv{z,r,q}{1,2}`` and ``flow_head.{conv1,conv2}``, each with
        ``.weight`` and ``.bias``; all of one dtype, kernels of odd size.
    height, width : int
        Size of the (downsampled) image.
    step : float
        Share of the predicted flow change that is applied.

    Returns
    -------
    Cell with states ``net`` (d, height, width) and ``flow`` (2, height, width), injections ``inp`` (d', height, width),
    ``corr_base`` and ``corr_slope`` (channels of ``convc1``, height, width)

    Raises
    ------
    ArgumentError
        A weight is missing.
    GraphError, DTypeError
        The weights do not fit each other.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shapes = {"encoder.convc1": (3, 5, 1, 1), "encoder.convc2": (3, 3, 3, 3), "encoder.convf1": (2, 2, 7, 7)}
    >>> shapes |= {"encoder.convf2": (2, 2, 3, 3), "encoder.conv": (2, 5, 3, 3)}
    >>> shapes |= {f"gru.conv{gate}1": (3, 9, 1, 5) for gate in "zrq"} | {f"gru.conv{gate}2": (3, 9, 5, 1) for gate in "zrq"}
    >>> shapes |= {"flow_head.conv1": (4, 3, 3, 3), "flow_head.conv2": (2, 4, 3, 3)}
    >>> weights = {f"{name}.weight": rng.normal(size=shape) for name, shape in shapes.items()}
    >>> weights |= {f"{name}.bias": rng.normal(size=shape[0]) for name, shape in shapes.items()}
    >>> flow_block(weights, 4, 6).graph.states
    {'net': (3, 4, 6), 'flow': (2, 4, 6)}
    """
    first = parameters.get("encoder.convc1.weight")
    update = parameters.get("gru.convz1.weight")
    motion = parameters.get("encoder.conv.weight")
    if first is None or update is None or motion is None:
        needed = "arrays named encoder.convc1.weight, encoder.conv.weight and gru.convz1.weight"
        raise ArgumentError("parameters", expected=needed, got=sorted(parameters))
    hidden = len(update)
    context = update.shape[1] - hidden - len(motion) - 2
    block = _Block(parameters, str(first.dtype))
    builder = block.builder
    net, flow = builder.state("net", (hidden, height, width)), builder.state("flow", (2, height, width))
    inp = builder.injection("inp", (context, height, width))
    base = builder.injection("corr_base", (first.shape[1], height, width))
    slope = builder.injection("corr_slope", (first.shape[1], height, width))
    mean = builder.node("ReduceMean", flow, name="flow_mean", axes=[1], keepdims=1)
    corr = block.node("Add", base, block.node("Mul", slope, mean, name="corr_change"), name="corr")
    features = _motion_encoder(block, corr, flow)
    hidden_next = _separable_gru(block, net, inp, features)
    change = _flow_head(block, hidden_next)
    scale = builder.parameter("step", np.array([step], dtype=first.dtype))
    builder.output(net, hidden_next)
    builder.output(flow, block.node("Add", flow, block.node("Mul", scale, change, name="flow_step"), name="flow_next"))
    return builder.build()


def _motion_encoder(block: _Block, corr: str, flow: str) -> str:
    """Features of correlation and flow, with the flow itself as the last two channels."""
    value = {"c": corr, "f": flow}
    for layer in ("1", "2"):
        for branch in ("c", "f"):
            name = f"encoder.conv{branch}{layer}"
            value[branch] = block.node("Relu", block.conv(name, value[branch]), name=f"{name}_relu")
    joined = block.node("Concat", value["c"], value["f"], name="encoder.joined")
    out = block.node("Relu", block.conv("encoder.conv", joined), name="encoder.conv_relu")
    return block.node("Concat", out, flow, name="encoder.features")


def _separable_gru(block: _Block, h: str, inp: str, features: str) -> str:
    """Two half-steps, along rows and along columns: ``h <- (1 - z) h + z q``; z and r read one value and so share its gate."""
    one = block.builder.parameter("one", np.ones(1, dtype=block.dtype))
    for half in ("1", "2"):

        def name(part: str, half: str = half) -> str:
            return f"gru.{part}{half}"

        hx = block.node("Concat", h, inp, features, name=name("hx"))
        z = block.node("Sigmoid", block.conv(name("convz"), hx), name=name("z"))
        r = block.node("Sigmoid", block.conv(name("convr"), hx), name=name("r"))
        reset = block.node("Mul", r, h, name=name("rh"))
        rhx = block.node("Concat", reset, inp, features, name=name("rhx"))
        q = block.node("Tanh", block.conv(name("convq"), rhx), name=name("q"))
        kept = block.node("Mul", block.node("Sub", one, z, name=name("keep")), h, name=name("kept"))
        h = block.node("Add", kept, block.node("Mul", z, q, name=name("new")), name=name("h"))
    return h


def _flow_head(block: _Block, h: str) -> str:
    """Predicted change of the flow."""
    hidden = block.node("Relu", block.conv("flow_head.conv1", h), name="flow_head.conv1_relu")
    return block.conv("flow_head.conv2", hidden)
