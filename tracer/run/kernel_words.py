"""Joins what the kernel says of segments that it dropped, and of resets that it sent, with the handshakes' records.

A firewall's RST or ICMP error leaves before the kernel says that it dropped the SYN, and settles the record. So the
record of a handshake that failed waits until the words of its time have been read, which mostly is at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tracer.causes.kernel_word import blame
from tracer.causes.looked_on import LookedOn
from tracer.causes.strays import StrayAnswers
from tracer.handshake.batch import Batch
from tracer.handshake.events import U8, Bool, Events, Indexes, among, distinct, has, pick
from tracer.ipc.messages import Evidence, PlaceAnswer, PlaceQuestion
from tracer.linux.patience import FACTOR
from tracer.records.drop import Drop
from tracer.ring.drain import BATCH_MEMORY, ROOM_BYTES
from tracer.ring.drops import DropTable, Kind
from tracer.vocabulary.drops import comes_after_hook, found_queue_full, is_telling
from tracer.vocabulary.vocabulary import After, Confidence, HandshakeResult, Has, ResetFrom, SettleReason, Vantage

HOLD_NS = int(80_000_000 * FACTOR)  # of the 200 ms in which a reader must see a record
LATE_NS = int(20_000_000 * FACTOR)  # how long after its segment a word may come
# The other side of a SYN that nobody answered is settled in the same sweep, or in the next one, 250 ms later
# (root/part.py). Without it a SYN that this host passed on would be told as one that it kept.
SIDES_NS = int(290_000_000 * FACTOR)
ANSWER_NS = int(1_000_000_000 * FACTOR)  # later there will be no answer
SOON_MS = LATE_NS // 1_000_000  # what waited for words goes on with the next reading
TABLE_MAX = 255  # different drops, and reasons of resets, in a run: columns have their numbers in a byte
PLACES_MAX = 512  # the root part names no more
OTHERS_MAX = TABLE_MAX // 2  # those of other namespaces, whose numbers are endless

_NO_REPLY, _REJECTED, _ABORTED, _UNREACHABLE = (
    HandshakeResult.NO_REPLY, HandshakeResult.REJECTED, HandshakeResult.ABORTED, HandshakeResult.UNREACHABLE,
)  # fmt: skip
_HALF_OPEN, _STILL_OPEN = HandshakeResult.HALF_OPEN, HandshakeResult.SYN_ON_ESTABLISHED
_FAILED = among((_NO_REPLY, _REJECTED, _ABORTED, _UNREACHABLE, _HALF_OPEN, _STILL_OPEN))
# whose loss may have let it fail, by what became of it
_RESULTS = {
    Kind.ACK: among((_HALF_OPEN, HandshakeResult.ESTABLISHED)),
    Kind.SYNACK: among((_HALF_OPEN, _ABORTED, _NO_REPLY)),
    Kind.SYN: among((_NO_REPLY, _REJECTED, _UNREACHABLE, _STILL_OPEN)),
    Kind.RST: among((_REJECTED,)),
}
_UNSERVED = among((After.SYNACK_AGAIN, After.SILENCE))
_CUT_SHORT = among((SettleReason.AT_END, SettleReason.BY_NEW_SYN))
_NO_FORWARDING = "IP_INADDRERRORS"  # so whatever was answered went another way
_MIX = np.uint64(0x9E3779B97F4A7C15)
_WAIT = among((SettleReason.BY_RST, SettleReason.BY_ICMP))
_NO_REASON, _NO_SOCKET = "NOT_SPECIFIED", "NO_SOCKET"
_AT_SERVER = Vantage.SERVER  # the bit that SERVER and LOCAL share
_SEGMENTS = {Kind.SYN: "syn", Kind.SYNACK: "synack", Kind.ACK: "ack", Kind.RST: "rst"}


@dataclass(slots=True)
class KernelWords:
    """Records on their way, and the drops and reasons that their columns number; the first entries are None.

    Times are CLOCK_MONOTONIC. `send` asks the root part; False: it does not read now.
    """

    evidence: Evidence
    send: Callable[[PlaceQuestion], bool]
    has_sides: bool = False  # several interfaces are traced, so that a SYN may be seen on both sides of this host
    drops: list[Drop | None] = field(default_factory=lambda: [None])
    reset_reasons: list[str | None] = field(default_factory=lambda: [None])
    _table: DropTable = field(init=False)
    _looked_on: LookedOn = field(default_factory=LookedOn)
    _strays: StrayAnswers = field(init=False)
    _after_hook: list[int] = field(init=False)  # reasons of segments that programs at egress had seen
    _numbers: dict[Drop, int] = field(default_factory=dict)
    _places: dict[int, str | None] = field(default_factory=dict)
    _asked: set[int] = field(default_factory=set)
    _asked_ns: int = 0
    _held: list[tuple[Events, int]] = field(default_factory=list)  # and since when
    _read_ns: int = 0

    def __post_init__(self) -> None:
        numbers = {name: number for number, name in self.evidence.drop_reasons.items()}
        self._table = DropTable(self.evidence.netns, numbers.get(_NO_REASON, -1))
        self._strays = StrayAnswers(self.evidence.netns, numbers.get(_NO_SOCKET, -1))
        self._after_hook = [number for name, number in numbers.items() if comes_after_hook(name)]

    @property
    def is_holding(self) -> bool:
        """Are there records that wait?"""
        return bool(self._held)

    def note(self, drops: Events, read_ns: int) -> None:
        """Take what the kernel had said until `read_ns`."""
        self._read_ns = read_ns
        if not len(drops):
            return
        self._table.add(drops)
        self._strays.add(drops)
        if self.evidence.places:
            # mostly one is repeated
            places = np.ascontiguousarray(drops["location"])
            last = np.append(places[:-1] != places[1:], True)
            new = set(places[last].tolist()) - self._asked - {0}
            wanted = sorted(new)[: PLACES_MAX - len(self._asked)]
            if wanted and self.send(PlaceQuestion(wanted)):
                self._asked.update(wanted)
                self._asked_ns = read_ns

    def answered(self, answer: PlaceAnswer) -> None:
        """Take names of places."""
        self._places |= answer.names

    # --- waiting ---

    def admit(self, events: Events, now_ns: int) -> Events:
        """Take records; returns those that have waited, and behind them those that need not wait, as one batch."""
        if not self.evidence.ring_bytes and not self.has_sides:
            return events
        ready: list[tuple[Events, Indexes]] = []
        parts, self._held = [*self._held, (events, now_ns)], []
        for part, came_ns in parts:
            waits = self._waits(part, came_ns, now_ns)
            if waits.any():
                self._held.append((pick(part, np.flatnonzero(waits)), came_ns))
            ready.append((part, np.flatnonzero(~waits)))
        if len(parts) == 1 and not self._held:
            return events
        return self._together(ready)

    def _together(self, parts: list[tuple[Events, Indexes]]) -> Events:
        """Some rows of each part, in one batch."""
        dtype, count = parts[0][0].dtype, sum(len(rows) for _, rows in parts)
        size = count * dtype.itemsize
        whole = BATCH_MEMORY.take(size, ROOM_BYTES).view(f"V{dtype.itemsize}")
        at = 0
        for part, rows in parts:
            # as plain bytes: numpy copies a structure field by field
            np.take(np.ascontiguousarray(part).view(whole.dtype), rows, out=whole[at : at + len(rows)], mode="clip")
            at += len(rows)
        return whole.view(dtype)

    def close(self) -> list[Events]:
        """The records that still wait."""
        held, self._held = self._held, []
        return [part for part, _ in held]

    def _waits(self, events: Events, came_ns: int, now_ns: int) -> Bool:
        settled = events["settled_ns"]
        # both sides may come in two readings of the ring, however long after they were settled
        for_side: Bool = (events["result"] == _NO_REPLY) & (self.has_sides and came_ns + SIDES_NS > now_ns)
        if not self.evidence.ring_bytes:
            return for_side
        waits: Bool = _FAILED[events["result"]] & (settled + np.uint64(HOLD_NS) > now_ns)
        names_come = now_ns < self._asked_ns + ANSWER_NS and bool(self._asked - self._places.keys())
        if waits.any() and not names_come:
            waits &= _WAIT[events["reason"]] & (settled + np.uint64(LATE_NS) > self._read_ns)
        waits |= for_side
        return waits

    # --- joining ---

    def tell(self, batch: Batch) -> None:
        """Fill in the batch's columns of drops and reasons of resets, and the causes that are certain by them."""
        if not self.evidence.ring_bytes or not len(batch):
            return
        events, causes = batch.events, batch.causes
        whole = np.zeros(len(batch), np.bool_)
        told = _FAILED.take(events["result"])
        told |= _UNSERVED.take(batch.verdicts.after)
        rows = np.flatnonzero(told)
        if len(rows):
            some, after = pick(events, rows), batch.verdicts.after[rows]
            unacked = some["request_acked"] == 0
            unserved = after == After.SYNACK_AGAIN  # else it was not the handshake's ACK that was lost
            unserved &= unacked & (some["response_ns"] == 0)
            # before the SYN-ACK came again, perhaps. Reasons but that of a full queue say nothing of an idle client
            silent = (after == After.SILENCE) & unacked
            kept = np.flatnonzero(_FAILED.take(some["result"]) | unserved | silent)
            rows, some, silent = rows[kept], pick(some, kept), silent[kept]
            drops, whole[rows] = self._drops_of(some, (batch.vantage[rows] & _AT_SERVER) != 0)
            queue = np.array([one is not None and found_queue_full(one.reason, one.at) for one in self.drops], np.bool_)
            causes.drop[rows] = np.where(silent & ~queue[drops], 0, drops)
        rows = np.flatnonzero(events["reset_from"])
        if len(rows) and self._table.has(Kind.SENT_RESET, own=True):
            causes.reset_reason[rows] = self._reasons_of(pick(events, rows))
        self._looked_on.note(batch)
        rows = np.flatnonzero(causes.drop | causes.reset_reason)
        if len(rows):
            stays = np.array([one is not None and one.reason == _NO_FORWARDING for one in self.drops], np.bool_)
            # what the end cut short might have gone on
            covered = whole[rows] & ~_CUT_SHORT[events["reason"][rows]]
            covered &= ~(stays[causes.drop[rows]] & self._looked_on.of(batch, rows))
            blame(batch, rows, self.drops, self.reset_reasons, covered)
        self._strays.blame(batch)

    def tell_unsent(self, batch: Batch, words: Events, whole: Bool) -> None:
        """Likewise for handshakes that only these words tell of, one each.

        `whole`: all their SYNs were dropped; another one may have left by an interface that is not traced.
        """
        for row in range(len(batch)):
            batch.causes.drop[row] = self._number(Kind.SYN, words[row], own=True)
        rows = np.flatnonzero(batch.causes.drop)
        blame(batch, rows, self.drops, self.reset_reasons, ~_CUT_SHORT[batch.events["reason"][rows]])
        certain = batch.causes.handshake_confidence == Confidence.CERTAIN
        batch.causes.handshake_confidence[certain & ~whole] = Confidence.LIKELY

    def _drops_of(self, events: Events, served: Bool) -> tuple[U8, Bool]:
        """The number of each record's drop: the traced namespace's word first, then that on the later segment.

        And whether as many segments of that kind were dropped as there were.
        """
        found, whole = np.zeros(len(events), np.uint8), np.zeros(len(events), np.bool_)
        senders = self._table.senders(events)
        for own in (True, False):
            for kind, results in _RESULTS.items():
                meant = results[events["result"]]
                flows = senders.client if kind in (Kind.SYN, Kind.ACK) else senders.server
                for reasonless in (False, True):
                    if not self._table.has(kind, own, reasonless):
                        continue
                    rows = np.flatnonzero(meant & (found == 0))
                    if not len(rows):
                        break
                    at, words = self._table.find(flows[rows], kind, own, reasonless)
                    rows = rows[at]
                    some = pick(events, rows)
                    fits = np.flatnonzero(_in_time(some, words) & _fits(some, words, kind))
                    if len(fits):
                        rows, some, words = rows[fits], pick(some, fits), words[fits]
                        found[rows] = self._numbered(words, kind, own)
                        passed = np.isin(words["reason"], self._after_hook) & (words["ifindex"] == some["ifindex"])
                        whole[rows] = _covers(some, words, kind, served[rows], passed)
        return found, whole

    def _numbered(self, words: Events, kind: Kind, own: bool) -> U8:
        """The number of each word's drop. A flood repeats one word."""
        same = (words["location"] * _MIX + words["reason"]) * _MIX + words["netns"]
        if (same == same[0]).all():
            return np.full(len(words), self._number(kind, words[0], own), np.uint8)
        _, first, place = np.unique(same, return_index=True, return_inverse=True)
        numbers: U8 = np.array([self._number(kind, words[at], own) for at in first.tolist()], np.uint8)[place]
        return numbers

    def _number(self, kind: Kind, word: Events, own: bool) -> int:
        number = int(word["reason"])
        reason = self.evidence.drop_reasons.get(number, hex(number))
        at = self._places.get(int(word["location"]))
        if not is_telling(reason, at):
            return 0
        if kind is Kind.RST and reason == _NO_SOCKET:
            return 0  # nobody waits for it any more
        drop = Drop(_SEGMENTS[kind], reason, at, None if own else int(word["netns"]))
        known = self._numbers.get(drop)
        if known is None and len(self.drops) <= (TABLE_MAX if own else OTHERS_MAX):
            known = self._numbers[drop] = len(self.drops)
            self.drops.append(drop)
        return known or 0

    def _reasons_of(self, events: Events) -> U8:
        numbers = np.zeros(len(events), np.uint8)
        senders = self._table.senders(events)
        for sender, flows in ((ResetFrom.CLIENT, senders.client), (ResetFrom.SERVER, senders.server)):
            rows = np.flatnonzero(events["reset_from"] == sender)
            at, words = self._table.find(flows[rows], Kind.SENT_RESET, own=True)
            rows = rows[at]
            apart = words["now_ns"].astype(np.int64) - events["settled_ns"][rows].astype(np.int64)
            near = np.abs(apart) < HOLD_NS
            rows, reasons = rows[near], words["reason"][near]
            for reason in distinct(reasons).tolist():
                numbers[rows[reasons == reason]] = self._reason(reason)
        return numbers

    def _reason(self, number: int) -> int:
        reason = self.evidence.reset_reasons.get(number, hex(number))
        if reason == _NO_REASON:
            return 0
        if reason not in self.reset_reasons and len(self.reset_reasons) <= TABLE_MAX:
            self.reset_reasons.append(reason)
        return self.reset_reasons.index(reason) if reason in self.reset_reasons else 0


