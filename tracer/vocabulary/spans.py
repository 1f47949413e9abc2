"""Durations as people write them, alike on the command line, in filters and in tfotrace.toml: 30s, 5m, 1.5h, 200ms."""

from __future__ import annotations

import re

US_PER_S = 1e6
# microseconds, so that filters compare with exactly what records say
_UNITS = {
    "us": 1.0, "µs": 1.0, "μs": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "min": 60e6, "h": 3600e6, "d": 86400e6,
}  # fmt: skip
_DURATION = re.compile(rf"([+-]?(?:\d{{1,18}}(?:\.\d*)?|\.\d+)) ?({'|'.join(_UNITS)})?", re.ASCII)

HOW = "write it like 30s, 5m, 1.5h or 200ms"


def microseconds(text: str, bare: str) -> float | None:
    """What a duration means; a number without a unit is in units of `bare`. None if it is no duration."""
    found = _DURATION.fullmatch(text)
    return None if found is None else float(found[1]) * _UNITS[found[2] or bare]


def seconds(text: str) -> float | None:
    """The same in seconds, as is a number without a unit."""
    found = microseconds(text, "s")
    return None if found is None else found / US_PER_S


def has_unit(text: str) -> bool:
    """Does a duration name its unit?"""
    return text[-1:].isalpha()
