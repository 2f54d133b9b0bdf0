"""What the choices of the peers cost, one at a time: the numbers of ``docs/dialects.md``.

    python benchmarks/peer_choices.py

Everything is float64 and deterministic; the tables are Markdown.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import refdeq as rd
from refdeq.solvers.peer_mixing import bordered_weights


def tanh_cell(n: int, norm: float, seed: int) -> rd.Cell:
    """``z <- tanh(W z + U x + b)`` with a random W of the given spectral norm."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((n, n))
    return rd.models.rnn(norm * w / np.linalg.norm(w, 2), rng.standard_normal((n, n)) / n**0.5, 0.1 * rng.standard_normal(n))


def table(*rows: tuple[object, ...]) -> None:
    """Print rows, the first one as the header."""
    print("| " + " | ".join(map(str, rows[0])) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows[1:]:
        print("| " + " | ".join(f"{cell:.1e}" if isinstance(cell, float) else str(cell) for cell in row) + " |")
    print()


def ridge() -> None:
    """An absolute ridge is large beside residuals that are small."""
    cell, x = tanh_cell(20, 0.95, 0), np.random.default_rng(1).standard_normal((1, 20))
    runs: list[tuple[str, dict[str, object]]] = [("Picard", {"stop": rd.StopRule(max_eval=40)})]
    for lam in (1e-4, 1e-8, 1e-10):
        spoken = rd.dialect("torchdeq", "anderson", max_iter=40, tol=0.0, lam=lam)
        runs.append((f"torchdeq Anderson, absolute ridge {lam:g}", {"dialect": spoken}))
    ours = rd.Anderson(window=6)
    runs.append(("refdeq Anderson, the same window", {"solver": ours, "stop": rd.StopRule(max_eval=40)}))
    rows: list[tuple[object, ...]] = [("solver", "after 10", "after 20", "after 40", "weights - 1/6 at 12, 20, 40")]
    for name, options in runs:
        trace = rd.solve(cell, x, trace=True, **options).trace
        residual = trace.residual[:, 0]
        away = "-"
        if "ridge" in name:
            lam = options["dialect"].solver.ridge  # type: ignore[attr-defined]
            gap = (trace.f["z"] - trace.z["z"])[:, 0]
            spread = []
            for k in (12, 20, 40):
                columns = gap[k - 6 : k]
                spread.append(np.abs(bordered_weights((columns @ columns.T)[None], lam) - 1 / 6).max())
            away = ", ".join(f"{value:.1e}" for value in spread)
        rows.append((name, *(float(residual[k - 1]) for k in (10, 20, 40)), away))
    table(*rows)


def damped_residual() -> None:
    """A tolerance on the damped step is met too early."""
    cell, x = tanh_cell(20, 0.9, 2), np.random.default_rng(3).standard_normal((1, 20))
    rows: list[tuple[object, ...]] = [("damping", "reported", "residual of f", "evaluations")]
    for damping in (1.0, 0.5, 0.1):
        spoken = rd.dialect("torchdeq", "fixed_point_iter", max_iter=500, tol=1e-3, tau=damping)
        solution = rd.solve(cell, x, dialect=spoken)
        reported, residual = float(solution.dialect.lowest[0]), float(solution.residual[0])
        rows.append((f"{damping:g}", reported, residual, int(solution.n_eval[0])))
    table(*rows)


def batch() -> None:
    """Who decides: every sample for itself, or the slowest for all."""
    cell = tanh_cell(20, 1.5, 4)
    x = np.random.default_rng(5).standard_normal((64, 20)) * np.geomspace(0.2, 5.0, 64)[:, None]
    stop = rd.StopRule(atol=1e-6, max_eval=500)
    each = rd.solve(cell, x, stop=stop)
    spoken = rd.solve(cell, x, dialect=rd.dialect("torchdeq", max_iter=500, tol=1e-6))
    rows: list[tuple[object, ...]] = [("who decides", "evaluations of all samples", "largest residual")]
    for name, solution in (("each sample (refdeq)", each), ("the slowest (torchdeq)", spoken)):
        rows.append((name, int(solution.n_eval.sum()), float(solution.residual.max())))
    table(*rows)


def coupling() -> None:
    """One set of weights, or one secant, for a whole batch."""
    rows: list[tuple[object, ...]] = [("batch", "refdeq Anderson", "jaxopt Anderson", "refdeq Broyden", "SciPy broyden1")]
    cell = tanh_cell(20, 0.95, 6)
    for size in (1, 4, 16, 64):
        x = np.random.default_rng(7).standard_normal((size, 20))
        stop = rd.StopRule(atol=1e-8, max_eval=300)
        counts: list[object] = [size]
        jaxopt = rd.dialect("jaxopt", "anderson", max_iter=300, tol=1e-8, ridge=1e-12)
        scipy = rd.dialect("scipy", "broyden1", max_iter=300, tol=1e-8, alpha=1.0, line_search=None)
        for options in (
            {"solver": rd.Anderson(window=5), "stop": stop},
            {"dialect": jaxopt},
            {"solver": rd.Broyden(), "stop": stop},
            {"dialect": scipy},
        ):
            counts.append(int(rd.solve(cell, x, **options).n_eval.max()))  # type: ignore[arg-type]
        rows.append(tuple(counts))
    table(*rows)


def ring() -> None:
    """Whether the newest secant holds after the oldest pair is dropped."""
    rows: list[tuple[object, ...]] = [("window", "dropped before (refdeq)", "overwritten after (torchdeq)")]
    cell, x = tanh_cell(20, 0.95, 8), np.random.default_rng(9).standard_normal((16, 20))
    for window in (2, 4, 8):
        overwritten = rd.dialect("torchdeq", "broyden", max_iter=300, tol=1e-8, LBFGS_thres=window)
        dropped = replace(overwritten, solver=replace(overwritten.solver, reduction="oldest"))
        counts = [rd.solve(cell, x, dialect=each) for each in (dropped, overwritten)]
        rows.append((window, *(int(s.n_eval.max()) if s.converged else f"not in {s.n_eval.max()}" for s in counts)))
    table(*rows)


def stagnation() -> None:
    """A residual that falls by 2 % a step, tolerance 1e-3: stopped as stagnating because the batch has one sample."""
    rows: list[tuple[object, ...]] = [("dialect", "status", "evaluations", "residual")]
    z0, target = np.full((1, 1), 0.0), 0.05
    for name in ("locuslab-v2", "torchdeq"):
        spoken = replace(
            rd.dialect(name, "broyden", max_iter=300, tol=1e-3, mode="abs"), solver=rd.KrasnoselskiiMann(alpha=0.02)
        )
        solution = rd.solve(lambda z, x: np.full_like(z, target), z0=z0, dialect=spoken)
        rows.append((name, rd.Status(int(solution.status[0])).name, int(solution.n_eval[0]), float(solution.residual[0])))
    table(*rows)


if __name__ == "__main__":
    for study in (ridge, damped_residual, batch, coupling, ring, stagnation):
        print(f"{study.__name__.replace('_', ' ')}: {study.__doc__}\n")
        study()
