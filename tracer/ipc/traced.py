"""Interfaces that have gone are remembered for their last handshakes, but not for ever: containers come and go."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import msgspec

GONE_KEPT = 256

State = TypeVar("State")


def forget_gone(known: dict[int, State], there: Collection[int]) -> None:
    """Leave GONE_KEPT of the interfaces that are not `there`, those that were met last. Keys are their indexes."""
    gone = [index for index in known if index not in there]
    for index in gone[:-GONE_KEPT]:
        del known[index]


class TracedInterface(msgspec.Struct, frozen=True):
    """An interface as attached: `hook` is DESIGN.md's name for what is in use, `why` one sentence."""

    index: int
    name: str
    hook: str
    why: str
    others: list[str] = []
    warnings: list[str] = []
    group: int = 0
