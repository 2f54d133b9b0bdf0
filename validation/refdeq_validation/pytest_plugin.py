"""pytest plugin: ``pytest --refdeq-backend=NAME`` makes one test per conformance case.

Loaded by every pytest of an environment that has refdeq, so it imports nothing until the option is given
(:mod:`refdeq_validation.pytest_cases` does the work then).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_ignore_collect",
]

_ALONE = "refdeq_alone"
"""Told to workers of pytest-xdist: whether only conformance cases are collected."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the group *refdeq*."""
    group = parser.getgroup("refdeq", "conformance cases of refdeq")
    backend = "judge this implementation: an installed name, backend[:order[:path]], module:attribute, or a backend.toml"
    group.addoption("--refdeq-backend", metavar="SPEC", help=backend)
    profile = "the cases of this profile, which must be granted; the core tier by default"
    group.addoption("--refdeq-profile", metavar="NAME", help=profile)


def pytest_configure(config: pytest.Config) -> None:
    """Count what the tests report, where the option is given."""
    if config.getoption("refdeq_backend") is None:
        if config.getoption("refdeq_profile") is not None:
            raise pytest.UsageError("--refdeq-profile needs --refdeq-backend")
        return
    from refdeq_validation.pytest_cases import Tally

    config.pluginmanager.register(Tally(config), "refdeq-tally")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without file arguments nothing but the conformance cases is collected."""
    return True if config.getoption("refdeq_backend") is not None and _is_alone(config) else None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist: a worker is given files as arguments whether the user named them or not."""
    node.workerinput[_ALONE] = _is_alone(node.config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the cases, before ``-k`` and its like choose among the tests."""
    if config.getoption("refdeq_backend") is not None:
        from refdeq_validation.pytest_cases import case_items

        cases: Sequence[pytest.Item] = case_items(session)
        items.extend(cases)


def _is_alone(config: pytest.Config) -> bool:
    given: dict[str, Any] = getattr(config, "workerinput", {})
    return bool(given.get(_ALONE, config.args_source is not pytest.Config.ArgsSource.ARGS))
