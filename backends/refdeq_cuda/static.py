"""Compiling every kernel without a device: to PTX by Numba-CUDA, to machine code by ptxas, with what each kernel needs.

It must run in a process without the simulator of Numba, and asks for no driver.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import types as python_types
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from refdeq_gpu.table import kernel_names

from refdeq.errors import UnsupportedError
from refdeq_cuda.arguments import kernel_function, kernel_record

__all__ = ["argument_types", "compile_all", "compile_one", "in_order", "ptx_of", "ptxas"]

ARCHITECTURES = {"sm_80": (8, 0), "sm_90": (9, 0)}
_USED = re.compile(r"Used (\d+) registers(?:, used (\d+) barriers)?(?:.*?, (\d+) bytes smem)?")
_VARIABLE = re.compile(r"\.(?:visible|common|extern|weak) \.(?:shared|global) .*;$")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")


def argument_types(name: str, dtype: str) -> tuple[Any, ...]:
    """Numba's types of the arguments of a kernel, where T is `dtype`."""
    from numba import types

    kinds = {"T": getattr(types, dtype), "f64": types.float64, "i32": types.int32, "i64": types.int64, "u8": types.uint8}
    found = []
    for argument in kernel_record(name).arguments:
        kind = kinds[argument.kind]
        found.append(types.Array(kind, 1, "C") if argument.is_array else kind)
    return tuple(found)


@cache
def ptxas() -> str:
    """Path of the assembler: that of the toolkit wheels, else the first on the path."""
    package = importlib.util.find_spec("nvidia")
    for folder in package.submodule_search_locations or () if package is not None else ():
        for path in sorted(Path(folder).glob("cu1*/bin/ptxas")):
            return str(path)
    found = shutil.which("ptxas")
    if found is None:
        raise UnsupportedError("compiling without a device needs ptxas: pip install 'cuda-toolkit[nvcc]'")
    return found


@contextlib.contextmanager
def _pretended(capability: tuple[int, int]) -> Iterator[None]:
    """Device functions ask the current device for its capability; there is none here."""
    from numba.cuda import dispatcher

    asked = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: python_types.SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = asked


def ptx_of(function: Any, types: tuple[Any, ...], arch: str = "sm_90") -> str:
    """PTX of a kernel for given argument types.

    Raises
    ------
    UnsupportedError
        The process simulates: there is no compiler in it.
    """
    from refdeq_cuda.device import is_simulation_asked_for

    if is_simulation_asked_for():
        raise UnsupportedError("kernels are compiled in a process without NUMBA_ENABLE_CUDASIM")
    from numba import cuda

    options = getattr(function, "targetoptions", {})
    kept = {key: options[key] for key in ("fastmath", "launch_bounds", "lineinfo") if options.get(key)}
    capability = ARCHITECTURES[arch]
    with _pretended(capability):
        compile_ptx: Any = cuda.compile_ptx
        ptx, _ = compile_ptx(getattr(function, "py_func", function), types, cc=capability, **kept)
    return str(ptx)


def in_order(ptx: str) -> str:
    """The same module with its variables declared in the order of their names.

    Numba links device functions in the order of a set, so the order of the variables, and with it what ptxas allocates,
    would otherwise differ from one process to the next by a register.
    """
    lines = ptx.split("\n")
    places = [place for place, line in enumerate(lines) if _VARIABLE.match(line)]
    declared = sorted((lines[place] for place in places), key=lambda line: (len(line), line))
    for place, line in zip(places, declared, strict=True):
        lines[place] = line
    return "\n".join(lines)


def compile_one(name: str, dtype: str, arch: str = "sm_90") -> dict[str, Any]:
    """Compile one kernel and tell what it needs.

    Returns
    -------
    dict
        ``kernel``, ``dtype``, ``arch``; ``registers``, ``barriers``, ``shared`` (static, bytes), ``stack``, ``spill_stores``,
        ``spill_loads`` (bytes); ``fused`` (fused multiply-adds of floats in the PTX) and ``local`` (accesses of local memory).
    """
    ptx = ptx_of(kernel_function(name), argument_types(name, dtype), arch)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(in_order(ptx), encoding="utf-8")
        # what a kernel leaves to the linker (the barrier of cooperative groups) can only be assembled, not linked
        leaves = ["-c"] if ".extern .func" in ptx else []
        command = [ptxas(), f"-arch={arch}", "-v", *leaves, str(path), "-o", str(path.with_suffix(".o"))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    used, frame = _USED.search(said), _FRAME.search(said)
    if done.returncode or used is None or frame is None:
        raise UnsupportedError(f"{name} ({dtype}, {arch}) does not assemble: {said.strip()}")
    return {
        "kernel": name,
        "dtype": dtype,
        "arch": arch,
        "registers": int(used[1]),
        "barriers": int(used[2] or 0),
        "shared": int(used[3] or 0),
        "stack": int(frame[1]),
        "spill_stores": int(frame[2]),
        "spill_loads": int(frame[3]),
        "fused": len(re.findall(r"\bfma\.rn\.(?:ftz\.)?f(?:32|64)", ptx)),
        "local": len(re.findall(r"\b(?:ld|st)\.local", ptx)),
    }


def compile_all(
    arch: str = "sm_90", *, names: Iterable[str] | None = None, processes: int | None = None
) -> list[dict[str, Any]]:
    """Compile every kernel of language cuda for each of its dtypes; records as of :func:`compile_one`, in the table's order.

    Parameters
    ----------
    arch : {"sm_80", "sm_90"}
    names : iterable of str, optional
        Kernels; all by default.
    processes : int, optional
        Compiling at once; the number of processors by default.
    """
    chosen = kernel_names("cuda") if names is None else tuple(names)
    jobs = [(name, dtype, arch) for name in chosen for dtype in kernel_record(name).dtypes]
    workers = min(processes or os.cpu_count() or 1, len(jobs))
    if workers <= 1:
        return [compile_one(*job) for job in jobs]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(compile_one, *zip(*jobs, strict=True)))
