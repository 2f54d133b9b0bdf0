"""Gate states of the sessions of a case, as its calls set them."""

from __future__ import annotations

from refdeq_validation.cases.model import Call, Case
from refdeq_validation.judge.calls import Memory

__all__ = ["Sessions"]


class Sessions(dict[int, Memory]):
    """Gate states of the sessions of a case, by number."""

    def begun(self, case: Case, call: Call) -> int:
        """Number of a call's session, whose state is set where the call is a reset (D-5, D-9) or gives one."""
        number = int(call.options.get("session", 0))
        if call.name == "reset":
            self[number] = Memory.fresh(case, int(call.options["batch"]))
        elif call.name == "set_state":
            self[number] = Memory(call.arrays["r"], call.arrays["a"], call.arrays["count"])
        return number

    def kept(self, number: int, call: Call) -> Memory | None:
        """The state that a solve goes on from, None where it starts anew."""
        return self[number] if call.options.get("keep") else None
