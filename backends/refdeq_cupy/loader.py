"""Kernels of CUDA C++ compiled for the CPU: a folder of sources, a C++ compiler, a cache of libraries.

The text that NVRTC compiles for a GPU is compiled here by g++ behind the headers in ``shim``, which give the words of CUDA a
meaning on a CPU; only declarations of dynamic shared memory are rewritten. A library is kept under a key of all it is made of.
"""

from __future__ import annotations

import ctypes
import functools
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from refdeq.errors import BackendUnavailableError
from refdeq_cupy.cache import kept
from refdeq_cupy.conversion import MOST_THREADS

__all__ = [
    "SHIM",
    "SOURCES",
    "Library",
    "compiler",
    "compiler_version",
    "fault_address",
    "kernel_symbols",
    "load",
    "race_line",
    "source_files",
]

SOURCES = Path(__file__).parent / "src"
SHIM = Path(__file__).parent / "shim"

_OPTIONS = ("-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-fwrapv", "-fno-gnu-unique", "-fPIC")
_CHECKS = ("-fsanitize=bounds,shift-exponent,alignment",)
"""Calls of the shim where an index leaves an array of fixed size (static shared memory), a shift is as wide as the word (a GPU
and a CPU differ), or an address is no multiple of what its type needs (a GPU stops). GCC's own library is not linked."""
_RACES = ("-fsanitize=thread", "-g1", "-gdwarf-4")
_BOUNDS = r"(?:__launch_bounds__\(\s*([^,()]+)[^()]*\)\s*)?"
_KERNEL = re.compile(rf'extern\s+"C"\s+__global__\s+{_BOUNDS}void\s+{_BOUNDS}(\w+)\s*\(')
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', flags=re.MULTILINE)
_DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\(\s*\w+\s*\)\s*)?([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;")


def compiler() -> str | None:
    """Path of the compiler with which kernels run on the CPU, or None; the linker must be that of Linux."""
    return shutil.which("g++") if sys.platform.startswith("linux") else None


@functools.cache
def compiler_version(path: str) -> str:
    """First line of what the compiler says of itself."""
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.partition("\n")[0]


def kernel_symbols(text: str) -> dict[str, str]:
    """Names of the kernels that a source defines, each with its launch bound; macros must have been expanded.

    >>> kernel_symbols('extern "C" __global__ void __launch_bounds__(256, 1) fill(float* out) {}')
    {'fill': '256'}
    """
    return {name: (before or after or str(MOST_THREADS)).strip() for before, after, name in _KERNEL.findall(text)}


def source_files(folder: Path, name: str) -> dict[str, str]:
    """Texts of a source and of all it includes from its folder, the source first; what the folder lacks is left alone."""
    found: dict[str, str] = {}
    pending = [name]
    while pending:
        current = pending.pop()
        path = folder / current
        if current in found or not path.is_file():
            continue
        found[current] = path.read_text(encoding="utf-8")
        pending += _INCLUDE.findall(found[current])
    return found


def _rewritten(text: str) -> str:
    """Dynamic shared memory as a pointer to what the shim has for the block."""
    return _DYNAMIC.sub(r"\1* \2 = reinterpret_cast<\1*>(shim::dynamic_shared());", text)


class Library:
    """Kernels of one module, compiled for the CPU."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    def has(self, symbol: str) -> bool:
        """Whether the module defines a kernel."""
        return hasattr(self._library, f"{symbol}__launch")

    def kinds(self, symbol: str) -> list[tuple[str, bool]]:
        """Kinds of the arguments of a kernel, each with whether it is an array."""
        function = getattr(self._library, f"{symbol}__argument")
        function.restype = ctypes.c_char_p
        kinds: list[tuple[str, bool]] = []
        is_array = ctypes.c_int()
        while (kind := function(len(kinds), ctypes.byref(is_array))) is not None:
            kinds.append((kind.decode(), bool(is_array.value)))
        return kinds

    def launch(
        self,
        symbol: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared: int,
        values: list[ctypes._SimpleCData],  # type: ignore[type-arg]  # of several types
        is_cooperative: bool,
        seed: int,
    ) -> str | None:
        """Run a kernel; return what went wrong, or None."""
        function = getattr(self._library, f"{symbol}__launch")
        function.restype = ctypes.c_char_p
        pointers = (ctypes.c_void_p * max(1, len(values)))(*(ctypes.addressof(value) for value in values))
        sizes = [(ctypes.c_uint * 3)(*size) for size in (grid, block)]
        error = function(*sizes, ctypes.c_size_t(shared), pointers, int(is_cooperative), ctypes.c_uint(seed))
        return None if error is None else error.decode()


@functools.cache
def _runtime() -> ctypes.CDLL:
    """Load the scheduler, which all modules share."""
    return ctypes.CDLL(str(_built("runtime.cpp", _shim_files(), ())), mode=ctypes.RTLD_GLOBAL)


def fault_address() -> int:
    """Address outside of all arrays at which the last launch was stopped; 0 if it was not."""
    function = _runtime().shim_fault_address
    function.restype = ctypes.c_size_t
    return int(function())


def race_line() -> str:
    """Line of a source that the last launch was stopped at by a race, such as ``gates.cu:40``; empty if it was not."""
    function, place = _runtime().shim_race_code, ctypes.c_size_t()
    function.restype = ctypes.c_char_p
    library, reader = function(ctypes.byref(place)), shutil.which("addr2line")
    if library is None or reader is None:
        return ""
    return _run([reader, "-s", "-e", library.decode(), hex(place.value - 1)], Path(library.decode()).parent).split()[0]


def _shim_files() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(SHIM.iterdir()) if path.is_file()}


def load(folder: Path, module: str, real: str, looks_for_races: bool = False) -> Library:
    """Compile a module for one real type, or find it in the cache.

    Parameters
    ----------
    folder : Path
        With ``<module>.cu`` and the headers it includes.
    module : str
    real : {"float", "double"}
    looks_for_races : bool
        Whether loads and stores of shared memory are followed.
    """
    main = f"{module}.cu"
    files = source_files(folder, main)
    if main not in files:
        raise FileNotFoundError(f"no {main} in {folder}")
    options = (f"-DREAL={real}", "-fvisibility=hidden", *_CHECKS, *(_RACES if looks_for_races else ()))
    with ThreadPoolExecutor(1) as beside:  # where both must be compiled, at the same time
        runtime = beside.submit(_runtime)
        path = _built(main, files | _shim_files(), options, real)
        runtime.result()
    return Library(path)


def _built(main: str, texts: dict[str, str], options: tuple[str, ...], real: str = "") -> Path:
    """Library of a set of texts."""
    path = compiler()
    if path is None:
        raise BackendUnavailableError("cupy", "running kernels on the CPU needs Linux and the compiler g++", "install g++")
    rules = (_DYNAMIC.pattern, _KERNEL.pattern)
    named = (part for item in sorted(texts.items()) for part in item)
    ingredients = (compiler_version(path), *_OPTIONS, *options, *rules, main, *named)
    what = f"{main} {f'({real}) ' if real else ''}with g++ for the simulated device"
    return kept("library.so", ingredients, lambda room: _compile(room, path, main, texts, options), what)


def _compile(room: Path, path: str, main: str, texts: dict[str, str], options: tuple[str, ...]) -> None:
    for name, text in texts.items():
        is_kernel = name.endswith((".cu", ".cuh"))
        (room / name).write_text(_rewritten(text) if is_kernel else text, encoding="utf-8")
    if main.endswith(".cu"):
        expanded = _run([path, "-E", "-P", "-x", "c++", "-DSHIM_LISTING", *options, "-I.", main], room)
        exports = [f"SHIM_KERNEL({symbol}, {bound})" for symbol, bound in kernel_symbols(expanded).items()]
        lines = ['#include "cuda_shim.hpp"', f'#include "{main}"', *exports, ""]
        main = "module.cpp"
        (room / main).write_text("\n".join(lines), encoding="utf-8")
    _run([path, *_OPTIONS, *options, "-I.", "-c", main, "-o", "module.o"], room)
    _run([path, "-shared", "module.o", "-o", "library.so"], room)
    (room / "module.o").unlink()


def _run(command: list[str], room: Path) -> str:
    done = subprocess.run(command, cwd=room, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[:4000]}")
    return done.stdout
