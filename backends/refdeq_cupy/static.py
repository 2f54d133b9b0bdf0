"""What the compiler makes of every kernel, without a device: registers, spills, stack, shared memory of fixed size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from refdeq_gpu.table import all_kernels, kernel_names

from refdeq_cupy.compilation import binary
from refdeq_cupy.loader import SOURCES
from refdeq_cupy.names import REAL, symbol_of

__all__ = ["compile_all", "resources"]

_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    flags=re.DOTALL,
)


def resources(log: str) -> dict[str, dict[str, int]]:
    """Resources of each kernel, by symbol, from the words of ptxas.

    >>> said = "Compiling entry function 'f' for 'sm_90': 8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads, "
    >>> resources(said + "Used 20 registers, used 1 barriers, 512 bytes smem")["f"]["shared"]
    512
    """
    found = {}
    for match in _ENTRY.finditer(log):
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        numbers = {key: int(match[key]) for key in ("registers", "stack")}
        numbers |= {"spills": int(match["stores"]) + int(match["loads"]), "shared": int(shared[1]) if shared else 0}
        found[match["name"]] = numbers
    return found


def compile_all(arch: str, folder: Path = SOURCES, modules: tuple[str, ...] | None = None) -> list[dict[str, Any]]:
    """Compile every kernel of the table for an architecture, in each of its real types.

    Parameters
    ----------
    arch : str
        Such as ``sm_80`` or ``sm_90``.
    folder : Path
    modules : tuple of str, optional
        Only these.

    Returns
    -------
    list of dict
        ``kernel``, ``module``, ``dtype``, ``arch``, ``registers``, ``spills`` (bytes stored and loaded), ``stack``, ``shared``.

    Raises
    ------
    RuntimeError
        A module does not compile, or lacks a kernel of the table.
    """
    kernels = [all_kernels()[name] for name in kernel_names("cupy")]
    rows: list[dict[str, Any]] = []
    wanted = {(kernel.module, dtype) for kernel in kernels for dtype in kernel.dtypes}
    for module, dtype in sorted(pair for pair in wanted if modules is None or pair[0] in modules):
        path = binary(folder, module, REAL[dtype], arch)  # which a device then loads at once
        found = resources(path.with_suffix(".log").read_text(encoding="utf-8"))
        for kernel in kernels:
            if kernel.module != module or dtype not in kernel.dtypes:
                continue
            if symbol_of(kernel.name) not in found:
                raise RuntimeError(f"{module}.cu does not define {symbol_of(kernel.name)}")
            numbers = found[symbol_of(kernel.name)]
            rows.append({"kernel": kernel.name, "module": module, "dtype": dtype, "arch": arch, **numbers})
    return rows
