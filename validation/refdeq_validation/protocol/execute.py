"""Running a case on an implementation: calls in, a transcript out, and every array watched on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from refdeq.errors import ArgumentError, UnsupportedError
from refdeq_validation.cases.model import Call, Case
from refdeq_validation.protocol.guards import LARGE, PLACEMENTS, Guarded, Placement, scribble
from refdeq_validation.protocol.layouts import laid_out, spoiled
from refdeq_validation.protocol.manifest import Claims
from refdeq_validation.protocol.session import Implementation, Session
from refdeq_validation.protocol.timeout import CallTimeoutError, limited
from refdeq_validation.protocol.transcript import Answer, Transcript, Violation

__all__ = ["execute", "kind_of_error"]

Array = np.ndarray[Any, Any]

_SETS_UP = ("reset", "set_state")


def execute(case: Case, implementation: Implementation, claims: Claims, placement: Placement = PLACEMENTS[0]) -> Transcript:
    """Make the calls of a case and record the answers; what an implementation raises is an answer too.

    Parameters
    ----------
    case : Case
    implementation : Implementation
    claims : Claims
        Whether the state is offered, what alignment is accepted, how long a call may take.
    placement : Placement
        Where arrays lie and what they are full of; one of :data:`refdeq_validation.protocol.guards.PLACEMENTS`.

    Returns
    -------
    Transcript
        After a call that failed without being expected to, the rest of the case is not run. Writes outside of arrays, writes to
        inputs, arrays that are kept or handed out, and calls beyond their time are violations.
    """
    poison = getattr(implementation, "poison", None)
    weights = {name: array.copy() for name, array in case.problem.arrays().items() if array.nbytes <= LARGE}
    run = _Execution(case, implementation, claims, placement)
    began = time.perf_counter()
    if poison is not None:
        poison(placement.canary)
    try:
        with np.errstate(all="ignore"):
            run.make_calls()
    finally:
        if poison is not None:
            poison(None)
    run.transcript.seconds = time.perf_counter() - began
    for name, before in weights.items():
        now = case.problem.arrays()[name]
        if before.tobytes() != now.tobytes():
            run.violate("input_mutated", 0, f"the {name} of the problem was written")
            now.flags.writeable = True
            now[...] = before  # other cases share it
    return run.transcript


def kind_of_error(error: BaseException) -> str:
    """Class of an exception, as transcripts name it.

    >>> kind_of_error(ValueError("bad shape"))
    'refused'
    """
    if isinstance(error, NotImplementedError | UnsupportedError):
        return "unsupported"
    return "refused" if isinstance(error, ValueError | TypeError) else "crash"


class _CallError(Exception):
    """What the implementation raised, kept apart from mistakes of the harness."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class _Execution:
    """One execution: its sessions, and the arrays that must stay as they are until its end."""

    def __init__(self, case: Case, implementation: Implementation, claims: Claims, placement: Placement) -> None:
        self.case, self.implementation, self.claims, self.placement = case, implementation, claims, placement
        self.transcript = Transcript(case.id)
        self.sessions: dict[int, Session] = {}
        self.scribbled: list[tuple[int, Guarded]] = []
        self.returned: list[tuple[int, str, Array, bytes]] = []

    def violate(self, kind: str, call: int, text: str) -> None:
        """Record a broken contract."""
        self.transcript.violations.append(Violation(kind, call, text))

    def make_calls(self) -> None:
        """All calls of the case, after the prelude if there is one."""
        if self.placement.prelude and self._can_be_preceded():
            self._prelude()
        for t, call in enumerate(self.case.calls):
            answer = self._answer(t, call)
            self.transcript.answers.append(answer)
            if answer.error and not may_refuse(call):
                break
        for number, session in self.sessions.items():
            self._close(number, session)
        self._look_back()

    def _can_be_preceded(self) -> bool:
        """Whether every session of the case begins by setting its state up, so that nothing before may matter."""
        first: dict[Any, str] = {}
        for call in self.case.calls:
            first.setdefault(call.options.get("session", 0), "" if call.refused else call.name)
        return set(first.values()) <= set(_SETS_UP) and "full" not in self.case.flags

    def _prelude(self) -> None:
        """The same calls with other inputs; what breaks here breaks again when it counts."""
        kept, self.transcript = self.transcript, Transcript(self.case.id)
        for t, call in enumerate(self.case.calls):
            if may_refuse(call) or call.name == "threads":
                continue
            other = {name: np.flip(array, 0) if array.ndim else array for name, array in call.arrays.items()}
            if self._answer(t, Call(call.name, other, call.options)).error:
                break
        self.transcript, self.scribbled, self.returned = kept, [], []

    def _answer(self, t: int, call: Call) -> Answer:
        """One call; what the implementation raises is the answer."""
        try:
            return Answer(call.name, self._perform(t, call, self._session(t, call)))
        except _CallError as raised:
            error = raised.error
            if isinstance(error, CallTimeoutError):
                text = self._late(t, str(error))
                self.violate("timeout", t, text)
                return Answer(call.name, {}, "crash", text)
            return Answer(call.name, {}, kind_of_error(error), f"{type(error).__name__}: {error}")

    def _session(self, t: int, call: Call) -> Session:
        number = int(call.options.get("session", 0))
        if number not in self.sessions:
            self.sessions[number] = self._guarded_call(t, self.implementation.open, self.case.problem)
        return self.sessions[number]

    def _guarded_call(self, t: int, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call the implementation, within its time."""
        began = time.perf_counter()
        try:
            with limited(self.claims.timeout):
                result = function(*arguments, **named)
        except (Exception, SystemExit, CallTimeoutError) as error:  # it may break in any way; the transcript says how
            raise _CallError(error) from error
        seconds = time.perf_counter() - began
        if seconds > self.claims.timeout:
            self.violate("timeout", t, self._late(t, f"it took {seconds:.1f} s"))
        return result

    def _late(self, t: int, how: str) -> str:
        """Which call took longer than how many seconds."""
        limit = f"the {self.claims.timeout:g} s that the manifest allows"
        return f"call {t} of the case ({self.case.calls[t].name}) took longer than {limit}: {how}"

    # -------------------------------------------------------------------------------------------------------------- the calls

    def _perform(self, t: int, call: Call, session: Session) -> Mapping[str, Array]:
        if call.name == "threads":
            change = getattr(session, "threads", None)
            if change is not None:
                self._guarded_call(t, change, int(call.options["count"]))
            return {}
        if call.name == "reset":
            self._guarded_call(t, session.reset, call.options["batch"])
            return {}
        inputs = {name: self._input(call, name) for name in call.arrays}
        arrays = {name: entry.array if isinstance(entry, Guarded) else entry for name, entry in inputs.items()}
        before = {name: array.tobytes() for name, array in arrays.items() if not isinstance(inputs[name], Guarded)}
        guarded = {name: entry for name, entry in inputs.items() if isinstance(entry, Guarded)}
        try:
            if call.name == "set_state":
                self._guarded_call(t, session.set_state, arrays["r"], arrays["a"], arrays["count"])
                return {}
            if call.name == "step":
                return self._step(t, call, session, arrays["u"], guarded)
            return self._solve_or_differentiate(t, call, session, arrays)
        finally:
            for name, bits in before.items():
                if arrays[name].nbytes <= LARGE and arrays[name].tobytes() != bits and name != call.options.get("overlaps"):
                    self.violate("input_mutated", t, f"{name} was written")
            self._watch(t, guarded)

    def _step(self, t: int, call: Call, session: Session, u: Array, guarded: dict[str, Guarded]) -> dict[str, Array]:
        problem, batch = self.case.problem, len(u) if u.ndim else 0
        mask = self._output((batch, *problem.shape), np.dtype(bool), guarded, "mask")
        y = self._output((batch, *problem.out_shape), np.dtype(problem.dtype), guarded, "y")
        if "outputs" in call.options:
            mask, y = spoiled(call.options["outputs"], mask, y)
        if call.options.get("overlaps") == "u":
            u.flags.writeable = True
            y = u
        self._guarded_call(t, session.step, u, mask, y)
        results = {"mask": mask.copy() if "mask" not in guarded else _truth(mask), "y": y.copy()}
        if "mask" in guarded and not guarded["mask"].is_written():
            self.violate("guard", t, "bytes of the mask are neither 0 nor 1: they were not written")
        return results | self._state(t, session, batch)

    def _solve_or_differentiate(self, t: int, call: Call, session: Session, arrays: dict[str, Array]) -> dict[str, Array]:
        options = call.options
        if call.name == "solve":
            given = {"keep": bool(options.get("keep", False)), "trace": bool(options.get("trace", False))}
            returned = self._guarded_call(t, session.solve, arrays["x"], arrays["z0"], **given)
        elif call.name == "gradient":
            points = (arrays["x"], arrays["z"], arrays["cotangent"])
            returned = self._guarded_call(t, session.gradient, *points, jacobian=str(options.get("jacobian", "dense")))
        else:
            raise ArgumentError("call", expected="reset, set_state, step, solve, gradient or threads", got=call.name)
        results = self._taken(t, call.name, returned)
        return results | (self._state(t, session, len(arrays["z0"])) if call.name == "solve" else {})

    def _taken(self, t: int, name: str, returned: Any) -> dict[str, Array]:
        """Copies of what was returned; the originals are overwritten and looked at again at the end."""
        if not isinstance(returned, Mapping):
            raise _CallError(RuntimeError(f"{name} returned {type(returned).__name__}, not a mapping of names to arrays"))
        results = {str(key): np.array(value) for key, value in returned.items()}
        for key, value in returned.items():
            if not isinstance(value, np.ndarray) or value.nbytes > LARGE:
                continue
            if self.placement.scribbles and value.flags.writeable:
                scribble(value, t)
            self.returned.append((t, str(key), value, value.tobytes()))
        return results

    def _state(self, t: int, session: Session, batch: int) -> dict[str, Array]:
        """The state after a call under a rule, where it is offered."""
        problem, guarded = self.case.problem, dict[str, Guarded]()
        if "state" not in self.claims.offers or problem.rule is None:
            return {}
        dtype = np.dtype(problem.dtype)
        r = self._output((batch, *problem.shape), dtype, guarded, "r")
        a = self._output((batch, *problem.out_shape), dtype, guarded, "a")
        try:
            self._guarded_call(t, session.get_state, r, a)
        except _CallError as raised:
            if kind_of_error(raised.error) != "refused":
                raise
            # the call itself was accepted: an error of get_state must not pass for its refusal
            raise _CallError(RuntimeError(f"get_state after a call that was accepted: {raised.error!r}")) from raised.error
        results = {"r": r.copy(), "a": a.copy()}
        self._watch(t, guarded)
        return results

    def _close(self, number: int, session: Session) -> None:
        close = getattr(session, "close", None)
        if close is None:
            return
        last = len(self.transcript.answers) - 1
        try:
            self._guarded_call(max(last, 0), close)
        except _CallError as raised:
            self.violate("exception", max(last, 0), f"closing session {number}: {raised.error!r}")

    # ------------------------------------------------------------------------------------------------------------- the arrays

    def _input(self, call: Call, name: str) -> Guarded | Array:
        values, layout = call.arrays[name], call.options.get("layout", {})
        if name in layout:
            return laid_out(values, layout[name])
        if values.nbytes > LARGE or values.dtype.hasobject:
            view = values.view()
            view.flags.writeable = False
            return view
        if call.options.get("overlaps") == name:
            return values.copy()
        return Guarded(values.shape, values.dtype, self.placement, self.claims.alignment, values)

    def _output(self, shape: tuple[int, ...], dtype: np.dtype[Any], guarded: dict[str, Guarded], name: str) -> Array:
        if int(np.prod(shape)) * dtype.itemsize > LARGE:
            return np.full(shape, self.placement.canary if dtype.kind == "f" else 0, dtype)
        guarded[name] = Guarded(shape, dtype, self.placement, self.claims.alignment)
        return guarded[name].array

    def _watch(self, t: int, guarded: Mapping[str, Guarded]) -> None:
        """Look for writes that must not be, then overwrite everything that was passed in."""
        for name, entry in guarded.items():
            broken = entry.broken()
            if broken:
                self.violate("input_mutated" if broken.startswith("an input") else "guard", t, f"{name}: {broken}")
            if self.placement.scribbles:
                entry.scribble(t)
                self.scribbled.append((t, entry))

    def _look_back(self) -> None:
        """Nothing that was passed in or returned may have changed since: whoever writes there kept a view."""
        for t, entry in self.scribbled:
            if entry.broken():
                self.violate("alias", t, "an array of this call was written after the call had returned")
        for t, name, array, bits in self.returned:
            if array.tobytes() != bits:
                self.violate("alias", t, f"{name}, which this call returned, changed afterwards")


def may_refuse(call: Call) -> bool:
    """Whether a refusal is right, or at least allowed."""
    return call.refused or bool(call.options.get("may_refuse", False))


def _truth(mask: Array) -> Array:
    """The mask with proper truth values, whatever bytes were written."""
    return np.asarray(np.ascontiguousarray(mask).view(np.uint8) != 0)
