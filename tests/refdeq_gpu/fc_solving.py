"""Fully connected solves through a chosen plan: a backend of one plan, comparisons with the reference, planted bugs."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

from refdeq_gpu.plans import fc

import refdeq as rd
from refdeq.reference import ReferenceBackend
from refdeq.registry import BackendInfo

sys.path.insert(0, str(Path(__file__).parents[1] / "refdeq_numba"))

INFO = BackendInfo("fc", "one plan", ("strict", "fast"), ("float32", "float64"), "R4", "skip", "strict", fused=True)


class OnePlan(ReferenceBackend):
    """Runs whole solves on a device by the fully connected plan, launched as asked for; nothing else of it is used."""

    info = INFO

    def __init__(self, device, **shape):
        self.device, self.shape = device, shape

    def plan(self, request):
        offered = fc.offer(request, self.device)
        return offered if hasattr(offered, "reason") else dataclasses.replace(offered, **self.shape)


def solved(device, cell, x, shape, **options):
    return rd.solve(cell, x, backend=OnePlan(device, **shape), executor="fused", **options)


def planted_sources(folder, bugs, chunk):
    """Copy the CUDA C++ with every bug in it; the environment variable says which one is at work, 0 for none.

    A bug is (file, right text, wrong text). Of statements, which end in a semicolon, one of the two is executed; of other texts
    one is the value.
    """
    from refdeq_cupy.loader import SOURCES

    names = [path.name for path in SOURCES.iterdir() if path.name.startswith("fc_")] + ["strict.cuh"]
    texts = {name: (SOURCES / name).read_text() for name in names}
    for number, (name, right, wrong) in enumerate(bugs, 1):
        assert texts[name].count(right) == 1, f"{name}: {right!r}"
        chosen = f"(planted({number}) ? ({wrong}) : ({right}))"
        if right.partition("//")[0].rstrip().endswith(";"):
            chosen = f"if (planted({number})) {{ {wrong}\n }} else {{ {right}\n }}"
        texts[name] = texts[name].replace(right, chosen)
    texts["fc_layout.cuh"] = texts["fc_layout.cuh"].replace("CHUNK = 1024", f"CHUNK = {chunk}")
    texts = {name: '#include "planted.cuh"\n' + text for name, text in texts.items()}
    texts["planted.cuh"] = """#pragma once
        #include <stdlib.h>
        inline bool planted(int bug) { return atoi(getenv("REFDEQ_PLANTED")) == bug; }
    """
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


PYTHON_PARTS = ("fc_barrier", "fc_parts", "fc_judge", "fc_sums", "fc_step", "fc_solve")


def planted_kernels(folder, bug, chunk):
    """Copies of the modules in Python, one of them with a bug; returns the module of the kernels."""
    import refdeq_cuda

    kept = {name: sys.modules.get(f"refdeq_cuda.{name}") for name in PYTHON_PARTS}
    try:
        for name in PYTHON_PARTS:
            text = (Path(refdeq_cuda.__file__).parent / f"{name}.py").read_text()
            text = text.replace("fc_layout.CHUNK", str(chunk))
            if bug is not None and bug[0] == name:
                assert text.count(bug[1]) == 1, bug
                text = text.replace(bug[1], bug[2])
            (folder / f"{name}.py").write_text(text)
            spec = importlib.util.spec_from_file_location(f"refdeq_cuda.{name}", folder / f"{name}.py")
            module = importlib.util.module_from_spec(spec)
            sys.modules[f"refdeq_cuda.{name}"] = module
            spec.loader.exec_module(module)
    finally:
        for name, before in kept.items():
            sys.modules.pop(f"refdeq_cuda.{name}")
            if before is not None:
                sys.modules[f"refdeq_cuda.{name}"] = before
    return module
