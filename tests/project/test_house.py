"""House rules that no single module can keep: imports, packages, clauses, file sizes, entry points."""

from __future__ import annotations

import ast
import configparser
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"refdeq": ROOT / "refdeq", "refdeq_numba": ROOT / "backends/refdeq_numba"}
for _name in ("refdeq_gpu", "refdeq_cuda", "refdeq_cupy"):
    SOURCES[_name] = ROOT / "backends" / _name
SOURCES["refdeq_validation"] = ROOT / "validation/refdeq_validation"
SOURCES["refdeq_bench"] = ROOT / "benchmarks/refdeq_bench"
BEYOND = {"refdeq_numba", "refdeq_gpu", "refdeq_cuda", "refdeq_cupy", "refdeq_validation"}
"""What the core must not know of."""
FILES = sorted(path for folder in SOURCES.values() for path in folder.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LONGEST = 350


def config():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


# ------------------------------------------------------------------------------------------------------------------ imports


@pytest.mark.parametrize(
    "statement",
    [
        "import refdeq",
        "import refdeq, numpy as np; refdeq.solve(np.cos if 0 else (lambda z, x: np.cos(z)), z0=np.zeros((1, 1)))",
    ],
)
def test_importing_the_core_loads_numpy_and_scipy_only(statement):
    heavy = {"numba", "llvmlite", "typer", "rich", "safetensors", "matplotlib", "onnx", "torch", "jax", "skimage", "pytest"}
    code = f"import sys; {statement}; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert {name.partition(".")[0] for name in out.stdout.split()} & (heavy | BEYOND) == set()


def test_importing_loads_few_modules():
    """Modules are counted where a time would depend on the machine: those of refdeq and NumPy, and few others.

    There are 27 in a fresh environment; an editable installation has loaded some of them before.
    """
    code = "import sys, numpy; before = set(sys.modules); import refdeq; print(*(set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    others = {name for name in out.stdout.split() if name.partition(".")[0] not in ("refdeq", "numpy")}
    assert others & {"scipy", "email", "importlib.metadata", "multiprocessing", "asyncio", "concurrent.futures"} == set()
    assert len(others) <= 27, sorted(others)


def test_listing_backends_imports_none():
    code = "import sys, refdeq; refdeq.backend_names(); print('numba' in sys.modules, 'refdeq_numba' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.split() == ["False", "False"]


def imported(path):
    """Names of the modules that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            assert all(alias.name != "*" for alias in node.names), f"{path}: star import"


def test_the_core_imports_no_backend_and_no_judge():
    for path in sorted(SOURCES["refdeq"].rglob("*.py")):
        assert not {m for m in imported(path) if m.startswith(tuple(BEYOND))}, path


def test_the_package_does_not_use_pickle_or_eval():
    for path in FILES:
        assert not {"pickle", "marshal", "shelve", "dill"} & set(imported(path)), path
        calls = {
            n.func.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        assert not calls & {"eval", "exec"} or path.is_relative_to(SOURCES["refdeq_validation"]), path


# ----------------------------------------------------------------------------------------------------------------- packages


def test_setup_lists_every_package_and_no_other():
    listed = set(config()["options"]["packages"].split())
    found = set()
    for name, folder in SOURCES.items():
        inner = (path.parent.relative_to(folder) for path in folder.rglob("__init__.py"))
        found |= {".".join((name, *parts.parts)) for parts in inner}
    assert listed == found


def test_package_folders_exist():
    for line in config()["options"]["package_dir"].strip().splitlines():
        name, _, folder = (part.strip() for part in line.partition("="))
        assert SOURCES[name] == ROOT / folder


def entry_points():
    for group, lines in config()["options.entry_points"].items():
        for line in lines.strip().splitlines():
            name, _, target = (part.strip() for part in line.partition("="))
            yield pytest.param(target, id=f"{group}:{name}")


@pytest.mark.parametrize("target", list(entry_points()))
def test_entry_points_resolve(target):
    module, _, attribute = target.partition(":")
    found = importlib.import_module(module)  # a plugin of pytest is a whole module
    assert callable(getattr(found, attribute or "pytest_configure"))


def test_version_is_that_of_the_package():
    import refdeq

    assert config()["metadata"]["version"] == "attr: refdeq.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", refdeq.__version__)


def test_everything_public_is_there_and_documented():
    import refdeq

    for name in refdeq.__all__:
        assert name.startswith("__") or getattr(refdeq, name).__doc__, name


# ------------------------------------------------------------------------------------------------------------------ clauses

CLAUSE = re.compile(r"\b[EDNSGC]-[1-9][0-9]?[a-z]?\b")
SEMANTICS = (ROOT / "docs/semantics.md").read_text(encoding="utf-8")
DEFINED = re.findall(r"^- \*\*([EDNSGC]-[1-9][0-9]?[a-z]?)\b", SEMANTICS, flags=re.MULTILINE)
NOT_YET = set(CLAUSE.findall(re.search(r"\*\*Not implemented yet\.\*\*(.*?)\n\n", SEMANTICS, flags=re.DOTALL)[1]))


def docstrings(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def test_clauses_are_defined_once():
    assert len(DEFINED) == len(set(DEFINED))
    assert len(DEFINED) > 30


def test_cited_clauses_exist():
    for path in FILES + TESTS:
        unknown = set(CLAUSE.findall(path.read_text(encoding="utf-8"))) - set(DEFINED)
        assert not unknown, f"{path} cites {sorted(unknown)}"


def test_clauses_are_cited_where_they_are_implemented():
    cited = {clause for path in FILES for text in docstrings(path) for clause in CLAUSE.findall(text)}
    assert set(DEFINED) - cited <= NOT_YET


def test_what_is_not_implemented_is_cited_by_no_solver():
    """The list of what is missing shrinks as things are built."""
    for path in (SOURCES["refdeq"] / "solvers").glob("*.py"):
        cited = {clause for text in docstrings(path) for clause in CLAUSE.findall(text)}
        assert not cited & {"S-7", "S-8", "S-9"} & NOT_YET, path


# -------------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("path", FILES + TESTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_every_module_of_the_core_has_a_test_file():
    """Tests mirror the sources; what is tested elsewhere says where."""
    elsewhere = {
        "__init__": "project",
        "__main__": "cli",
        "analyze": "test_spectrum",
        "callable_map": "test_solvers",
        "checks": "test_types",
        "cli": "cli",
        "delta": "test_delta_rule",
        "eigenvalues": "test_spectrum",
        "errors": "test_api",
        "evaluation": "test_delta_rule",
        "execution": "test_api",
        "fc_pattern": "test_models",
        "inference": "test_graph",
        "kernels": "test_strict_order",
        "krylov": "test_spectrum",
        "reference": "test_strict_order",
        "solution": "test_loop",
        "stopping": "test_loop",
        "validate_inputs": "test_api",
    }
    names = {path.stem for path in SOURCES["refdeq"].glob("*.py")}
    have = {path.stem for path in (ROOT / "tests/core").glob("test_*.py")}
    for name in sorted(names):
        target = elsewhere.get(name, f"test_{name}")
        assert target in have or (ROOT / "tests" / target).is_dir(), name
