"""The judge proper shares only `types` and `scalar` with what it judges, now and when it is imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import refdeq_validation

import refdeq

FOLDER = Path(refdeq_validation.__file__).parent
ALLOWED = {"refdeq.types", "refdeq.scalar"}


def imports_of(module):
    """Modules of the project that a module names, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if "." not in str(node.module) else {node.module}
    return {name for name in found if name.split(".")[0] in ("refdeq", "refdeq_numba", "refdeq_validation")}


def judge_modules():
    """`replay` and what it imports of the harness, directly or not."""
    found, todo = set(), {"replay"}
    while todo:
        module = todo.pop()
        found.add(module)
        ours = {name.split(".")[1] for name in imports_of(module) if name.startswith("refdeq_validation.")}
        todo |= ours - found
    return found


def test_the_judge_imports_types_and_scalar_only():
    modules = judge_modules()
    assert {"replay", "arithmetic", "bounds", "sums", "stops", "comparing", "nodes", "compiled", "verdicts"} <= modules
    for module in modules:
        outside = {name for name in imports_of(module) if not name.startswith("refdeq_validation.")}
        assert outside <= ALLOWED, module
    assert not modules & {"runner", "session", "cases", "designed", "command"}


def test_no_module_of_the_judge_names_another_by_text():
    for module in judge_modules():
        source = (FOLDER / f"{module}.py").read_text()
        assert "importlib" not in source, module
        assert "__import__" not in source, module


def test_replay_works_without_what_it_judges():
    """With every other module of the core made unimportable, the judge still imports."""
    script = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("refdeq_numba") or name.startswith("refdeq.") and name not in %r:
            raise ImportError(f"not for the judge: {name}")
sys.meta_path.insert(0, Block())
import types
package = types.ModuleType("refdeq")
package.__path__ = [%r]
sys.modules["refdeq"] = package
import refdeq_validation.replay
print(sorted(name for name in sys.modules if name.startswith("refdeq.")))
"""
    core = Path(refdeq.__file__).parent
    allowed = {*ALLOWED, "refdeq.checks", "refdeq.errors"}
    done = subprocess.run([sys.executable, "-c", script % (allowed, str(core))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(ast.literal_eval(done.stdout)) == allowed
