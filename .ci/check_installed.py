"""Compare what pip installed with the source tree: every module and every data file, and that the trained cells load."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PACKAGES = {"refdeq": "refdeq", "refdeq_numba": "backends/refdeq_numba", "refdeq_validation": "validation/refdeq_validation"}
PACKAGES["refdeq_bench"] = "benchmarks/refdeq_bench"
SHIPPED = ("*.py", "py.typed", "*.safetensors", "*.json", "*.css", "*.js", "*.h", "*.sv", "*.md", "*.txt")


def shipped(folder: Path) -> set[str]:
    """Relative paths of the files that belong into the wheel."""
    return {str(path.relative_to(folder)) for pattern in SHIPPED for path in folder.rglob(pattern)}


def main(tree: Path) -> int:
    """Print what is missing; return the exit code."""
    missing = []
    for package, folder in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            missing.append(package)
            continue
        installed = Path(spec.origin).parent
        if installed.is_relative_to(tree) and ".venv" not in installed.parts:
            missing.append(f"{package} is imported from the tree, not from the environment")
        missing += [f"{package}/{name}" for name in sorted(shipped(tree / folder) - shipped(installed))]
    from refdeq.models import load_trained, trained_names

    names = trained_names()
    missing += [] if names else ["trained models"]
    for name in names:
        load_trained(name)
    for line in missing:
        print(f"missing: {line}", file=sys.stderr)
    if not missing:
        print(f"complete: {', '.join(PACKAGES)}; trained models: {', '.join(names)}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
