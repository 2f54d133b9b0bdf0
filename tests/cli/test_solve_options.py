"""Options of ``refdeq solve``: each reaches the solve, and what none of them can be is refused with what there is."""

from __future__ import annotations

import dataclasses
import json
from typing import Literal

import numpy as np
import pytest

import refdeq as rd
from refdeq import solvers
from refdeq.commands import solve_options, solve_run
from refdeq.commands.solve_options import (
    parse_delta,
    parse_solver,
    parse_stagnation,
    solver_classes,
    split_spec,
)
from refdeq.errors import ArgumentError

ZERO = rd.StopRule(rtol=1e-6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    """A configuration inside a configuration."""

    tries: int = 5
    least: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoWords:
    """A solver with a field of every type that a configuration may have."""

    count: int = 1
    share: float = 0.5
    size: int | float | None = 2.0
    kind: Literal["plain", "fancy"] | None = None
    restart: bool = False
    shape: tuple[int, int] | None = None
    weights: tuple[float, ...] = ()
    inner: Inner | Literal["usual"] | None = None
    derived: int = dataclasses.field(default=7, init=False)

    def init(self, kernels, z):
        """Nothing."""

    def step(self, kernels, z, f, state, active):
        """Nothing."""


@pytest.fixture
def two_words(monkeypatch):
    monkeypatch.setattr(solvers, "__all__", [*solvers.__all__, "TwoWords"])
    monkeypatch.setattr(solvers, "TwoWords", TwoWords, raising=False)


# ------------------------------------------------------------------------------------------------------------- solver values


def test_every_exported_solver_can_be_asked_for_by_its_name():
    assert solver_classes() == {
        "anderson": solvers.Anderson,
        "broyden": solvers.Broyden,
        "picard": solvers.Picard,
        "krasnoselskii-mann": solvers.KrasnoselskiiMann,
        "km": solvers.KrasnoselskiiMann,
        "forward-backward": solvers.ForwardBackward,
        "fb": solvers.ForwardBackward,
        "peaceman-rachford": solvers.PeacemanRachford,
        "pr": solvers.PeacemanRachford,
    }
    for name, kind in solver_classes().items():
        assert parse_solver(name) == kind()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("count=3", {"count": 3}),
        ("share=1e-3", {"share": 1e-3}),
        ("share=3", {"share": 3.0}),
        ("size=3", {"size": 3}),
        ("size=3.5", {"size": 3.5}),
        ("size=none", {"size": None}),
        ("kind=fancy", {"kind": "fancy"}),
        ("kind=none", {"kind": None}),
        ("restart=true", {"restart": True}),
        ("restart=False", {"restart": False}),
        ("shape=2/3", {"shape": (2, 3)}),
        ("weights=1/2/3.5", {"weights": (1.0, 2.0, 3.5)}),
        ("inner=usual", {"inner": "usual"}),
        ("inner.tries=2,inner.least=0.5", {"inner": Inner(tries=2, least=0.5)}),
        ("count=2,kind=plain,restart=true", {"count": 2, "kind": "plain", "restart": True}),
    ],
)
@pytest.mark.parametrize("name", ["two-words", "Two_Words", "tw"])
def test_values_are_read_by_the_type_of_their_field(two_words, name, text, expected):
    built = parse_solver(f"{name}:{text}")
    assert built == TwoWords(**expected)
    for key, value in expected.items():
        assert type(getattr(built, key)) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("two-words:count=3.5", "--solver two-words: count: expected an integer, got '3.5'"),
        ("two-words:kind=odd", "kind: expected plain or fancy or none, got 'odd'"),
        ("two-words:restart=1", "restart: expected true or false, got '1'"),
        ("two-words:shape=1/2/3", "shape: expected values joined by '/' or none, got '1/2/3'"),
        (
            "two-words:derived=3",
            "expected a key out of count, share, size, kind, restart, shape, weights, inner, got 'derived'",
        ),
        ("two-words:inner=odd", "inner: expected its parts (.tries=, .least=) or usual or none, got 'odd'"),
        ("two-words:inner.speed=1", "--solver two-words: inner: expected a key out of tries, least, got 'speed'"),
        ("two-words:count.speed=1", "expected a key out of count, share"),
        ("two-words:count", "expected NAME or NAME:key=value,key=value"),
        ("two-words:count=", "expected NAME or NAME:key=value,key=value"),
        ("two-words:=3", "expected NAME or NAME:key=value,key=value"),
        ("two-words:", "expected NAME or NAME:key=value,key=value"),
        ("two-words:count=1,count=2", "expected 'count' once"),
        ("picard:alpha=1", "expected no keys (there is nothing to set), got 'alpha'"),
        (
            "newton",
            "anderson, broyden, fb, forward-backward, km, krasnoselskii-mann, peaceman-rachford, picard, pr, tw, two-words",
        ),
        ("", "--solver: expected one of"),
        ("km:alpha=3", "alpha: expected a number in (0, 2], got 3.0"),
    ],
)
def test_wrong_solvers_are_refused_with_what_there_is(two_words, text, said):
    with pytest.raises(ArgumentError) as refused:
        parse_solver(text)
    assert said in str(refused.value)


