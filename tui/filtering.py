"""The dashboard's filters: those of --filter-record."""

from __future__ import annotations

from tracer.filters.filter import Filter
from tracer.filters.filter import parse as parse_filter

__all__ = ["Filter", "parse"]


def parse(text: str) -> Filter | None:
    """Parse a filter; None for an empty text.

    Raises:
        TfotraceError: what is wrong with it and where.
    """
    return parse_filter(text) if text.strip() else None
