"""Legal ways to build an implementation, each with claims that are true of it: what must never be called wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from refdeq_validation.lab.session import CLAIMS, Lab
from refdeq_validation.lab.style import Style
from refdeq_validation.protocol.manifest import Claims

__all__ = ["VARIANTS", "Variant"]


@dataclass(frozen=True)
class Variant:
    """One legal implementation.

    Attributes
    ----------
    name : str
    style : Style
    claims : Claims
    summary : str
        One sentence.

    Examples
    --------
    >>> VARIANTS["fma"].claims.order
    'fast'
    """

    name: str
    style: Style
    claims: Claims
    summary: str

    def implementation(self) -> Lab:
        """Return a fresh implementation."""
        return Lab(self.claims, self.style)


def _variant(name: str, summary: str, style: Style, **claims: Any) -> Variant:
    return Variant(name, style, replace(CLAIMS, name=f"lab-{name}", **claims), summary)


_FAST: Mapping[str, Any] = {"order": "fast", "determinism": "R3"}
_SINGLE: Mapping[str, Any] = {**_FAST, "dtypes": ("float32",)}

_ALL = (
    _variant("strict", "The golden implementation.", Style()),
    _variant("reverse", "Columns from the last to the first.", Style(kernel="reverse"), **_FAST),
    _variant("random", "Columns in a fixed order without a pattern.", Style(kernel="random"), **_FAST),
    _variant("blocked", "Partial sums of four columns.", Style(kernel="blocked"), **_FAST),
    _variant("pairwise", "A balanced tree.", Style(kernel="pairwise"), **_FAST),
    _variant("split-k", "Three interleaved partial sums.", Style(kernel="split-k"), **_FAST),
    _variant("kahan", "Compensated summation.", Style(kernel="kahan"), **_FAST),
    _variant("fma", "Fused multiply-adds.", Style(kernel="fma"), **_FAST),
    _variant("wide", "Sums of float64, rounded once.", Style(kernel="wide"), **_SINGLE),
    _variant("bfloat16x3", "Products of three bfloat16 pieces.", Style(kernel="bfloat16x3"), multiply="bfloat16x3", **_SINGLE),
    _variant("tf32x3", "Products of two TF32 pieces.", Style(kernel="tf32x3"), multiply="tf32x3", **_SINGLE),
    _variant("tf32", "Operands rounded to TF32.", Style(kernel="ascending", multiply="tf32"), multiply="tf32", **_SINGLE),
    _variant(
        "bfloat16",
        "Operands rounded to bfloat16.",
        Style(kernel="ascending", multiply="bfloat16"),
        multiply="bfloat16",
        **_SINGLE,
    ),
    _variant(
        "float16", "Operands rounded to float16.", Style(kernel="ascending", multiply="float16"), multiply="float16", **_SINGLE
    ),
    _variant(
        "truncate",
        "Additions rounded towards zero.",
        Style(kernel="ascending", rounding="truncate"),
        rounding="truncate",
        **_FAST,
    ),
    _variant("ftz", "Subnormal results flushed to zero.", Style(kernel="ascending", flush=True), subnormals="ftz", **_FAST),
    _variant(
        "zeros",
        "Every column is read, with zeros where nothing was sent.",
        Style(kernel="zeros"),
        inactive_columns="read",
        **_FAST,
    ),
    _variant(
        "library",
        "One matrix product of the library.",
        Style(kernel="library"),
        inactive_columns="read",
        order="fast",
        determinism="R1",
        ops=("Gemm",),
    ),
    _variant(
        "native", "Activations of the library.", Style(native=True), activation="native", activation_ulp=4.0, determinism="R1"
    ),
    _variant("active-list", "Compacted lists with a capacity, in strict order.", Style(kernel="active-list")),
    _variant("sparse-rows", "Compressed sparse rows, in strict order.", Style(kernel="sparse-rows")),
    _variant("packed-mask", "Masks in words of bits, in strict order.", Style(kernel="packed-mask")),
    _variant("tiles", "Tiles with tails, in strict order.", Style(kernel="tiles")),
    _variant("row-chunks", "Chunks of outputs per thread, in strict order.", Style(kernel="row-chunks")),
    _variant("column-slices", "Slices of columns in a used workspace.", Style(kernel="column-slices"), **_FAST),
    _variant("scatter", "A Conv that scatters sent sites, in strict order.", Style(kernel="scatter")),
    _variant("halo-tiles", "A Conv in tiles with halos, in strict order.", Style(kernel="halo-tiles")),
    _variant("tuned", "A kernel chosen at the first call of a shape, in strict order.", Style(kernel="tuned")),
    _variant("double-buffer", "The reference in two buffers that change places.", Style(state="double")),
    _variant("graph", "Inputs through the buffer of a recorded graph.", Style(launch="graph")),
)

VARIANTS: Mapping[str, Variant] = {variant.name: variant for variant in _ALL}
"""By name."""
