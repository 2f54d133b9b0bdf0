"""True and false transcripts with known verdicts: what the judge must say about each, known without asking it.

A transcript of the plain implementation is true. Changing one number of it makes it false in one known place: under strict
order the first failure must be that number, expected as it was, got as it is now, and the only one of its tensor. Under fast
order the numbers beside the bound are found with fractions. Missing, misshapen and refused answers have their own kinds.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from refdeq_validation.cases.model import Case
from refdeq_validation.judge.judging import judge
from refdeq_validation.judge.verdicts import Findings, show
from refdeq_validation.lab.session import Lab
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.transcript import Answer, Transcript, Violation

from meta.fractional import beside_the_bound
from meta.step_runs import FAST, STRICT, case, gemm, given_state, runs, specials, walk

KIND = {"mask": "mask", "r": "memory", "a": "value", "y": "value"}
"""Kind of failure by tensor of a step."""


@dataclass(frozen=True)
class Verdict:
    """One transcript and what must be said of it.

    Attributes
    ----------
    name : str
    case, transcript, claims
        What the judge is given.
    first : dict
        Fields of the first failure that are known; empty for a true transcript.
    counts : (int, int) or None
        Decisions and values that must have been compared.
    """

    name: str
    case: Case
    transcript: Transcript
    claims: Claims
    first: dict[str, Any]
    counts: tuple[int, int] | None

    def holds(self) -> bool:
        """Whether the judge says so; a judge that breaks, or warns, says nothing."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return self._agrees(judge(self.case, self.transcript, self.claims))
        except Exception:  # whatever a mutant of the judge breaks with
            return False

    def _agrees(self, findings: Findings) -> bool:
        if self.counts is not None and (findings.decisions, findings.values) != self.counts:
            return False
        if not self.first:
            return findings.passed and not findings.failures and findings.failed == 0 and findings.worst <= 1.0
        if findings.passed or findings.failed < 1 or not findings.failures:
            return False
        return all(getattr(findings.failures[0], name) == value for name, value in self.first.items())


def verdicts() -> list[Verdict]:
    """All of them, true ones first."""
    made = [(made, claims, execute(made, Lab(), claims)) for made, claims in runs()]
    found = [Verdict(f"true {c.slug} {claims.order}", c, t, claims, {}, _counts(c, t)) for c, claims, t in made]
    for made_case, claims, transcript in made:
        found += _changed(made_case, claims, transcript)
    base = made[0]
    found += [*_broken_off(*base), *_misshapen(*base), *_violations(*base), *_refusals(), *_beside_bounds()]
    found += [*_zeros(), *_infinities()]
    return found


def _counts(made: Case, transcript: Transcript) -> tuple[int, int]:
    """One decision per mask bit; one value per number returned, per tensor whose shape is looked at, and per refusal."""
    steps = [answer.results for answer in transcript.answers if answer.name == "step" and not answer.error]
    decisions = sum(results["mask"].size for results in steps)
    refused = sum(call.refused for call in made.calls)
    return decisions, sum(array.size + 1 for results in steps for array in results.values()) + refused


def _changed(made: Case, claims: Claims, transcript: Transcript) -> Iterator[Verdict]:
    """One number changed: in every tensor of every step, the first or the last one; all kinds of change."""
    changes = ("ulp", "nan", "inf", "zero", "sign") if claims.order == "strict" else ("nan", "inf")
    number = 0
    for t, answer in enumerate(transcript.answers):
        if answer.name != "step" or answer.error:
            continue
        for tensor, array in answer.results.items():
            number += 1
            change = "flip" if tensor == "mask" else changes[number % len(changes)]
            index = tuple(n - 1 for n in array.shape) if number % 3 else tuple(0 for _ in array.shape)
            new = _change(array[index], change)
            if new is None or (claims.order != "strict" and tensor not in ("mask", "r", "a")):
                continue
            false = copy.deepcopy(transcript)
            false.answers[t].results[tensor][index] = new  # type: ignore[index]
            first = {"kind": KIND[tensor], "evaluation": t, "tensor": tensor, "index": index, "actual": show(new), "failing": 1}
            if claims.order == "strict":
                first["expected"] = show(array[index])
            yield Verdict(f"false {made.slug} {claims.order} {t} {tensor} {change}", made, false, claims, first, None)


def _change(value: Any, change: str) -> Any:
    """Another value, or None where the change changes nothing that counts."""
    if change == "flip":
        return np.bool_(not value)
    with np.errstate(all="ignore"):
        new = {
            "ulp": np.nextafter(value, value.dtype.type(np.inf)),
            "nan": value.dtype.type(np.nan),
            "inf": value.dtype.type(-np.inf),
            "zero": value.dtype.type(0.0),
            "sign": -value,
        }[change]
    same = bool(np.isnan(new) and np.isnan(value)) or (new == value and np.signbit(new) == np.signbit(value))
    return None if same else new


