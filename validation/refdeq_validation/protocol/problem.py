"""What an implementation is asked to compute: one linear node behind a gate, and the fixed-point problem around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from refdeq.types import DeltaRule, GateOverride, StopRule

__all__ = ["Problem", "rule_data", "rule_from_data"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Problem:
    """A linear node ``y = A u + b`` behind a gate, and the cell ``f(z, x) = phi(fl(fl(a + b) + x))`` made of it.

    A unit step uses the linear node and its gate only; solves and gradients use the cell.

    Attributes
    ----------
    op : {"Gemm", "Conv"}
    dtype : {"float32", "float64"}
        Of every array; with `storage`, the carrier of the narrow values.
    shape : tuple of int
        Of one sample of `u` (and of the state z): ``(K,)`` for Gemm, ``(C, W)`` or ``(C, H, W)`` for Conv.
    weight : ndarray
        Gemm: (N, K), so that ``y_i = sum_j weight[i, j] u_j``. Conv: ONNX layout (M, C / group, *kernel).
    bias : ndarray or None
        (N,) or (M,). Without one the output is the accumulator.
    rule : DeltaRule or None
        Thresholds included; None evaluates densely.
    attributes : mapping
        Of a Conv, as ONNX names them: ``strides``, ``pads`` (all starts, then all ends), ``dilations``, ``group``.
    activation : str
        ONNX name of phi; ``Identity`` for none.
    solver : mapping
        ``{"name": "picard"}``, ``{"name": "krasnoselskii-mann", "alpha": 0.7}``, ``{"name": "anderson", ...}``,
        ``{"name": "broyden", ...}``, options as in :mod:`refdeq.solvers`.
    stop : StopRule
    returned : {"last", "lowest"}
    storage : {"float16", "bfloat16"} or None
        N-1. u, r, x, y, weights and biases then hold values of that format, carried in float32; `a` is float32.

    Examples
    --------
    >>> problem = Problem("Gemm", "float32", (2,), np.eye(2, dtype="float32"), None, DeltaRule(threshold=0.5))
    >>> problem.out_shape
    (2,)
    """

    op: str
    dtype: str
    shape: tuple[int, ...]
    weight: Array
    bias: Array | None
    rule: DeltaRule | None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    activation: str = "Identity"
    solver: Mapping[str, Any] = field(default_factory=lambda: {"name": "picard"})
    stop: StopRule = field(default_factory=lambda: StopRule(max_eval=1))
    returned: str = "last"
    storage: str | None = None

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one sample of `a` and `y`."""
        if self.op == "Gemm":
            return (len(self.weight),)
        rank = self.weight.ndim - 2
        strides, pads, dilations = self.geometry
        sites = [
            (n + pads[i] + pads[i + rank] - dilations[i] * (self.weight.shape[2 + i] - 1) - 1) // strides[i] + 1
            for i, n in enumerate(self.shape[1:])
        ]
        return (len(self.weight), *sites)

    @property
    def geometry(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Strides, pads and dilations of a Conv, defaults filled in."""
        rank = self.weight.ndim - 2
        strides = tuple(self.attributes.get("strides") or (1,) * rank)
        pads = tuple(self.attributes.get("pads") or (0,) * (2 * rank))
        return strides, pads, tuple(self.attributes.get("dilations") or (1,) * rank)

    @property
    def group(self) -> int:
        """Groups of a Conv."""
        return int(self.attributes.get("group", 1))

    @property
    def gate_rule(self) -> DeltaRule | None:
        """The rule of the one gate there is, its override applied; None where the node is dense (D-11).

        >>> rule = DeltaRule(threshold=0.5, gates={"z": GateOverride(threshold=2.0)})
        >>> Problem("Gemm", "float32", (2,), np.eye(2, dtype="float32"), None, rule).gate_rule.threshold
        2.0
        """
        rule = self.rule
        if rule is None or "linear" in rule.dense:
            return None
        gate = rule.gates.get("z")
        if gate is None:
            return rule
        shared = {} if gate.granularity is None else {"granularity": gate.granularity, "tile": gate.tile}
        threshold = rule.threshold if gate.threshold is None else gate.threshold
        return replace(rule, threshold=threshold, gates={}, **shared)  # type: ignore[arg-type]

    def graph(self) -> dict[str, Any]:
        """The cell as plain data, as ``refdeq.Graph.to_dict`` gives it: nodes ``linear``, ``total`` and, with phi, ``f``."""
        inputs = ["z", "W"] + ([] if self.bias is None else ["b"])
        attributes = {"transB": 1} if self.op == "Gemm" else dict(self.attributes)
        nodes: list[dict[str, Any]] = [
            {"name": "linear", "op": self.op, "inputs": inputs, "attributes": attributes},
            {"name": "total", "op": "Add", "inputs": ["linear", "x"], "attributes": {}},
        ]
        if self.activation != "Identity":
            nodes.append({"name": "f", "op": self.activation, "inputs": ["total"], "attributes": {}})
        parameters = {"W": list(self.weight.shape)} | ({} if self.bias is None else {"b": list(self.bias.shape)})
        return {
            "dtype": self.dtype,
            "states": {"z": list(self.shape)},
            "injections": {"x": list(self.out_shape)},
            "parameters": parameters,
            "nodes": nodes,
            "outputs": {"z": nodes[-1]["name"]},
        }

    def arrays(self) -> dict[str, Array]:
        """The arrays of the problem, by the names they have in packs."""
        return {"weight": self.weight} | ({} if self.bias is None else {"bias": self.bias})

    def as_data(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON-able values; floating-point numbers as hexadecimal text."""
        return {
            "op": self.op,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "rule": None if self.rule is None else rule_data(self.rule),
            "attributes": {name: _plain(value) for name, value in sorted(self.attributes.items())},
            "activation": self.activation,
            "solver": {name: _plain(value) for name, value in sorted(self.solver.items())},
            "stop": {entry.name: _plain(getattr(self.stop, entry.name)) for entry in fields(self.stop)},
            "returned": self.returned,
            "storage": self.storage,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any], arrays: Mapping[str, Array]) -> Problem:
        """Rebuild a problem from :meth:`as_data` and :meth:`arrays`."""
        stop = {name: _value(value) for name, value in data["stop"].items()}
        if stop["stagnation"] is not None:
            stop["stagnation"] = tuple(stop["stagnation"])
        return cls(
            op=data["op"],
            dtype=data["dtype"],
            shape=tuple(data["shape"]),
            weight=arrays["weight"],
            bias=arrays.get("bias"),
            rule=None if data["rule"] is None else rule_from_data(data["rule"]),
            attributes={name: _value(value) for name, value in data["attributes"].items()},
            activation=data["activation"],
            solver={name: _value(value) for name, value in data["solver"].items()},
            stop=StopRule(**stop),
            returned=data["returned"],
            storage=data["storage"],
        )


