"""Numbers of a capture's interfaces, by which the kernel programs know where a packet was.

What was inside a tunnel has a number of its own for each interface and tunnel, in the tunnel's group: so the programs
keep tunnels apart, and take what they see at two interfaces for one, as outside of tunnels (group 0).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from tracer.ipc.messages import FrameInterface
from tracer.replay.root_part import INTERFACES_MAX

OTHER = INTERFACES_MAX  # shared by all interfaces for which no number is left
_OTHER_BARE = INTERFACES_MAX - 1  # likewise, of packets without a link header


@dataclass(frozen=True, slots=True)
class Seen:
    """An interface of the capture. Its packets begin with an Ethernet header or, without one, with that of IP."""

    name: str
    ethernet: bool
    group: int = 0
    through: tuple[str, ...] = ()  # the tunnels that its packets were in


@dataclass(slots=True)
class Numbers:
    """Gives numbers and remembers whose they are. `seen`: those with packets."""

    seen: dict[int, Seen] = field(default_factory=dict)
    _all: dict[int, Seen] = field(default_factory=dict)
    _known: dict[Hashable, int] = field(default_factory=dict)
    _fresh: list[int] = field(default_factory=list)  # the root part has to be told of them

    def interface(self, key: Hashable, name: str, *, ethernet: bool) -> int:
        """The number of an interface, by what makes it one of its own."""
        number = self._known.get(key)
        if number is None:
            number = self._next()
            if not number:
                number, name = OTHER if ethernet else _OTHER_BARE, "other"
            else:  # the others need not be known one by one
                self._known[key] = number
            self._all.setdefault(number, Seen(name, ethernet))
        return number

    def tunnel(self, outer: int, group: int, through: tuple[str, ...]) -> int:
        """The number for what an interface saw of a tunnel; 0 if none is left."""
        number = self._known.get((outer, group))
        if number is None:
            number = self._next()
            if number:
                self._known[outer, group] = number
                self._all[number] = Seen(self._all[outer].name, True, group, through)
        return number

    def _next(self) -> int:
        number = len(self._known) + 1
        return number if number < _OTHER_BARE else 0

    def use(self, numbers: Iterable[int]) -> None:
        """Packets have these numbers."""
        for number in numbers:
            if number not in self.seen:
                self.seen[number] = self._all[number]
                self._fresh.append(number)

    def take_fresh(self) -> list[FrameInterface]:
        """What the root part does not know yet."""
        fresh, self._fresh = self._fresh, []
        return [FrameInterface(number, self.seen[number].group, self.seen[number].ethernet) for number in fresh]
