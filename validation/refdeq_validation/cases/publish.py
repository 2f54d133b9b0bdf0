"""Write the published lists anew: ``python -m refdeq_validation.cases.publish``.

Ids are only ever added. One that is no longer generated must be in ``retired.json`` with a reason, or nothing is written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from refdeq.errors import ArgumentError
from refdeq_validation.cases.profiles import PROFILES
from refdeq_validation.cases.smoke import smoke_of
from refdeq_validation.cases.suite import all_cases

__all__ = ["lists", "publish"]

HERE = Path(__file__).parent


def lists() -> dict[str, Any]:
    """What ``profiles.json`` holds: ids, smoke tier, and count and digest of every profile."""
    ids = {case.id for case in all_cases()}
    profiles = {name: {"count": len(profile.ids), "digest": profile.digest} for name, profile in PROFILES.items()}
    return {"cases": sorted(ids), "smoke": smoke_of(all_cases()), "profiles": profiles}


def publish(folder: Path = HERE) -> dict[str, Any]:
    """Write ``profiles.json``.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    ArgumentError
        When a published id would vanish without being retired.
    """
    target = folder / "profiles.json"
    stored = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {"cases": []}
    retired = json.loads((folder / "retired.json").read_text(encoding="utf-8"))
    fresh = lists()
    gone = sorted(set(stored["cases"]) - set(fresh["cases"]) - set(retired))
    if gone:
        raise ArgumentError(
            "cases",
            expected="every published id, generated or retired",
            got=gone[0],
            hint="add it to retired.json with a reason",
        )
    target.write_text(json.dumps(fresh, indent=1) + "\n", encoding="utf-8")
    return fresh


if __name__ == "__main__":
    publish()
