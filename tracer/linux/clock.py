"""From the programs' clock to the wall clock."""

from __future__ import annotations

import time
from datetime import datetime, timezone


def wall_offset_ns() -> int:
    """CLOCK_REALTIME - CLOCK_MONOTONIC in ns. The programs' times are CLOCK_MONOTONIC, so durations never step."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    wall = time.clock_gettime_ns(time.CLOCK_REALTIME)
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    return wall - (before + after) // 2


def wall_now() -> str:
    """Now, as records write it: RFC 3339 UTC with nanoseconds."""
    now_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
    whole = datetime.fromtimestamp(now_ns // 1_000_000_000, timezone.utc)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{now_ns % 1_000_000_000:09d}Z"
