"""Implementations that want to be granted without being right: the example in NumPy with one thing exchanged."""

from __future__ import annotations

from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "numpy_backend"
OUTPUT = "self.a if self.bias is None else self.a + self.bias"
STEP = f"        mask[...], y[...] = sent, {OUTPUT}\n"
GOOD = (EXAMPLE / "backend.py").read_text(encoding="utf-8")
MANIFEST = (EXAMPLE / "backend.toml").read_text(encoding="utf-8")

_PATCHED_JUDGE = """
        import refdeq_validation.{module} as module
        import refdeq_validation.judge.verdicts as verdicts
        def everything_is_fine(*_, **__):
            return {value}
        {target} = everything_is_fine
        self.a = np.zeros_like(self.a)
"""

AT_STEP = {
    "nan everywhere": "self.a[...] = np.nan",
    "zeros": "self.a[...] = 0",
    "everything sent": "sent[...] = True",
    "outputs left as they came": "return",
    "does nothing": "self.r[...], self.a[...] = 0, 0\n        return",
    "not implemented": "raise NotImplementedError('not on this device')",
    "refuses everything": "raise ValueError('I would rather not')",
    "leaves by SystemExit": "raise SystemExit(0)",
    "hides an exception": "try:\n            raise ZeroDivisionError\n        except ZeroDivisionError:\n            return",
    "sleeps": "import time\n        time.sleep(0.3)",
    "another answer the second time": (
        "self.__class__.seen = getattr(self.__class__, 'seen', 0) + 1\n"
        "        if self.__class__.seen > 30:\n            self.a = self.a + self.dtype.type(1)"
    ),
    "keeps views of inputs": "self.r = u",
    "writes its input": "u.flags.writeable = True\n        u[...] = 0",
    "writes its input by its address": "import ctypes\n        ctypes.memset(u.ctypes.data, 0, u.nbytes)",
    "writes beside its output": "import ctypes\n        ctypes.memset(y.ctypes.data + y.nbytes, 0, 4)",
    "writes the weights of the problem": "self.problem.weight[...] = 0\n        self.weight[...] = 0\n        self.a[...] = 0",
    "forgets the mask": f"y[...] = {OUTPUT}\n        return",
    "a mask of sevens": f"mask.view(np.uint8)[...] = 7\n        y[...] = {OUTPUT}\n        return",
    "looks for expected values": (
        "import gc\n"
        "        found = [x for x in gc.get_objects() if isinstance(x, dict) and ('expected' in x or 'golden' in x)]\n"
        "        values = [v for x in found for v in x.values() if isinstance(v, np.ndarray) and v.shape == self.a.shape]\n"
        "        self.a = values[0].astype(self.dtype) if values else np.zeros_like(self.a)"
    ),
    "looks at its callers": (
        "import sys\n"
        "        frame, values, at = sys._getframe(), [], self.a.shape\n"
        "        while frame is not None:\n"
        "            values += [v for v in frame.f_locals.values() if isinstance(v, np.ndarray) and v.shape == at]\n"
        "            frame = frame.f_back\n"
        "        self.a = values[-1].astype(self.dtype) if values else np.zeros_like(self.a)"
    ),
    "exchanges the comparison of bits": _PATCHED_JUDGE.format(
        module="judge.comparing", target="module.Comparer.bits", value="True"
    ),
    "exchanges what passed means": _PATCHED_JUDGE.format(module="judge.verdicts", target="verdicts.Findings.add", value="None"),
    "exchanges the judge": _PATCHED_JUDGE.format(module="trials", target="module.judge", value="verdicts.Findings(values=1)"),
    "exchanges instructions of the judge": (
        "import refdeq_validation.judge.verdicts as verdicts\n"
        "        verdicts.Findings.add.__code__ = (lambda self, failure: None).__code__\n"
        "        self.a = np.zeros_like(self.a)"
    ),
    "exchanges NumPy": "np.isfinite = lambda x: np.zeros(np.shape(x), bool)\n        self.a = np.zeros_like(self.a)",
    "mutes NumPy": "np.seterr(all='ignore')\n        self.a = np.zeros_like(self.a)",
    "writes a report of its own": (
        "import json, pathlib\n"
        "        pathlib.Path('report.json').write_text(json.dumps({'verdict': 'granted', 'exit_code': 0}))\n"
        "        self.a = np.zeros_like(self.a)"
    ),
}
"""What is put before the last line of ``step``; the judged case lists are those of a right implementation."""

AT_OPEN = {
    "supports nothing": "raise NotImplementedError('later')",
    "opens nothing": "return None",
    "opens something that says yes": (
        "class Yes:\n            def __getattr__(self, name):\n                return lambda *a, **k: {}\n        return Yes()"
    ),
}
"""What is put before the first line of ``open``."""

MANIFESTS = {
    "claims nothing": ('ops = ["Gemm"]', "ops = []", 3),
    "claims no dtype": ('dtypes = ["float32", "float64"]', "dtypes = []", 3),
    "offers no state": ('offers = ["state"]', "offers = []", 3),
    "claims no comparison": ('offers = ["state"]', 'offers = ["state"]\ncompare = []', 3),
    "accepts only tiny arrays": ('offers = ["state"]', 'offers = ["state"]\nlargest = 1', 3),
    "asks for a tolerance": ('offers = ["state"]', 'offers = ["state"]\ntolerance = 1e-2', 2),
    "asks for endless time": ('offers = ["state"]', 'offers = ["state"]\ntimeout = inf', 2),
    "claims no determinism": ('determinism = "R4"', 'determinism = "R0"', 3),
    "is no manifest": ("[claims]", "[claims", 2),
}
"""Exchanges in ``backend.toml`` with the exit code they end in."""


def folder(tmp_path: Path, source: str = GOOD, manifest: str = MANIFEST) -> Path:
    """Write an implementation; returns its manifest."""
    (tmp_path / "backend.py").write_text(source, encoding="utf-8")
    (tmp_path / "backend.toml").write_text(manifest, encoding="utf-8")
    return tmp_path / "backend.toml"


def at_step(code: str) -> str:
    """Source of the example with code before the last line of ``step``."""
    assert GOOD.count(STEP) == 1
    keep = "        self.rule, self.dtype"
    return GOOD.replace(STEP, f"        {code.strip()}\n{STEP}").replace(keep, f"        self.problem = problem\n{keep}")


def at_open(code: str) -> str:
    """Source of the example with code before the first line of ``open``."""
    head = "    def open(self, problem):\n"
    assert GOOD.count(head) == 1
    return GOOD.replace(head, f"{head}        {code}\n")
