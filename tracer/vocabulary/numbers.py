"""Numbers for people: three significant digits, a fitting unit, "-" for unknown values."""

from __future__ import annotations

from math import inf, isnan

UNKNOWN = "-"
# each for durations below so many microseconds, and how many it has
_UNITS = {
    "µs": (999.5, 1.0), "ms": (999_500, 1e3), "s": (120_000_000, 1e6), "min": (7_200_000_000, 6e7),
    "h": (inf, 3.6e9),
}  # fmt: skip


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
    if microseconds == 0:
        return "0"
    unit = next((unit for unit, (below, _) in _UNITS.items() if abs(microseconds) < below), "h")
    return f"{significant(microseconds / _UNITS[unit][1])} {unit}"


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


def with_error(microseconds: float, error_us: float) -> str:
    """A duration of either sign without its sign, and what it may be off by, in one unit: "40.4 ± 0.6 ms"."""
    number, unit = duration(abs(microseconds)).split(" ")
    error = error_us / _UNITS[unit][1]
    decimals = 0 if error >= 9.95 else max(1, len(number.partition(".")[2]))
    return f"{number} ± {error:.{decimals}f} {unit}"


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


def clock(seconds: float) -> str:
    """The age of a run: 0:42, 12:03, 3:12:03."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, seconds_left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds_left:02d}" if hours else f"{minutes}:{seconds_left:02d}"


def age(seconds: int) -> str:
    """An age: 12 s, 3:20 min, 1:02:03 h."""
    if seconds < 60:
        return f"{seconds} s"
    return f"{clock(seconds)} {'min' if seconds < 3600 else 'h'}"