def _broken_off(made: Case, claims: Claims, transcript: Transcript) -> Iterator[Verdict]:
    """Answers that are missing, broke, or are not supported; nothing at all."""
    for count in (0, 1, len(transcript.answers) - 1):
        first = {"kind": "missing", "evaluation": count}
        yield Verdict(f"cut after {count}", made, Transcript(made.id, transcript.answers[:count]), claims, first, None)
    for error in ("crash", "unsupported", "refused"):
        for t in (0, 2, len(transcript.answers) - 1):
            answers = [*transcript.answers[:t], Answer(made.calls[t].name, {}, error, "it broke")]
            first = {"kind": "exception", "evaluation": t}
            yield Verdict(f"{error} at {t}", made, Transcript(made.id, answers), claims, first, None)


def _misshapen(made: Case, claims: Claims, transcript: Transcript) -> Iterator[Verdict]:
    """Tensors that are missing, have another shape (also one that broadcasts) or another dtype."""
    last = len(transcript.answers) - 1
    for tensor in ("mask", "r", "a", "y"):
        for name in ("missing", "one row", "one number", "extra axis", "dtype", "objects"):
            false = copy.deepcopy(transcript)
            results = dict(false.answers[last].results)
            array = results.pop(tensor)
            other = "float64" if tensor != "mask" else "float32"
            changed = {
                "one row": array[:1],
                "one number": array.ravel()[:1],
                "extra axis": array[None],
                "dtype": array.astype(other),
                "objects": array.astype(object),
            }
            if name != "missing":
                results[tensor] = changed[name]
            false.answers[last] = replace(false.answers[last], results=results)
            first = {"kind": "structure", "tensor": f"call {last}: {tensor}"}
            yield Verdict(f"{tensor}: {name}", made, false, claims, first, None)


def _violations(made: Case, claims: Claims, transcript: Transcript) -> Iterator[Verdict]:
    for kind in ("guard", "input_mutated", "alias", "nondeterminism", "timeout"):
        false = copy.deepcopy(transcript)
        false.violations.append(Violation(kind, 2, "seen while it ran"))
        yield Verdict(f"violation {kind}", made, false, claims, {"kind": kind, "evaluation": 2, "tensor": "step"}, None)
    late = copy.deepcopy(transcript)
    late.violations.append(Violation("guard", len(made.calls), "seen when all was over"))
    first = {"kind": "guard", "evaluation": len(made.calls), "tensor": ""}
    yield Verdict("violation at the end", made, late, claims, first, None)


def _refusals() -> Iterator[Verdict]:
    """Calls that had to be refused: accepted, crashed on, or called unsupported."""
    made, claims = next((c, claims) for c, claims in runs() if c.slug.startswith("refused"))
    honest = execute(made, Lab(), claims)
    for t, call in enumerate(made.calls):
        for error in ("", "crash", "unsupported") if call.refused else ():
            false = copy.deepcopy(honest)
            false.answers[t] = Answer(call.name, {}, error, "")
            yield Verdict(f"not refused: {t} {error}", made, false, claims, {"kind": "no_exception"}, None)


def _beside_bounds() -> Iterator[Verdict]:
    """Fast order: the last number that the bound admits, and the first that it does not, above and below."""
    for dtype in ("float32", "float64"):
        for rule in ({}, {"refresh": 2}, {"start": "zero", "memory": "always"}, {"threshold": 0.9}):
            problem = gemm(dtype, **rule)
            for number, calls in enumerate((walk(problem, 1, 1), given_state(problem)[:2])):
                made = case(f"beside-{number}-{dtype}-{'-'.join(map(str, rule.values()))}", problem, calls)
                honest = execute(made, Lab(), STRICT)
                for good, row, transcript in beside_the_bound(made, honest):
                    first = {} if good else {"kind": "value", "evaluation": 1, "tensor": "a", "index": row}
                    name = f"{'inside' if good else 'outside'} the bound {made.slug} {row}"
                    yield Verdict(name, made, transcript, FAST, first, None)


def _one_number(made: Case, claims: Claims, t: int, tensor: str, index: tuple[int, ...], value: float) -> Verdict:
    """The right answers with one number exchanged; the output follows its accumulator."""
    false = execute(made, Lab(), STRICT)
    results = false.answers[t].results
    results[tensor][index] = value
    if tensor == "a":
        assert made.problem.bias is None
        results["y"][index] = value
    first = {"kind": KIND[tensor], "evaluation": t, "tensor": tensor, "index": index, "failing": 1}
    return Verdict(f"{made.slug} {claims.order} {tensor}{index} = {value}", made, false, claims, first, None)


def _zeros() -> Iterator[Verdict]:
    """The sign of a zero that is kept, and sums of zeros, which are zero in every order."""
    for dtype in ("float32", "float64"):
        special = gemm(dtype, threshold=0.0)
        yield _one_number(case(f"signed-zero-{dtype}", special, specials(special)), STRICT, 2, "r", (0, 3), -0.0)
        idle = gemm(dtype, shift=False)
        idle.weight[2] = 0.0
        made = case(f"zero-row-{dtype}", idle, walk(idle))
        for t, least in product((1, 2), (np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal)):
            yield _one_number(made, FAST, t, "a", (1, 2), float(least))


def _infinities() -> Iterator[Verdict]:
    """Accumulators that are infinite, or no number, without a reason."""
    for dtype in ("float32", "float64"):
        problem = gemm(dtype, shift=False)
        for value in (np.inf, -np.inf, np.nan):
            yield _one_number(case(f"infinite-{dtype}", problem, walk(problem, 1, 1)), FAST, 1, "a", (0, 1), value)
