"""A smoke run of the asv suites: ``python -m benchmarks.smoke``, from the root of a clone; fails unless something really ran.

All suites are imported and checked by asv, and a small selection is run once per benchmark, with the refdeq that is
installed. Nothing is stored, and no figure of such a run means anything: a single cold sample is off by a factor of 30. asv
exits with 0 when everything was skipped, so the results are read back: there must be values, no failure, and none of our
backends may be missing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.tracking import asv, derived_config, describe_machine, failures, read
from refdeq.errors import RefdeqError

SELECTION = (r"^kernels\.Gemv", r"^solvers\.Recurrent\.track", r"^startup\.Import\.track_import$")
"""Workloads with and without baselines, whole solves, fresh processes; a minute, most of it compiling."""

MUST_RUN = ("reference", "numba")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when all is well, 1 with one line per problem."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smoke", description=__doc__.partition("\n")[0])
    parser.add_argument("--bench", action="append", metavar="REGEX", help="other benchmarks than the usual selection")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            problems = run(Path(folder), tuple(options.bench or SELECTION))
    except RefdeqError as error:
        problems = [str(error)]
    for problem in problems:
        print(f"benchmarks.smoke: {problem}", file=sys.stderr)
    return int(bool(problems))


def run(folder: Path, selection: tuple[str, ...]) -> list[str]:
    """Check and run in a temporary folder; return what is wrong.

    asv stores results under a commit only. The tree at hand may hold anything, so a repository with one empty commit stands in.
    """
    repository, home = folder / "repository", folder / "home"
    home.mkdir()
    git = ["git", "-c", "user.name=smoke", "-c", "user.email=smoke@localhost", "-c", "init.defaultBranch=main"]
    subprocess.run([*git, "init", "--quiet", str(repository)], check=True)
    subprocess.run([*git, "-C", str(repository), "commit", "--quiet", "--allow-empty", "-m", "smoke"], check=True)
    config = derived_config(
        folder, repo=str(repository), branches=["HEAD"], results_dir=str(folder / "results"), env_dir=str(folder / "env")
    )
    # asv asks people about their machine unless it finds an answer in their home
    (home / ".asv-machine.json").write_text(json.dumps({"smoke": describe_machine("smoke"), "version": 1}), encoding="utf-8")
    if asv(config, "check", "--python=same", HOME=str(home)) != 0:
        return ["asv check: a suite cannot be imported, or a benchmark takes other parameters than it lists"]
    selected = [part for regex in selection for part in ("--bench", regex)]
    quick = ["--python=same", "--quick", "--set-commit-hash=HEAD", "--machine=smoke", "--show-stderr", *selected]
    code = asv(config, "run", *quick, HOME=str(home), REFDEQ_BENCH_QUICK="1")
    stored = read(config) if any((folder / "results").glob("*/*-*.json")) else None
    if stored is None:
        return [f"nothing ran: asv stored no results (exit code {code})"]
    there = sum(run.count()[0] for run in stored.runs)
    print(f"smoke: {there} values of {sum(len(run.results) for run in stored.runs)} benchmarks")
    return failures(stored, MUST_RUN)


if __name__ == "__main__":
    sys.exit(main())
