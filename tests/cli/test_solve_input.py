"""What ``refdeq solve`` reads: cells and inputs in every form it takes, and a clear refusal of everything else."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

import refdeq as rd
from refdeq.commands import solve_run

HOW_TO = 'write one by numpy.savez("input.npz", x=numpy.zeros((8, 2), "float64"))'


def statuses(result):
    assert result.stderr == ""
    return json.loads(result.stdout)["samples"]


@pytest.fixture
def twin_cell():
    """Two states and two injections: ``a <- 0.5 b + p``, ``b <- 0.25 a + q``."""
    builder = rd.GraphBuilder("float32")
    a, b = builder.state("a", (2,)), builder.state("b", (2,))
    p, q = builder.injection("p", (2,)), builder.injection("q", (2,))
    half = builder.parameter("half", 0.5 * np.eye(2, dtype=np.float32))
    quarter = builder.parameter("quarter", 0.25 * np.eye(2, dtype=np.float32))
    builder.output(a, builder.node("Add", builder.node("Gemm", b, half), p))
    builder.output(b, builder.node("Add", builder.node("Gemm", a, quarter), q))
    return builder.build()


@pytest.fixture
def free_cell():
    """A cell without injections: ``z <- 0.5 z + 1``, fixed point 2."""
    builder = rd.GraphBuilder("float64")
    z = builder.state("z", (3,))
    linear = builder.node("Gemm", z, builder.parameter("half", 0.5 * np.eye(3)), builder.parameter("one", np.ones(3)))
    builder.output(z, linear)
    return builder.build()


# ------------------------------------------------------------------------------------------------------------- what it takes


@pytest.mark.parametrize("form", ["npz", "safetensors", "npy", "any name"])
def test_every_form_of_input_gives_the_same_solve(refdeq_command, small, tmp_path, form):
    path = tmp_path / f"in.{form if form != 'any name' else 'npz'}"
    if form == "npy":
        np.save(path, small.x)
    elif form == "safetensors":
        save_file({"x": small.x}, path)
    else:
        np.savez(path, **{"x" if form == "npz" else "arr_0": small.x})
    found = statuses(refdeq_command("solve", small.cell_file, path, "--backend", "reference", "--json"))
    direct = rd.solve(small.cell, small.x)
    assert (found["n_eval"], found["residual"]) == (direct.n_eval.tolist(), direct.residual.tolist())


def test_several_states_and_injections(refdeq_command, twin_cell, tmp_path):
    rd.save_cell(tmp_path / "twin.safetensors", twin_cell)
    rng = np.random.default_rng(3)
    arrays = {name: rng.standard_normal((4, 2)).astype(np.float32) for name in ("p", "q", "a", "b")}
    np.savez(tmp_path / "in.npz", **arrays)
    options = ("--backend", "reference", "--rtol", "1e-5", "--json", "--out", tmp_path / "out.npz")
    found = statuses(refdeq_command("solve", tmp_path / "twin.safetensors", tmp_path / "in.npz", *options))
    x, z0 = {name: arrays[name] for name in "pq"}, {name: arrays[name] for name in "ab"}
    direct = rd.solve(twin_cell, x, z0=z0, stop=rd.StopRule(rtol=1e-5))
    assert found["residual"] == direct.residual.tolist()
    with np.load(tmp_path / "out.npz") as out:
        for name in "ab":
            np.testing.assert_array_equal(out[name], direct.states[name])
    np.savez(tmp_path / "half.npz", **{name: arrays[name] for name in "pqa"})
    result = refdeq_command("solve", tmp_path / "twin.safetensors", tmp_path / "half.npz")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "optionally a: float32 (batch, 2), b: float32 (batch, 2) to start from" in result.stderr


def test_a_cell_without_injections_starts_from_zero_or_from_a_file(refdeq_command, free_cell, tmp_path):
    path = tmp_path / "free.safetensors"
    rd.save_cell(path, free_cell)
    for nothing in ([], ["-"]):
        found = statuses(refdeq_command("solve", path, *nothing, "--batch", 4, "--backend", "reference", "--json"))
        direct = rd.solve(free_cell, z0=np.zeros((4, 3)))
        assert found["residual"] == direct.residual.tolist()
    np.save(tmp_path / "z.npy", np.full((2, 3), 2.0))
    found = statuses(refdeq_command("solve", path, tmp_path / "z.npy", "--backend", "reference", "--json"))
    assert (found["n_eval"], found["residual"]) == ([1, 1], [0.0, 0.0])
    for batch in ([], ["--batch", 0]):
        result = refdeq_command("solve", path, *batch)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--batch: expected an integer >= 1" in result.stderr


def test_inputs_stored_with_the_cell_are_the_default(refdeq_command, small, tmp_path):
    rd.save_cell(tmp_path / "with.safetensors", small.cell, extras={"x": small.x, "target": np.zeros(3)})
    data = json.loads(refdeq_command("solve", tmp_path / "with.safetensors", "--backend", "reference", "--json").stdout)
    assert data["samples"]["residual"] == rd.solve(small.cell, small.x).residual.tolist()
    assert data["input"]["source"] == f"the inputs stored with {tmp_path / 'with.safetensors'}"


def test_a_shipped_model_goes_by_its_name(refdeq_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = rd.models.load_trained("sine")
    data = json.loads(refdeq_command("solve", "sine", "--backend", "reference", "--rtol", "1e-3", "--json").stdout)
    direct = rd.solve(model.cell, model.x, stop=rd.StopRule(rtol=1e-3))
    assert data["samples"]["n_eval"] == direct.n_eval.tolist()


@pytest.mark.parametrize("more", [[], ["--delta", "0.1", "--verify"], ["--trace", "t.safetensors"]], ids=str)
def test_no_samples_are_no_accident(refdeq_command, small, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    np.savez(small.input_file, x=np.zeros((0, 2)))
    command = ["solve", small.cell_file, small.input_file, "--backend", "reference", *more]
    result = refdeq_command(*command)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "0 samples" in result.stdout
    assert statuses(refdeq_command(*command, "--json"))["status"] == []


# ----------------------------------------------------------------------------------------------------------- what it refuses


def write(path, kind, x):
    """One kind of wrong input."""
    arrays = {
        "shape": {"x": x[:, :1]},
        "rank": {"x": x[0]},
        "dtype": {"x": x.astype(np.float32)},
        "byte order": {"x": x.astype(">f8")},
        "stranger": {"x": x, "y": x},
        "state only": {"z": np.zeros((7, 6))},
        "other batch": {"x": x, "z": np.zeros((6, 6))},
        "nothing": {},
        "objects": {"x": np.array([None, 1], dtype=object)},
        "scalar": {"x": np.float64(1.0)},
    }
    np.savez(path, **arrays[kind])


REFUSED = {
    "shape": ["x of INPUT", "expected float64 (batch, 2), got float64 (7, 1)", HOW_TO],
    "rank": ["expected float64 (batch, 2), got float64 (2,)"],
    "dtype": ["expected float64 (batch, 2), got float32 (7, 2)", 'use .astype("float64")'],
    "byte order": ["byte order must be native"],
    "stranger": ["expected a file with x: float64 (batch, 2)", "got ['x', 'y']", "z: float64 (batch, 6) to start from"],
    "state only": ["expected a file with x: float64 (batch, 2)", "got ['z']"],
    "other batch": ["expected one batch size, got x 7, z 6"],
    "nothing": ["got no array", HOW_TO],
    "objects": ["truncated, corrupt or not of its kind"],
    "scalar": ["got float64 ()"],
}


@pytest.mark.parametrize("kind", REFUSED)
def test_wrong_arrays_are_refused_with_what_the_cell_wants(solve_small, small, monkeypatch, kind):
    monkeypatch.setattr(solve_run, "solve", None)
    write(small.input_file, kind, small.x)
    result = solve_small()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("refdeq: error: ")
    assert result.stderr.count("\n") == 1
    for part in [*REFUSED[kind], str(small.input_file)]:
        assert part in result.stderr


def bfloat16(path):
    header = json.dumps({"x": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)


def array_as_archive(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(2))


def archive_as_array(path):
    with path.open("wb") as file:
        np.savez(file, x=np.zeros(2))


DAMAGED = {
    "missing.npz": (None, "no such file"),
    "missing.safetensors": (None, "no such file"),
    "words.txt": (lambda p: p.write_text("1 2"), "expected a file that ends in .safetensors, .npz, .npy"),
    "empty.npz": (lambda p: p.write_bytes(b""), "corrupt"),
    "empty.npy": (lambda p: p.write_bytes(b""), "corrupt"),
    "empty.safetensors": (lambda p: p.write_bytes(b""), "corrupt"),
    "words.npz": (lambda p: p.write_text("no archive"), "corrupt"),
    "words.npy": (lambda p: p.write_text("no array"), "corrupt"),
    "array.npz": (array_as_archive, "corrupt"),
    "archive.npy": (archive_as_array, "corrupt"),
    "bfloat.safetensors": (bfloat16, "a dtype that NumPy has not"),
    "folder.npz": (lambda p: p.mkdir(), "no such file"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_files_that_are_none_are_refused(refdeq_command, small, tmp_path, name):
    damage, said = DAMAGED[name]
    if damage is not None:
        damage(tmp_path / name)
    result = refdeq_command("solve", small.cell_file, tmp_path / name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["in.npz", "in.npy", "in.safetensors"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_truncated_files_are_refused(refdeq_command, small, tmp_path, name, kept):
    path = tmp_path / name
    {"npz": lambda: np.savez(path, x=small.x), "npy": lambda: np.save(path, small.x)}.get(
        path.suffix[1:], lambda: save_file({"x": small.x}, path)
    )()
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    result = refdeq_command("solve", small.cell_file, path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "corrupt" in result.stderr


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("nowhere.safetensors", "nowhere.safetensors: no such file"),
        (
            "nobody",
            "CELL: expected a file written by refdeq.save_cell, or one of image_fourier, image_siren, sine, got 'nobody'",
        ),
        ("input.npz", "truncated or corrupt"),
        ("plain.safetensors", "not a refdeq cell: format is None"),
    ],
)
def test_cells_that_are_none_are_refused(refdeq_command, small, tmp_path, monkeypatch, cell, said):
    monkeypatch.chdir(tmp_path)
    save_file({"x": small.x}, "plain.safetensors")
    result = refdeq_command("solve", cell, "input.npz")
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_an_input_is_asked_for_where_there_is_none(refdeq_command, small):
    for nothing in ([], ["-"]):
        result = refdeq_command("solve", small.cell_file, *nothing)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"INPUT: expected a file with x: float64 (batch, 2); {HOW_TO}" in result.stderr


def test_a_batch_size_beside_arrays_is_refused(solve_small):
    result = solve_small("--batch", 3)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--batch" in result.stderr