def _in_time(events: Events, words: Events) -> Bool:
    """A refusal leaves with the drop that it is for; an earlier drop was of another SYN."""
    now = words["now_ns"].astype(np.int64)
    began, settled = (events[name].astype(np.int64) for name in ("syn_ns", "settled_ns"))
    earliest = np.where(_WAIT[events["reason"]], settled, began) - HOLD_NS
    return (now > earliest) & (now < settled + HOLD_NS)


def _covers(events: Events, words: Events, kind: Kind, served: Bool, passed: Bool) -> Bool:
    """Is the word on all segments of this kind, so that none of them went on?

    The hook sees what comes in before the kernel can drop it, so all of these must be among the dropped. What goes out
    it sees only if that was not dropped, so it must have seen none; or it `passed` the hook and was dropped after it.
    """
    left = events["egress"] != 0  # the SYN left by the interface: answers come in by it
    # a copy may come in by another interface of the server, and be dropped there; what passes through has both in turn
    here = ~served | (words["ifindex"] == events["ifindex"])
    if kind is Kind.SYN:
        covers: Bool = (~left | passed) & here & (words["count"] >= events["syn_count"])
    elif kind is Kind.SYNACK:
        covers = (left | passed) & (words["count"] >= events["synack_count"])
        covers |= ~left & (events["synack_count"] == 0)
    else:
        # what the client sent first after the SYN-ACK, and all that it sent again
        first = np.abs(words["first_ns"].astype(np.int64) - events["ack_ns"].astype(np.int64)) < LATE_NS
        first &= here & (words["count"] >= _sent_after_synack(events))
        covers = (events["ack_ns"] == 0) | ((~left | passed) & first)
    return covers


def _sent_after_synack(events: Events) -> Indexes:
    """How many segments the client sent at least: its ACK, one for each SYN-ACK that came again, its data."""
    found: Indexes = (
        events["synacks_after_ack"].astype(np.intp) + events["request_repeats"] + (events["request_ns"] != 0)
    )
    return found + np.intp(1)


def _fits(events: Events, words: Events, kind: Kind) -> Bool:
    """Do the segment's numbers fit the handshake? Differences of sequence numbers are modulo 2^32."""
    first = events["syn"]["seq"] + np.uint32(1)
    data = events["syn"]["payload_len"].astype(np.uint32)
    answered = has(events["synack"]["has"], Has.SEGMENT)
    isn = events["synack"]["seq"]
    if kind is Kind.SYN:
        fits: Bool = words["seq"] == events["syn"]["seq"]
    elif kind is Kind.SYNACK:
        fits = words["ack"] - first <= data  # a server that forgot its first answer gives another number
    elif kind is Kind.ACK:
        fits = (words["seq"] - first <= data + np.uint32(0xFFFF)) & (~answered | (words["ack"] == isn + np.uint32(1)))
    else:
        fits = (events["reset_from"] == ResetFrom.SERVER) & (words["ack"] - first <= data)
    return fits
