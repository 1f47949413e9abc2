"""TCP options by name."""

from __future__ import annotations

from tracer.dissect.options import name_of, walk


def names(options: bytes) -> list[str]:
    """The options in their order by name, EOL included; what stops the walk is left out."""
    return [name_of(options, option) for option in walk(options)[0]]
