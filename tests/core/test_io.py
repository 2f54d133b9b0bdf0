"""Cell files: round trips, and every kind of damage refused."""

from __future__ import annotations

import json
import os
import pickle
import struct

import numpy as np
import pytest
from safetensors.numpy import save

import refdeq as rd
from refdeq.errors import ArgumentError, FileFormatError
from refdeq.io import FORMAT, load_cell, save_cell

EXTRAS = {"x": np.linspace(-1, 1, 6).reshape(3, 2), "flags": np.array([True, False]), "one": np.float32(0.5)}
META = {"note": 'ümlaut "quoted" \\ and\nmore', "seed": "3"}


@pytest.fixture
def cell(tanh_cell):
    return tanh_cell(n=3)


@pytest.fixture
def file(cell, tmp_path):
    path = tmp_path / "cell.safetensors"
    save_cell(path, cell, extras=EXTRAS, meta=META)
    return path


def parts(data):
    """Header (as data) and tensor bytes of a safetensors file."""
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def assemble(header, body):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


# --------------------------------------------------------------------------------------------------------------- round trip


def test_round_trip(cell, file, same_bits):
    again, extras, meta = load_cell(str(file), with_extras=True)
    assert again.graph == cell.graph
    assert again.digest == cell.digest
    for name, array in cell.parameters.items():
        same_bits(again.parameters[name], array)
    assert meta == META
    assert extras.keys() == EXTRAS.keys()
    for name, array in EXTRAS.items():
        same_bits(extras[name], np.asarray(array))
        assert extras[name].shape == np.shape(array)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip_of_special_bits_and_convolutions(dtype, conv_cell, tmp_path, same_bits):
    cell = conv_cell(dtype=dtype)
    special = {**cell.parameters, "b1": np.array([np.nan, -0.0, 5e-324], dtype=dtype)}
    cell = rd.Cell(cell.graph, special)
    save_cell(tmp_path / "c", cell)
    again = load_cell(tmp_path / "c")
    same_bits(again.parameters["b1"], special["b1"])
    assert again.graph == cell.graph


def test_the_order_of_states_survives(tmp_path):
    builder = rd.GraphBuilder()
    for name in ("zebra", "ant"):
        builder.output(name, builder.state(name, (1,)))
    save_cell(tmp_path / "c", builder.build())
    assert list(load_cell(tmp_path / "c").graph.states) == ["zebra", "ant"]


def test_saving_again_replaces_the_file(cell, file, conv_cell):
    save_cell(file, conv_cell())
    assert load_cell(file).digest == conv_cell().digest
    assert os.listdir(file.parent) == [file.name]


def test_a_new_file_has_ordinary_permissions(file):
    mask = os.umask(0)
    os.umask(mask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~mask


def test_the_shipped_models_load():
    for name in rd.models.trained_names():
        assert rd.models.load_trained(name).x.ndim == 2


# ------------------------------------------------------------------------------------------------------------------- damage


def refuses(path, data, message="."):
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=message) as caught:
        load_cell(path, with_extras=True)
    assert str(path) in str(caught.value)


def test_truncation_anywhere(file):
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    places = {0, 1, 7, 8, 9, 8 + length - 1, 8 + length, 8 + length + 1, len(data) - 1, *range(0, len(data), 97)}
    for place in sorted(places):
        refuses(file, data[:place])


def test_something_appended(file):
    refuses(file, file.read_bytes() + b"\0")


@pytest.mark.parametrize("bit", [0, 5])
def test_a_flipped_bit_anywhere(file, bit):
    """Header and tensors alike: whatever is damaged, the file is refused, and with the one error."""
    data = bytearray(file.read_bytes())
    for place in range(len(data)):
        data[place] ^= 1 << bit
        refuses(file, bytes(data))
        data[place] ^= 1 << bit
    file.write_bytes(bytes(data))
    load_cell(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "refdeq-cell/2"}, "expected 'refdeq-cell/1'"),
        ({"format": None}, "format is None"),
        ({"graph": None}, "not a refdeq cell"),
        ({"graph": "["}, "not a refdeq cell"),
        ({"graph": "[]"}, "not a refdeq cell"),
        ({"graph": "{}"}, "not a refdeq cell"),
        ({"digest": None}, "not a refdeq cell"),
        ({"digest": "0" * 64}, "digest"),
        ({"meta": None}, "not a refdeq cell"),
        ({"meta": "{"}, "not a refdeq cell"),
    ],
)
def test_wrong_header_fields(change, message, file):
    header, body = parts(file.read_bytes())
    for name, value in change.items():
        if value is None:
            del header["__metadata__"][name]
        else:
            header["__metadata__"][name] = value
    refuses(file, assemble(header, body), message)


def test_other_tensors_than_the_graph_says(file):
    header, body = parts(file.read_bytes())
    renamed = {("parameter.V" if name == "parameter.W" else name): value for name, value in header.items()}
    refuses(file, assemble(renamed, body), "parameter")
    unknown = {("stray" if name == "extra.x" else name): value for name, value in header.items()}
    refuses(file, assemble(unknown, body))


def test_a_safetensors_file_of_someone_else(tmp_path):
    refuses(tmp_path / "c", save({"weight": np.zeros(3)}), "format is None")
    refuses(tmp_path / "c", save({"weight": np.zeros(3)}, metadata={"format": "pt"}), "format is 'pt'")


class Bomb:
    def __reduce__(self):
        return (os.abort, ())


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", pickle.dumps(Bomb()), b"\x93NUMPY\x01\x00", b"{}", b"\xff" * 64])
def test_other_formats_and_pickles_are_refused_unread(data, tmp_path):
    refuses(tmp_path / "c", data)


def test_missing_files_and_folders(tmp_path, cell):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(FileFormatError, match="no such file"):
            load_cell(path)
    with pytest.raises(FileFormatError, match="cannot be written"):
        save_cell(tmp_path / "no" / "folder", cell)


# ------------------------------------------------------------------------------------------------------- nothing half-written


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [b"an older file", None])
def test_an_interrupted_save_leaves_what_was_there(error, old, cell, tmp_path, monkeypatch):
    path = tmp_path / "cell"
    if old is not None:
        path.write_bytes(old)

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else FileFormatError):
        save_cell(path, cell)
    assert os.listdir(tmp_path) == (["cell"] if old is not None else [])
    assert old is None or path.read_bytes() == old


@pytest.mark.parametrize("extra", [np.array(["text"]), np.array([None]), np.zeros(2, ">f8"), np.zeros(2, complex)])
def test_extras_that_a_file_cannot_hold(extra, cell, tmp_path):
    with pytest.raises(ArgumentError, match="extras\\['bad'\\]"):
        save_cell(tmp_path / "c", cell, extras={"bad": extra})
    assert os.listdir(tmp_path) == []


def test_format_is_versioned(file):
    assert parts(file.read_bytes())[0]["__metadata__"]["format"] == FORMAT == "refdeq-cell/1"
