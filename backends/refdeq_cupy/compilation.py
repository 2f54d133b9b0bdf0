"""CUDA C++ compiled by NVRTC: one list of options for the device and for the static check, which needs no device.

CuPy's own compilation adds ``-ftz=true``, which would flush subnormals to zero (N-5); so binaries are made here, and CuPy loads
them.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from refdeq.errors import BackendUnavailableError
from refdeq_cupy.cache import kept
from refdeq_cupy.loader import source_files

__all__ = ["binary", "compile_module", "nvrtc_version", "options"]

_VERBOSE = "--ptxas-options=-v"
_HINT = "pip install 'refdeq[cuda13]'"


def options(real: str, arch: str) -> tuple[str, ...]:
    """Options of NVRTC: nothing is contracted, flushed or approximated (N-5, N-6).

    >>> options("float", "sm_90")[:3]
    ('--gpu-architecture=sm_90', '-DREAL=float', '--std=c++17')
    """
    exact = ("--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")
    return (f"--gpu-architecture={arch}", f"-DREAL={real}", "--std=c++17", *exact, "-lineinfo")


def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise BackendUnavailableError(
            "cupy", "the compiler NVRTC is reached through cuda-bindings, which is missing", _HINT
        ) from error
    return nvrtc


def _checked(result: tuple[Any, ...]) -> Any:
    nvrtc = _nvrtc()
    if result[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"NVRTC: {result[0].name}")
    return result[1] if len(result) > 1 else None


def nvrtc_version() -> str:
    """Version of NVRTC and of what reaches it."""
    nvrtc = _nvrtc()
    _, major, minor = nvrtc.nvrtcVersion()
    return f"{major}.{minor} (cuda-bindings {importlib.metadata.version('cuda-bindings')})"


def compile_module(folder: Path, module: str, real: str, arch: str, *extra: str) -> tuple[bytes, str]:
    """Binary of a module, and what the compiler said; headers are taken from the same folder and nowhere else.

    Parameters
    ----------
    folder : Path
    module : str
    real : {"float", "double"}
    arch : str
        Such as ``sm_90``.
    *extra : str
        Further options that change no code, such as ``--ptxas-options=-v``.
    """
    nvrtc = _nvrtc()
    files = source_files(folder, f"{module}.cu")
    source = files.pop(f"{module}.cu")
    texts, names = [text.encode() for text in files.values()], [name.encode() for name in files]
    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), f"{module}.cu".encode(), len(files), texts, names))
    try:
        words = [word.encode() for word in (*options(real, arch), *extra)]
        status = nvrtc.nvrtcCompileProgram(program, len(words), words)
        log = _text(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).decode(errors="replace").rstrip("\0 \n")
        if status[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise RuntimeError(f"NVRTC cannot compile {module}.cu for {arch}:\n{log[:4000]}")
        code: bytes = _text(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
        return code, log
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def binary(folder: Path, module: str, real: str, arch: str) -> Path:
    """File with the binary of a module, compiled now or earlier; what ptxas said of it lies beside, as ``module.log``."""
    files = source_files(folder, f"{module}.cu")
    named = (part for item in sorted(files.items()) for part in item)

    def make(room: Path) -> None:
        code, log = compile_module(folder, module, real, arch, _VERBOSE)
        (room / "module.cubin").write_bytes(code)
        (room / "module.log").write_text(log, encoding="utf-8")

    what = f"{module}.cu ({real}) with NVRTC for {arch}"
    return kept("module.cubin", (nvrtc_version(), *options(real, arch), _VERBOSE, module, *named), make, what)


def _text(program: Any, size_of: Any, get: Any) -> bytes:
    content = b" " * int(_checked(size_of(program)))
    _checked(get(program, content))
    return content
