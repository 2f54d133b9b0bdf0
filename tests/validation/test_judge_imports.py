"""The judge proper shares only `types` and `scalar` with what it judges, now and when it is imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import refdeq_validation

import refdeq

FOLDER = Path(refdeq_validation.__file__).parent
JUDGE = sorted((FOLDER / "judge").glob("*.py"))
ALLOWED = {"refdeq.types", "refdeq.scalar", "refdeq.errors"}
"""``errors`` holds exception classes only, which ``types`` raises too."""
NAMED_BY_THE_JUDGE = ("refdeq_validation.judge", "refdeq_validation.cases.model", "refdeq_validation.protocol")


def imports_of(path):
    """Modules of the project that a module names, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if "." not in str(node.module) else {node.module}
    return {name for name in found if name.split(".")[0] in ("refdeq", "refdeq_numba", "refdeq_validation")}


def test_the_judge_imports_types_and_scalar_only():
    assert len(JUDGE) > 12
    for path in JUDGE:
        names = imports_of(path)
        outside = {name for name in names if not name.startswith("refdeq_validation")}
        assert outside <= ALLOWED, path
        assert all(name.startswith(NAMED_BY_THE_JUDGE) for name in names - outside), path


def test_no_module_of_the_judge_names_another_by_text():
    for path in JUDGE:
        source = path.read_text()
        assert "importlib" not in source, path
        assert "__import__" not in source, path


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
import refdeq_validation.judge.replay, refdeq_validation.judge.judging
print(sorted(name for name in sys.modules if name.startswith("refdeq.")))
"""
    core = Path(refdeq.__file__).parent
    allowed = {*ALLOWED, "refdeq.checks"}
    done = subprocess.run([sys.executable, "-c", script % (allowed, str(core))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(ast.literal_eval(done.stdout)) == allowed
