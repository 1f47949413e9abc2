"""Refused cookies of handshakes that are seen on both sides of a translation of the server's address.

Both records have the client's initial sequence number and timestamp. A cookie covers the address that the server itself
has: one that the address in front gave and the server behind never did is another server's, whose key may be the same.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from tracer.causes.notes import recall
from tracer.causes.peer_history import REMEMBER_NS
from tracer.vocabulary.vocabulary import Confidence

SIDES = 1 << 12
INTERFACES = 1 << 12
TWINS_WITHIN_NS = 1_000_000_000

Syn = tuple[int, int]  # the SYN's sequence number and timestamp


@dataclass(slots=True)
class Side:
    """One record of a refused cookie."""

    number: int  # in the order of settling
    syn_ns: int
    ifindex: int
    host: int  # key of the server's address
    known_ns: int  # when this address last gave or took the cookie of this client, 0 = never
    given: bool  # or gave it to any client


class Translated:
    """The latest refused cookies, and addresses that were seen to stand for others."""

    def __init__(self) -> None:
        self._sides: OrderedDict[Syn, Side] = OrderedDict()
        self._fronts: OrderedDict[int, list[int]] = OrderedDict()
        self._first_seen: OrderedDict[int, list[int]] = OrderedDict()

    def note_interface(self, ifindex: int, syn_ns: int) -> None:
        """A handshake was seen there: its notes begin with the first."""
        recall(self._first_seen, ifindex, lambda: [syn_ns], INTERFACES)

    def judge(self, syn: Syn, side: Side) -> tuple[Confidence, int]:
        """Is the cookie another server's behind the same address? And which earlier record is of the same handshake?"""
        twin = self._sides.get(syn)
        if twin is None or abs(side.syn_ns - twin.syn_ns) >= TWINS_WITHIN_NS:
            self._keep(syn, side)
            [front_ns] = self._fronts.get(side.host, [-REMEMBER_NS])
            again = side.known_ns != 0 and side.syn_ns < front_ns + REMEMBER_NS
            return Confidence.POSSIBLE if again else Confidence.NONE, -1
        front, behind = (side, twin) if side.syn_ns < twin.syn_ns else (twin, side)
        self._keep(syn, front)
        [begun_ns] = self._first_seen.get(behind.ifindex, [behind.syn_ns])
        translated = front.host != behind.host and front.ifindex != behind.ifindex
        if not translated or behind.given or front.known_ns + TWINS_WITHIN_NS <= begun_ns:
            return Confidence.NONE, -1
        recall(self._fronts, front.host, lambda: [0], SIDES)[0] = front.syn_ns
        return Confidence.LIKELY, twin.number

    def _keep(self, syn: Syn, side: Side) -> None:
        self._sides[syn] = side
        self._sides.move_to_end(syn)
        if len(self._sides) > SIDES:
            self._sides.popitem(last=False)
