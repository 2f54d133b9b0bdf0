"""``refdeq solve`` in the dialects of peers and by splittings of monotone networks."""

from __future__ import annotations

import json

import numpy as np
import pytest

import refdeq as rd
from refdeq.commands import solve_run
from refdeq.commands.solve_options import parse_dialect
from refdeq.errors import ArgumentError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torchdeq", rd.dialect("torchdeq")),
        (
            "torchdeq/anderson:max_iter=12,tol=1e-5,mode=rel,m=3",
            rd.dialect("torchdeq", "anderson", max_iter=12, tol=1e-5, mode="rel", m=3),
        ),
        ("torchdeq/broyden:LBFGS_thres=none,ls=true", rd.dialect("torchdeq", "broyden", LBFGS_thres=None, ls=True)),
        ("locuslab-v2:threshold=7,eps=1e-2", rd.dialect("locuslab-v2", max_iter=7, tol=1e-2)),
    ],
)
def test_dialects(text, expected):
    assert parse_dialect(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("torch", "dialect: expected one of locuslab-v1"),
        ("torchdeq/newton", "method of torchdeq: expected one of"),
        ("torchdeq/", "method of torchdeq: expected one of"),
        ("torchdeq/anderson:memory=3", "memory: expected one of max_iter"),
        ("torchdeq/anderson:max_iter=many", "max_iter: expected an integer"),
        ("torchdeq/anderson:m", "--dialect: expected NAME or NAME:key=value"),
    ],
)
def test_wrong_dialects_are_refused_with_what_there_is(text, said):
    with pytest.raises(ArgumentError) as refused:
        parse_dialect(text)
    assert said in str(refused.value)


def test_a_dialect_solves_and_reports_as_the_peer(solve_small, small, tmp_path, same_bits):
    asked = "torchdeq/anderson:max_iter=12,tol=1e-9"
    result = solve_small("--dialect", asked, "--json", "--out", tmp_path / "z.npz")
    direct = rd.solve(small.cell, small.x, dialect=rd.dialect("torchdeq", "anderson", max_iter=12, tol=1e-9), trace=True)
    assert result.exit_code == (0 if direct.converged else 1)
    data = json.loads(result.stdout)
    for name in ("n_eval", "residual", "scale"):
        assert data["samples"][name] == getattr(direct, name).tolist()
    for name in ("abs_trace", "rel_trace", "abs_lowest", "rel_lowest", "nstep", "lowest_step", "prot_break"):
        assert data["dialect"][name] == np.asarray(getattr(direct.dialect, name)).tolist()
    assert data["options"]["dialect"]["name"] == "torchdeq/anderson"
    assert data["options"]["dialect"]["options"]["max_iter"] == 12
    with np.load(tmp_path / "z.npz") as out:
        same_bits(out["z"], direct.z)
    text = solve_small("--dialect", asked).stdout
    assert "dialect torchdeq/anderson: max_iter=12, tol=1e-09, mode=abs, m=6" in text
    assert "- tolerance 1e-09" in text
    lowest = direct.dialect.abs_lowest
    assert f"torchdeq/anderson reports: lowest abs residual {lowest.min():.3g} to {lowest.max():.3g}, " in text


@pytest.mark.parametrize("name", ["locuslab-v1", "jaxopt", "scipy", "hopdeq"])
def test_dialects_that_see_the_batch_as_one_are_never_cut(solve_small, small, monkeypatch, name):
    monkeypatch.setattr(solve_run, "CHUNK_BYTES", 1)
    data = json.loads(solve_small("--dialect", name, "--json").stdout)
    direct = rd.solve(small.cell, small.x, dialect=name)
    assert data["samples"]["residual"] == direct.residual.tolist()
    text = solve_small("--dialect", name).stdout
    assert f"{name}/" in text
    assert "- tolerance" not in text, "no residual of a sample is compared with the peer's tolerance"


@pytest.mark.parametrize(
    "other",
    [
        ["--solver", "picard"],
        ["--rtol", "1e-3"],
        ["--atol", "1e-3"],
        ["--max-eval", "3"],
        ["--norm", "l2"],
        ["--eps", "1e-9"],
        ["--divergence", "2"],
        ["--stagnation", "2,1"],
        ["--returned", "last"],
    ],
    ids=lambda value: value[0],
)
def test_a_dialect_beside_what_it_brings_is_refused(solve_small, other):
    result = solve_small("--dialect", "torchdeq/anderson", *other)
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        f"{other[0]} (a dialect brings its own; what it takes goes into --dialect torchdeq/anderson:key=value)" in result.stderr
    )


# ---------------------------------------------------------------------------------------------------------------- splittings


@pytest.fixture
def monotone(tmp_path):
    """A monotone network whose weight is far from a contraction, and 5 inputs."""
    rng = np.random.default_rng(6)
    a, skew, u = rng.standard_normal((4, 4)), rng.standard_normal((4, 4)), rng.standard_normal((4, 2))
    cell, x = rd.models.monotone(a, skew, u, rng.standard_normal(4)), rng.standard_normal((5, 2))
    assert np.linalg.norm(cell.parameters["W"], 2) > 2
    rd.save_cell(tmp_path / "monotone.safetensors", cell)
    np.save(tmp_path / "x.npy", x)
    return cell, x, ["solve", tmp_path / "monotone.safetensors", tmp_path / "x.npy", "--backend", "reference"]


@pytest.mark.parametrize(
    ("text", "solver"),
    [
        ("forward-backward:alpha=0.01", rd.ForwardBackward(alpha=0.01)),
        ("fb", rd.ForwardBackward()),
        ("peaceman-rachford:alpha=1", rd.PeacemanRachford(alpha=1.0)),
        ("pr:inverse=dense", rd.PeacemanRachford(inverse="dense")),
    ],
)
@pytest.mark.parametrize("delta", [None, 1e-6])
def test_splittings(refdeq_command, monotone, monkeypatch, text, solver, delta):
    cell, x, command = monotone
    monkeypatch.setattr(solve_run, "CHUNK_BYTES", 1)
    more = [] if delta is None else ["--delta", delta]
    result = refdeq_command(*command, "--solver", text, "--max-eval", "60", "--json", *more)
    rule = None if delta is None else rd.DeltaRule(threshold=delta)
    direct = rd.solve(cell, x, solver=solver, stop=rd.StopRule(rtol=1e-6, max_eval=60), delta=rule, trace=True)
    assert result.exit_code == (0 if direct.converged else 1), result.stderr
    data = json.loads(result.stdout)
    for name in ("n_eval", "residual", "scale"):
        assert data["samples"][name] == getattr(direct, name).tolist()
    assert data["options"]["solver"]["class"] == type(solver).__name__
    if rule is not None:
        gates = {
            gate: {"sent": int(mask.sum()), "elements": 4 * int(direct.n_eval.sum())}
            for gate, mask in direct.trace.mask.items()
        }
        assert data["cost"]["by_gate"] == gates


def test_a_splitting_of_a_cell_that_has_not_its_form_is_refused(solve_small):
    result = solve_small("--solver", "peaceman-rachford")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
