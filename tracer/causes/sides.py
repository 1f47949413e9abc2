"""The two sides of this host at which a SYN was seen: where it came in, and where it left, perhaps translated.

A host that forwards a SYN leaves its sequence number, its timestamp and most of its options as they were, also where it
translates addresses or ports. So records with these in common, one of a SYN that came in and one of a SYN that left a
moment later, are of one handshake. Where several came in or left so, it is not known which belongs to which.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from tracer.causes.slot_table import WordHash
from tracer.handshake.batch import Batch
from tracer.handshake.causes import DTYPES, TWIN, Causes
from tracer.handshake.events import U8, U64, Bool, Events, Indexes, distinct, has
from tracer.handshake.shared_slots import SharedSlots
from tracer.vocabulary.vocabulary import HandshakeResult, Has, ResetFrom, SettleReason

REMEMBERED = 1 << 14
WITHIN_NS = 1_000_000_000  # a neighbour may have to be asked for
_IN, _OUT = 0, 1
_END = np.uint64(np.iinfo(np.uint64).max)
_KEPT = Has.WSCALE | Has.SACK | Has.TIMESTAMPS  # the MSS is lowered on the way, other options are removed
_SIDE = np.dtype(
    [("key", "<u8"), ("syn_ns", "<u8"), ("id", "<u8"), ("ends", DTYPES["nat"]), ("ifindex", "<u4"), ("out", "u1"),
     ("fate", "u1"), ("unclear", "u1"), ("pad", "u1")]
)  # fmt: skip
_RAW = f"V{_SIDE.itemsize}"


class Fate(IntEnum):
    """What became of a SYN on one side, as far as it tells something about the other."""

    OTHER = 0
    SILENT = 1  # nothing at all came back
    RESET = 2  # the client reset what came back


@dataclass(frozen=True, slots=True)
class Pairs:
    """One row per record: its place in `sides`, and the place of the record of the other side; -1 if there is none."""

    sides: Events  # as _SIDE: first those of the batch, in its order
    other: Indexes
    only_came_in: Bool  # where the SYN left has not been seen so far

    @property
    def fates(self) -> U8:
        """What became of the SYN on this side."""
        found: U8 = self.sides["fate"][: len(self.other)]
        return found

    def others(self, rows: Indexes) -> Events:
        """The other sides of rows that have one."""
        found: Events = self.sides.view(_RAW)[self.other[rows]].view(_SIDE)
        return found

    def tell(self, causes: Causes) -> None:
        """Fill in `nat` where the other side has other addresses or ports."""
        rows = np.flatnonzero(self.other >= 0)
        if len(rows):
            others = self.others(rows)
            translated = self.sides["id"][rows] != others["id"]
            causes.nat[rows[translated]] = others["ends"][translated]


class Sides:
    """Memory of the latest records by what both sides have in common."""

    def __init__(self) -> None:
        self._hash = WordHash(2)
        self._shift = np.uint64(64 - (REMEMBERED.bit_length() - 1))
        self._keys = np.zeros((2, REMEMBERED), np.uint64)
        self._known = np.zeros((2, REMEMBERED), _SIDE).view(_RAW)
        self._shared = SharedSlots(REMEMBERED)
        self._directions: set[int] = set()
        self.several = False  # is more than one interface traced? With one a SYN may leave by the way it came

    @property
    def may_pass(self) -> bool:
        """May a SYN have been seen to come in and to leave?"""
        return self.several or len(self._directions) > 1

    def compare(self, batch: Batch) -> Pairs:
        """Find the other side of each record, among those of the batch and those before it, and remember them."""
        events = batch.events
        none = np.full(len(events), -1, np.intp)
        if not len(events) or not self._is_several(events):
            return Pairs(np.zeros(len(events), _SIDE), none, np.zeros(len(events), np.bool_))
        made = self._of(batch)
        count, raw = len(made), made.view(_RAW)
        slots = (made["key"] >> self._shift).astype(np.intp)
        matches = [np.flatnonzero(self._keys[direction, slots] == made["key"]) for direction in (_IN, _OUT)]
        known = [self._known[direction, distinct(slots[rows])] for direction, rows in enumerate(matches)]
        sides = np.concatenate((raw, *known)).view(_SIDE)
        # most share a slot with no other, and are done with
        shared = self._shared.of(slots)
        for rows in matches:
            shared[rows] = True
        rows = np.flatnonzero(shared)
        other, only_came_in = none, made["out"] == 0
        if len(rows):
            some = np.concatenate((rows, np.arange(count, len(sides))))
            chosen = sides.view(_RAW)[some].view(_SIDE)
            places, only_came_in[rows] = _paired(chosen, len(rows))
            other[rows] = np.where(places < 0, -1, some[places])
            made["unclear"][rows] = chosen["unclear"][: len(rows)]
        only_came_in &= ~self._overwritten(made, slots)
        for direction in (_IN, _OUT):
            rows = np.flatnonzero(made["out"] == direction)
            self._keys[direction, slots[rows]] = made["key"][rows]
            self._known[direction, slots[rows]] = made.view(_RAW)[rows]
        return Pairs(sides, other, only_came_in)

    def _overwritten(self, made: Events, slots: Indexes) -> Bool:
        """May the side that left have been noted, and another one in its place since?"""
        left = self._known[_OUT, slots].view(_SIDE)
        found: Bool = (left["key"] != made["key"]) & (left["key"] != 0) & (left["syn_ns"] + WITHIN_NS > made["syn_ns"])
        return found

    def _is_several(self, events: Events) -> bool:
        if not self.several and len(self._directions) < 2:
            self._directions |= {int(events["egress"].min()), int(events["egress"].max())}
        return self.may_pass

    def _of(self, batch: Batch) -> Events:
        events, syn = batch.events, batch.events["syn"]
        made: Events = np.zeros(len(events), _SIDE)
        number = syn["seq"].astype(np.uint64) << np.uint64(32) | syn["ts_val"]
        rest = syn["window"].astype(np.uint64) << np.uint64(32) | (syn["has"] & np.uint16(_KEPT)).astype(np.uint64)
        made["key"] = self._hash.of(number, rest << np.uint64(8) | syn["wscale"]) | np.uint64(1)
        for name in ("syn_ns", "id", "ifindex"):
            made[name] = events[name]
        made["out"] = events["egress"] != 0
        made["fate"] = _fates(events)
        made["ends"] = _ends(events)
        return made


def _paired(sides: Events, count: int) -> tuple[Indexes, Bool]:
    """Of the first `count`: the place of the other side, -1 if there is none or several; and was only the SYN seen
    that came in? Marks sides of which it is unclear."""
    other, only_came_in = np.full(count, -1, np.intp), np.zeros(count, np.bool_)
    order = np.lexsort((sides["syn_ns"], sides["key"]))
    key, when, id_ = (sides[name][order] for name in ("key", "syn_ns", "id"))
    left = sides["out"][order] != 0
    new = np.ones(len(order), np.bool_)
    new[1:] = (key[1:] != key[:-1]) | (when[1:] - when[:-1] >= WITHIN_NS)
    starts = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    place = np.arange(len(order))
    outside = len(order)
    is_one: list[Bool] = []
    there: list[Bool] = []
    for is_side in (~left, left):
        lowest = np.minimum.reduceat(np.where(is_side, id_, _END), starts)
        highest = np.maximum.reduceat(np.where(is_side, id_, np.uint64(0)), starts)
        there.append(lowest <= highest)
        is_one.append(lowest == highest)
    first_in, first_out = (np.minimum.reduceat(np.where(is_side, place, outside), starts) for is_side in (~left, left))
    last_out = np.maximum.reduceat(np.where(left, place, 0), starts)
    unclear = np.maximum.reduceat(sides["unclear"][order], starts) != 0
    unclear |= (there[_IN] & ~is_one[_IN]) | (there[_OUT] & ~is_one[_OUT])
    good = ~unclear & is_one[_IN] & is_one[_OUT]
    # it leaves after it has come
    good[good] &= when[first_in[good]] <= when[first_out[good]]
    sides["unclear"][order] = unclear[group]
    partner = np.where(left, first_in[group], last_out[group])
    rows = np.flatnonzero(good[group] & (order < count))
    other[order[rows]] = order[partner[rows]]
    rows = np.flatnonzero((is_one[_IN] & ~there[_OUT] & ~unclear)[group] & (order < count))
    only_came_in[order[rows]] = True
    return other, only_came_in


def _fates(events: Events) -> U8:
    silent = (events["result"] == HandshakeResult.NO_REPLY) & (events["reason"] == SettleReason.BY_TIMEOUT)
    silent &= ~has(events["synack"]["has"], Has.SEGMENT) & (events["challenge_acks"] == 0)
    silent &= (events["misfit_rsts"] | events["misfit_synacks"] | events["misfit_icmps"] | events["resumed"]) == 0
    reset = (events["result"] == HandshakeResult.ABORTED) & (events["reset_from"] == ResetFrom.CLIENT)
    return np.select([silent, reset], [np.uint8(Fate.SILENT), np.uint8(Fate.RESET)], np.uint8(Fate.OTHER))


def _ends(events: Events) -> U64:
    """As TWIN, in bytes."""
    made = np.empty(len(events), TWIN)
    for name in TWIN.names or ():
        made[name] = events[name]
    found: U64 = made.view(DTYPES["nat"])
    return found
