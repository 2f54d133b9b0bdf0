"""The benchmark of step lengths: its cells, and one row of each kind."""

from __future__ import annotations

import splitting_steps

import refdeq as rd


def test_rows_tell_how_a_solve_ended():
    cells = splitting_steps.cells()
    assert set(cells) == {"fc", "conv"}
    cell, x = cells["fc"]
    assert rd.solvers.monotone_constants(cell)[1] > 5
    row = splitting_steps.measure("fc", cell, x, rd.PeacemanRachford(alpha=0.25), 0.25, None)
    assert (row.cell, row.solver, row.alpha, row.of_limit) == ("fc", "pr(0.25)", 0.25, None)
    assert row.ends == {"CONVERGED": 8}
    assert 10 < row.median <= row.largest < 1000
    assert splitting_steps.measure("fc", cell, x, rd.Picard(), None, None).ends == {"DIVERGED": 8}
