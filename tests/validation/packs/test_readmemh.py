"""Memories and bench for hardware: bits as the cases have them, and a bench that ends in $fatal unless every bit is right."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from refdeq_validation.packs.expected import expected_steps
from refdeq_validation.packs.export import place_files
from refdeq_validation.packs.readmemh import fits_hardware, readmemh_files

from refdeq.errors import ArgumentError

HERE = Path(__file__).parent
SIMULATOR = os.environ.get("REFDEQ_IVERILOG", "iverilog").split()


@pytest.fixture(scope="module")
def fitting(cases):
    chosen = [case for case in cases if fits_hardware(case)]
    assert {case.problem.dtype for case in chosen} == {"float32", "float64"}
    assert len(chosen) > 8
    return chosen


@pytest.fixture(scope="module")
def folder(fitting, tmp_path_factory):
    place = tmp_path_factory.mktemp("hardware") / "pack"
    place_files(place, readmemh_files(fitting, strict=True))
    return place / "hex"


def names(folder):
    return [line.split() for line in (folder / "cases.txt").read_text().splitlines() if not line.startswith("#")]


def memory(path, width):
    values = [int(line, 16) for line in path.read_text().splitlines()]
    assert all(len(line) == width // 4 for line in path.read_text().splitlines())
    return values


def test_memories_hold_the_bits_of_the_cases(fitting, folder):
    by_id = {case.id: case for case in fitting}
    for name, case_id in names(folder):
        case = by_id[case_id]
        width = 32 if case.problem.dtype == "float32" else 64
        steps = [step for step in expected_steps(case) if step is not None]
        inputs = np.stack([call.arrays["u"] for call in case.calls if call.name == "step"])
        for file, array in (("u", inputs), ("weight", case.problem.weight), ("a", np.stack([step["a"] for step in steps]))):
            bits = np.ascontiguousarray(array).reshape(-1).view(f"u{width // 8}").tolist()
            assert memory(folder / name / f"{file}.hex", width) == bits
        sent = np.stack([step["mask"] for step in steps]).reshape(-1)
        assert (folder / name / "mask.hex").read_text().split() == [str(int(bit)) for bit in sent]


def test_every_case_has_a_top_module_that_names_it(fitting, folder):
    assert len(names(folder)) == len(fitting)
    for name, case_id in names(folder):
        text = (folder / f"{name}.sv").read_text()
        assert text.startswith(f"// {case_id}\nmodule {name};")
        assert f'.FOLDER("{name}")' in text


def test_the_bench_can_only_pass_after_comparing(folder):
    text = (folder / "refdeq_bench.sv").read_text()
    assert text.count("$fatal") >= 3
    assert text.index("if (failed != 0) $fatal") < text.index("if (compared == 0) $fatal") < text.index("PASSED")
    code = "\n".join(line.partition("//")[0] for line in text.splitlines())
    assert "actual === expected" in code
    assert "actual == expected" not in code
    assert "1'bx" in code


def test_values_are_compared_everywhere_only_when_strict(fitting):
    relaxed = readmemh_files(fitting)
    tops = {path: text.decode() for path, text in relaxed.items() if path.startswith("hex/case_") and path.endswith(".sv")}
    by_id = {case.id: case for case in fitting}
    for text in tops.values():
        case = by_id[text.partition("\n")[0].removeprefix("// ")]
        assert f".VALUES({int(case.expect == 'exact')})" in text


def test_what_does_not_fit_is_left_out(cases):
    with pytest.raises(ArgumentError, match="readmemh"):
        readmemh_files([case for case in cases if case.problem.op == "Conv"])


@pytest.fixture(scope="module")
def simulate(folder, tmp_path_factory):
    """Compile a case with a device and run it."""
    if shutil.which(SIMULATOR[0]) is None:
        pytest.skip("no SystemVerilog simulator (iverilog) is installed")
    place = tmp_path_factory.mktemp("simulation")
    runner = [str(Path(shutil.which(SIMULATOR[0])).parent / "vvp")]
    if "-B" in SIMULATOR:
        runner += ["-M", SIMULATOR[SIMULATOR.index("-B") + 1]]

    def run(name, edit=None, top=None):
        device = (HERE / "refdeq_device.sv").read_text()
        if edit is not None:
            assert device.count(edit[0]) == 1
            device = device.replace(*edit)
        (place / "device.sv").write_text(device)
        source = folder / f"{name}.sv"
        if top is not None:
            source = place / "top.sv"
            source.write_text((folder / f"{name}.sv").read_text().replace(*top))
        files = [source, folder / "refdeq_bench.sv", place / "device.sv"]
        built = [*SIMULATOR, "-g2012", "-o", place / "run", "-s", name, *files]
        subprocess.run(built, check=True, capture_output=True, timeout=60)
        return subprocess.run([*runner, place / "run"], cwd=folder, capture_output=True, text=True, check=False, timeout=60)

    return run


def wide(folder):
    """Cases in 64 bits: the device of these tests computes in double."""
    return [name for name, case_id in names(folder) if ".WIDTH(64)" in (folder / f"{name}.sv").read_text()]


def test_a_right_device_passes(simulate, folder):
    for name in wide(folder):
        done = simulate(name)
        assert done.returncode == 0, done.stdout
        assert f"PASSED {name}" in done.stdout


BROKEN = {
    "wrong comparison": ("!(size <= tau)", "!(size < tau)"),
    "swallows NaN": ("!(size <= tau)", "size > tau"),
    "memory": ("ALWAYS || mask[j]", "1'b1"),
    "X in a mask": ("mask[j] = dense", "mask[j] = 1'bx || dense"),
    "Z in a sum": ("a[i*WIDTH+:WIDTH] = $realtobits(sum);", "a[i*WIDTH+:WIDTH] = {WIDTH{1'bz}};"),
    "last input": ("for (j = 0; j < K; j = j + 1)\n          if", "for (j = 0; j < K - 1; j = j + 1)\n          if"),
    "no answer": ("done <= 1;", "done <= 0;"),
    "bias": ("$realtobits(sum + $bitstoreal(bias[i*WIDTH+:WIDTH]))", "$realtobits(sum)"),
}


@pytest.mark.parametrize("bug", BROKEN)
def test_broken_devices_are_fatal(simulate, folder, bug):
    codes = [simulate(name, BROKEN[bug], (".FOLDER", ".TIMEOUT(200),\n    .FOLDER")) for name in wide(folder)]
    assert any(done.returncode != 0 and ("FAILED" in done.stdout or "no answer" in done.stdout) for done in codes)


def test_zero_comparisons_and_missing_memories_are_fatal(simulate, folder):
    name = wide(folder)[0]
    steps = next(line for line in (folder / f"{name}.sv").read_text().split() if line.startswith(".STEPS"))
    assert "nothing was compared" in simulate(name, top=(steps, ".STEPS(0),")).stdout
    done = simulate(name, top=(f'.FOLDER("{name}")', '.FOLDER("nowhere")'))
    assert done.returncode != 0
