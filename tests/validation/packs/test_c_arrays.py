"""Cases as C arrays: a right device passes, broken ones fail, and a device that is never asked passes nothing."""

import shutil
import subprocess
from pathlib import Path

import pytest
from refdeq_validation.cases.suite import all_cases
from refdeq_validation.packs.c_arrays import c_files, fits_c
from refdeq_validation.packs.export import place_files

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Wno-unused-function", "-ffp-contract=off")


@pytest.fixture(scope="module")
def arrays(cases, tmp_path_factory):
    chosen = {
        case.id: case for case in all_cases() if case.problem.op == "Gemm" and case.family in ("tie", "memory", "special")
    }
    chosen |= {case.id: case for case in cases}
    folder = tmp_path_factory.mktemp("arrays") / "pack"
    place_files(folder, c_files(list(chosen.values())))
    return folder / "c"


def run(compiled, arrays, tmp_path, strict, edit=None):
    """Compile the device, perhaps broken, with the cases; exit code and lines."""
    shutil.copytree(ROOT / "examples/c_parts", tmp_path / "examples/c_parts")
    place = tmp_path / "a/b/c"
    place.mkdir(parents=True)
    shutil.copy(HERE / "device.c", place)
    if edit is not None:
        file, old, new = edit
        path = next(tmp_path.rglob(file))
        source = path.read_text()
        assert source.count(old) == 1
        path.write_text(source.replace(old, new))
    program = compiled(
        "device", place / "device.c", arrays / "refdeq_cases.c", include=(arrays,), flags=(*FLAGS, f"-DSTRICT={strict}")
    )
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, [line.split() for line in done.stdout.splitlines()]


@pytest.mark.parametrize("strict", [0, 1])
def test_a_right_device_passes_every_case(compiled, arrays, tmp_path, strict):
    code, lines = run(compiled, arrays, tmp_path, strict)
    assert code == 0, [line for line in lines if line[1] != "0"][:5]
    assert len(lines) > 60
    assert all(int(line[2]) > 0 for line in lines)
    assert any(0.0 < float(line[3]) <= 1.0 for line in lines) or strict


SUM = "for (j = 0; j < g->inputs; j++) {\n                if"
BROKEN = {
    "NaN swallowed": (1, ("delta_gemv_step.h", "!(size <= tau)", "size > tau")),
    "ge for gt": (0, ("delta_gemv_step.h", "!(size <= tau)", "!(size < tau)")),
    "memory": (0, ("delta_gemv_step.h", "g->always || mask[j]", "1 || mask[j]")),
    "tail": (0, ("delta_gemv_step.h", SUM, SUM.replace("j <", "j + 1 <"))),
    "order": (1, ("delta_gemv_step.h", SUM, SUM.replace("j = 0; j < g->inputs; j++", "j = g->inputs; j-- > 0;"))),
    "bias": (0, ("delta_gemv_step.h", "g->folded || !bias ? sum : sum + bias[i]", "sum")),
    "state not shown": (0, ("device.c", "memcpy(a, g->a, g->batch * g->outputs * (size_t)g->bits / 8);", "(void)a;")),
    "reference not shown": (0, ("device.c", "memcpy(r, g->r, g->batch * g->inputs * (size_t)g->bits / 8);", "(void)r;")),
    "refused": (0, ("device.c", "gemv_reset(made + session, batch);\n    return 0;", "return 1;")),
    "zeros": (0, ("delta_gemv_step.h", "a[i] = sum;", "sum = 0; a[i] = sum;")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_devices_fail(compiled, arrays, tmp_path, name):
    strict, edit = BROKEN[name]
    code, lines = run(compiled, arrays, tmp_path, strict, edit)
    assert code == 1
    assert any(line[1] != "0" for line in lines)


def test_another_order_is_right_unless_strict_is_asked_for(compiled, arrays, tmp_path):
    code, _ = run(compiled, arrays, tmp_path, 0, BROKEN["order"][1])
    assert code == 0


def test_a_device_that_is_never_asked_passes_nothing(compiled, arrays, tmp_path):
    code, lines = run(
        compiled, arrays, tmp_path, 0, ("device.c", "one->op != RP_GEMM", "one->op == RP_GEMM || one->op == RP_CONV")
    )
    assert (code, lines) == (4, [])


def test_convolutions_are_there_too(cases, arrays):
    text = (arrays / "refdeq_cases.c").read_text()
    for case in cases:
        assert (f'"{case.id}"' in text) == fits_c(case)
    assert ".op = RP_CONV" in text
