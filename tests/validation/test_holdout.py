"""The hold-out: what the operators change, that a change takes effect, and a sample of the stored run, judged again."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

from refdeq_validation.holdout.operators import mutants_of
from refdeq_validation.holdout.runner import all_mutants, judge_mutants, source_hash, survivor_arguments

STORED = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "judge" / "holdout.json"

SOURCE = '''
"""A module."""
LIMIT = 3


def outer(x, *, scale=2.0):
    """Not this text: 1 < 2."""
    total = 0.0
    for item in x:
        if item < LIMIT and not item == 1:
            continue
        total += scale * abs(item)
    return total


class Thing:
    def method(self, a, b):
        return max(a, b, key=None)
'''


def test_every_mutant_differs_in_one_place_and_compiles():
    tree, seen = ast.dump(ast.parse(SOURCE)), set()
    mutants = list(mutants_of("m", SOURCE))
    for mutant in mutants:
        compile(mutant.tree, "m", "exec")
        assert ast.dump(mutant.tree) != tree
        assert mutant.before != mutant.after
        seen.add(ast.dump(mutant.tree))
    assert len(seen) == len(mutants) == len({mutant.key for mutant in mutants})
    assert ast.dump(ast.parse(SOURCE)) == tree


def test_the_operators_change_what_they_say():
    texts = {(mutant.operator, mutant.before, mutant.after) for mutant in mutants_of("m", SOURCE)}
    assert ("compare", "item < LIMIT", "item <= LIMIT") in texts
    assert ("boolean", "item < LIMIT and (not item == 1)", "item < LIMIT or not item == 1") in texts
    assert ("arithmetic", "scale * abs(item)", "scale / abs(item)") in texts
    assert ("overwrite", "total += scale * abs(item)", "total = scale * abs(item)") in texts
    assert ("loop", "continue", "break") in texts
    assert ("keyword", "max(a, b, key=None)", "max(a, b)") in texts
    assert ("swap", "max(a, b, key=None)", "max(b, a, key=None)") in texts
    assert not any("Not this text" in before and operator != "return" for operator, before, _ in texts)


def test_only_the_functions_asked_for_change():
    assert {mutant.function for mutant in mutants_of("m", SOURCE, frozenset({"Thing.method"}))} == {"Thing.method"}


def test_a_mutant_reaches_functions_that_others_have_imported():
    script = """
import numpy as np
import refdeq
from refdeq.ops.linear import accumulate_gemm
from refdeq_validation.holdout.runner import all_mutants
from refdeq_validation.holdout.swapping import put_in_place
mutant = next(m for m in all_mutants() if m.function == "accumulate_gemm" and m.operator == "overwrite")
cell = refdeq.models.rnn(np.array([[0.5]]), np.array([[1.0]]), np.array([0.0]))
before = refdeq.solve(cell, np.array([[1.0]]), delta=refdeq.DeltaRule(threshold=0.0)).z
put_in_place(mutant)
after = refdeq.solve(cell, np.array([[1.0]]), delta=refdeq.DeltaRule(threshold=0.0)).z
print(before[0, 0] != after[0, 0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_the_stored_run_keeps_what_it_claims():
    data = json.loads(STORED.read_text())
    arguments = survivor_arguments()
    assert data["killed"] == len(data["killers"])
    assert data["mutants"] == data["killed"] + len(data["survivors"])
    argued = [entry for entry in data["survivors"] if entry["argument"]]
    assert all(arguments[entry["key"]] == entry["argument"] for entry in argued)
    assert data["equivalent"] == len(argued)
    assert data["rate"] == data["killed"] / (data["mutants"] - len(argued)) >= 0.97


def test_a_part_of_the_stored_hold_out_is_killed_again():
    """A tenth of what the stored run killed, chosen by the hash of the sources, starting with the case that is stored."""
    killers = json.loads(STORED.read_text())["killers"]
    known = [mutant for mutant in all_mutants() if mutant.key in killers]
    assert len(known) >= 0.9 * len(killers), "most of the stored mutants are no more: run benchmarks/judge/holdout.py again"
    sample = known[int(source_hash(), 16) % 10 :: 10]
    outcomes = judge_mutants(sample, 1, killers=killers)
    assert [outcome.mutant.key for outcome in outcomes if not outcome.killer] == []
