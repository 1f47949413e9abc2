"""Time zones for tests, whatever this machine's is. POSIX rules, so that no zone database is needed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tracer.vocabulary import local_time

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
NEW_YORK = "EST5EDT,M3.2.0,M11.1.0"
KATHMANDU = "NPT-5:45"


@contextmanager
def zone(name: str) -> Iterator[None]:
    """Local time is that of this zone."""
    before = os.environ.get("TZ")
    try:
        _set(name)
        yield
    finally:
        _set(before)


def _set(name: str | None) -> None:
    if name is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = name
    time.tzset()
    local_time.forget()
