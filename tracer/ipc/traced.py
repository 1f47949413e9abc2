"""Traced interfaces. Those that are gone are remembered for their last handshakes, but only the latest ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

GONE_KEPT = 256

State = TypeVar("State")


def remembered(known: Mapping[int, State], there: Mapping[int, State]) -> dict[int, State]:
    """Those that are `there`, behind the latest GONE_KEPT that are not, in the order in which they went.

    `known` is what this returned the last time. Keys are their indexes.
    """
    gone = [index for index in known if index not in there]
    return {index: known[index] for index in gone[-GONE_KEPT:]} | dict(there)


class TracedInterface(msgspec.Struct, frozen=True):
    """An attached interface: `hook` is DESIGN.md's name of the hook in use, `why` one sentence.

    In a replay what was in a tunnel counts as an interface too: `through` says in what, the outermost first.
    `named`: the user asked for this one by its name, so its going is news; others come and go under `any`.
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
    named: bool = True
