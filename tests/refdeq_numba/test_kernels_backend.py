"""The backend record, laziness, threads, and machine code on disk that follows its sources."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import refdeq_numba
from refdeq_numba.machine import has_fused_multiply_add
from refdeq_numba.workers import Workers

from refdeq.registry import load_backend


def python(code, *path):
    """Run code in a fresh interpreter, with directories in front of its path; return what it prints."""
    text = "".join(f"import sys; sys.path.insert(0, {str(entry)!r})\n" for entry in path) + code
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_the_backend_declares():
    backend = load_backend("numba")
    assert backend.info.orders == ("strict", "fast")
    assert backend.info.dtypes == ("float32", "float64")
    assert (backend.info.inactive_columns, backend.info.activation) == ("skip", "strict")
    assert backend.info.activation_in("strict") == "strict"
    declared = ("native", 2.75) if has_fused_multiply_add() else ("strict", 0.0)
    assert (backend.info.activation_in("fast"), backend.info.activation_ulp) == declared
    facts = backend.describe()
    assert {"numba", "llvmlite", "host CPU", "processors", "machine code"} <= set(facts)
    assert all(isinstance(value, str) and value for value in facts.values())


def test_importing_imports_no_numba_and_compiles_nothing():
    assert python("import sys, refdeq, refdeq_numba; refdeq_numba.backend(); print('numba' in sys.modules)") == "False"
    code = (
        "import sys, refdeq_numba\n"
        "kernels = refdeq_numba.backend().kernels(order='strict', threads=1)\n"
        "from refdeq_numba import linear\n"
        "print(len(linear.gemm.signatures), sum(linear.gemm.stats.cache_hits.values()))"
    )
    assert python(code) == "0 0"


def test_a_missing_numba_is_said_and_not_raised(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    reason, hint = refdeq_numba.backend().unavailable()
    assert reason == "numba is not installed"
    assert hint == "pip install numba"


def test_switched_off_compilation_is_said():
    code = (
        "import os; os.environ['NUMBA_DISABLE_JIT'] = '1'\n"
        "from refdeq.errors import BackendUnavailableError\n"
        "from refdeq.registry import load_backend\n"
        "try:\n    load_backend('numba')\n"
        "except BackendUnavailableError as error:\n    print(error)"
    )
    assert python(code) == (
        "backend 'numba' cannot run: compilation is switched off by NUMBA_DISABLE_JIT (unset NUMBA_DISABLE_JIT)"
    )


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_every_row_is_treated_once(threads, count):
    rows = np.arange(0, 2 * count, 2)
    seen = np.zeros(2 * count + 1, dtype=int)

    def kernel(rows, first, last, seen):
        seen[rows[first:last]] += 1

    Workers(threads).run(kernel, rows, 10**9, seen)
    assert seen[rows].tolist() == [1] * count
    assert seen.sum() == count


def test_threads_are_used_and_their_errors_are_raised():
    names = set()
    meeting = threading.Barrier(2, timeout=30)

    def kernel(rows, first, last):
        meeting.wait()  # passes only when two threads are in here at once
        names.add(threading.current_thread().name)

    Workers(2).run(kernel, np.arange(2), 10**9)
    assert len(names) == 2

    def failing(rows, first, last):
        if first > 0:
            raise RuntimeError("second part")

    with pytest.raises(RuntimeError, match="second part"):
        Workers(2).run(failing, np.arange(2), 10**9)


def test_small_work_stays_on_the_calling_thread():
    names = []
    Workers(4).run(lambda rows, first, last: names.append(threading.current_thread().name), np.arange(5), 10)
    assert names == [threading.current_thread().name]


def test_machine_code_on_disk_follows_the_functions_inlined_into_it(tmp_path):
    """Numba alone would keep running the old sine: the file of the kernel that inlines it has not changed."""
    package = tmp_path / "refdeq_numba"
    source = Path(refdeq_numba.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import numpy as np\n"
        "from refdeq_numba.activation_rows import row_function\n"
        "loop = row_function('strict', 'Sin', 'float64')\n"
        "y = np.ones(1)\n"
        "loop.ctypes(np.ctypeslib.as_ctypes(y), 1)\n"
        "print(y[0] == 0.0, loop.cache_hits)"
    )
    assert python(code, tmp_path) == "False 0"
    assert python(code, tmp_path) == "False 1"
    activations = package / "activations.py"
    text = activations.read_text()
    changed = text.replace("    return y if abs(x) <= _TRIG_LIMIT else np.nan", "    return 0.0 * y", 1)
    assert changed != text
    activations.write_text(changed)
    assert python(code, tmp_path) == "True 0"
