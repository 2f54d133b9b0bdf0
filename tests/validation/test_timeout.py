"""Calls that take too long are stopped, or at least noticed."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from planting.misbehaving import Broken, Hangs
from refdeq_validation.cases.building import gemm, ruled, started
from refdeq_validation.cases.model import Case
from refdeq_validation.lab.session import CLAIMS, LabSession
from refdeq_validation.protocol.timeout import CallTimeoutError, limited
from refdeq_validation.running import run_case

QUICK = replace(CLAIMS, timeout=0.2)
U = np.ones((1, 2), "float32")
CASE = Case("demo", "L2", "memory", gemm(np.ones((2, 2), "float32"), None, ruled(0.5)), started(U, U), ("RACE",), requires=())


class Slow(LabSession):
    def step(self, u, mask, y):
        time.sleep(0.3)
        super().step(u, mask, y)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
def test_a_call_that_never_ends_is_stopped_although_it_catches_exceptions():
    began = time.perf_counter()
    result = run_case(CASE, Broken(Hangs), QUICK)
    assert time.perf_counter() - began < 5
    assert result.disposition == "error"
    assert "timeout" in result.kinds
    assert "0.2 s" in result.reason


def test_a_call_that_ends_too_late_is_noticed_in_other_threads_too():
    found = []
    thread = threading.Thread(target=lambda: found.append(run_case(CASE, Broken(Slow), QUICK)))
    thread.start()
    thread.join()
    assert found[0].disposition == "error"
    assert "timeout" in found[0].kinds
    assert run_case(CASE, Broken(Slow), CLAIMS).disposition == "passed"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
def test_the_limit_ends_with_the_block_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(CallTimeoutError), limited(0.05):
        time.sleep(5)
    with limited(0.05):
        pass
    time.sleep(0.1)
    assert signal.getsignal(signal.SIGALRM) is before
    assert not issubclass(CallTimeoutError, Exception)
