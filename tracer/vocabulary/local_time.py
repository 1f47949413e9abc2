"""Times for people: those of the local time zone, or UTC with --utc. Records have UTC, always."""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone
from functools import lru_cache

QUARTER_S = 900  # a zone changes its offset at full quarters of an hour


def use_utc() -> None:
    """From now on people are told UTC. What `date -u` does: the zone is the process's."""
    os.environ["TZ"] = "UTC0"
    time.tzset()
    forget()


def forget() -> None:
    """Forget what was found in the zone before."""
    offset_s.cache_clear()
    _second.cache_clear()


@lru_cache(maxsize=4096)
def offset_s(quarter: int) -> int:
    """What local time is ahead of UTC, in seconds; `quarter`: of an hour, since 1970."""
    try:
        return time.localtime(quarter * QUARTER_S).tm_gmtoff
    except (OverflowError, OSError, ValueError):  # no year of this platform
        return 0


@lru_cache(maxsize=4096)
def _second(text: str) -> tuple[str, int]:
    """A second of UTC as local time, and its offset in seconds."""
    try:
        utc = datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
        ahead_s = offset_s(int(utc.timestamp()) // QUARTER_S)
        local = datetime.fromtimestamp(utc.timestamp() + ahead_s, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return text, 0
    return f"{local:%Y-%m-%dT%H:%M:%S}", ahead_s


def local(ts: str) -> str:
    """A record's `ts`, local and without its Z: "2026-11-30T07:10:15.701900123"."""
    return _second(ts[:19])[0] + ts[19:].removesuffix("Z")


def clock(ts: str, decimals: int = 3) -> str:
    """The time of day alone."""
    return local(ts)[11 : 20 + decimals if decimals else 19]


def day(ts: str) -> str:
    """The day alone."""
    return _second(ts[:19])[0][:10]


def zone(ts: str) -> str:
    """How far local time was ahead of UTC then: "UTC+02:00", or "UTC"."""
    return zone_words(_second(ts[:19])[1])


def zone_words(ahead_s: int) -> str:
    """Likewise, of an offset."""
    if not ahead_s:
        return "UTC"
    hours, minutes = divmod(abs(ahead_s) // 60, 60)
    return f"UTC{'-' if ahead_s < 0 else '+'}{hours:02d}:{minutes:02d}"
