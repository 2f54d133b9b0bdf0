"""Modules of kernels, run on the CPU by the shim; checks are those of CuPy and the driver, and some that they leave out."""

from __future__ import annotations

import ctypes
import warnings
from pathlib import Path

import numpy as np
from refdeq_cupy import loader

from ._array import ndarray
from ._streams import enqueue, get_current_stream

MULTIPROCESSORS, MAX_SHARED, PLAIN_SHARED = 2, 232448, 49152
_KINDS = {"f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64", "u8": "uint8", "u16": "uint16"}
_SCALARS = {np.dtype(code).type for code in "?bhilqBHILQefdFD"}


class CUDADriverError(RuntimeError):
    def __init__(self, name, meaning):
        super().__init__(f"{name}: {meaning}")


class Function:
    """A function of a loaded module; its attributes are its own."""

    of_handle: dict[int, Function] = {}  # noqa: RUF012

    def __init__(self, library, name):
        self._library, self._name, self._allowed = library, name, PLAIN_SHARED
        self.ptr = 0x7000 + len(Function.of_handle)
        Function.of_handle[self.ptr] = self

    def __call__(self, grid, block, args, shared_mem=0, stream=None, enable_cooperative_groups=False):
        for size in (grid, block):
            if type(size) is not tuple or not all(type(part) is int for part in size):
                raise TypeError(f"Expected tuple of int, got {size!r}")
        if type(shared_mem) is not int:
            raise TypeError(f"an integer is required, got {type(shared_mem)}")
        blocks, threads = ((*size, 1, 1)[:3] for size in (grid, block))
        values = [_converted(value, *kind) for value, kind in zip(args, self._library.kinds(self._name), strict=True)]
        if shared_mem > self._allowed or np.prod(threads) > 1024:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE", "invalid argument")
        if enable_cooperative_groups:
            most = MULTIPROCESSORS * occupancy(self.ptr, int(np.prod(threads)), shared_mem)
            if np.prod(blocks) > most:
                if blocks[1:] != (1, 1):
                    raise ValueError(f"The specified grid size {blocks} exceeds the limit ({most}).")
                warnings.warn(f"The grid size will be reduced from {blocks[0]} to {most}", stacklevel=2)
                blocks = (most, 1, 1)
        kept = [value for value in args if isinstance(value, ndarray)]
        memory = [value._bytes for value in kept]  # of the process; the pool may hand it out again

        def run(memory=memory):
            return self._library.launch(self._name, blocks, threads, shared_mem, values, enable_cooperative_groups, 0)

        enqueue(get_current_stream() if stream is None else stream, run)


def _converted(value, kind, is_array):
    """An argument as the driver gets it; CuPy takes any number of any size, here it must be what the kernel reads."""
    wanted = np.dtype(_KINDS[kind])
    if isinstance(value, ndarray):
        fits = value.dtype == wanted or (value.dtype, kind) == (np.dtype(np.bool_), "u8")
        if not is_array or not fits:
            raise AssertionError(f"an array of {value.dtype} where the kernel reads {kind}{'*' * is_array}")
        return ctypes.c_void_p(value.data.ptr)
    if type(value) not in _SCALARS:
        raise TypeError(f"Unsupported type {type(value)}")  # int and float would do, as 64 bits: never meant
    if is_array or value.dtype != wanted:
        raise AssertionError(f"a {value.dtype} where the kernel reads {kind}{'*' * is_array}")
    return np.ctypeslib.as_ctypes_type(value.dtype)(value.item())


def occupancy(func, blockSize, dynamicSMemSize):
    """Blocks of a function on one multiprocessor, at most 2."""
    if not all(type(number) is int for number in (func, blockSize, dynamicSMemSize)):
        raise TypeError("an integer is required")
    if dynamicSMemSize > Function.of_handle[func]._allowed:
        return 0
    return min(2, 2048 // blockSize, MAX_SHARED // max(1, dynamicSMemSize))


class RawKernel:
    """A kernel of a module, or one without a body from source."""

    def __init__(self, code, name, options=(), backend="nvrtc", *, translate_cucomplex=False, enable_cooperative_groups=False,
                 jitify=False):  # fmt: skip
        if code is not None and "{}" not in code.replace(" ", ""):
            raise NotImplementedError("only kernels without a body")
        self.code, self.name, self.options, self.backend = code, name, options, backend
        self.enable_cooperative_groups, self._function = enable_cooperative_groups, None

    @property
    def kernel(self):
        return self._function

    def __call__(self, grid, block, args, **kwargs):
        if self._function is not None:
            self._function(grid, block, args, enable_cooperative_groups=self.enable_cooperative_groups, **kwargs)

    @property
    def max_dynamic_shared_size_bytes(self):
        return self._function._allowed

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, bytes):
        if type(bytes) is not int or not 0 <= bytes <= MAX_SHARED:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE", "invalid argument")
        self._function._allowed = bytes


class RawModule:
    """A module from a file; its path is `FOLDER/MODULE.REAL.ARCH`, and the folder has the source."""

    _loaded: dict[tuple[str, bool], dict[str, Function]] = {}  # noqa: RUF012

    def __init__(self, *, code=None, path=None, options=(), backend="nvrtc", translate_cucomplex=False,
                 enable_cooperative_groups=False, name_expressions=None, jitify=False):  # fmt: skip
        if not isinstance(path, str) or code is not None:
            raise TypeError("Argument 'path' has incorrect type")
        self.file_path, self.enable_cooperative_groups = path, enable_cooperative_groups
        self._functions = self._loaded.setdefault((path, enable_cooperative_groups), {})

    def get_function(self, name):
        if name not in self._functions:
            place = Path(self.file_path)
            library = loader.load(place.parent, *place.name.split(".")[:2])
            if not library.has(name):
                raise CUDADriverError("CUDA_ERROR_NOT_FOUND", "named symbol not found")
            self._functions[name] = Function(library, name)
        made = RawKernel(None, name, (), "nvcc", enable_cooperative_groups=self.enable_cooperative_groups)
        made._function = self._functions[name]
        return made
