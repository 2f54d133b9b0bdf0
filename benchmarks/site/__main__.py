"""Publish stored asv results as a site that works offline.

    python -m benchmarks.site OUT          # from the root of a clone; then open OUT/index.html

OUT gets a start page of our own, with the goals and their latest figures, and asv's pages (grid, list, graphs) in OUT/asv.
Nothing on them is loaded from a network, and no server is needed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.site.publishing import publish
from refdeq.errors import RefdeqError

HERE = Path(__file__).resolve().parents[1]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 with one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.site", description=__doc__.partition("\n")[0])
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the site: new, empty, or an earlier site")
    parser.add_argument("--config", type=Path, default=HERE / "asv.conf.json", help="configuration of asv (default: ours)")
    parser.add_argument(
        "--goals", type=Path, default=HERE / "results/goals.json", help="figures of the goals, by `refdeq bench --goals --json`"
    )
    options = parser.parse_args(arguments)
    try:
        print(publish(options.out, options.config.resolve(), options.goals))
    except RefdeqError as error:
        print(f"benchmarks.site: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
