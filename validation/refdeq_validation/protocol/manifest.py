"""``backend.toml``: what an implementation claims. Claims choose models of arithmetic, never numbers of tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from refdeq.errors import ArgumentError

__all__ = ["GROUPS", "Claims"]

GROUPS = ("state", "solve", "trace", "gradient")

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "order": ("strict", "fast"),
    "rounding": ("nearest", "truncate"),
    "multiply": ("same", "tf32", "float16", "bfloat16", "bfloat16x3", "tf32x3"),
    "accumulate": ("same", "float16", "bfloat16"),
    "subnormals": ("ieee", "ftz"),
    "inactive_columns": ("skip", "read"),
    "determinism": ("R0", "R1", "R2", "R3", "R4", "R5"),
    "activation": ("strict", "native"),
}

_LISTS: Mapping[str, tuple[str, ...]] = {
    "offers": GROUPS,
    "ops": ("Gemm", "Conv"),
    "dtypes": ("float32", "float64"),
    "storage": ("float16", "bfloat16"),
    "solvers": ("picard", "krasnoselskii-mann", "anderson", "broyden"),
    "activations": ("Identity", "Relu", "LeakyRelu", "Tanh", "Sigmoid", "Sin", "Cos", "Exp"),
    "compare": ("gt", "ge"),
    "memory": ("sent", "always", "feedback"),
    "start": ("dense", "zero"),
    "bias": ("separate", "folded"),
    "granularity": ("element", "sample", "channel", "pixel", "tile"),
}


@dataclass(frozen=True, kw_only=True)
class Claims:
    """The claims of a manifest, checked.

    Attributes
    ----------
    name, version : str
    offers : tuple of str
        Groups of the protocol beyond ``reset`` and ``step``.
    ops, dtypes, storage, solvers, activations : tuple of str
    compare, memory, start, bias, granularity : tuple of str
        Delta rules that are offered.
    order : {"strict", "fast"}
        N-6 or N-7.
    rounding : {"nearest", "truncate"}
        Of additions into the accumulator; ``truncate`` doubles the bound.
    multiply : str
        Format to which operands are rounded before the multiplication; ``bfloat16x3`` and ``tf32x3`` are emulations.
    accumulate : str
        Format of the accumulator's additions.
    subnormals : {"ieee", "ftz"}
        N-5.
    inactive_columns : {"skip", "read"}
        D-7.
    determinism : str
        Level of the ladder R0 to R5.
    activation : {"strict", "native"}
        N-8.
    activation_ulp : float
        With ``native``: largest error of an activation in units in the last place.
    timeout : float
        Seconds that one call may take.

    Examples
    --------
    >>> Claims(name="mine", order="fast").multiply
    'same'
    """

    name: str
    version: str = "0"
    offers: tuple[str, ...] = ("state",)
    ops: tuple[str, ...] = ("Gemm",)
    dtypes: tuple[str, ...] = ("float32",)
    storage: tuple[str, ...] = ()
    solvers: tuple[str, ...] = ()
    activations: tuple[str, ...] = ("Identity",)
    compare: tuple[str, ...] = ("gt",)
    memory: tuple[str, ...] = ("sent",)
    start: tuple[str, ...] = ("dense",)
    bias: tuple[str, ...] = ("separate",)
    granularity: tuple[str, ...] = ("element",)
    order: str = "strict"
    rounding: str = "nearest"
    multiply: str = "same"
    accumulate: str = "same"
    subnormals: str = "ieee"
    inactive_columns: str = "skip"
    determinism: str = "R0"
    activation: str = "strict"
    activation_ulp: float = 0.0
    timeout: float = 60.0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ArgumentError(f"claims.{name}", expected=f"one of {', '.join(allowed)}", got=repr(getattr(self, name)))
        for name, allowed in _LISTS.items():
            values = getattr(self, name)
            bad = [value for value in values if value not in allowed]
            if bad or len(set(values)) != len(values):
                raise ArgumentError(f"claims.{name}", expected=f"distinct values out of {', '.join(allowed)}", got=repr(values))
        if not self.name:
            raise ArgumentError("backend.name", expected="a name", got=repr(self.name))
        if not self.activation_ulp >= 0.0 or not self.timeout > 0.0:
            raise ArgumentError(
                "claims", expected="activation_ulp >= 0 and timeout > 0", got=(self.activation_ulp, self.timeout)
            )

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Claims:
        """Read ``[backend]`` and ``[claims]`` of a manifest; unknown keys are errors.

        >>> Claims.from_manifest({"backend": {"name": "mine"}, "claims": {"order": "fast"}}).order
        'fast'
        """
        unknown = sorted(set(manifest) - {"backend", "claims"})
        if unknown:
            raise ArgumentError("manifest", expected="the tables [backend] and [claims]", got=unknown[0])
        values = {**manifest.get("backend", {}), **manifest.get("claims", {})}
        known = {entry.name for entry in fields(cls)}
        for key in values:
            if key not in known:
                raise ArgumentError(
                    f"manifest key {key!r}", expected=f"one of {', '.join(sorted(known))}", got=repr(values[key])
                )
        if "name" not in values:
            raise ArgumentError("backend.name", expected="a name", got="nothing")
        for key in _LISTS:
            if key in values and not isinstance(values[key], list | tuple):
                raise ArgumentError(f"claims.{key}", expected="a list", got=repr(values[key]))
        given: dict[str, Any] = {key: tuple(value) if key in _LISTS else value for key, value in values.items()}
        return cls(**given)

    def manifest(self) -> dict[str, Any]:
        """The manifest these claims came from, defaults filled in."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        backend = {key: values.pop(key) for key in ("name", "version")}
        return {"backend": backend, "claims": {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}}
