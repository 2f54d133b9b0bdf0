"""The scripts of the GPU benchmarks importable: they are not installed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[3])]
