"""What every judging process needs: imported, and made, in the server that they are forked from."""

from __future__ import annotations

import refdeq_validation.case_suites
import refdeq_validation.mutants.canaries
import refdeq_validation.schedule  # noqa: F401
from refdeq_validation.cases.suite import by_id

by_id()
