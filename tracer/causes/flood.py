"""Floods of half-open handshakes (TFO.md section 8): many in ten seconds at one listener, of many addresses, and more
than half of all its handshakes. It is said of those that are settled once that is so.

Times are those of the SYNs, for handshakes that are left at the end are all settled at once. All handshakes are
counted, by listener and second; of half-open ones the latest of each listener are kept.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tracer.causes.case import Case
from tracer.causes.server_memory import Noted
from tracer.causes.silence import UnseenAcks
from tracer.handshake.events import U32, U64, Bool, Indexes, distinct
from tracer.vocabulary.vocabulary import Confidence, HandshakeCause, HandshakeResult, SettleReason

HALF_OPEN, ADDRESSES, WITHIN_NS = 100, 50, 10_000_000_000
IN_FLIGHT_NS = np.uint64(1_000_000_000)  # the end may have come before the ACK, or before the SYN-ACK came again
KEPT, KEPT_EACH = 1 << 14, 256  # half-open ones
LISTENERS, SECONDS = 1 << 12, 128  # a half-open handshake may settle a minute after its SYN
_SECOND_NS = np.uint64(1_000_000_000)
_WITHIN_S = WITHIN_NS // 1_000_000_000
_SCRAMBLE = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_SHIFT = np.uint64(64 - (LISTENERS.bit_length() - 1))
# ten seconds before a SYN, around it, and after it: from, to
_WINDOWS = ((-WITHIN_NS, 0), (-WITHIN_NS // 2, WITHIN_NS // 2), (0, WITHIN_NS))
_SPAN = 2 * _WITHIN_S - 1  # seconds that windows touch
I64 = NDArray[np.int64]


class Floods:
    """Takes batches in the order of settling; how they are split makes no difference."""

    def __init__(self) -> None:
        self._keys, self._clients = np.zeros(0, np.uint64), np.zeros(0, np.uint64)  # of half-open ones
        self._syn_ns = np.zeros(0, np.int64)
        cells = LISTENERS * SECONDS
        self._stamps = np.zeros(cells, np.uint32)  # whose a cell is
        self._counts = {True: np.zeros(cells, np.uint32), False: np.zeros(cells, np.uint32)}  # half open or not

    def note(self, noted: Noted, unseen_acks: UnseenAcks) -> Indexes:
        """Count a batch; returns its rows that belong to a flood."""
        events = noted.batch.events
        seconds = noted.syn_ns // _SECOND_NS
        if not len(noted.half_open):
            self._count(noted.services, seconds, False)
            return noted.half_open
        half = events["result"] == HandshakeResult.HALF_OPEN
        at_end = events["reason"] == SettleReason.AT_END
        young = half & at_end & (events["settled_ns"] - events["syn_ns"] < IN_FLIGHT_NS)
        young &= events["synack_count"] <= events["syn_count"]
        half &= at_end | (events["reason"] == SettleReason.BY_TIMEOUT)
        rows = np.flatnonzero(half)
        half[rows] = young[rows] | ~unseen_acks.of(noted, rows)
        # those that may be in flight belong to a flood that there is, but do not make one
        rows, stay, others = np.flatnonzero(half), np.flatnonzero(half & ~young), np.flatnonzero(~half & ~young)
        found = self._flooded(noted, seconds, rows, stay, others)
        self._count(noted.services[stay], seconds[stay], True)
        self._count(noted.services[others], seconds[others], False)
        return found

    @staticmethod
    def judge(case: Case, rows: Indexes) -> None:
        """Say it."""
        case.blame(rows, HandshakeCause.SYN_FLOOD, Confidence.LIKELY)

    # --- half-open handshakes ---

    def _flooded(self, noted: Noted, seconds: U64, rows: Indexes, stay: Indexes, others: Indexes) -> Indexes:
        """Keep `rows`, which are half open; which belong to a flood? `stay`: those of them that are not in flight."""
        before = len(self._keys)
        self._keys = np.concatenate((self._keys, noted.services[rows]))
        self._clients = np.concatenate((self._clients, noted.keys.addresses[rows]))
        syn_ns = noted.syn_ns[rows].astype(np.int64)
        self._syn_ns = np.concatenate((self._syn_ns, syn_ns))
        order = np.argsort(self._keys, kind="stable")
        keys = self._keys[order]
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))) if len(keys) else np.zeros(0, np.intp)
        sizes = np.diff(np.append(starts, len(keys)))
        found = []
        for start, size in zip(starts[sizes >= HALF_OPEN].tolist(), sizes[sizes >= HALF_OPEN].tolist(), strict=True):
            one = order[start : start + size]
            new = np.flatnonzero(one >= before)
            new = new[new >= HALF_OPEN - 1]
            if len(new):
                many = _many(self._syn_ns[one], self._clients[one], new)
                asked = rows[one[new] - before]
                found.append(asked[self._is_most(noted, seconds, stay, others, asked, many)])
        self._forget(order, starts, sizes)
        return np.sort(np.concatenate(found)) if found else np.zeros(0, np.intp)

    def _forget(self, order: Indexes, starts: Indexes, sizes: Indexes) -> None:
        """Keep the latest of each listener, and of all."""
        places = np.arange(len(order)) - np.repeat(starts, sizes)
        kept = np.sort(order[places >= np.repeat(sizes, sizes) - KEPT_EACH])[-KEPT:]
        self._keys, self._clients, self._syn_ns = self._keys[kept], self._clients[kept], self._syn_ns[kept]

    # --- all handshakes of a listener ---

    def _count(self, keys: U64, seconds: U64, half_open: bool) -> None:
        cells, stamps = _cells(keys, seconds)
        stale = np.flatnonzero(self._stamps[cells] != stamps)
        if len(stale):
            taken = cells[stale]
            self._stamps[taken] = stamps[stale]
            for counts in self._counts.values():
                # mostly no handshake is half open: what is 0 stays untouched, and takes no memory
                counts[taken[counts[taken] != 0]] = 0
        # a one of another type would be cast, at ten times the cost
        np.add.at(self._counts[half_open], cells, np.uint32(1))

    def _is_most(
        self, noted: Noted, seconds: U64, stay: Indexes, others: Indexes, asked: Indexes, many: list[Bool]
    ) -> Bool:
        """Are half-open handshakes more than half in one of those ten seconds in which they are many?

        `asked`: rows of one listener.
        """
        half = self._before(noted, seconds, stay, asked, True)
        other = self._before(noted, seconds, others, asked, False)
        found = np.zeros(len(asked), np.bool_)
        for begin, is_many in zip((0, _WITHIN_S // 2 - 1, _WITHIN_S - 1), many, strict=True):
            end = begin + _WITHIN_S
            found |= is_many & (half[:, begin:end].sum(axis=1) > other[:, begin:end].sum(axis=1))
        return found

    def _before(self, noted: Noted, seconds: U64, rows: Indexes, asked: Indexes, half_open: bool) -> I64:
        """How many of a kind were settled up to each row, by second from nine before its own to nine after."""
        key = noted.services[asked[0]]
        around = seconds[asked].astype(np.int64)[:, None] + np.arange(-_WITHIN_S + 1, _WITHIN_S)
        cells, stamps = _cells(np.broadcast_to(key, around.shape), around.astype(np.uint64))
        found = np.where(self._stamps[cells] == stamps, self._counts[half_open][cells], 0).astype(np.int64)
        mine = rows[noted.services[rows] == key]
        of_mine, of_asked = seconds[mine].astype(np.int64), seconds[asked].astype(np.int64)
        for second in distinct(of_mine).tolist():
            column = second - of_asked + _WITHIN_S - 1
            there = np.flatnonzero((column >= 0) & (column < _SPAN))
            found[there, column[there]] += np.searchsorted(mine[of_mine == second], asked[there], "right")
        return found


def _many(syn_ns: I64, clients: U64, new: Indexes) -> list[Bool]:
    """Of a listener's half-open handshakes: were there enough, of enough addresses, when each new one was settled?

    One answer for each of the windows.
    """
    order = np.argsort(clients, kind="stable")
    same = np.flatnonzero(clients[order][1:] == clients[order][:-1])
    previous = np.full(len(clients), -1, np.intp)
    previous[order[same + 1]] = order[same]
    pad = KEPT_EACH - 1
    # who is not there is far away
    times = np.concatenate((np.full(pad, np.iinfo(np.int64).min // 2), syn_ns))
    of_previous = np.where(previous >= 0, syn_ns[previous], np.iinfo(np.int64).min // 2)
    of_previous = np.concatenate((np.full(pad, np.iinfo(np.int64).min // 2), of_previous))
    now = syn_ns[new][:, None]
    apart, earlier = (
        sliding_window_view(times, KEPT_EACH)[new] - now,
        sliding_window_view(of_previous, KEPT_EACH)[new] - now,
    )
    found = []
    for begin, end in _WINDOWS:
        within = (apart > begin if begin < 0 else apart >= begin) & (apart <= end if end == 0 else apart < end)
        first = within & ~((earlier > begin) & (earlier < end) | (earlier == end))
        found.append((within.sum(axis=1) >= HALF_OPEN) & (first.sum(axis=1) >= ADDRESSES))
    return found


def _cells(keys: U64, seconds: U64) -> tuple[Indexes, U32]:
    """Where each listener's second is counted, and the stamp that makes it that."""
    listeners = (keys >> _SHIFT).astype(np.intp)
    stamps = (keys + seconds * _SCRAMBLE >> _HALF).astype(np.uint32) | np.uint32(1)
    return listeners * SECONDS + (seconds % np.uint64(SECONDS)).astype(np.intp), stamps
