"""The checks of the kernels lie beside the tests; without numba-cuda there is nothing to test."""

import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

collect_ignore_glob = ["stand_in/*"]  # run in a process of its own
if importlib.util.find_spec("numba_cuda") is None:
    collect_ignore_glob.append("test_*.py")