def rule_data(rule: DeltaRule) -> dict[str, Any]:
    """A rule as JSON-able values; thresholds as hexadecimal text.

    >>> rule_data(DeltaRule(threshold=0.5))["threshold"]
    '0x1.0000000000000p-1'
    """
    gates = {
        name: {
            "threshold": _plain(gate.threshold),
            "granularity": gate.granularity,
            "tile": _plain(gate.tile),
        }
        for name, gate in sorted(rule.gates.items())
    }
    plain = {entry.name: _plain(getattr(rule, entry.name)) for entry in fields(rule) if entry.name != "gates"}
    return {**plain, "gates": gates}


def rule_from_data(data: Mapping[str, Any]) -> DeltaRule:
    """Rebuild a rule from :func:`rule_data`.

    >>> rule_from_data(rule_data(DeltaRule(threshold=0.1))).threshold
    0.1
    """
    values = {name: _value(value) for name, value in data.items() if name != "gates"}
    gates = {name: GateOverride(**{key: _value(value) for key, value in gate.items()}) for name, gate in data["gates"].items()}
    return DeltaRule(**values, gates=gates)


def _plain(value: Any) -> Any:
    """JSON-able form: floats as hexadecimal text, so that nothing is lost and no two writers differ."""
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value).hex()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    raise TypeError(f"a problem holds numbers, text and sequences of them, not {type(value).__name__}")


def _value(value: Any) -> Any:
    """Undo :func:`_plain`; sequences become tuples."""
    if isinstance(value, str) and (value.lstrip("-").startswith("0x") or value in ("inf", "-inf", "nan")):
        return float.fromhex(value)
    return tuple(_value(item) for item in value) if isinstance(value, list) else value
