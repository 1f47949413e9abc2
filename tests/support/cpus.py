"""Two CPUs for a test that needs them: an emulated guest runs with the second one off, since that is faster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SECOND = Path("/sys/devices/system/cpu/cpu1/online")


@contextmanager
def two_cpus() -> Iterator[None]:
    """The test fails with one CPU. On a machine for tests only, switches the second one on, and off again."""
    asleep = bool(os.environ.get("TFOTRACE_OWN_MACHINE")) and SECOND.exists() and SECOND.read_text().strip() == "0"
    before = os.sched_getaffinity(0)
    if asleep:
        SECOND.write_text("1")
        os.sched_setaffinity(0, {0, 1})  # a test may have held us to what there was
    try:
        if len(os.sched_getaffinity(0)) < 2:
            pytest.fail("this test needs two CPUs", pytrace=False)
        yield
    finally:
        if asleep:
            os.sched_setaffinity(0, before)
            SECOND.write_text("0")
