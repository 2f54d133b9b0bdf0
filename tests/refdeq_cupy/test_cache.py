"""Compiled code on disk: made once, made anew when damaged, and a clear error where nothing can be written."""

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


def test_other_ingredients_are_another_file(make):
    assert kept("library.so", ["a"], make) != kept("library.so", ["b"], make)


def test_a_folder_that_cannot_be_written_is_named(make, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BackendUnavailableError, match="set XDG_CACHE_HOME"):
        kept("library.so", ["a"], make)
