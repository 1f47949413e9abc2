"""Numbers for people on screens; those that the summary needs too are in tracer/vocabulary/numbers.py."""

from __future__ import annotations

from math import isnan

from tracer.vocabulary.numbers import UNKNOWN, count, duration, significant

__all__ = ["UNKNOWN", "clock", "count", "duration", "rate", "share", "signed_duration", "significant", "size"]


def signed_duration(microseconds: float | None) -> str:
    """A duration with its sign, to tell a gain from a loss."""
    text = duration(microseconds)
    return f"+{text}" if microseconds is not None and microseconds > 0 else text


def clock(seconds: float) -> str:
    """The age of a run: 0:42, 12:03, 3:12:03."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, seconds_left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds_left:02d}" if hours else f"{minutes}:{seconds_left:02d}"


def size(value: float | None) -> str:
    """Bytes."""
    if value is None or isnan(value):
        return UNKNOWN
    if abs(value) < 1024:
        return f"{value:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if abs(value) < 1024:
            return f"{significant(value)} {unit}"
    return f"{significant(value / 1024)} TiB"


def rate(per_second: float) -> str:
    """Events per second."""
    return f"{significant(per_second) if per_second < 1000 else count(per_second)}/s" if per_second else "0/s"


def share(part: float, whole: float) -> str:
    """A part of a whole as a percentage."""
    if whole <= 0:
        return UNKNOWN
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "<0.1 %"
    if 99.95 <= percent < 100:  # never "100 %" of what is not all
        return ">99.9 %"
    return f"{percent:.0f} %" if percent in (0, 100) or 10 <= percent < 99.5 else f"{percent:.1f} %"
