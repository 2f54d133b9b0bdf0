"""Makes the modules that the tests of dialects share importable: tests are not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
