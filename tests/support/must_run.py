"""In CI (QD_CI=1) what needs a real agent, published types or real podman must run: a skip there is a failure.

Pytest hooks; tests/conftest.py takes them up.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

MUST_RUN = ("real_agent", "real_types", "podman")
VARIABLE = "QD_CI"


def _failed(report: pytest.CollectReport | pytest.TestReport, who: str) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"{who} was skipped, and with {VARIABLE}=1 it must run: {reason}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, None]:
    """A skipped test that must run is told as failed."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    marks = [mark for mark in MUST_RUN if item.get_closest_marker(mark)]
    if marks and report.skipped and not hasattr(report, "wasxfail") and os.environ.get(VARIABLE) == "1":
        _failed(report, f"{item.nodeid} (marked {', '.join(marks)})")


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, None]:
    """So is a file that skips itself as a whole, since nobody knows then what is in it."""
    outcome = yield
    report: pytest.CollectReport = outcome.get_result()
    if report.skipped and os.environ.get(VARIABLE) == "1":
        _failed(report, collector.nodeid)
