"""Filters as the dashboard uses them: those of --filter."""

from __future__ import annotations

from tracer.filters.filter import Filter
from tracer.filters.filter import parse as parse_filter

__all__ = ["Filter", "parse"]


def parse(text: str) -> Filter | None:
    """The filter a text says; None for an empty one.

    Raises:
        TfotraceError: what is wrong with it and where.
    """
    return parse_filter(text) if text.strip() else None
