"""Compiled code on disk: made once and said, made anew when damaged, and a clear error where nothing can be written."""

import logging
import os
import signal
import subprocess
import sys

import pytest
from refdeq_cupy.cache import kept

from refdeq.errors import BackendUnavailableError


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    def into(room):
        made.append(room)
        (room / "library.so").write_text("code")

    into.made = made
    return into


def test_a_file_is_made_once(make):
    assert [kept("library.so", ["a"], make).read_text() for _ in range(2)] == ["code", "code"]
    assert len(make.made) == 1


@pytest.mark.parametrize("damage", [lambda p: p.write_text("co"), lambda p: p.write_text(""), lambda p: p.unlink()])
def test_a_damaged_file_is_made_anew(make, damage):
    path = kept("library.so", ["a"], make)
    damage(path)
    assert kept("library.so", ["a"], make).read_text() == "code"
    assert len(make.made) == 2


def test_making_is_said_once(make, caplog, monkeypatch, capsys, tmp_path):
    with caplog.at_level(logging.INFO, logger="refdeq.cupy"):
        for _ in range(2):
            kept("library.so", ["a"], make, "sums.cu")
    text = f"compiling sums.cu, once; it is kept in {tmp_path}/refdeq/cupy"
    assert caplog.messages == [text]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for _ in range(2):
        kept("library.so", ["b"], make, "sums.cu")
    assert capsys.readouterr().err == f"refdeq: {text}\n"


KILLED = """
import os, signal
from refdeq_cupy.cache import kept
def make(room):
    print(room.parent, flush=True)
    signal.pause() if input() == "wait" else os.kill(os.getpid(), signal.SIGKILL)
kept("library.so", ["killed"], make)
"""


def test_what_killed_processes_left_is_removed(make):
    """Two processes begin to compile, one is killed: its folder goes when it is a minute old, the other one's stays."""
    pipe = subprocess.PIPE
    both = [subprocess.Popen([sys.executable, "-c", KILLED], stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    try:
        folders = [process.stdout.readline().strip() for process in both]
        for process, word in zip(both, ("die", "wait"), strict=True):
            process.stdin.write(word + "\n")
            process.stdin.flush()
        assert both[0].wait() == -signal.SIGKILL
        kept("library.so", ["a"], make)
        assert [os.path.isdir(folder) for folder in folders] == [True, True]  # too young to be judged
        for folder in folders:
            os.utime(folder, (0, os.stat(folder).st_mtime - 100))
        kept("library.so", ["b"], make)
        assert [os.path.isdir(folder) for folder in folders] == [False, True]
    finally:
        for process in both:
            process.kill()
            process.communicate()


def test_folders_of_a_day_are_removed_in_any_case(make, tmp_path):
    folder = tmp_path / "refdeq" / "cupy" / "tmpold"
    folder.mkdir(parents=True)
    os.utime(folder, (0, 0))
    kept("library.so", ["a"], make)
    assert not folder.exists()


def test_other_ingredients_are_another_file(make):
    assert kept("library.so", ["a"], make) != kept("library.so", ["b"], make)


def test_a_folder_that_cannot_be_written_is_named(make, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BackendUnavailableError, match="set XDG_CACHE_HOME"):
        kept("library.so", ["a"], make)
