"""How kernels are compiled: lazily, cached on disk, exact in bits unless they say otherwise.

:func:`compiled` is for kernels that Python calls, :data:`inlined` for the small functions they are made of, :data:`uncounted`
for those of them that get arrays and are called very often.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.ccallback import CFunc

from refdeq import scalar
from refdeq_numba import compile_times

__all__ = ["cache_folder", "callback", "compiled", "inlined", "uncounted"]

compile_times.listen()

inlined = njit(error_model="numpy", fastmath=False, forceinline=True, nogil=True)
"""Decorator of small functions that must vanish into their callers, exact in bits wherever they end up.

``fastmath=False`` has to be said: a function that leaves it unset inherits the setting of whichever caller is compiled first,
and every later caller shares that compilation, strict ones included.
"""

_njit: Any = njit  # whose declared type omits the option that switches counting off
uncounted = _njit(error_model="numpy", fastmath=False, forceinline=True, nogil=True, _nrt=False)
"""As :data:`inlined`, without counting references to arrays, which a caller holds anyway; such a function cannot allocate.

Counting is an atomic operation per array and call: for a function that treats one row it costs as much as the row.
"""


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a kernel on its first call, without the interpreter lock, and keep the machine code on disk.

    Numba looks at the file of a kernel alone when it decides whether machine code on disk is stale; the functions inlined into
    it may have changed too, and so may constants. So the digest of the package becomes part of the stamp.

    Parameters
    ----------
    function : callable
        Module-level function (closures over compiled functions cannot be cached).

    Returns
    -------
    numba dispatcher
    """
    dispatcher: Any = njit(error_model="numpy", fastmath=False, nogil=True, cache=True)(function)
    if dispatcher is not function:  # NUMBA_DISABLE_JIT hands the function back
        _stamp(dispatcher)
    return dispatcher


def callback(function: Callable[..., Any], signature: Any) -> Any:
    """Compile a function at once for one signature, to be called by its ``address``; kept on disk as :func:`compiled` does.

    Parameters
    ----------
    function : callable
    signature : numba signature
        Of numbers and pointers, such as ``types.void(types.CPointer(types.float64))``.

    Returns
    -------
    object with the attribute `address`, valid as long as the object lives
    """
    options = {"error_model": "numpy", "fastmath": False}
    found: Any = CFunc(function, (signature.args, signature.return_type), locals={}, options=options)
    found.enable_caching()
    _stamp(found)
    began = time.perf_counter()
    found.compile()
    if not found.cache_hits:
        folder = Path(found._cache.cache_path)
        compile_times.record(folder, function.__qualname__, str(signature), time.perf_counter() - began)
    return found


def cache_folder() -> Path:
    """Where Numba keeps the machine code of this package: beside its source, in ``NUMBA_CACHE_DIR`` or in the user's cache."""
    return Path(compiled(cache_folder).stats.cache_path)  # which is that of any function here; this one is never compiled


def _stamp(compilation: Any) -> None:
    stored = compilation._cache._cache_file
    stored._source_stamp = (stored._source_stamp, _INLINED_DIGEST)


def _digest_inlined() -> str:
    """Digest of what machine code depends on: this package, constants of the reference, and the width of vectors asked for."""
    width = os.environ.get("REFDEQ_NUMBA_VECTOR_BYTES", "").encode()
    texts = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"\0".join([*texts, Path(scalar.__file__).read_bytes(), width])).hexdigest()


_INLINED_DIGEST = _digest_inlined()
