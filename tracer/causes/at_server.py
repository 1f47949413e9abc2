"""Why this host gave no cookie and took no data, or did not answer at all: what its kernel and its sockets witness."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tracer.causes.attempts import HOPS, Keys, PeerHash
from tracer.causes.case import Case
from tracer.causes.cookies import COOKIE_SENT
from tracer.causes.kernel_evidence import COOKIE_NOT_REQUIRED, SERVER_ENABLE, SYN_COOKIES_ALWAYS, KernelEvidence
from tracer.causes.listeners import Listeners
from tracer.causes.peer_history import REMEMBER_NS, PeerHistory
from tracer.causes.slot_table import SlotTable
from tracer.handshake.batch import Batch
from tracer.handshake.events import Indexes, among, has, pick, some_rows
from tracer.ipc.event_header import constant
from tracer.ipc.messages import ListenerAnswer
from tracer.vocabulary.vocabulary import (
    Cause,
    CauseAt,
    Confidence,
    HandshakeCause,
    HandshakeResult,
    Has,
    Request,
    SettleReason,
    Vantage,
)

SERVICES = 1 << 14
_AT_SERVER = Vantage.SERVER  # the bit that SERVER and LOCAL share
_TO_OTHERS = constant("ADDRESSED_TO_OTHERS")


def answered_here(batch: Batch, rows: Indexes) -> Indexes:
    """Those of some answered rows whose SYN-ACK came from this host's own stack, as far as it shows.

    One that passed a router did not: the port is forwarded, perhaps to a container.
    """
    own = HOPS[batch.events["synack"]["ttl"][rows]] == 0
    found: Indexes = rows[((batch.vantage[rows] & _AT_SERVER) != 0) & own]
    return found


def unanswered_here(batch: Batch) -> Indexes:
    """Rows whose SYN arrived at this host, and for which nothing at all left."""
    events = batch.events
    rows: Indexes = np.flatnonzero(events["result"] == HandshakeResult.NO_REPLY)
    rows = rows[events["reason"][rows] == SettleReason.BY_TIMEOUT]
    if not len(rows):
        return rows
    vantage, events = batch.vantage[rows], pick(events, rows)
    arrived = ((vantage & _AT_SERVER) != 0) & ((vantage == Vantage.LOCAL) | (events["egress"] == 0))
    left = (events["challenge_acks"] | events["misfit_rsts"] | events["misfit_synacks"] | events["misfit_icmps"]) != 0
    left |= events["resumed"] != 0
    left |= has(events["synack"]["has"], Has.SEGMENT)
    found: Indexes = rows[arrived & ~left & (events["addressee"] != _TO_OTHERS)]
    return found


class AtServer:
    """Explains handshakes of servers on this host by what the root part has told."""

    def __init__(self, hashes: PeerHash, history: PeerHistory, evidence: KernelEvidence, listeners: Listeners) -> None:
        self._hash, self._history = hashes, history
        self._evidence, self._listeners = evidence, listeners
        self.groups: Mapping[int, int] = {}  # of the interfaces that are traced
        # services whose answers leave by an interface that is not traced
        self._one_way = SlotTable(SERVICES, "when_ns")

    def note(self, batch: Batch, keys: Keys) -> None:
        """Remember whose answers are not seen here."""
        rows = np.flatnonzero(batch.events["one_way"])
        if len(rows):
            slots, own = self._one_way.claim(keys.listeners[rows])
            self._one_way["when_ns"][slots[own]] = batch.events["syn_ns"][rows[own]]

    def host_dropped(self, case: Case, rows: Indexes) -> None:
        """The SYN came and nothing left, though a socket listens and no queue was full (TFO.md section 8)."""
        if not len(rows):
            return
        events = pick(case.batch.events, rows)
        quiet = self._evidence.queues_were_quiet(events["syn_ns"], events["settled_ns"])
        slots, elsewhere = self._one_way.find(case.keys.listeners[rows])
        elsewhere &= events["syn_ns"] < self._one_way["when_ns"][slots] + np.uint64(REMEMBER_NS)
        ifindexes = events["ifindex"].tolist()
        unheard = [
            row in case.silent and self._would_answer(case.silent[row], ifindex)
            for row, ifindex in zip(rows.tolist(), ifindexes, strict=True)
        ]
        found = np.array(unheard, np.bool_) & quiet & ~elsewhere
        case.blame(rows[found], HandshakeCause.HOST_DROPPED, Confidence.POSSIBLE, CauseAt.THIS_HOST)

    def _would_answer(self, told: ListenerAnswer, ifindex: int) -> bool:
        """Is it known that a socket of this host listens and gets the SYN, and would its answer be in the same record?

        What leaves by an interface that is not traced, or makes a record of its own, may have been the answer.
        """
        if not told.leaves_by or told.translated is not False:
            return False
        out, into = (self.groups.get(one, one) for one in (told.leaves_by, ifindex))
        return bool(told.sockets) and out == into

    def no_option_back(self, case: Case, rows: Indexes) -> Indexes:
        """This host answered without the option; returns the rows of which nothing seen elsewhere is an explanation.

        Their listener is known to have Fast Open; or only this host's settings can tell, and nobody could read them
        in time; or nobody listens though this host answered, so the socket table is of another time.

        Follows tcp_conn_request and tcp_try_fastopen of the kernel (net/ipv4/tcp_input.c, tcp_fastopen.c).
        """
        syn_ns = case.batch.events["syn_ns"][rows]
        listening = self._listeners.of(case.keys.listeners[rows], syn_ns)
        seen = self._evidence.around(syn_ns, case.batch.events["synack_ns"][rows])
        # where the SYN went elsewhere, this host's settings say nothing
        ours = listening.here | ~listening.known
        told, late = np.flatnonzero(seen.known & ours), rows[~seen.known & ours | listening.nobody]
        if not self._evidence.latest_ns:  # a replay
            late = late[:0]
        if not len(told):
            return late
        rows, seen, listening = rows[told], seen.only(told), some_rows(listening, told)
        request = case.batch.verdicts.request[rows]
        sure = listening.here & ~listening.changed
        was_on, is_on = seen.fast_open_bit(SERVER_ENABLE)
        off = ~was_on & ~is_on & ~seen.fast_open_changed
        case.say(rows[off & sure], Cause.SERVER_DISABLED, Confidence.CERTAIN)
        case.say(rows[off], Cause.SERVER_DISABLED, Confidence.LIKELY)

        was_free, is_free = seen.fast_open_bit(COOKIE_NOT_REQUIRED)
        never_free = ~was_free & ~is_free & ~seen.fast_open_changed
        tried = self._hash.of(case.batch, rows, case.keys)
        works = self._history.works(tried)
        without_cookie = request == Request.DATA_ONLY
        needed = without_cookie & never_free & was_on & is_on
        case.say(rows[needed & works & sure & listening.on], Cause.COOKIE_REQUIRED, Confidence.CERTAIN)
        full, sent = seen.overflows > 0, seen.cookies_sent > 0
        always = (seen.syn_cookies == SYN_COOKIES_ALWAYS) & ~seen.syn_cookies_changed
        case.say(rows[always & sent & sure], Cause.SYN_COOKIES, Confidence.CERTAIN)
        takes = self._history.takes_data_without_cookie(tried)
        asks, free = ~among(COOKIE_SENT).take(request) & ~without_cookie, was_free & is_free
        never_grants = asks & free & ~seen.fast_open_changed & takes & sure & listening.on
        case.say(rows[never_grants], Cause.COOKIE_NOT_REQUIRED, Confidence.CERTAIN)
        # counters are the host's: what a listener without Fast Open got is not a neighbour's full queue
        case.say(rows[listening.off & sure], Cause.LISTENER_DISABLED, Confidence.LIKELY)

        case.say(rows[sent & ~full & listening.on], Cause.SYN_COOKIES, Confidence.LIKELY)
        case.say(rows[full & ~sent & listening.on], Cause.QUEUE_OVERFLOW, Confidence.LIKELY)
        # both counters rose, either may explain this handshake; or it is not known whether this listener has a queue
        more = seen.cookies_sent > seen.overflows
        case.say(rows[(full | sent) & more], Cause.SYN_COOKIES, Confidence.POSSIBLE)
        case.say(rows[full & ~more], Cause.QUEUE_OVERFLOW, Confidence.POSSIBLE)

        case.say(rows[needed], Cause.COOKIE_REQUIRED, Confidence.LIKELY)
        case.say(rows[asks & (free | (takes & listening.on & sure))], Cause.COOKIE_NOT_REQUIRED, Confidence.LIKELY)
        # it was switched between the looks, and nobody saw whether before the SYN or after it
        case.say(rows[~was_on | ~is_on], Cause.SERVER_DISABLED, Confidence.LIKELY)
        case.say(rows[asks & (was_free | is_free | takes)], Cause.COOKIE_NOT_REQUIRED, Confidence.POSSIBLE)
        case.say(rows[without_cookie & ~free], Cause.COOKIE_REQUIRED, Confidence.POSSIBLE)
        # Fast Open is on, the listener has it, nothing was full, and no listener took notice of such a SYN (it may want
        # no cookie by TCP_FASTOPEN_NO_COOKIE): somebody else has answered
        others = listening.on & sure & ~seen.fast_open_changed & (seen.heard == 0)
        case.say(rows[others], Cause.ANSWERED_BEFORE_LISTENER, Confidence.LIKELY)
        # else the listener's own queue length may be 0, unless it has worked
        case.say(rows[(~listening.on & ~works) | listening.changed], Cause.LISTENER_DISABLED, Confidence.POSSIBLE)
        return np.concatenate((late, rows[listening.on]))
