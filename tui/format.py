"""Numbers for people: three significant digits, a fitting unit, "-" for unknown values."""

from __future__ import annotations

from math import isnan

UNKNOWN = "-"


def significant(value: float) -> str:
    """Three significant digits without an exponent: 0.123, 1.23, 12.3, 123, 1234."""
    size = abs(value)
    if size >= 99.95:
        return f"{value:.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}"


def duration(microseconds: float | None) -> str:
    """A duration as us, ms, s, min or h."""
    if microseconds is None or isnan(microseconds):
        return UNKNOWN
    size = abs(microseconds)
    if microseconds == 0:
        return "0"
    if size < 999.5:
        return f"{significant(microseconds)} µs"
    if size < 999_500:
        return f"{significant(microseconds / 1e3)} ms"
    if size < 120_000_000:
        return f"{significant(microseconds / 1e6)} s"
    if size < 7_200_000_000:
        return f"{significant(microseconds / 6e7)} min"
    return f"{significant(microseconds / 3.6e9)} h"


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


def count(value: float | None) -> str:
    """A count: all digits in groups of three up to 999,999, then 1.23 M."""
    if value is None or isnan(value):
        return UNKNOWN
    if abs(value) < 1e6:
        return f"{value:,.0f}"
    for limit, unit in ((1e9, "M"), (1e12, "G"), (1e15, "T")):
        if abs(value) < limit:
            return f"{significant(value / limit * 1000)} {unit}"
    return f"{value:.3g}"


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
    return f"{percent:.0f} %" if percent in (0, 100) or 10 <= percent < 99.5 else f"{percent:.1f} %"
