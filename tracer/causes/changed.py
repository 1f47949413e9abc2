"""What this host changed in handshakes that pass through it: SYN and SYN-ACK where they came in and where they left.

Netfilter clamps the MSS, strips options, proxies SYNs; eBPF programs and virtual machines do as they like. Both records
of a handshake have its id, or `sides.py` joins them over a translation. Only the same segment is compared: one that was
sent again may have fewer options than the first, by the sender's own doing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tracer.causes.sides import Pairs
from tracer.dissect.options import option_names
from tracer.handshake import ecn
from tracer.handshake.events import U64, Bool, Events, Indexes, distinct, has
from tracer.handshake.option_bytes import masked
from tracer.ipc.event_header import constant, struct
from tracer.ipc.layout import to_dtype
from tracer.vocabulary.changes import Piece, What, change
from tracer.vocabulary.vocabulary import Has

REMEMBERED = 1 << 14
CROSSING_NS = np.uint64(200_000_000)  # within a host; Linux sends nothing again so soon
CHANGES_MAX = 4096  # different ones, with their values; what comes then is told without values
TABLE_MAX = 0xFFFF  # a number has 16 bits
UNKNOWN, NONE = 0, 1  # numbers of what was not compared, and of what was not changed
_IN, _OUT = 0, 1
_TO_HOST = constant("ADDRESSED_TO_HOST")
_NEVER = np.uint64(np.iinfo(np.uint64).max)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # an odd multiplier spreads ids over the slots
_TOLD = Has.SEGMENT | Has.MSS | Has.WSCALE | Has.TFO

_SEGMENT = np.dtype([
    ("options", "<u8", 5), ("has", "<u2"), ("flags", "<u2"), ("window", "<u2"),
    ("mss", "<u2"), ("payload_len", "<u2"), ("options_len", "u1"), ("wscale", "u1"), ("cookie_len", "u1"),
    ("ttl", "u1"),
])  # fmt: skip
_WIRE = to_dtype(struct("segment_facts"))
_WIRE_RAW = f"V{_WIRE.itemsize}"  # copied as bytes: numpy itself copies field by field
_FACTS = np.dtype([
    ("syn", _WIRE), ("synack", _WIRE), ("id", "<u8"), ("syn_ns", "<u8"), ("again_ns", "<u8"),
    ("synack_ns", "<u8"), ("ifindex", "<u4"), ("vlan", "<u4"), ("out", "u1"), ("syn_count", "u1"),
    ("synack_count", "u1"), ("resumed", "u1"), ("addressee", "u1"),
])  # fmt: skip
_RAW = f"V{_FACTS.itemsize}"
# what a segment was before and behind, where it differs, and what it is about
_CHANGE = np.dtype([("before", _SEGMENT), ("behind", _SEGMENT), ("seen", "u1"), ("renumbered", "u1")])
_BOTH = np.dtype([("syn", _CHANGE), ("synack", _CHANGE), ("answered_here", "u1")])

Facts = NDArray[np.void]  # of _FACTS


@dataclass(slots=True)
class ChangeTable:
    """Different changes of a run as words, by the numbers that a column of the batch has; None is not known."""

    words: list[tuple[str, ...] | None] = field(default_factory=lambda: [None, ()])
    _numbers: dict[tuple[str, ...], int] = field(default_factory=lambda: {(): NONE})

    def number(self, changes: tuple[str, ...]) -> int:
        """The number of these."""
        known = self._numbers.get(changes)
        if known is None and len(self.words) >= CHANGES_MAX:
            changes = tuple(" ".join(one.split(" ")[:2]) for one in changes)
            known = self._numbers.get(changes, UNKNOWN if len(self.words) > TABLE_MAX else None)
        if known is None:
            self._numbers[changes] = known = len(self.words)
            self.words.append(changes)
        return known


class ChangedHere:
    """Memory of the latest records by id: where each came in, and where it left."""

    def __init__(self) -> None:
        self.table = ChangeTable()
        self._known = np.zeros((2, REMEMBERED), _FACTS).view(_RAW)
        self._ids = np.zeros((2, REMEMBERED), np.uint64)

    def compare(self, events: Events, pairs: Pairs) -> NDArray[np.uint16]:
        """The number in `table` of what was changed in each handshake, among those of the batch and those before it."""
        count = len(events)
        found = np.zeros(count, np.uint16)
        facts = _facts(events)
        ids = facts["id"].copy()
        twins = np.zeros(count, np.uint64)
        paired = np.flatnonzero(pairs.other >= 0)
        if len(paired):
            twins[paired] = pairs.others(paired)["id"]
            ids[paired] = np.minimum(ids[paired], twins[paired])
        some, groups = self._candidates(facts, ids, twins)
        if len(some):
            places = _passages(some, groups)
            rows = np.flatnonzero(places[0] != places[1])
            if len(rows):
                near, far = (some.view(_RAW)[places[end][rows]].view(_FACTS) for end in (0, 1))
                numbers = self._numbers(near, far)
                own = rows < count  # the others are remembered ones
                found[rows[own]] = numbers[own]
        self._remember(facts)
        return found

    def _candidates(self, facts: Facts, ids: U64, twins: U64) -> tuple[Facts, U64]:
        """The rows, and behind them those remembered of the same handshakes; and the group of each. None if no row has
        another one."""
        count = len(facts)
        known: list[NDArray[np.void]] = [facts.view(_RAW)]
        groups = [ids]
        twinned = np.flatnonzero((twins != 0) & (twins != facts["id"]))
        for wanted, rows in ((facts["id"], np.arange(count)), (twins[twinned], twinned)):
            if len(rows):
                slots = self._slots(wanted)
                for direction in (_IN, _OUT):
                    matches = np.flatnonzero(self._ids[direction, slots] == wanted)
                    known.append(self._known[direction, slots[matches]])
                    groups.append(ids[rows[matches]])
        everything: Facts = np.concatenate(known).view(_FACTS)
        if len(everything) == count and len(distinct(ids)) == count:
            return everything[:0], ids[:0]
        return everything, np.concatenate(groups)

    def _remember(self, facts: Facts) -> None:
        slots = self._slots(facts["id"])
        for direction in (_IN, _OUT):
            rows = np.flatnonzero(facts["out"] == direction)
            self._ids[direction, slots[rows]] = facts["id"][rows]
            self._known[direction, slots[rows]] = facts.view(_RAW)[rows]

    def _slots(self, ids: U64) -> Indexes:
        mixed = ids * _SPREAD
        slots: Indexes = (mixed >> np.uint64(64 - (REMEMBERED.bit_length() - 1))).astype(np.intp)
        return slots

    def _numbers(self, near: Facts, far: Facts) -> NDArray[np.uint16]:
        """The number of what was changed from near to far; UNKNOWN where they are not of the same segments."""
        both = np.zeros(len(near), _BOTH)
        close = far["syn_ns"] - near["syn_ns"] < CROSSING_NS
        same_syn = close & (far["syn_ns"] < near["again_ns"]) & _stamped_alike(near["syn"], far["syn"])
        answered = near["synack_ns"] != 0
        # one that left only after the client had its SYN-ACK is another one: a SYN proxy here, with the client's number
        late = answered & (far["syn_ns"] >= near["synack_ns"])
        same_syn &= ~late
        here = late & (near["id"] == far["id"]) & (near["out"] == _IN) & (far["out"] == _OUT)
        here &= (near["syn_count"] == 1) & (near["resumed"] == 0) & (far["resumed"] == 0)
        here &= near["synack"]["seq"] != far["synack"]["seq"]
        both["answered_here"] = here
        _note(both["syn"], near["syn"], far["syn"], same_syn)
        later = near["synack_ns"] - far["synack_ns"]
        same_synack = same_syn & answered & (far["synack_ns"] != 0) & (near["synack_ns"] >= far["synack_ns"])
        same_synack &= (later < CROSSING_NS) & (near["synack_count"] == far["synack_count"])
        same_synack &= _stamped_alike(near["synack"], far["synack"])
        renumbered = same_synack & (near["synack"]["seq"] != far["synack"]["seq"])
        renumbered &= has(near["synack"]["has"], Has.TIMESTAMPS) & has(far["synack"]["has"], Has.TIMESTAMPS)
        same_synack &= renumbered | (near["synack"]["seq"] == far["synack"]["seq"])
        _note(both["synack"], far["synack"], near["synack"], same_synack)
        both["synack"]["renumbered"] = renumbered
        numbers = np.where(same_syn, NONE, UNKNOWN).astype(np.uint16)
        rows = np.flatnonzero(here | _differs(both["syn"]) | _differs(both["synack"]))
        if len(rows):
            told, places = np.unique(both.view(f"V{_BOTH.itemsize}")[rows], return_inverse=True)
            kinds = [self.table.number(tuple(_changes(one))) for one in told.view(_BOTH)]
            numbers[rows] = np.array(kinds, np.uint16)[places]
        return numbers


def _facts(events: Events) -> Facts:
    made: Facts = np.zeros(len(events), _FACTS)
    for name in ("syn", "synack"):
        made[name].view(_WIRE_RAW)[:] = events[name].view(_WIRE_RAW)
    for name in ("id", "syn_ns", "synack_ns", "ifindex", "syn_count", "synack_count", "resumed", "addressee"):
        made[name] = events[name]
    made["vlan"] = events["vlan"][:, 0].astype(np.uint32) << np.uint32(16) | events["vlan"][:, 1]
    made["out"] = events["egress"] != 0
    again = events["syn_ns"] + events["retx"]["after_us"][:, 0].astype(np.uint64) * np.uint64(1000)
    made["again_ns"] = np.where(events["retx_count"] > 0, again, _NEVER)
    return made


def _passages(some: Facts, groups: U64) -> tuple[Indexes, Indexes]:
    """Of each row: the first and the last place at which its handshake was seen on one way through this host.

    What comes in again after it has left was elsewhere meanwhile. Twice at one place are two records, and what came in
    last, for somebody else, may be from mirror ports at both sides of another host: no comparison.
    """
    order = np.lexsort((some["syn_ns"], groups))
    sorted_groups, out = groups[order], some["out"][order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (sorted_groups[1:] != sorted_groups[:-1]) | ((out[:-1] == _OUT) & (out[1:] == _IN))
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(order)) - 1
    passage = np.cumsum(new) - 1
    first, last = order[starts], order[ends]
    same = (some["ifindex"][first] == some["ifindex"][last]) & (some["out"][first] == some["out"][last])
    same &= some["vlan"][first] == some["vlan"][last]
    same |= (some["out"][last] == _IN) & (some["addressee"][last] != _TO_HOST)
    last = np.where(same, first, last)
    found = np.empty((2, len(order)), np.intp)
    found[0, order], found[1, order] = first[passage], last[passage]
    return found[0], found[1]


def _stamped_alike(one: NDArray[np.void], other: NDArray[np.void]) -> Bool:
    """Not two segments with different timestamps: the second was sent later."""
    both = has(one["has"], Has.TIMESTAMPS) & has(other["has"], Has.TIMESTAMPS)
    alike: Bool = ~both | (one["ts_val"] == other["ts_val"])
    return alike


def _note(both: NDArray[np.void], before: NDArray[np.void], behind: NDArray[np.void], same: Bool) -> None:
    """What differs, so that few different rows are left: what does not is 0, and so is all that is not compared."""
    told, flags = np.uint16(_TOLD), np.uint16(ecn.ECN_FLAGS | ecn.ACK)
    options = same & (before["options"] != behind["options"]).any(axis=1)
    options |= same & (before["options_len"] != behind["options_len"])
    # of few pairs: timestamps and cookies would make each different
    rows = np.flatnonzero(options)
    values = [masked(segment[rows]) for segment in (before, behind)]
    options[rows] = (values[0] != values[1]).any(axis=1)
    options[rows] |= before["options_len"][rows] != behind["options_len"][rows]
    differ = options[rows]
    rows, values = rows[differ], [one[differ] for one in values]
    raised = behind["ttl"] > before["ttl"]
    ecn_differs = same & ((before["tcp_flags"] ^ behind["tcp_flags"]) & flags != 0)
    for side, segment, of_rows in (("before", before, values[0]), ("behind", behind, values[1])):
        slim = both[side]
        slim["options"][rows] = of_rows
        slim["has"][rows] = segment["has"][rows] & told
        for name in ("options_len", "mss", "wscale", "cookie_len"):
            slim[name][rows] = segment[name][rows]
        slim["flags"] = np.where(ecn_differs, segment["tcp_flags"] & flags, 0)
        for name in ("window", "payload_len"):
            slim[name] = np.where(same & (before[name] != behind[name]), segment[name], 0)
        slim["ttl"] = np.where(same & raised, segment["ttl"], 0)
    both["seen"] = same


def _differs(both: NDArray[np.void]) -> Bool:
    before, behind = both["before"], both["behind"]
    differs: Bool = (before["options"] != behind["options"]).any(axis=1) | (both["renumbered"] != 0)
    for name in ("options_len", "flags", "window", "payload_len", "ttl", "cookie_len"):
        differs |= before[name] != behind[name]
    return differs


def _changes(one: np.void) -> list[str]:
    if one["answered_here"]:
        return [change(What.ANSWERED_ON_PATH, Piece.SYNACK)]
    return [text for piece in (Piece.SYN, Piece.SYNACK) for text in _of_segment(one[piece.value], piece)]


def _of_segment(one: np.void, piece: Piece) -> list[str]:
    """What was changed in one segment, as records have it."""
    before, behind = one["before"], one["behind"]
    had, has_now = _names(before), _names(behind)
    found = [change(What.OPTION_STRIPPED, piece, name) for name in _more(had, has_now)]
    found += [change(What.OPTION_ADDED, piece, after=name) for name in _more(has_now, had)]
    if sorted(had) == sorted(has_now) and had != has_now:
        found.append(change(What.OPTIONS_REORDERED, piece))
    for what, name, flag in (
        (What.MSS_CHANGED, "mss", Has.MSS), (What.WSCALE_CHANGED, "wscale", Has.WSCALE),
        (What.COOKIE_CHANGED, "cookie_len", Has.TFO),
    ):  # fmt: skip
        if before["has"] & behind["has"] & flag and before[name] != behind[name]:
            found.append(change(what, piece, before[name], behind[name]))
    if before["window"] != behind["window"]:
        found.append(change(What.WINDOW_CHANGED, piece, before["window"], behind["window"]))
    asked, asks_now = ecn.segment_ecn(int(before["flags"])), ecn.segment_ecn(int(behind["flags"]))
    if asked != asks_now:
        found.append(change(What.ECN_CHANGED, piece, asked, asks_now))
    if before["payload_len"] != behind["payload_len"]:
        what = What.PAYLOAD_STRIPPED if behind["payload_len"] < before["payload_len"] else What.DATA_ADDED
        found.append(change(what, piece, before["payload_len"], behind["payload_len"]))
    if before["ttl"] != behind["ttl"]:
        found.append(change(What.TTL_RAISED, piece, before["ttl"], behind["ttl"]))
    if one["renumbered"]:
        found.append(change(What.ISN_CHANGED, piece))
    return found


def _names(segment: np.void) -> tuple[str, ...]:
    return option_names(segment["options"].tobytes()[: segment["options_len"]])


def _more(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Names that the others lack, each once."""
    return [name for name in dict.fromkeys(names) if names.count(name) > others.count(name)]
