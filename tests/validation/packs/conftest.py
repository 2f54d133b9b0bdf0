"""A small selection of cases, packs made of it, what a plain implementation answers, and the system's C compiler."""

import shutil
import subprocess
from pathlib import Path

import pytest
from refdeq_validation.cases.suite import all_cases
from refdeq_validation.lab.session import CLAIMS, Lab
from refdeq_validation.packs.export import export_pack
from refdeq_validation.packs.responses import response_text
from refdeq_validation.protocol.execute import execute

FAMILIES = ("exact", "tie", "bound_k1", "special", "memory", "reset", "sequence")
STRICT_C = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off")


def some(op, families, each, **asked):
    """The first few cases of every family in both dtypes, small ones."""
    chosen = []
    for family in families:
        for dtype in ("float32", "float64"):
            fitting = (
                case
                for case in all_cases()
                if (case.problem.op, case.family, case.problem.dtype) == (op, family, dtype)
                and case.problem.storage is None
                and case.problem.weight.size < 400
                and all(getattr(case, name) == value for name, value in asked.items())
            )
            chosen += [case for _, case in zip(range(each), fitting, strict=False)]
    return chosen


@pytest.fixture(scope="session")
def cases():
    replayed = some("Gemm", ("bound_k1",), 3, expect="replay")
    chosen = [*some("Gemm", FAMILIES, 2), *replayed, *some("Gemm", ("negative",), 4), *some("Conv", ("conv", "bound_k1"), 2)]
    found = {case.id: case for case in chosen}
    assert len(found) > 30
    assert any(case.expect == "replay" for case in chosen)
    return tuple(found.values())


@pytest.fixture(scope="session")
def pack(cases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs") / "some"
    export_pack(folder, cases, "some")
    return folder


@pytest.fixture(scope="session")
def blind(cases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs") / "blind"
    export_pack(folder, cases, "some", blind=True)
    return folder


@pytest.fixture(scope="session")
def transcripts(cases):
    return [execute(case, Lab(), CLAIMS) for case in cases]


@pytest.fixture
def response(pack, transcripts, tmp_path):
    """A right answer to the pack, in a folder of its own."""
    from refdeq_validation.packs.reading import read_manifest

    path = tmp_path / "answers" / "response.jsonl"
    path.parent.mkdir()
    path.write_text(response_text(read_manifest(pack)["prompt"], transcripts, "lab"))
    return path


@pytest.fixture(scope="session")
def compiler():
    """The system's C compiler."""
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        pytest.skip("no C compiler (cc or gcc) is installed")
    return found


@pytest.fixture(scope="session")
def compiled(tmp_path_factory, compiler):
    """Compile C sources, given as files or as text, and return the program."""
    folder = tmp_path_factory.mktemp("c")

    def build(name, *sources, include=(), flags=STRICT_C):
        files = []
        for number, source in enumerate(sources):
            path = source if isinstance(source, Path) else folder / f"{name}-{number}.c"
            if path is not source:
                path.write_text(source)
            files.append(str(path))
        places = [f"-I{place}" for place in include]
        command = [compiler, "-O1", *flags, *places, "-o", str(folder / name), *files, "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:3000]
        return folder / name

    return build
