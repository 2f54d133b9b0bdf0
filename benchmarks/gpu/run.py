"""Everything there is to measure on a GPU, in one command of at most nine minutes: ``python benchmarks/gpu/run.py --out DIR``.

Runs from a checkout; nothing needs to be installed but NumPy, SciPy, CuPy or Numba-CUDA, and torch for most baselines. Phases
come in this order, and the file is written whole after each of them, so that a run that is cut short keeps what it has:

1. environment and ceilings of the device; 2. every kernel compiled, with its resources; 3. results against float64 with
poisoned memory, repeated runs, grids and orders of rows; 4. ``refdeq validate`` on the device; 5. fully connected solves of one
sample (G1 to G6); 6. batches of rows (G7 to G11, G17); 7. convolutions (G12 to G14); 8. costs of every way of
forming a sum, for the dispatcher; 9. the headlines again, in reverse order.

``--small`` goes through all phases on the device with tiny sizes and few samples: a try, whose figures mean nothing.
``--simulate`` does so on the simulated devices: it shows that the script works, and times nothing.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.gpu.checkout import make_importable

MINUTES = 9.0
"""No phase is begun after that; every phase has a share of it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when every phase ended well, 1 when one failed or was left out, 2 without a device."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path.cwd(), help="folder of the file (default: here)")
    parser.add_argument("--name", default="", help="name of the file (default: device and time)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time for all phases")
    parser.add_argument("--phase", action="append", default=[], help="only these phases (may be repeated)")
    parser.add_argument("--commit", default="", help="of the sources, where git cannot tell")
    parser.add_argument("--small", action="store_true", help="tiny sizes: does everything work on this device?")
    parser.add_argument("--simulate", action="store_true", help="tiny sizes on simulated devices, no times")
    options = parser.parse_args(arguments)
    if options.simulate:  # before Numba and CuPy are imported
        os.environ.update(NUMBA_ENABLE_CUDASIM="1", REFDEQ_CUPY_SHIM="1")
    with tempfile.TemporaryDirectory() as folder:
        make_importable(Path(folder))
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    from benchmarks.gpu import environment
    from benchmarks.gpu.records import Run
    from benchmarks.gpu.setup import Setup

    options.out.mkdir(parents=True, exist_ok=True)
    setup = Setup.open(options.simulate, options.small)
    if not setup.devices:
        print(f"run.py: no device can be used: {'; '.join(setup.problems)}", file=sys.stderr)
        return 2
    try:
        facts = environment.facts(options.simulate, options.small)
    except Exception as error:  # facts are worth having, the measurements more
        traceback.print_exc()
        setup.problems.append(f"facts: {type(error).__name__}: {error}")
        facts = {"simulated": options.simulate, "small": setup.is_small}
        facts |= {"device": {"name": "unknown"}, "versions": {}, "precision_flags": {}}
    facts |= {"backends": setup.described(), "problems": setup.problems}
    device = ("small-" if options.small else "") + facts["device"]["name"].replace(" ", "-").lower()
    name = options.name or ("simulated" if options.simulate else device)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    run = Run(options.out / (f"{name}.json" if options.name else f"{name}-{stamp}.json"), facts)
    run.facts["commit"] = options.commit or run.facts["commit"]
    start, is_complete = time.monotonic(), True
    phases = [entry for entry in _phases() if not options.phase or entry[0] in options.phase]
    for i, (label, minutes, phase) in enumerate(phases):
        left = 60.0 * options.minutes - (time.monotonic() - start)
        began, problem = time.monotonic(), ""
        if left <= 0:
            problem = "no time left"
        else:
            print(f"{label} ...", flush=True)
            try:
                phase(setup, run, min(left, 60.0 * minutes * options.minutes / MINUTES))
            except Exception as error:  # a phase that fails must not take the others with it
                traceback.print_exc()
                problem = f"{type(error).__name__}: {error}"
        has_failed = bool(problem or run.failures)
        is_complete &= not has_failed
        run.finish_phase(label, time.monotonic() - began, problem)
        left = options.minutes - (time.monotonic() - start) / 60.0
        if has_failed and left > 0 and not setup.answers():
            _go_on_elsewhere(options, f"{run.name}-after-{label}", left, [label for label, *_ in phases[i + 1 :]])
            return 1
    run.facts["sm_clock_after"] = None if options.simulate else environment.sm_clock()
    run.write()
    return 0 if is_complete else 1


def _go_on_elsewhere(options: argparse.Namespace, name: str, minutes: float, labels: Sequence[str]) -> None:
    """The phases that are left, by a new process with a file of its own: a fault on the device ends all work of this one."""
    if not labels:
        return
    print(f"the device does not answer any more; the other phases go to {name}.json", flush=True)
    wanted = [word for label in labels for word in ("--phase", label)]
    command = [sys.executable, __file__, "--out", str(options.out), "--name", name, "--minutes", f"{minutes:.3f}", *wanted]
    command += ["--commit", options.commit]
    for name in ("small", "simulate"):
        command += [f"--{name}"] * getattr(options, name)
    subprocess.run(command, check=False)


def _phases() -> list[tuple[str, float, Callable[..., None]]]:
    """Name, minutes and function of every phase, in order."""
    from benchmarks.gpu import batch, convolutions, correctness, crossings, preparing, single

    return [
        ("ceilings", 0.7, preparing.ceilings),
        ("build", 1.5, preparing.build),
        ("correctness", 1.0, correctness.check),
        ("validate", 1.3, preparing.validate),
        ("single", 1.5, single.measure_all),
        ("batch", 1.5, batch.measure_all),
        ("convolutions", 1.5, convolutions.measure_all),
        ("crossings", 0.4, crossings.measure_all),
        ("again", 0.5, single.repeat_headlines),
    ]


if __name__ == "__main__":
    sys.exit(main())
