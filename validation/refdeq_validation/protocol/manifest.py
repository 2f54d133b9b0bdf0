"""``backend.toml``: what an implementation claims. Claims choose models of arithmetic, never numbers of tolerance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from refdeq.errors import ArgumentError

__all__ = ["BACKEND_KEYS", "GROUPS", "Claims"]

GROUPS = ("state", "solve", "trace", "gradient")

BACKEND_KEYS = ("name", "version", "python", "command")
"""Of the table ``[backend]``; the last two say how to reach the implementation (:mod:`refdeq_validation.protocol.loading`)."""

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "order": ("strict", "fast"),
    "rounding": ("nearest", "truncate"),
    "multiply": ("same", "tf32", "float16", "bfloat16", "bfloat16x2", "bfloat16x3", "tf32x3"),
    "accumulate": ("same", "float16", "bfloat16"),
    "subnormals": ("ieee", "ftz"),
    "inactive_columns": ("skip", "read"),
    "determinism": ("R0", "R1", "R2", "R3", "R4", "R5"),
    "activation": ("strict", "native"),
    "alignment": ("natural", "any"),
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
        Format to which operands are rounded before the multiplication; ``bfloat16x2``, ``bfloat16x3`` and ``tf32x3`` are
        emulations by two, three and (of products) three parts.
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
    alignment : {"natural", "any"}
        Whether arrays may start at any byte, or only at multiples of their item size.
    largest : int
        Elements of the largest array that is accepted, such as 2^31 - 1 where 32-bit indices are used; 0 for no limit.
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
    alignment: str = "natural"
    largest: int = 0
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
        for name in ("activation_ulp", "largest"):
            if not getattr(self, name) >= 0:
                raise ArgumentError(f"claims.{name}", expected="a number >= 0", got=getattr(self, name))
        if not 0.0 < self.timeout < float("inf"):
            raise ArgumentError("claims.timeout", expected="a finite number of seconds > 0", got=self.timeout)

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], source: str = "manifest") -> Claims:
        """Read ``[backend]`` and ``[claims]`` of a manifest; a key that does not exist, or in the wrong table, is an error.

        Parameters
        ----------
        manifest : mapping
            As a TOML reader gives it.
        source : str
            Name of its file, for messages.

        Raises
        ------
        ArgumentError
            Naming file and key.

        Examples
        --------
        >>> Claims.from_manifest({"backend": {"name": "mine"}, "claims": {"order": "fast"}}).order
        'fast'
        """
        _check_keys(source, manifest, ("backend", "claims"))
        tables = {name: manifest.get(name, {}) for name in ("backend", "claims")}
        for name, table in tables.items():
            if not isinstance(table, Mapping):
                raise ArgumentError(f"{source}: {name}", expected=f"a table [{name}]", got=repr(table))
        _check_keys(f"{source}: [backend]", tables["backend"], BACKEND_KEYS)
        _check_keys(f"{source}: [claims]", tables["claims"], [f.name for f in fields(cls) if f.name not in BACKEND_KEYS])
        values = {key: value for key, value in tables["backend"].items() if key in ("name", "version")}
        if "name" not in values:
            raise ArgumentError(f"{source}: backend.name", expected="a name", got="nothing")
        values |= tables["claims"]
        defaults = {entry.name: entry.default for entry in fields(cls)}
        for key, value in values.items():
            _check_kind(f"{source}: {key}", value, key, defaults[key])
        try:
            given: dict[str, Any] = {key: tuple(value) if key in _LISTS else value for key, value in values.items()}
            return cls(**given)
        except ArgumentError as error:
            raise ArgumentError(f"{source}: {error.what}", expected=error.expected, got=error.got, hint=error.hint) from None

    def manifest(self) -> dict[str, Any]:
        """The manifest these claims came from, defaults filled in."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        backend = {key: values.pop(key) for key in ("name", "version")}
        return {"backend": backend, "claims": {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}}


def _check_keys(where: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in table:
        if key not in known:
            raise ArgumentError(f"{where}: {key}", expected=f"one of {', '.join(sorted(known))}", got="an unknown key")


def _check_kind(where: str, value: Any, key: str, default: Any) -> None:
    """Refuse a value of another kind than the default's: a number for text, text for a list."""
    if key in _LISTS:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise ArgumentError(where, expected=f"a list out of {', '.join(_LISTS[key])}", got=repr(value))
    elif isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ArgumentError(where, expected="a number", got=repr(value))
    elif isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ArgumentError(where, expected="an integer", got=repr(value))
    elif not isinstance(value, str):
        raise ArgumentError(where, expected="text", got=repr(value))
