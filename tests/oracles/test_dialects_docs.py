"""The tables of ``docs/dialects.md`` are those of the code: the page is normative, so neither may change alone (S-9)."""

from pathlib import Path

import pytest

import refdeq as rd
from refdeq.solvers import KrasnoselskiiMann, Picard
from refdeq.solvers.dialect_tables import TABLES
from refdeq.solvers.peer_broyden import PeerBroyden
from refdeq.solvers.peer_differences import PeerDifferences
from refdeq.solvers.peer_mixing import PeerMixing

PAGE = (Path(__file__).parents[2] / "docs" / "dialects.md").read_text(encoding="utf-8")
ALL = [f"{name}/{method}" for name, methods in TABLES.items() for method in methods]
MARK = 37
"""Budget that the rows are made with, so that what depends on it can be told from what does not."""


def budgeted(label):
    name, method = label.split("/")
    return rd.dialect(name, method, **({"iter": MARK} if name == "scipy" else {"max_iter": MARK}))


def counted(number):
    """A count as K, K + 1, K - 1 of the budget K."""
    return "-" if number is None else "K" if number == MARK else f"K {'+' if number > MARK else '-'} {abs(number - MARK)}"


def power(number):
    if number == 0.0:
        return "0"
    mantissa, exponent = f"{number:.2e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{'' if mantissa == '1' else mantissa + '·'}10^{int(exponent)}"


def decides(rules):
    """Columns of S-1 to S-3: who, which residual, what ends a solve."""
    who = {"samples": "largest of the samples", "norm": "norm of the batch", "mean": "nobody"}[rules.pool]
    of = "‖z‖" if rules.scale == "z" else "‖f‖"
    relative = f"{of} + {power(rules.eps)}" if rules.eps else of
    kind = "‖F‖∞" if rules.termination else rules.mode
    tolerance = "1e-6 √(BN)" if rules.tol is None else f"{rules.tol:.3g}"
    test = "none" if rules.pool == "mean" else f"{kind} {'≤' if rules.compare == '<=' else '<'} {tolerance}"
    others = []
    if rules.stagnation:
        others.append(f"stagnation by {rules.stagnation}")
    if rules.protective:
        others.append(f"protective {power(rules.protective)}·L")
    return who, relative, test, str(rules.first_tested), counted(rules.max_steps), ", ".join(others) or "-"


def returns(rules):
    """Columns of S-4 and of the report."""
    point = rules.value if rules.damping == 1.0 else "damped f"
    start = "" if rules.returned == "last" or rules.lowest_start != 1e8 else " below 10^8"
    alias = ", or last (alias)" if rules.aliases_start else ""
    head = "-" if rules.head is None else power(rules.head)
    number = {"lowest": "lowest", "made": "last", "tests": "tests"}[rules.counts]
    offset = "" if rules.offset == 0 else f" {'+' if rules.offset > 0 else '-'} {abs(rules.offset)}"
    axes = "(T,)" if rules.pool != "samples" else "(B, T)" if rules.layout == "samples first" else "(T, B)"
    return (
        f"{rules.returned} {point}{start}{alias}",
        str(rules.first_recorded),
        head,
        counted(rules.length),
        axes,
        number + offset,
    )


def steps(solver):
    """Column of S-6 to S-8."""
    whole = ", batch as one vector" if getattr(solver, "coupled", False) else ""
    if isinstance(solver, Picard):
        return "Picard"
    if isinstance(solver, KrasnoselskiiMann):
        return f"KM, damping {solver.alpha:g}"
    if isinstance(solver, PeerMixing):
        extras = ", safeguard" * solver.safeguard + ", second point twice" * solver.repeats
        late = "" if solver.first_mix == 2 else f", from evaluation {solver.first_mix} on"
        return f"Anderson, weights, window {solver.window}, ridge {power(solver.ridge)} absolute{late}{extras}{whole}"
    search = ", Armijo" if solver.search else ""
    alpha = "alpha by formula" if solver.alpha is None else f"alpha = {solver.alpha:g}"
    if isinstance(solver, PeerDifferences):
        ridge = f"ridge {power(solver.w0**2)} of the diagonal"
        return f"Anderson, differences, window {solver.window}, {ridge}, {alpha}{search}{whole}"
    assert isinstance(solver, PeerBroyden)
    zero = {"null": "0/0 → 0", "break": "x/0 ends", "reset": "x/0 restarts"}[solver.zero]
    return f"Broyden, {solver.method}, {alpha}, {zero}{search}{whole}"


def row(*cells):
    return "| " + " | ".join(cells) + " |"


@pytest.mark.parametrize("label", ALL)
def test_rows_of_the_tables(label):
    dialect = budgeted(label)
    for cells in (decides(dialect.rules), returns(dialect.rules), (steps(dialect.solver),)):
        assert row(f"`{label}`", *cells) in PAGE


@pytest.mark.parametrize("label", ALL)
def test_options_and_their_defaults(label):
    options = ", ".join(f"{name}={value!r}" for name, value in rd.solvers.as_dialect(label).options)
    assert row(f"`{label}`", f"`{options}`") in PAGE


def test_the_page_has_no_row_of_a_dialect_that_is_not_there():
    labels = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `") and "/" in line.split("`")[1]}
    assert labels == set(ALL)


if __name__ == "__main__":  # the rows to paste into the page
    for make in (lambda d: decides(d.rules), lambda d: returns(d.rules), lambda d: (steps(d.solver),)):
        print(*(row(f"`{label}`", *make(budgeted(label))) for label in ALL), "", sep="\n")
    for label in ALL:
        print(row(f"`{label}`", "`" + ", ".join(f"{n}={v!r}" for n, v in rd.solvers.as_dialect(label).options) + "`"))
