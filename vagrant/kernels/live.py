"""A pytest plugin for guests: writes at once how long a test took and why it failed or was skipped, in case the run is
stopped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

WHERE = Path(os.environ["RESULTS"])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Append to RESULTS/durations (seconds), and to RESULTS/failures or RESULTS/skipped."""
    _append("durations", f"{report.duration:.1f} {report.when} {report.nodeid}\n")
    if report.failed:
        _append("failures", f"=== {report.nodeid} ({report.when}, {report.duration:.1f} s)\n{report.longreprtext}\n")
        for title, text in report.sections:
            _append("failures", f"--- {title}\n{text}\n")
    elif report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        _append("skipped", f"{report.nodeid}: {reason}\n")


def _append(name: str, text: str) -> None:
    with open(WHERE / name, "a", encoding="utf-8") as file:
        file.write(text)
