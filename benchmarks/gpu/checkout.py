"""Makes a checkout importable as if it were installed: its packages on the path, its entry points known; nothing is built."""

from __future__ import annotations

import configparser
import os
import re
import sys
from pathlib import Path

__all__ = ["ROOT", "make_importable"]

ROOT = Path(__file__).resolve().parents[2]


def make_importable(folder: Path) -> None:
    """Put the packages of this checkout first on the path of this process and of those it starts.

    Entry points are looked up in installed metadata; a folder with the metadata that an installation would write stands in.

    Parameters
    ----------
    folder : Path
        An empty folder that outlives the run.
    """
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    source = (ROOT / "refdeq" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "([^"]+)"', source)
    version = found[1] if found else "0"
    metadata = folder / f"refdeq-{version}.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: refdeq\nVersion: {version}\n", encoding="utf-8")
    groups = [f"[{group}]\n{lines.strip()}\n" for group, lines in settings["options.entry_points"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")
    path = [str(folder), *(str(ROOT / name) for name in ("", "backends", "validation", "benchmarks"))]
    sys.path[:0] = path
    os.environ["PYTHONPATH"] = os.pathsep.join([*path, *filter(None, [os.environ.get("PYTHONPATH")])])
