"""The example backends: judged as a stranger's would be, and rejected once a bug is planted in them."""

from __future__ import annotations

import functools
import importlib.util
import shutil
from pathlib import Path

import pytest
from refdeq_validation.cases.suite import select
from refdeq_validation.protocol.loading import claims_of, load_implementation
from refdeq_validation.running import run_case, run_suite

EXAMPLES = Path(__file__).parents[3] / "examples"
WIDER = ("paper-f32", "refdeq-f64")
COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_a_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")

BUGS = {
    "NaN is swallowed": ("step.h", "!(size <= node->threshold[j])", "size > node->threshold[j]"),
    "ties as ge": ("step.h", "!(size <= node->threshold[j])", "!(size < node->threshold[j])"),
    "ties as gt": ("step.h", "!(size < node->threshold[j])", "!(size <= node->threshold[j])"),
    "sent as always": ("step.h", "if (node->always || mask[j]) r[j] = u[j]", "r[j] = u[j]"),
    "always as sent": ("step.h", "if (node->always || mask[j]) r[j] = u[j]", "if (mask[j]) r[j] = u[j]"),
    "the reference adds the difference": ("step.h", "mask[j]) r[j] = u[j]", "mask[j]) r[j] = r[j] + d[j]"),
    "not sent, but read": ("step.h", "if (sent == NULL || sent[j]) {", "if (1) {"),
    "the last column": ("step.h", "j < node->inputs; j++)\n            if", "j < node->inputs - 1; j++)\n            if"),
    "a wider sum": (
        "step.h",
        "a[i] = a[i] + product",
        "a[i] = (REAL)((double)a[i] + (double)node->weight[i * node->inputs + j] * d[j])",
    ),
    "another order": (
        "step.h",
        "for (int64_t j = 0; j < node->inputs; j++)\n            if",
        "for (int64_t j = node->inputs - 1; j >= 0; j--)\n            if",
    ),
    "no start": ("step.h", "if (start) PASTE(dense_, REAL)(node, u, a);", "if (0) {}"),
    "no refresh": ("step.h", "else if (node->refresh && count[n] > 0", "else if (0 && count[n] > 0"),
    "refreshed from the input": ("step.h", "PASTE(dense_, REAL)(node, r, a)", "PASTE(dense_, REAL)(node, u, a)"),
    "no bias": ("step.h", "node->bias ? a[i] + node->bias[i] : a[i]", "a[i]"),
    "the bias of the first row": ("step.h", "a[i] + node->bias[i]", "a[i] + node->bias[0]"),
    "samples share a count": ("step.h", "node->dense_start && count[n] == 0", "node->dense_start && count[0] == 0 && n == 0"),
    "a fused multiply-add": (
        "step.h",
        "a[i] = a[i] + product",
        "a[i] = (REAL)__builtin_fma(node->weight[i * node->inputs + j], d[j], a[i])",
    ),
    "the state handed in is kept": (
        "backend.py",
        "self.r, self.count, self.batch = r.copy(), count.copy()",
        "self.r, self.count, self.batch = r, count",
    ),
    "the threshold is narrowed": (
        "backend.py",
        "np.asarray(rule.threshold).astype(self.dtype)",
        'np.asarray(rule.threshold).astype("float16").astype(self.dtype)',
    ),
}


@functools.cache
def build():
    """The build script of the C example."""
    spec = importlib.util.spec_from_file_location("ctypes_example_build", EXAMPLES / "ctypes_backend" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build


@pytest.fixture
def copied(tmp_path):
    """Copy an example, with a text exchanged, and load it by its manifest."""

    def make(name, file=None, old="", new=""):
        folder = tmp_path / name
        shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        if file is not None:
            source = (folder / file).read_text(encoding="utf-8")
            assert source.count(old) == 1, "the example has changed: write the bug anew"
            (folder / file).write_text(source.replace(old, new), encoding="utf-8")
        if name == "ctypes_backend":
            build()(folder / "libdelta.so", folder / "delta.c")
        return load_implementation(str(folder / "backend.toml"))

    return make


def judged(implementation, profiles):
    cases = [case for profile in profiles for case in select(profile=profile)]
    return run_suite(cases, implementation, claims_of(implementation), profiles=profiles)


@needs_a_compiler
def test_the_example_in_c_is_granted_its_profiles(copied):
    """The example in NumPy is granted its profile in ``test_pytest_plugin.py``, by the same cases."""
    run = judged(copied("ctypes_backend"), WIDER)
    assert all(outcome.granted for outcome in run.profiles), [outcome.reason for outcome in run.profiles]
    assert run.exit_code() == 0, run.vacuous
    assert run.counts["passed"] == run.counts["planned"] > 100


@needs_a_compiler
@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_planted_in_the_c_example_is_rejected(bug, copied):
    implementation = copied("ctypes_backend", *BUGS[bug])
    claims = claims_of(implementation)
    cases = [case for profile in ("paper-f32", "refdeq-f32", "core-f32") for case in select(profile=profile)]
    assert any(run_case(case, implementation, claims).disposition in ("failed", "error") for case in cases)


def test_the_examples_are_short():
    glue = (EXAMPLES / "ctypes_backend" / "backend.py").read_text(encoding="utf-8").splitlines()
    whole = (EXAMPLES / "numpy_backend" / "backend.py").read_text(encoding="utf-8").splitlines()
    assert len(glue) < 100
    assert len(whole) < 60


def test_what_is_not_claimed_is_refused(copied):
    implementation = copied("numpy_backend")
    for case in select(profile="paper-f32")[:3]:
        with pytest.raises(NotImplementedError):
            implementation.open(case.problem)
