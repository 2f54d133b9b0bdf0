"""What the tests of the Numba-CUDA backend share: the checks of its kernels lie beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