def test_spaces_around_values_do_not_matter():
    assert split_spec("--x", "a: b = 1 , c=2") == ("a", {"b": "1", "c": "2"})


# -------------------------------------------------------------------------------------------------------------- delta values


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("0.01", rd.DeltaRule(threshold=0.01)),
        ("inf", rd.DeltaRule(threshold=np.inf)),
        ("paper:threshold=0.1", rd.DeltaRule.preset("paper", threshold=0.1)),
        ("refdeq:threshold=0.1/0.2,refresh=5", rd.DeltaRule(threshold=(0.1, 0.2), refresh=5)),
        (
            "deltadeq-code:threshold=0,memory=feedback,feedback_format=bfloat16",
            rd.DeltaRule.preset("deltadeq-code", threshold=0.0, memory="feedback", feedback_format="bfloat16"),
        ),
        ("refdeq:threshold=1,granularity=tile,tile=2/2/3", rd.DeltaRule(threshold=1.0, granularity="tile", tile=(2, 2, 3))),
        ("refdeq:threshold=1,dense=c1/c2", rd.DeltaRule(threshold=1.0, dense=("c1", "c2"))),
        (
            "refdeq:threshold=1,gates.z.threshold=2,gates.a.b.granularity=sample",
            rd.DeltaRule(
                threshold=1.0, gates={"z": rd.GateOverride(threshold=2.0), "a.b": rd.GateOverride(granularity="sample")}
            ),
        ),
    ],
)
def test_delta_rules(text, rule):
    assert parse_delta(text) == rule


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("much", "--delta: expected a threshold, or one of paper, deltadeq-code, delta-network, refdeq"),
        ("paper", "expected a threshold, as in paper:threshold=0.01, got 'paper'"),
        ("paper:compare=gt", "expected a threshold, as in paper:threshold=0.01"),
        ("-1", "threshold: expected a number >= 0"),
        ("nan", "threshold: expected a number >= 0"),
        ("refdeq:threshold=1,compare=lt", "--delta refdeq: compare: expected gt or ge, got 'lt'"),
        ("refdeq:threshold=1,speed=2", "expected a key out of threshold, compare, memory"),
        ("refdeq:threshold=1,gates.z=2", "expected gates.NAME.threshold"),
        (
            "refdeq:threshold=1,gates.z.speed=2",
            "--delta gates.z: expected a key out of threshold, granularity, tile, got 'speed'",
        ),
        ("refdeq:threshold=1,granularity=row", "granularity: expected one of"),
    ],
)
def test_wrong_delta_rules_are_refused_with_what_there_is(text, said):
    with pytest.raises(ArgumentError) as refused:
        parse_delta(text)
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["20", "20,", "a,b", "1.5,1", ""])
def test_wrong_stagnation_is_refused(text):
    with pytest.raises(ArgumentError, match="--stagnation: expected WINDOW,RATIO"):
        parse_stagnation(text)


# --------------------------------------------------------------------------------------------------- through the command line

REACHED = [
    (["--solver", "km:alpha=0.5"], {"solver": rd.KrasnoselskiiMann(alpha=0.5)}),
    (["--solver", "anderson:window=3,mixing=0.9,ridge=1e-10"], {"solver": rd.Anderson(window=3, mixing=0.9, ridge=1e-10)}),
    (["--solver", "anderson:coupled=true"], {"solver": rd.Anderson(coupled=True)}),
    (["--solver", "broyden:window=10,line_search=armijo"], {"solver": rd.Broyden(window=10, line_search="armijo")}),
    (
        ["--solver", "broyden:line_search.backtracks=3"],
        {"solver": rd.Broyden(line_search=rd.ArmijoLineSearch(backtracks=3))},
    ),
    (["--rtol", "1e-3"], {"stop": rd.StopRule(rtol=1e-3)}),
    (["--atol", "1e-3"], {"stop": rd.StopRule(atol=1e-3)}),
    (["--rtol", "0", "--atol", "1e-3"], {"stop": rd.StopRule(rtol=0.0, atol=1e-3)}),
    (["--max-eval", "4"], {"stop": rd.StopRule(rtol=1e-6, max_eval=4)}),
    (["--norm", "linf"], {"stop": rd.StopRule(rtol=1e-6, norm="linf")}),
    (["--eps", "0.5"], {"stop": rd.StopRule(rtol=1e-6, eps=0.5)}),
    (["--divergence", "0.01"], {"stop": rd.StopRule(rtol=1e-6, divergence=0.01)}),
    (["--stagnation", "2,0.01"], {"stop": rd.StopRule(rtol=1e-6, stagnation=(2, 0.01))}),
    (["--delta", "paper:threshold=0.1"], {"delta": rd.DeltaRule.preset("paper", threshold=0.1)}),
    (["--returned", "lowest", "--max-eval", "3"], {"returned": "lowest", "stop": rd.StopRule(rtol=1e-6, max_eval=3)}),
    (["--polish"], {"polish": True}),
    (["--verify"], {"verify": True}),
    (["--executor", "op"], {"executor": "op"}),
    (["--threads", "2"], {"threads": 2}),
    (["--backend", "numba", "--order", "fast"], {"backend": "numba", "order": "fast"}),
    (["--backend", "numba", "--executor", "fused"], {"backend": "numba", "executor": "fused"}),
]


