"""The real device over a stand-in for CuPy that does everything late: probes in one process of their own."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "stand_in"
PROBES = [
    node.name
    for node in ast.parse((HERE / "probes.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.name != "main"
]


def run(*arguments):
    environment = {key: value for key, value in os.environ.items() if key not in ("REFDEQ_CUPY_SHIM", "NUMBA_ENABLE_CUDASIM")}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def found():
    return run(str(HERE / "probes.py"))


@pytest.mark.parametrize("probe", PROBES)
def test_on_the_real_device(found, probe):
    assert found[probe] == ""


COMPARE = """
import importlib.util, json, sys
import cupy
spec = importlib.util.spec_from_file_location("stand_in", sys.argv[1], submodule_search_locations=[sys.argv[2]])
stand_in = sys.modules["stand_in"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stand_in)

def names(module):
    return set(getattr(module, "__all__", ())) or {name for name in vars(module) if not name.startswith("_")}

missing = []
for path, own, real in (("cupy", stand_in, cupy), ("cuda", stand_in.cuda, cupy.cuda), ("runtime", stand_in.cuda.runtime,
                        cupy.cuda.runtime), ("driver", stand_in.cuda.driver, cupy.cuda.driver)):
    for name in names(own) - {"cuda", "random"}:
        mine, theirs = getattr(own, name), getattr(real, name, None)
        if theirs is None:
            missing.append(f"{path}.{name}")
        if isinstance(mine, int) and mine != theirs:
            missing.append(f"{path}.{name} is {theirs}")
        if isinstance(mine, type):
            members = {member for member in vars(mine) if not member.startswith("_")} - {"alive", "of_handle", "take", "watch"}
            missing += [f"{path}.{name}.{member}" for member in members if not hasattr(theirs, member)]
print(json.dumps(sorted(missing)))
"""


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_the_stand_in_has_no_name_that_cupy_has_not():
    assert run("-c", COMPARE, str(HERE / "cupy" / "__init__.py"), str(HERE / "cupy")) == []
