"""No kernel is left out: each is in both languages it says, was compiled for both architectures without spills, and is judged.

The judge's half is ``python -m benchmarks.gpu.judged``, which continuous integration runs: it ends with an error when a kernel
of the table was never launched under the judge. Here that command is shown to notice one that is missing.
"""

import csv
import sys
from pathlib import Path

import pytest
from refdeq_gpu.launch_log import VARIABLE, LaunchLog
from refdeq_gpu.table import all_kernels, kernel_names

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from benchmarks.gpu import judged, resources  # noqa: E402  # not installed


def recorded():
    text = resources.RECORD.read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()[1:]))


def test_every_kernel_is_on_record_for_every_type_and_architecture():
    wanted = {
        (language, kernel.name, dtype, arch)
        for kernel in all_kernels().values()
        for language in kernel.languages
        for dtype in kernel.dtypes
        for arch in resources.ARCHITECTURES
    }
    assert {(row["language"], row["kernel"], row["dtype"], row["arch"]) for row in recorded()} == wanted


def test_nothing_on_record_spills():
    assert {row["spills"] for row in recorded()} == {"0"}


def test_every_kernel_has_a_meaning_and_a_language():
    for kernel in all_kernels().values():
        assert kernel.meaning, kernel.name
        assert set(kernel.languages) <= {"cuda", "cupy"}, kernel.name
        assert kernel.languages, kernel.name


def test_a_kernel_that_never_ran_is_named(tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv(VARIABLE, str(log))
    notes = LaunchLog()
    left_out, *others = kernel_names("cuda")
    for name in others:
        notes.note(name, "float32")
        notes.note(name, "float32")
    assert judged.unjudged("cuda", log) == [left_out]
    assert len(log.read_text().splitlines()) == len(others)
    assert judged.unjudged("cupy", tmp_path / "nothing") == sorted(kernel_names("cupy"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"spills": 8}, "spills 8 bytes"), ({"registers": 1}, "the record differs"), (None, "was not compiled")],
)
def test_resources_notice(change, problem):
    rows = [{key: int(value) if value.isdigit() else value for key, value in row.items()} for row in recorded()]
    text = resources.text_of(rows)
    assert resources.problems(rows, text) == []
    changed = rows[1:] if change is None else [rows[0] | change, *rows[1:]]
    if change is None:  # one type of one kernel, in both architectures
        gone = {column: rows[0][column] for column in ("language", "kernel", "dtype")}
        changed = [row for row in rows if any(row[column] != value for column, value in gone.items())]
    assert any(problem in found for found in resources.problems(changed, text))
