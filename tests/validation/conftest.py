"""Makes the package `planting` (planted bugs and how they are judged) importable: tests are not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
