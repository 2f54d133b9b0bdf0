"""Sizes of a convolution of images, and what is cut into tiles, words and blocks of it (K3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refdeq.ops.conv import conv_geometry

__all__ = ["LEAST_CHANNELS", "OUTPUTS", "TILE_COLUMNS", "TILE_ROWS", "WORD", "Geometry"]

TILE_ROWS, TILE_COLUMNS, WORD, OUTPUTS = 8, 16, 32, 64
_MOST = 2**31 - 1
LEAST_CHANNELS = 8
"""Channels of a group, of inputs and of outputs, below which most of a word or of a block of outputs would be filling."""


@dataclass(frozen=True)
class Geometry:
    """Sizes of a convolution of images, in the order in which kernels take them.

    >>> Geometry.of((1, 40, 9, 17), (70, 40, 1, 5), (1, 70, 9, 17), {"pads": (0, 2, 0, 2), "strides": None, "dilations": None,
    ...                                                            "kernel_shape": None, "group": 1}).words
    2
    """

    channels: int
    height: int
    width: int
    outputs: int
    out_height: int
    out_width: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    group: int

    @classmethod
    def of(cls, d: tuple[int, ...], weight: tuple[int, ...], a: tuple[int, ...], attributes: Mapping[str, Any]) -> Geometry:
        """Geometry of a Conv from the shapes of its (batched) input, weight and (batched) accumulator."""
        strides, before, _, dilations = conv_geometry(2, attributes, weight[2:])
        sizes: list[int] = [*d[1:], *a[1:], *weight[2:], *strides, *before, *dilations, attributes["group"]]
        return cls(*sizes)

    @property
    def taps(self) -> int:
        """Kernel positions."""
        return self.kernel_h * self.kernel_w

    @property
    def inputs(self) -> int:
        """Channels of one group."""
        return self.channels // self.group

    @property
    def words(self) -> int:
        """Words of channels of one group."""
        return -(-self.inputs // WORD)

    @property
    def tiles(self) -> int:
        """Tiles of outputs of one sample."""
        return -(-self.out_height // TILE_ROWS) * -(-self.out_width // TILE_COLUMNS)

    @property
    def in_tiles(self) -> int:
        """Tiles of inputs of one sample."""
        return -(-self.height // TILE_ROWS) * -(-self.width // TILE_COLUMNS)

    @property
    def codes(self) -> int:
        """Entries of the list of a job that lists everything."""
        return self.taps * self.words

    @property
    def blocks(self) -> int:
        """Blocks of outputs of one group."""
        return -(-(self.outputs // self.group) // OUTPUTS)

    def refusal(self, least_channels: int = LEAST_CHANNELS) -> str | None:
        """What speaks against tiles, or None: such a convolution is served by the plain ``conv`` kernel of the op level.

        >>> Geometry(2, 9, 9, 64, 9, 9, 7, 7, 1, 1, 3, 3, 1, 1, 1).refusal()
        '2 input channels per group fill too little of a word of 32'
        """
        outputs = self.outputs // self.group
        if self.inputs < least_channels:
            return f"{self.inputs} input channels per group fill too little of a word of {WORD}"
        if outputs < least_channels:
            return f"{outputs} output channels per group fill too little of a block of {OUTPUTS}"
        if self.group > 1 and self.inputs % WORD:
            return f"{self.group} groups of {self.inputs} input channels leave words of {WORD} partly empty"
        return None

    def is_too_large(self, count: int) -> bool:
        """Whether the items of so many samples do not fit into 32 bits."""
        words = self.words * self.group
        items = self.in_tiles * words, self.tiles * self.group * max(self.blocks, self.codes)
        return count * max(items) > _MOST