@pytest.mark.parametrize(
    ("options", "arguments"), REACHED, ids=lambda value: "-".join(value) if isinstance(value, list) else ""
)
def test_every_option_reaches_the_solve(solve_small, small, tmp_path, same_bits, options, arguments):
    result = solve_small("--json", "--out", tmp_path / "z.npz", *options)
    direct = rd.solve(small.cell, small.x, **{"stop": ZERO, **arguments})
    assert result.exit_code == (0 if direct.converged else 1), result.stderr
    data = json.loads(result.stdout)
    assert data["samples"]["status"] == [rd.Status(s).name for s in direct.status]
    for name in ("n_eval", "residual", "scale"):
        assert data["samples"][name] == getattr(direct, name).tolist()
    with np.load(tmp_path / "z.npz") as out:
        same_bits(out["z"], direct.z)
    for name, value in arguments.items():
        said = data["options"][name]
        if name == "solver":
            assert said == {"name": value.name, "class": type(value).__name__, **dataclasses.asdict(value)}
        else:
            assert said == json.loads(json.dumps(dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value))


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--solver", "newton"], 2, "--solver: expected one of"),
        (["--solver", "km:beta=1"], 2, "--solver km: expected a key out of alpha, got 'beta'"),
        (["--rtol", "-1"], 2, "rtol: expected None or a number >= 0"),
        (["--rtol", "few"], 2, "--rtol"),
        (["--max-eval", "0"], 2, "max_eval: expected an integer >= 1, got 0"),
        (["--norm", "l1"], 2, "norm: expected one of ('l2', 'linf'), got 'l1'"),
        (["--eps", "0"], 2, "eps: expected a finite number > 0"),
        (["--delta", "paper"], 2, "--delta: expected a threshold, as in paper:threshold=0.01"),
        (["--delta", "refdeq:threshold=1,dense=nowhere"], 2, "dense: expected names of linear nodes"),
        (["--backend", "ghost"], 3, "backend 'ghost' cannot run"),
        (["--order", "random"], 2, "order: expected one of"),
        (["--order", "fast"], 2, "backend 'reference' offers order ('strict',), not 'fast'"),
        (["--executor", "fused"], 2, "backend 'reference' has no fused plan"),
        (["--executor", "other"], 2, "executor: expected one of"),
        (["--threads", "0"], 2, "threads: expected an integer >= 1"),
        (["--returned", "first"], 2, "returned: expected one of"),
        (["--plot", "r.pdf"], 2, "--plot: expected a file that ends in .png or .svg, got r.pdf"),
        (["--plot", "r.png", "--no-history"], 2, "--plot"),
        (["--trace", "t.npz"], 2, "--trace: expected a file that ends in .safetensors, got t.npz"),
        (["--out", "z.txt"], 2, "--out: expected a file that ends in .safetensors or .npz"),
        (["--jsno"], 2, "--jsno"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_are_one_clear_message(solve_small, tmp_path, monkeypatch, options, code, said):
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    result = solve_small(*options)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_solve_that_does_not_fit_in_memory_says_so(solve_small, monkeypatch):
    def too_much(*_, **__):
        raise MemoryError

    monkeypatch.setattr(solve_run, "solve", too_much)
    result = solve_small()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "smaller --max-eval or fewer samples" in result.stderr


def test_help_shows_an_example_and_the_exit_codes(refdeq_command):
    text = refdeq_command("solve", "--help").stdout
    assert "\n      refdeq solve sine --solver km:alpha=0.9 --delta 0.001 --rtol 1e-3\n" in text
    assert "1 some sample did not" in " ".join(text.split())
    assert all(option in text for option in ("--solver", "--delta", "--trace", "--plot", "--json", "CELL", "INPUT"))


def test_the_example_of_the_help_runs(refdeq_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = next(line for line in refdeq_command("solve", "--help").stdout.splitlines() if "refdeq solve sine" in line)
    assert refdeq_command(*command.split()[1:], "--backend", "reference").exit_code == 0


def test_fields_are_those_the_constructor_takes():
    assert list(solve_options.option_fields(TwoWords)) == [
        "count",
        "share",
        "size",
        "kind",
        "restart",
        "shape",
        "weights",
        "inner",
    ]
