"""The scripts and styles that asv's pages load from the network, and the local files that take their place."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from refdeq.errors import FileFormatError

__all__ = ["FOLDER", "LINKS", "VENDORED", "Vendored", "read"]

FOLDER = Path(__file__).parent / "vendor"

LINKS = frozenset({"https://github.com/airspeed-velocity/asv/"})
"""Addresses that asv's pages may mention: links that a reader may follow, nothing that a page loads."""

_CDNJS = "https://cdnjs.cloudflare.com/ajax/libs/"
_JSDELIVR = "https://cdn.jsdelivr.net/npm/"


@dataclass(frozen=True)
class Vendored:
    """One file of `vendor`: what it replaces, the npm package it was taken from, and its digest."""

    url: str
    file: str
    package: str
    digest: str


VENDORED = (
    Vendored(
        "https://code.jquery.com/jquery-3.3.1.min.js",
        "jquery.min.js",
        "jquery@3.3.1",
        "160a426ff2894252cd7cebbdd6d6b7da8fcd319c65b70468f10b6690c45d02ef",
    ),
    Vendored(
        f"{_CDNJS}flot/0.8.3/jquery.flot.min.js",
        "jquery.flot.js",
        "flot@0.8.3",
        "b7b931f273c38b1277b9c6c1f4e05c4ec09885a487bddaf3279e2d7e49a38e12",
    ),
    Vendored(
        f"{_CDNJS}flot/0.8.3/jquery.flot.time.min.js",
        "jquery.flot.time.js",
        "flot@0.8.3",
        "a582c832adc7138a6b05aaf61f16ebac274701f1be4afea77e739a1c34b9c41a",
    ),
    Vendored(
        f"{_CDNJS}flot/0.8.3/jquery.flot.selection.min.js",
        "jquery.flot.selection.js",
        "flot@0.8.3",
        "e6c85f6c1ebe4b4da29d8ae238c7c5060283f05f7ef054f6b91817d02c092918",
    ),
    Vendored(
        f"{_CDNJS}flot/0.8.3/jquery.flot.categories.min.js",
        "jquery.flot.categories.js",
        "flot@0.8.3",
        "6e81664b28ea795c734906f4aa15614640a75ac7fbd399a7fb9084040698351a",
    ),
    Vendored(
        f"{_JSDELIVR}flot-orderbars@1.0.0/js/jquery.flot.orderBars.js",
        "jquery.flot.orderBars.js",
        "flot-orderbars@1.0.0",
        "39735b4f46f96ff4e082572401f47c55a2767b366fd1d1e821e44a8d830a12bf",
    ),
    Vendored(
        f"{_CDNJS}stupidtable/1.0.1/stupidtable.min.js",
        "stupidtable.min.js",
        "stupid-table-plugin@1.1.3",  # the only release in the registry; 1.0.1 was never published there
        "4642380f28ebe9ed7cac251793b281ef8620c4386205d92788f9b12f5cceb4e0",
    ),
    Vendored(
        f"{_CDNJS}blueimp-md5/2.19.0/js/md5.min.js",
        "md5.min.js",
        "blueimp-md5@2.19.0",
        "64d7ded388c562e4bde9e58ce205e5fa01b9734fcd434d496eb7b4fbfe9b927d",
    ),
    Vendored(
        f"{_JSDELIVR}bootstrap@3.1.1/dist/js/bootstrap.min.js",
        "bootstrap.min.js",
        "bootstrap@3.1.1",
        "898d05a17f2cfc5120ddcdba47a885c378c0b466f30f0700e502757e24b403a1",
    ),
    Vendored(
        f"{_JSDELIVR}bootstrap@3.1.1/dist/css/bootstrap.min.css",
        "bootstrap.min.css",
        "bootstrap@3.1.1",
        "e9503448692b738dd260fbd7f7cabf2e11f09b600fa97e6eb3a56eba5b1a7e9b",
    ),
)
"""Every file of `vendor`. `vendor/THIRD_PARTY.md` says the same for people, with the licences."""


def read(vendored: Vendored) -> bytes:
    """Return the contents of a local file.

    Raises
    ------
    FileFormatError
        It is not the file that was taken from its package.
    """
    contents = (FOLDER / vendored.file).read_bytes()
    if sha256(contents).hexdigest() != vendored.digest:
        raise FileFormatError(f"{vendored.file}: not the file of {vendored.package}; take it from there again")
    return contents
