"""Compile delta.c into a shared library: ``python build.py [OUT]`` (``CC`` and ``CFLAGS`` are honoured)."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-ffp-contract=off", "-shared", "-fPIC")
"""Contraction off: a fused multiply-add rounds once where strict order rounds twice (N-6)."""


def build(out: Path, source: Path = HERE / "delta.c") -> Path:
    """Compile `source` to the shared library `out`."""
    command = [*shlex.split(os.environ.get("CC", "cc")), *FLAGS, *shlex.split(os.environ.get("CFLAGS", ""))]
    subprocess.run([*command, "-o", str(out), str(source)], check=True)
    return out


if __name__ == "__main__":
    print(build(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "libdelta.so"))
