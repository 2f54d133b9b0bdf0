# ruff: noqa: E501 - rows of a table
"""Mistakes that people make in judges, planted in this one: module, function, what is there, and what is put there instead.

A place that has changed is an error: the mistake has to be written anew. The automatic mutants are in ``mutating``.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap

from meta.mutating import Mutant, functions_of

Place = tuple[str, str, str, str]

MISTAKES: dict[str, Place] = {
    # ------------------------------------------------------------------------------------------------ checks that were dropped
    "violations are ignored": ("judge.judging", "judge", "in transcript.violations", "in ()"),
    "masks are not compared": ("judge.steps", "_Steps._judge_step", 'self.compare.bits("mask", t, "mask", done.sent,', "bool("),
    "references are not compared": ("judge.steps", "_Steps._judge_step", 'self.compare.bits("memory", t, "r", done.r,', "bool("),
    "sums are not compared": ("judge.accumulating", "Linear.judge_shown", "if self.knows_bits:", "if self.knows_bits and t < 0:"),
    "outputs are not compared": ("judge.accumulating", "Linear.judge_shown", 'self.compare.bits("value", t, "y",', "(lambda *_: 0)("),
    "steps after the first are skipped": ("judge.steps", "_Steps.judge", 'call.name == "step" and number in states', 'call.name == "step" and t == 1'),
    "sessions share one state": ("judge.steps", "_Steps.judge", 'int(call.options.get("session", 0))', "0"),
    "answers that are missing": ("judge.calls", "answered", 'compare.findings.add(Failure("missing", t, call.name, (), "an answer", "nothing"))', "pass"),
    "what broke is passed over": ("judge.calls", "answered", "compare.findings.add(Failure(\"exception\", t, call.name, (), \"an answer\", f\"{answer.error}: {answer.text}\"))", "pass"),
    "a refusal not made": ("judge.calls", "answered", 'answer.error or "accepted"', '"refused"'),
    "any error is a refusal": ("judge.calls", "answered", 'answer.error or "accepted"', '("refused" if answer.error else "accepted")'),
    "missing tensors": ("judge.calls", "has_arrays", "if not isinstance(got, np.ndarray):", "if got is None:\n            continue\n        if not isinstance(got, np.ndarray):"),
    "shapes are not looked at": ("judge.calls", "has_arrays", "(got.shape, kind)", "(shape, kind)"),
    "dtypes are not looked at": ("judge.calls", "has_arrays", "(got.shape, kind)", "(got.shape, str(dtype))"),
    "only the last tensor counts": ("judge.calls", "has_arrays", "(got.shape, kind)) and ok", "(got.shape, kind))"),
    # ----------------------------------------------------------------------------------------- comparisons that are too lenient
    "bits: only the first element": ("judge.comparing", "Comparer.bits", "if good.all():", "if good.ravel()[:1].all():"),
    "bits: one right element will do": ("judge.comparing", "Comparer.bits", "if good.all():", "if good.any() or not good.size:"),
    "bits: zeros have no sign": ("judge.comparing", "Comparer.bits", "if not zeros:", "if True:"),
    "bits: close is enough": ("judge.comparing", "Comparer.bits", "same_bits(expected, actual)", "np.isclose(expected.astype(float), actual.astype(float), equal_nan=True)"),
    "bits: NaN equals anything": ("judge.comparing", "Comparer.bits", "same_bits(expected, actual)", "(same_bits(expected, actual) | (actual != actual))"),
    "bits: found, not recorded": ("judge.comparing", "Comparer.bits", "self._first(kind, t, tensor, good, expected, actual, margin=margin)", "pass"),
    "plain values: found, not recorded": ("judge.comparing", "Comparer.equal", "if expected == actual:", "if True:"),
    "bounds: NaN passes": ("judge.comparing", "Comparer.within", "inside = error <= limit", "inside = np.logical_not(error > limit)"),
    "bounds: twice as wide": ("judge.comparing", "Comparer.within", "inside = error <= limit", "inside = error <= 2.0 * limit"),
    "bounds: sixteen times as wide": ("judge.comparing", "Comparer.within", "inside = error <= limit", "inside = error <= 16.0 * limit"),
    "bounds: only the mean": ("judge.comparing", "Comparer.within", "inside = error <= limit", "inside = np.full(error.shape, np.nanmean(error) <= np.nanmean(limit))"),
    "bounds: equality excluded": ("judge.comparing", "Comparer.within", "inside = error <= limit", "inside = error < limit"),
    "bounds: only the first element": ("judge.comparing", "Comparer.within", "if inside.all():", "if inside.ravel()[:1].all():"),
    "bounds: infinities pass": ("judge.comparing", "Comparer.within", "inside = error <= limit", "inside = (error <= limit) | np.isinf(actual)"),
    "the bound ignores how much was sent": ("judge.bounds", "accumulate", "leaves = (k + (1 + extra))", "leaves = (64 + 0 * k)"),
    "the bound is that of a narrower format": ("judge.bounds", "accumulate", "growth = leaves * model.adds.unit", "growth = leaves * 2.0**-11"),
    "the bound is absolute": ("judge.bounds", "accumulate", "limit = sum(terms.values()) * INFLATION", "limit = sum(terms.values()) * INFLATION + 1e-6"),
    "a sum of zeros may be anything": ("judge.bounds", "accumulate", "limit = np.where(exact, 0.0,", "limit = np.where(exact, np.inf,"),
    "a sum of zeros may underflow": ("judge.bounds", "accumulate", "exact = gauge == 0.0", "exact = gauge < 0.0"),
    # ------------------------------------------------------------------------------------------------------- wrong expectations
    "ties the other way": ("judge.arithmetic", "decide_all", "<= ", "< "),
    "the state is not taken over": ("judge.steps", "_Steps._judge_step", 'state.a = results["a"]', "pass"),
    "evaluations are not counted": ("judge.steps", "_Steps._judge_step", "state.count + 1", "state.count"),
    "starts are never dense": ("judge.steps", "_Steps._judge_step", 'self.rule.start == "dense"', 'self.rule.start == "Dense"'),
    "no refreshes": ("judge.steps", "_Steps._judge_step", "if refresh.any():", "if False:"),
    # -------------------------------------------------------------------------------------------------- verdicts and their sums
    "an empty judgement passes": ("judge.verdicts", "Findings.passed", "self.values > 0", "self.values >= 0"),
    "failures do not count": ("judge.verdicts", "Findings.passed", "self.failed == 0", "self.failed >= 0"),
    "failures are kept, not counted": ("judge.verdicts", "Findings.add", "self.failed += 1", "pass"),
    "merging forgets failures": ("judge.verdicts", "Findings.merge", "self.failed += other.failed", "pass"),
    # ------------------------------------------------------------------------------------------------------------------ the runs
    "a crash is a pass": ("trials", "Trial.result", '"error" if self.broke else', ""),
    "nothing was executed": ("trials", "Trial.result", 'return Result(self.case, "missing", reason="it was not executed")', 'return Result(self.case, "passed")'),
    "differences between executions": ("trials", "Trial.execute", "self.findings.add(difference)", "pass"),
    "exchanged functions": ("trials", "Trial.execute", "if altered:", "if False:"),
    "counts need not close": ("suites", "SuiteRun.exit_code", "not self.closes", "False"),
    "nothing planned is granted": ("suites", "SuiteRun.exit_code", "not self.planned or", ""),
    "canaries may survive": ("suites", "SuiteRun.exit_code", "or survived", ""),
    "failures are incomplete": ("suites", "SuiteRun.exit_code", 'counts["failed"] or counts["xpassed"]', 'counts["xpassed"]'),
    "unexpected passes are passes": ("suites", "SuiteRun.exit_code", 'counts["failed"] or counts["xpassed"]', 'counts["failed"]'),
    "profiles need not be granted": ("suites", "SuiteRun._lacks_profile", "if outcome.name in self.required", "if False"),
    "what did not run is granted": ("suites", "grant", 'found.get(case, "missing")', 'found.get(case, "passed")'),
    "skips are passes": ("suites", "grant", 'lacking.pop("passed", None)', 'lacking.pop("passed", None)\n    lacking.pop("skipped", None)'),
    "an empty profile is granted": ("suites", "grant", "if not profile.ids:", "if False:"),
    "vacuous cases are not told": ("suites", "check_cases", "found.append(str(error))", "pass"),
}  # fmt: skip


def planted(name: str) -> Mutant:
    """The mistake as a mutant.

    Raises
    ------
    LookupError
        When the text to be replaced does not occur exactly once.
    """
    short, function, old, new = MISTAKES[name]
    module = f"refdeq_validation.{short}"
    source = textwrap.dedent(inspect.getsource(dict(functions_of(sys.modules[module]))[function]))
    if source.count(old) != 1:
        raise LookupError(f"{name}: {old!r} occurs {source.count(old)} times in {module}.{function}")
    changed = source.replace(old, new)
    definition = ast.parse(changed).body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    return Mutant(module, function, name, name, definition)
