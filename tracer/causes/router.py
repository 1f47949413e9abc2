"""What becomes of SYNs that this host passes on, or does not: TFO.md section 8, by the sides at which it was seen.

A SYN that was seen to come in and not to leave says nothing by itself: its frame may be meant for others, as at a
mirror port, or it left by an interface that is not traced, or in a way that is not seen. So its frame must be for this
host, whose kernel says that it does not pass it on; or by which interface, and it was seen to pass on SYNs so.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

import numpy as np

from tracer.causes.case import Case
from tracer.causes.listeners import flows
from tracer.causes.peer_history import REMEMBER_NS
from tracer.causes.sides import Fate, Pairs
from tracer.handshake.batch import Batch
from tracer.handshake.events import Bool, Indexes, pick
from tracer.ipc.event_header import constant
from tracer.ipc.messages import ForwardQuestion
from tracer.linux.routes import NO_ROUTE
from tracer.vocabulary.vocabulary import CauseAt, Confidence, HandshakeCause, Vantage

ASKED_MAX = 64  # of a batch: the newest
WAYS_MAX = 1 << 12
_TO_HOST = constant("ADDRESSED_TO_HOST")


class Router:
    """Knows by which interfaces this host passes SYNs on."""

    def __init__(self) -> None:
        self._groups: Mapping[int, int] = {}
        self._since: dict[int, int] = {}  # when we began to see what leaves by an interface
        self._ways: dict[tuple[int, int], int] = {}  # by groups: when a SYN last came and left so

    def set_interfaces(self, groups: Mapping[int, int], seen_leaving: Collection[int]) -> None:
        """Set the groups of the interfaces that are traced, and those of which what leaves is seen, too."""
        now_ns = time.monotonic_ns()
        self._groups = groups
        self._since = {index: self._since.get(index, now_ns) for index in seen_leaving}

    def doubtful(self, batch: Batch, pairs: Pairs) -> Indexes:
        """Rows whose SYN came in for this host to pass on, and nothing more is known of it."""
        rows = np.flatnonzero(pairs.only_came_in & (batch.vantage == Vantage.TRANSIT))
        rows = rows[pairs.fates[rows] == Fate.SILENT]
        found: Indexes = rows[batch.events["addressee"][rows] == _TO_HOST][-ASKED_MAX:]
        return found

    def judge(self, case: Case, pairs: Pairs, unseen: Bool) -> None:
        """Give causes to the rows of a batch; `case.ways` has what the kernel says of those that are doubtful.

        `unseen`: rows that may have been answered by a way that is not seen, where silence says nothing.
        """
        self.note(case.batch, pairs)
        rows = np.flatnonzero((pairs.other >= 0) & ~unseen)
        if len(rows):
            here, there = pairs.fates[rows], pairs.others(rows)
            silent, silent_there = here == Fate.SILENT, there["fate"] == Fate.SILENT
            came, translated = pairs.sides["out"][rows] == 0, pairs.sides["id"][rows] != there["id"]
            reset = np.where(came, silent & (there["fate"] == Fate.RESET), (here == Fate.RESET) & silent_there)
            case.blame(rows[reset & translated], HandshakeCause.NAT_ONE_WAY, Confidence.LIKELY)
            case.blame(rows[silent & silent_there], HandshakeCause.NO_ANSWER_BEYOND, Confidence.LIKELY)
        if case.ways:
            events = case.batch.events
            ways = case.ways.items()
            kept = np.array([row for row, way in ways if self._would_be_seen(case.batch, row, way)], np.intp)
            # a port of a bridge sees it, too, and for others
            same = np.isin(events["id"], events["id"][kept]) & pairs.only_came_in & (pairs.fates == Fate.SILENT)
            same &= ~unseen
            case.blame(np.flatnonzero(same), HandshakeCause.NOT_FORWARDED, Confidence.LIKELY, CauseAt.THIS_HOST)

    def note(self, batch: Batch, pairs: Pairs) -> None:
        """Remember by which interfaces SYNs were passed on."""
        rows = np.flatnonzero(pairs.other >= 0)
        rows = rows[batch.events["egress"][rows] == 0]
        if not len(rows):
            return
        there = pairs.others(rows)
        ways = batch.events["ifindex"][rows].astype(np.uint64) << np.uint64(32) | there["ifindex"]
        found, places = np.unique(ways, return_inverse=True)
        latest_ns = np.zeros(len(found), np.uint64)
        np.maximum.at(latest_ns, places, there["syn_ns"])
        for way, when_ns in zip(found.tolist(), latest_ns.tolist(), strict=True):
            came, left = (self._groups.get(one, one) for one in (way >> 32, way & 0xFFFFFFFF))
            self._ways.pop((came, left), None)
            self._ways[came, left] = when_ns
        while len(self._ways) > WAYS_MAX:
            del self._ways[next(iter(self._ways))]

    def _would_be_seen(self, batch: Batch, row: int, way: int) -> bool:
        """Would it have been seen to leave, or is it known that it does not?"""
        if way == NO_ROUTE:
            return True
        event = batch.events[row]
        syn_ns = int(event["syn_ns"])
        came, left = (self._groups.get(one, one) for one in (int(event["ifindex"]), way))
        seen_ns = self._ways.get((came, left), -REMEMBER_NS)
        is_traced = syn_ns > self._since.get(way, syn_ns)
        return is_traced and came != left and syn_ns < seen_ns + REMEMBER_NS


def forward_questions(batch: Batch, rows: Indexes) -> list[ForwardQuestion]:
    """By which interfaces do these leave?"""
    events = pick(batch.events, rows)
    return [ForwardQuestion(*one) for one in zip(flows(events), events["ifindex"].tolist(), strict=True)]
