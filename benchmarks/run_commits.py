"""Measure commits of this history with asv, on one machine: ``python -m benchmarks.run_commits --machine NAME [COMMIT ...]``.

Run from the root of a clone, in an environment with refdeq and the extra `bench`, on a machine that does nothing else.
Each commit is built and installed into an environment of asv's own and measured with the suites of today; what it lacks is
skipped. Results go to ``benchmarks/results/asv``, and ``python -m benchmarks.site OUT`` publishes them.

    python -m benchmarks.run_commits --machine epyc-zen3-2core                 # commits.txt, then the one checked out
    python -m benchmarks.run_commits --machine epyc-zen3-2core HEAD            # one commit
    python -m benchmarks.run_commits --machine epyc-zen3-2core --torch HEAD    # torch among the baselines
    python -m benchmarks.run_commits --machine x --bench '^kernels.Gemv' --results DIR 94e06d4    # a trial, stored elsewhere
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.tracking import asv, derived_config, describe_machine, failures, read, traces_of_the_host
from refdeq.errors import ArgumentError, RefdeqError

HERE = Path(__file__).resolve().parent
TORCH = {"req": {"threadpoolctl": [""], "torch": ["2.13.0"]}}
"""The release that the baselines were tried with; asv names the environment after it."""


def commits(names: list[str]) -> list[str]:
    """Full hashes of the commits named, or of ``commits.txt`` and HEAD.

    Raises
    ------
    ArgumentError
        One of them is not in the history here.
    """
    if not names:
        lines = (HERE / "commits.txt").read_text(encoding="utf-8").splitlines()
        names = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")] + ["HEAD"]
    found: list[str] = []
    for name in names:
        command = ["git", "-C", str(HERE), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise ArgumentError("COMMIT", expected="a commit of the history here", got=name, hint="a shallow clone has few")
        if done.stdout.strip() not in found:
            found.append(done.stdout.strip())
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when every commit has values and nothing failed, 1 otherwise, 2 for what cannot be started."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_commits", description=__doc__.partition("\n")[0])
    parser.add_argument("commits", metavar="COMMIT", nargs="*", help="what to measure (default: commits.txt and HEAD)")
    parser.add_argument("--machine", required=True, help="a name for the kind of machine, not that of the host")
    parser.add_argument("--bench", action="append", default=[], metavar="REGEX", help="only these benchmarks")
    parser.add_argument("--results", type=Path, help="store there instead of benchmarks/results/asv")
    parser.add_argument("--torch", action="store_true", help="install torch too, as a baseline (a large download)")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _run(options, Path(folder))
    except RefdeqError as error:
        print(f"benchmarks.run_commits: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, folder: Path) -> int:
    changes: dict[str, object] = {"matrix": TORCH} if options.torch else {}
    if options.results is not None:
        changes["results_dir"] = str(options.results.resolve())
    config = derived_config(folder, **changes)
    chosen = commits(options.commits)
    about = [f"--{key}={value}" for key, value in describe_machine(options.machine).items()]
    if asv(config, "machine", "--yes", *about) != 0:
        return 2
    hashes = folder / "hashes"
    hashes.write_text("\n".join(chosen) + "\n", encoding="utf-8")
    started = time.monotonic()
    selected = [part for regex in options.bench for part in ("--bench", regex)]
    code = asv(config, "run", f"HASHFILE:{hashes}", "--machine", options.machine, "--show-stderr", "--durations=20", *selected)
    stored = read(config)
    measured = [run for run in stored.runs if run.commit in chosen and run.machine == options.machine]
    for run in measured:
        there, skipped, failed = run.count()
        print(f"{run.commit[:8]} {run.environment}: {there} values, {skipped} skipped, {failed} failed  {run.subject}")
    print(f"{len(chosen)} commits in {(time.monotonic() - started) / 60:.1f} minutes; asv's exit code was {code}")
    problems = [f"{commit[:8]}: no results" for commit in chosen if commit not in {run.commit for run in measured}]
    problems += failures(stored, must_run=()) + traces_of_the_host(stored.folder)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
