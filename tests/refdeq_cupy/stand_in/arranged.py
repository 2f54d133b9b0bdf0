"""Make ``import cupy`` the stand-in in this process, and modules those that the shim compiles; import this first."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from refdeq_cupy import device

device.nvrtc_version = lambda: "13.0"
device.binary = lambda folder, module, real, arch: Path(folder) / f"{module}.{real}.{arch}"
