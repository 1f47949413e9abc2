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
