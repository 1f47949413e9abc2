"""Traced interfaces. Those that are gone are remembered for their last handshakes, but only the latest ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import msgspec

GONE_KEPT = 256

State = TypeVar("State")


def forget_gone(known: dict[int, State], there: Collection[int]) -> None:
    """Keep only the latest GONE_KEPT of the interfaces that are not `there`. Keys are their indexes."""
    gone = [index for index in known if index not in there]
    for index in gone[:-GONE_KEPT]:
        del known[index]


class TracedInterface(msgspec.Struct, frozen=True):
    """An attached interface: `hook` is DESIGN.md's name of the hook in use, `why` one sentence.

    In a replay what was in a tunnel counts as an interface too: `through` says in what, the outermost first.
    """

    index: int
    name: str
    hook: str
    why: str
    others: list[str] = []
    warnings: list[str] = []
    group: int = 0
    through: tuple[str, ...] = ()
    mtu: int = 0  # 0 = unknown
