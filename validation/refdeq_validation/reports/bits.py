"""Numbers of failures as IEEE bit strings."""

from __future__ import annotations

import numpy as np

__all__ = ["bits_text"]

_PREFIX = {"float16": "f16", "float32": "f32", "float64": "f64"}
_WIDE = ("residual", "scale")


def bits_text(text: str, tensor: str, dtype: str) -> str | None:
    """Bits of a number given by its hexadecimal text, such as ``f32:3fc00000``.

    Parameters
    ----------
    text : str
        Starts with a hexadecimal float, ``nan`` or an infinity, as failures show numbers; anything else has no bits here.
    tensor : str
        Name of the tensor; residuals and scales are float64 in every dtype (S-2).
    dtype : str
        Of the problem.

    Returns
    -------
    str or None
        The payload of a NaN is not known here: NaN gives None. A number that the format cannot hold exactly was not stored
        in it, and is shown as float64.

    Examples
    --------
    >>> bits_text("0x1.8000000000000p+0 (1.5)", "y", "float32")
    'f32:3fc00000'
    >>> bits_text("-0x0.0p+0 (-0)", "y", "float64")
    'f64:8000000000000000'
    >>> bits_text("0x1.8000000000000p+0 (1.5)", "trace.residual", "float32")
    'f64:3ff8000000000000'
    """
    word = text.split(" ", 1)[0]
    if not word.lstrip("+-").startswith(("0x", "inf")):
        return None
    try:
        value = float.fromhex(word)
    except ValueError:
        return None  # a word of another kind that only begins like a number
    kind = np.dtype("float64" if any(name in tensor for name in _WIDE) else dtype)
    with np.errstate(all="ignore"):
        narrow = np.array(value, kind)
    if float(narrow) != value:
        narrow = np.array(value, "float64")
    unsigned = narrow.view(f"u{narrow.dtype.itemsize}")
    return f"{_PREFIX[narrow.dtype.name]}:{int(unsigned):0{2 * narrow.dtype.itemsize}x}"
