"""Skips and expected failures: exact, reasoned, dated; anything stale is an error."""

from __future__ import annotations

import sys
from datetime import date

import pytest
from refdeq_validation.waivers import Waiver, check_waivers, read_waivers

from refdeq.errors import ArgumentError, FileFormatError

TODAY = date(2026, 6, 1)
KNOWN = ("gemm/exact/a-00000000", "gemm/exact/b-00000000")
SKIP = """
[[skip]]
id = "gemm/exact/a-00000000"
reason = "the device is too small"
issue = "https://example.org/issues/7"
expires = 2026-07-01
"""
XFAIL = SKIP.replace("[[skip]]", "[[xfail]]") + 'kind = "value"\n'


def written(tmp_path, text):
    path = tmp_path / "waivers.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_entries_are_read(tmp_path):
    (skip,) = read_waivers(written(tmp_path, SKIP), "skip")
    assert (skip.id, skip.expires, skip.kind, skip.platform) == (KNOWN[0], date(2026, 7, 1), "", "")
    (xfail,) = read_waivers(written(tmp_path, XFAIL), "xfail")
    assert xfail.kind == "value"
    assert read_waivers(written(tmp_path, ""), "skip") == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('reason = "the device is too small"', ""), "reason"),
        (('issue = "https://example.org/issues/7"', ""), "issue"),
        (("https://example.org/issues/7", "later"), "address of an issue"),
        (("expires = 2026-07-01", ""), "expires"),
        (("2026-07-01", '"2026-07-01"'), "a date"),
        (("2026-07-01", "2026-07-01T00:00:00"), "a date"),
        (('"the device is too small"', '" "'), "reason"),
        (('"the device is too small"', "7"), "reason"),
        (('id = "gemm', 'ids = "gemm'), "id"),
        (("reason", 'pattern = "a.*"\nreason'), "pattern"),
        (("reason", 'platform = "amiga"\nreason'), "platform"),
        (("reason", 'kind = "value"\nreason'), "kind"),
    ],
)
def test_an_entry_that_is_not_complete_or_not_right_names_file_and_key(tmp_path, change, told):
    path = written(tmp_path, SKIP.replace(*change))
    with pytest.raises(ArgumentError, match=r"waivers\.toml: skip 1") as error:
        read_waivers(path, "skip")
    assert told in str(error.value)


@pytest.mark.parametrize("text", ["[[skip]\n", "\x00", "skip = 3\n", "[skip]\nid = 1\n"])
def test_files_that_hold_no_entries_are_refused(tmp_path, text):
    with pytest.raises((FileFormatError, ArgumentError), match=r"waivers\.toml"):
        read_waivers(written(tmp_path, text), "skip")


def test_tables_of_the_other_kind_and_missing_kinds_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"\[\[xfail\]\] only"):
        read_waivers(written(tmp_path, SKIP), "xfail")
    with pytest.raises(ArgumentError, match="kind"):
        read_waivers(written(tmp_path, SKIP.replace("skip", "xfail")), "xfail")
    with pytest.raises(ArgumentError, match="wrong"):
        read_waivers(written(tmp_path, XFAIL.replace("value", "wrong")), "xfail")
    with pytest.raises(FileFormatError, match="absent"):
        read_waivers(tmp_path / "absent.toml", "skip")


def waiver(case=KNOWN[0], expires=date(2026, 7, 1), kind="", platform=""):
    return Waiver(case, "reason", "https://example.org/1", expires, kind, platform, source=f"file: {case}")


def test_what_holds_is_returned_by_id():
    found = check_waivers([waiver()], [waiver(KNOWN[1], kind="mask")], KNOWN, (), TODAY)
    assert (list(found.skips), list(found.xfails)) == ([KNOWN[0]], [KNOWN[1]])


@pytest.mark.parametrize(
    ("skips", "xfails", "required", "told"),
    [
        ([waiver("gemm/exact/c-00000000")], [], (), "exact id"),
        ([waiver("gemm/exact/*")], [], (), "exact id"),
        ([waiver("gemm/exact")], [], (), "exact id"),
        ([waiver(expires=TODAY)], [], (), "after 2026-06-01"),
        ([waiver(), waiver()], [], (), "one entry"),
        ([waiver()], [waiver(kind="value")], (), "one entry"),
        ([waiver()], [], KNOWN, "cannot be waived"),
        ([], [waiver(kind="value")], KNOWN, "cannot be waived"),
    ],
)
def test_stale_doubled_unmatched_and_required_entries_are_errors(skips, xfails, required, told):
    with pytest.raises(ArgumentError, match="file: ") as error:
        check_waivers(skips, xfails, KNOWN, required, TODAY)
    assert told in str(error.value)


def test_entries_for_other_platforms_do_nothing_here():
    elsewhere = next(name for name in ("linux", "darwin", "win32") if not sys.platform.startswith(name))
    here = next(name for name in ("linux", "darwin", "win32") if sys.platform.startswith(name))
    assert not check_waivers([waiver(platform=elsewhere)], [], KNOWN, (), TODAY).skips
    assert check_waivers([waiver(platform=here)], [], KNOWN, (), TODAY).skips
