"""Benchmarks for asv: thin classes over the workloads of `refdeq_bench`.

asv runs the suites of today with the refdeq of any commit. So `refdeq_bench` is taken from the folder beside this one and not
from what is installed, and whatever an old commit lacks makes a benchmark skip, by name.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path


class _OfToday:
    """Finds `refdeq_bench` here. The folder itself does not go on ``sys.path``: its other names are too common."""

    folder = str(Path(__file__).resolve().parents[1])

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [cls.folder]) if name == "refdeq_bench" else None


if not any(getattr(finder, "__name__", "") == _OfToday.__name__ for finder in sys.meta_path):
    sys.meta_path.insert(0, _OfToday)
