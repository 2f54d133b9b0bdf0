"""Running cases and suites on an implementation: what other packages import."""

from __future__ import annotations

from refdeq_validation.suites import ProfileOutcome, SuiteRun, run_suite
from refdeq_validation.trials import DISPOSITIONS, Result, run_case

__all__ = ["DISPOSITIONS", "ProfileOutcome", "Result", "SuiteRun", "run_case", "run_suite"]
