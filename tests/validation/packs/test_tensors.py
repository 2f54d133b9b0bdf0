"""Tensor files and bit strings: canonical, exact, read by others, and strict about what they read."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from refdeq_validation.packs.tensors import bit_string, from_bit_string, pack_tensors, read_tensors, unpack_tensors
from safetensors.numpy import load

from refdeq.errors import FileFormatError

DTYPES = ("float64", "float32", "float16", "int64", "int32", "bool", "complex64", "complex128")
SOME = {"b": np.arange(7, dtype="float32"), "a": np.array([True, False]), "c": np.zeros((0, 3)), "d": np.array(3)}


@pytest.mark.parametrize(
    ("values", "dtype", "text"),
    [
        ([1.0, -0.0], "float32", "f32:3f800000,80000000"),
        ([1.5], "float64", "f64:3ff8000000000000"),
        ([-2.0], "float16", "f16:c000"),
        ([-1, 2], "int64", "i64:ffffffffffffffff,0000000000000002"),
        ([True, False], "bool", "bool:1,0"),
        ([1 - 2j], "complex64", "c64:3f800000c0000000"),
        ([], "float32", "f32:"),
    ],
)
def test_bit_strings_are_what_the_format_says(values, dtype, text):
    array = np.array(values, dtype)
    assert bit_string(array) == text
    assert from_bit_string(text).tobytes() == array.tobytes()
    assert from_bit_string(text).dtype == array.dtype


@given(st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0))))
def test_bit_strings_keep_every_bit(array):
    again = from_bit_string(bit_string(array)).reshape(array.shape)
    assert again.tobytes() == array.tobytes()


def test_nan_payloads_and_signs_survive():
    bits = np.array([0x7FC00001, 0xFFC00000, 0x7F800001, 0x80000000, 0x00000001], "uint32")
    text = bit_string(bits.view("float32"))
    assert from_bit_string(text).view("uint32").tolist() == bits.tolist()
    assert unpack_tensors(pack_tensors({"x": bits.view("float32")}))["x"].view("uint32").tolist() == bits.tolist()


def test_bfloat16_is_the_upper_half():
    assert bit_string(np.array([1.0, -2.0], "float32"), "bf16") == "bf16:3f80,c000"
    assert from_bit_string("bf16:3f80,7fc0").tolist()[0] == 1.0
    with pytest.raises(FileFormatError, match="not a bfloat16"):
        bit_string(np.array([1.0 + 2.0**-20], "float32"), "bf16")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f32",
        "f31:00000000",
        "f32:0000000",
        "f32:3F800000",
        "f32:3f800000,",
        "f32:3f80000,00000000",
        "bool:2",
        "f32:,",
        "f32:3f8000003f800000",
    ],
)
def test_broken_bit_strings_are_refused(text):
    with pytest.raises(FileFormatError):
        from_bit_string(text)


def test_the_library_reads_what_is_written():
    data = pack_tensors(SOME)
    found = load(data)
    for name, array in SOME.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_files_are_canonical():
    again = dict(reversed(list(SOME.items())))
    data = pack_tensors(SOME)
    assert data == pack_tensors(again)
    header = int.from_bytes(data[:8], "little")
    assert (8 + header) % 64 == 0
    for name, entry in json.loads(data[8 : 8 + header]).items():
        assert name.startswith("~pad") or entry["data_offsets"][0] % 64 == 0
    big = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in SOME.items()}
    assert pack_tensors(big) == data


def broken(edit):
    data = pack_tensors({"x": np.arange(4.0), "y": np.arange(2.0)})
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    body = bytearray(data[8 + size :])
    text = json.dumps(edit(header, body) or header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(body)


def change(name, **fields):
    return lambda header, body: header[name].update(fields)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (change("x", dtype="F8"), "dtype"),
        (change("x", shape=[5]), "bytes"),
        (change("x", shape=[-4]), "shape"),
        (change("y", data_offsets=[0, 16]), "overlaps"),
        (change("y", data_offsets=[64, 800]), "after the file"),
        (change("y", data_offsets="no"), "data_offsets"),
        (lambda header, body: body.extend(b"more"), "after the last"),
        (lambda header, body: header.pop("y") and None, "after the last"),
        (lambda header, body: [header], "not an object"),
    ],
)
def test_broken_files_are_refused(edit, said):
    with pytest.raises(FileFormatError, match=said):
        unpack_tensors(broken(edit))


@pytest.mark.parametrize("length", [0, 7, 8, 40, 200])
def test_truncated_files_are_refused(length):
    with pytest.raises(FileFormatError):
        unpack_tensors(pack_tensors(SOME)[:length])


def test_a_name_that_stands_twice_is_refused():
    text = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    with pytest.raises(FileFormatError, match="twice"):
        unpack_tensors(len(text).to_bytes(8, "little") + text + b"\0\0\0\0")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileFormatError, match=r"nothing\.safetensors"):
        read_tensors(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("tensors", [{"~pad0": np.zeros(1)}, {"x": np.zeros(1, "uint16")}, {"__metadata__": np.zeros(1)}])
def test_what_cannot_be_written_is_refused(tensors):
    with pytest.raises(FileFormatError):
        pack_tensors(tensors)
