"""Judging automatic mutants of the reference, each in a process of its own, up to the first kill."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from refdeq.reference import ReferenceBackend
from refdeq_validation.applicability import why_not
from refdeq_validation.cases.model import Case as SuiteCase
from refdeq_validation.cases.suite import all_cases
from refdeq_validation.designed.families import designed_cases
from refdeq_validation.holdout.operators import Mutant, mutants_of
from refdeq_validation.holdout.swapping import put_in_place
from refdeq_validation.judge.judging import judge
from refdeq_validation.protocol.adapter import BackendImplementation
from refdeq_validation.protocol.execute import execute
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.runner import judge_case

__all__ = ["TARGETS", "Outcome", "all_mutants", "judge_mutants", "source_hash", "survivor_arguments"]

LIMIT = 30
"""Seconds that one case may take: a mutant may loop for ever."""

STRIDE = 7
"""A spread of the cases comes first: most mutants die early, and no divisor of the presets, through which cases cycle."""

TARGETS: dict[str, frozenset[str] | None] = {
    "refdeq.reference": None,
    "refdeq.delta": frozenset({"gated_nodes", "resolve_gates", "_resolve"}),
    "refdeq.evaluation": None,
    "refdeq.formats": None,
    "refdeq.loop": None,
    "refdeq.recording": frozenset({"Recorder.__init__", "Recorder.record", "Recorder.trace"}),
    "refdeq.stopping": None,
    "refdeq.activations": None,
    "refdeq.ops.linear": frozenset({"gemm_weight", "accumulate_gemm", "add_scaled_bias", "_gemm", "_matmul"}),
    "refdeq.ops.conv": frozenset({"conv_geometry", "conv_taps", "accumulate_conv", "conv_fan_out", "_conv"}),
    "refdeq.linear": None,
    "refdeq.solvers.anderson": None,
    "refdeq.solvers.broyden": None,
    "refdeq.solvers.history": None,
    "refdeq.solvers.picard": None,
    "refdeq.solvers.krasnoselskii_mann": None,
}
"""What is mutated: module to functions, None for all. ``scalar`` and ``types`` are the judge's too, tests alone hold them."""

SPARED = ("__repr__", "__post_init__", "name", "describe", "unavailable", "plan", "size", "_progress")
"""Functions whose results are texts, constants or requests, not numbers."""


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes
    ----------
    mutant : Mutant
    killer : str
        Name of the case, or empty for a survivor.
    how : str
        Kind of the first failure, the class of what was raised, or ``timeout``.
    """

    mutant: Mutant
    killer: str
    how: str


def all_mutants() -> Iterator[Mutant]:
    """Every mutant of every target, in a fixed order."""
    for name, functions in TARGETS.items():
        source = inspect.getsource(importlib.import_module(name))
        for mutant in mutants_of(name, source, functions):
            if mutant.function.rpartition(".")[2] not in SPARED:
                yield mutant


def source_hash() -> str:
    """SHA-256 of the sources that are mutated."""
    digest = hashlib.sha256()
    for name in TARGETS:
        digest.update(inspect.getsource(importlib.import_module(name)).encode())
    return digest.hexdigest()


def survivor_arguments() -> dict[str, str]:
    """Why mutants that no case kills are equivalent, by key: for all inputs that the contract allows."""
    text = resources.files("refdeq_validation.holdout").joinpath("survivors.json").read_text(encoding="utf-8")
    arguments: dict[str, str] = json.loads(text)
    return arguments


def judge_mutants(
    mutants: Sequence[Mutant],
    processes: int = 2,
    advance: Callable[[Outcome], None] = lambda outcome: None,
    killers: Mapping[str, str] | None = None,
) -> list[Outcome]:
    """Judge mutants in parallel.

    Parameters
    ----------
    mutants : sequence of Mutant
    processes : int
    advance : callable
        Told every outcome as it comes.
    killers : mapping of key to case, optional
        Cases that killed a mutant before are tried first.

    Returns
    -------
    list of Outcome, in the order of `mutants`
    """
    _KILLERS.update(killers or {})
    for _, trial in _trials()[::29]:
        trial()  # what the judge compiles is compiled once, before the processes part
    _MUTANTS[:] = mutants  # inherited by the processes: a tree is slow to send
    found = []
    with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=1) as pool:
        for mutant, (killer, how) in zip(mutants, pool.imap(_judge_one, range(len(mutants))), strict=True):
            found.append(Outcome(mutant, killer, how))
            advance(found[-1])
    return found


_MUTANTS: list[Mutant] = []
_KILLERS: dict[str, str] = {}


def _judge_one(number: int) -> tuple[str, str]:
    mutant = _MUTANTS[number]
    put_in_place(mutant)
    signal.signal(signal.SIGALRM, _too_long)
    for name, trial in sorted(_trials(), key=lambda trial: trial[0] != _KILLERS.get(mutant.key)):
        signal.alarm(LIMIT)
        try:
            kind = trial()
        except _TooLongError:
            return name, "timeout"
        except Exception as error:  # a mutant may break in any way
            return name, type(error).__name__
        finally:
            signal.alarm(0)
        if kind:
            return name, kind
    return "", ""


class _TooLongError(BaseException):
    """A case took longer than ``LIMIT``."""


def _too_long(*_: Any) -> None:
    raise _TooLongError


Trial = Callable[[], str]
"""One case: returns the kind of its first failure, or nothing."""

_TRIALS: list[tuple[str, Trial]] = []


def _trials() -> list[tuple[str, Trial]]:
    """Every case as a trial of the reference, a spread of them first; made once, before processes part."""
    if not _TRIALS:
        everything = [(case.name, _designed_trial(case)) for case in designed_cases()]
        claims = Claims.from_manifest(_implementation().manifest())
        everything += [(case.id, _suite_trial(case, claims)) for case in all_cases() if not why_not(case, claims)]
        front = everything[::STRIDE]
        chosen = {name for name, _ in front}
        _TRIALS.extend(front + [trial for trial in everything if trial[0] not in chosen])
    return _TRIALS


def _implementation() -> BackendImplementation:
    """The reference, as the protocol sees it; made anew for each case, so that nothing of it is older than the mutant."""
    return BackendImplementation(ReferenceBackend(), "strict", "op")


def _suite_trial(case: SuiteCase, claims: Claims) -> Trial:
    def trial() -> str:
        findings = judge(case, execute(case, _implementation(), claims), claims)
        return "" if findings.passed or not findings.failed else findings.failures[0].kind

    return trial


def _designed_trial(case: Any) -> Trial:
    def trial() -> str:
        findings = judge_case(case, ReferenceBackend(), "strict", "op")
        return "" if findings.passed else (findings.failures[0].kind if findings.failures else "nothing compared")

    return trial
