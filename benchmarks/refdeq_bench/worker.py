"""A process that measures: started with the number of threads of BLAS in its environment, told what to do on stdin.

One JSON object comes in, one per line goes out: ``{"event": ..., ...}``, the event one of noise, rounds, row, skipped, wrong,
refused.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import IO, Any

from refdeq_bench.baselines import CORE_VARIABLE

__all__ = ["main", "serve"]

NOISE_ROUNDS = 21
"""A/A before anything else: about half a second."""


def serve(request: dict[str, Any], out: IO[str]) -> None:
    """Measure every job of a request.

    Parameters
    ----------
    request : dict
        ``threads``, ``settings`` (:class:`refdeq_bench.measuring.Settings` as a dict) and ``jobs``: each with ``workload``,
        ``backend``, ``order``, ``point`` and, if it has its own, ``settings``.
    out : text file
        Gets a line per event.
    """
    from refdeq.errors import ArgumentError, BackendUnavailableError, UnsupportedError
    from refdeq_bench.checking import WrongResultError
    from refdeq_bench.measuring import Settings
    from refdeq_bench.recording import row_of
    from refdeq_bench.workloads import WORKLOADS

    def tell(event: str, **data: Any) -> None:
        out.write(json.dumps({"event": event, **data}) + "\n")
        out.flush()

    tell("noise", **_noise(request["threads"]))
    for index, job in enumerate(request["jobs"]):
        settings = Settings(**{**request["settings"], **job.get("settings", {})})

        def advance(done: int, rounds: int, index: int = index) -> None:
            tell("rounds", job=index, done=done, rounds=rounds)

        how = {"order": job["order"], "threads": request["threads"]}
        try:
            case = WORKLOADS[job["workload"]].prepare(job["backend"], **how, **job["point"])
            tell("row", job=index, row=row_of(case, case.measure(settings, advance=advance)))
        except (BackendUnavailableError, UnsupportedError) as error:
            tell("skipped", job=index, reason=str(error))
        except WrongResultError as error:
            tell("wrong", job=index, reason=str(error))
        except ArgumentError as error:
            tell("refused", job=index, reason=str(error))
            return


def _noise(threads: int) -> dict[str, float]:
    """A/A of a product of NumPy that fits in the cache: what the machine does to ratios at this moment."""
    import numpy as np

    from refdeq_bench.baselines import threads_of_libraries
    from refdeq_bench.measuring import Settings, measure

    left, out = np.ones((256, 256), dtype=np.float32), np.empty((256, 256), dtype=np.float32)
    with threads_of_libraries(threads):
        noise = measure({"product": lambda: np.matmul(left, left, out=out)}, Settings(rounds=NOISE_ROUNDS)).noise()
    return {**asdict(noise.ratio), "spread": noise.spread, "of_median": noise.of_median}


def main() -> None:
    """Read a request on stdin and serve it on stdout; whatever else is printed goes to stderr."""
    forced = os.environ.pop("OPENBLAS_CORETYPE", None)
    if forced is not None:  # NumPy's BLAS was loaded with it, by the imports above; SciPy's is to come as it is
        os.environ[CORE_VARIABLE] = forced
    out, sys.stdout = sys.stdout, sys.stderr
    serve(json.loads(sys.stdin.read()), out)


if __name__ == "__main__":
    main()
