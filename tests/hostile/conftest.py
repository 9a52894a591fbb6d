"""How many cases are tried, and their count: a few in every run of the tests, over 20 000 with ``--hypothesis-profile=many``."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("few", max_examples=40, derandomize=True, **QUIET)
settings.register_profile("many", max_examples=1200, print_blob=True, **QUIET)
settings.load_profile("few")  # the option of the command line comes after it


def refused(error: Exception, *names: str) -> None:
    """See that a refusal is one line that says something, and that it names one of these."""
    said = str(error)
    assert 15 < len(said) < 1500
    assert "\n" not in said
    assert not names or any(name in said for name in names), said


_done: Counter[str] = Counter()


def cases(**strategies: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """``hypothesis.given``, with a count of the cases that went well."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def counted(**arguments: Any) -> None:
            test(**arguments)
            _done[test.__name__] += 1

        return given(**strategies)(counted)

    return decorate


@pytest.fixture(autouse=True)
def _count(request: pytest.FixtureRequest) -> Any:
    yield
    request.node.user_properties.append(("cases", _done.pop(request.node.originalname, 0)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for several in terminalreporter.stats.values() for report in several if hasattr(report, "user_properties")]
    count = sum(
        number for report in reports if getattr(report, "when", "") == "teardown" for name, number in report.user_properties
    )
    terminalreporter.write_line(f"hostile input: {count} cases")
