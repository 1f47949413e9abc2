"""Numbers for people on screens; those that the summary needs too are in tracer/vocabulary/numbers.py."""

from __future__ import annotations

from math import isnan

from tracer.vocabulary.numbers import UNKNOWN, age, clock, count, duration, share, significant

__all__ = ["UNKNOWN", "age", "clock", "count", "duration", "rate", "share", "signed_duration", "significant", "size"]


def signed_duration(microseconds: float | None) -> str:
    """A duration with its sign, to tell a gain from a loss."""
    text = duration(microseconds)
    return f"+{text}" if microseconds is not None and microseconds > 0 else text


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
