"""Makes ``op_cases`` (the cases that all tests of operators share) importable: tests are not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
