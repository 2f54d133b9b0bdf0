"""From what a user types to an implementation."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest
from refdeq_validation.protocol import loading
from refdeq_validation.protocol.loading import claims_of, implementation_names, load_implementation
from refdeq_validation.targets import find_targets

from refdeq.errors import ArgumentError, BackendUnavailableError, FileFormatError

MODULE = '''
from refdeq_validation.lab.session import CLAIMS, Lab
from neighbour import NAME

class Mine(Lab):
    def manifest(self):
        return {"backend": {"name": NAME}, "claims": {"order": "strict"}}

def make():
    return Mine()

class Bare:
    """Opens problems and says nothing of itself."""
    def open(self, problem):
        return Lab().open(problem)

one = Mine()
number = 7

def broken():
    raise OSError("no such device")
'''
MANIFEST = '[backend]\nname = "mine"\npython = "backend:Bare"\n[claims]\norder = "strict"\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a module, its neighbour and a manifest; importable."""
    (tmp_path / "backend.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "neighbour.py").write_text('NAME = "mine"\n', encoding="utf-8")
    (tmp_path / "backend.toml").write_text(MANIFEST, encoding="utf-8")
    yield tmp_path
    for name in ("backend", "neighbour"):
        sys.modules.pop(name, None)


def manifest(folder, text):
    path = folder / "other.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("reference", "reference strict op"),
        ("reference:strict", "reference strict op"),
        ("numba", "numba strict fused"),
        ("numba:fast", "numba fast fused"),
        ("numba:fast:op", "numba fast op"),
    ],
)
def test_backends_of_refdeq(spec, name):
    assert claims_of(load_implementation(spec)).name == name


@pytest.mark.parametrize("spec", ["reference:fast", "reference:strict:fused", "numba:strict:op:2", "numba:slow"])
def test_declarations_that_do_not_exist(spec):
    with pytest.raises(ArgumentError):
        load_implementation(spec)


@pytest.mark.parametrize("attribute", ["Mine", "make", "one"])
def test_a_class_a_factory_or_an_object_in_a_module(folder, monkeypatch, attribute):
    monkeypatch.syspath_prepend(str(folder))
    implementation = load_implementation(f"backend:{attribute}")
    assert claims_of(implementation, "here").name == "mine"


@pytest.mark.parametrize(
    ("spec", "error", "told"),
    [
        ("backend:absent", ArgumentError, "absent"),
        ("backend:number", ArgumentError, "an object with"),
        ("backend:Bare", ArgumentError, "manifest"),
        ("backend:broken", BackendUnavailableError, "no such device"),
        ("no_such_module_here:x", BackendUnavailableError, "no_such_module_here"),
        ("nothing", ArgumentError, "nothing"),
        (":x", ArgumentError, ":x"),
        ("backend:", ArgumentError, "backend:"),
    ],
)
def test_what_is_no_implementation(folder, monkeypatch, spec, error, told):
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(error, match=told):
        load_implementation(spec)


def test_a_manifest_that_names_a_module_beside_it(folder):
    before = list(sys.path)
    implementation = load_implementation(str(folder / "backend.toml"))
    assert claims_of(implementation).name == implementation.manifest()["backend"]["name"] == "mine"
    assert sys.path == before
    assert "backend" not in sys.modules


def test_two_folders_may_have_modules_of_the_same_name(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "backend.py").write_text(MODULE.replace("from neighbour import NAME", 'NAME = "other"'), encoding="utf-8")
    (other / "backend.toml").write_text(MANIFEST.replace('"mine"', '"other"'), encoding="utf-8")
    names = [claims_of(load_implementation(str(path / "backend.toml"))).name for path in (folder, other)]
    assert names == ["mine", "other"]


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ('[backend]\nname = "mine"\n', ArgumentError, "neither"),
        ('[backend]\nname = "mine"\npython = "a:b"\ncommand = ["c"]\n', ArgumentError, "python and command"),
        ('[backend]\nname = "mine"\npython = "backend"\n', ArgumentError, "module:attribute"),
        ('[backend]\nname = "mine"\npython = 3\n', ArgumentError, "module:attribute"),
        ('[backend]\nname = "mine"\ncommand = "./prog"\n', ArgumentError, "a list of texts"),
        ('[backend]\nname = "mine"\ncommand = []\n', ArgumentError, "a list of texts"),
        ('[backend]\nname = "mine"\npython = "backend:Mine"\n[claims]\nops = ["Conv"]\n', ArgumentError, "says something else"),
        ('[backend]\nname = "mine"\npython = "backend:broken"\n', BackendUnavailableError, "no such device"),
        ('[backend]\nname = "mine"\npython = "backend:Bare"\n[claims]\norders = "fast"\n', ArgumentError, "orders"),
        ("[backend\n", FileFormatError, "cannot be read"),
    ],
)
def test_manifests_that_are_wrong_name_their_file(folder, text, error, told):
    with pytest.raises(error, match=r"other\.toml") as raised:
        load_implementation(manifest(folder, text))
    assert told in str(raised.value)


def test_a_manifest_that_is_missing(tmp_path):
    with pytest.raises(FileFormatError, match=r"absent\.toml"):
        load_implementation(str(tmp_path / "absent.toml"))


def test_installed_implementations(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    entry = EntryPoint("mine-installed", "backend:make", loading.GROUP)
    monkeypatch.setattr(loading, "entry_points", lambda *, group: [entry] if group == loading.GROUP else [])
    assert implementation_names() == ("mine-installed",)
    assert claims_of(load_implementation("mine-installed")).name == "mine"
    assert [target.spec for target in find_targets(["mine-installed"], None).targets] == ["mine-installed"]


def test_targets_are_every_declaration_of_what_was_named(folder):
    found = find_targets(["numba", "reference:strict:op", str(folder / "backend.toml"), "abacus"], None)
    assert [target.spec for target in found.targets][:4] == [
        "numba:strict:op",
        "numba:strict:fused",
        "numba:fast:op",
        "numba:fast:fused",
    ]
    assert len(found.targets) == 6
    assert len(found.declared) == 5
    assert (found.named, found.broken) == (["abacus"], [])
    assert [claims_of(target.load()).order for target in found.targets] == [
        "strict",
        "strict",
        "fast",
        "fast",
        "strict",
        "strict",
    ]


def test_targets_of_one_order_and_targets_that_break():
    assert {target.declaration.order for target in find_targets(["numba"], ["fast"]).targets} == {"fast"}
    assert find_targets(["numba:strict:op"], ["fast"]).targets == []
    found = find_targets(["no_such_module_here:x"], None)
    assert found.named == found.broken == ["no_such_module_here:x"]
    with pytest.raises(ArgumentError, match="--order"):
        find_targets(None, ["slow"])
