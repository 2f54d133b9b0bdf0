"""The watching parent says how the judging process ended, and ends with 5 unless the user ended it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHILD = """
import os, signal
from refdeq_validation.supervising import announce, supervise
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored, and inherited so, where the tests run behind nohup
supervise()
{body}
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def ended(body):
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(body=body)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGABRT"])
def test_death_by_a_signal_is_told_and_is_a_crash(name):
    code, said = ended(f"os.kill(os.getpid(), signal.{name})")
    assert code == 5
    assert said.startswith("error: the judged implementation crashed: signal ")
    assert "before there was a verdict" in said


def test_a_crash_after_the_verdict_is_none_the_less_a_crash():
    code, said = ended("announce(); os.kill(os.getpid(), signal.SIGSEGV)")
    assert code == 5
    assert "after its verdict" in said


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_what_the_user_ended_is_no_crash(name, code):
    assert ended(f"os.kill(os.getpid(), signal.{name})") == (code, "")


def test_an_end_without_a_verdict_is_no_pass():
    assert ended("os._exit(0)")[0] == 5
    assert ended("announce(); os._exit(0)") == (0, "")
    assert ended("announce(); os._exit(1)") == (1, "")
