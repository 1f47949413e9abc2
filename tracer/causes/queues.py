"""What a listener of this host does when it cannot take more, or does not want to yet.

Follows net/ipv4/tcp_input.c (tcp_conn_request), tcp_ipv4.c (tcp_v4_syn_recv_sock), tcp_minisocks.c (tcp_check_req)
and syncookies.c. A full accept queue drops SYNs (ListenOverflows, ListenDrops) and ACKs (the same; it resets these with
tcp_abort_on_overflow); a full SYN queue drops SYNs if SYN cookies are off (TCPReqQFullDrop, ListenDrops; by
tcp_max_syn_backlog ListenDrops alone). These count for the whole host, so what its listeners have dropped themselves
tells whose queue it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracer.causes.asked import Asked
from tracer.causes.attempts import HOPS
from tracer.causes.kernel_evidence import KernelEvidence, Rose
from tracer.causes.listeners import Listeners
from tracer.causes.queue_table import QueueTable
from tracer.handshake.batch import Batch
from tracer.handshake.events import U8, U64, Bool, Events, Indexes, among, has, pick
from tracer.ipc.messages import ListenerAnswer, QueueAnswer
from tracer.vocabulary.vocabulary import After, CauseAt, Confidence, HandshakeCause, HandshakeResult, Has, Vantage

# A queue that is full so soon after a handshake's end was full before: what it drops comes again a second later.
SEEN_FULL_NS = 1_000_000_000
RESET_SOON_NS = 1_000_000  # of the same ACK
SENT_AGAIN_NS = 1_500_000_000  # Linux sends a SYN-ACK again after a second, but not one that is a cookie
IN_VAIN = 2
_OURS = (HandshakeCause.ACCEPT_QUEUE_FULL, HandshakeCause.SYN_QUEUE_FULL, HandshakeCause.ACCEPT_DEFERRED)
_FULL, _SYN_FULL, _DEFERRED = _OURS
_AT_SERVER = Vantage.SERVER  # the bit that SERVER and LOCAL share
_CERTAIN, _LIKELY, _POSSIBLE = Confidence.CERTAIN, Confidence.LIKELY, Confidence.POSSIBLE


def queued_here(batch: Batch, rows: Indexes, evidence: KernelEvidence) -> Indexes:
    """Those of some rows to explain whose listener, on this host, may have had a full queue, or waited for data.

    It sent its SYN-ACK again though it had got the ACK, or reset that; or it answered a later SYN only, while counters
    moved. Those that it did not answer at all are asked about one by one.
    """
    rows = rows[(batch.vantage[rows] & _AT_SERVER) != 0]
    if not len(rows):
        return rows
    events = pick(batch.events, rows)
    again = events["synacks_after_ack"] != 0
    late = _late(events, batch.verdicts.answered_syn[rows])
    late[late] = evidence.listeners_dropped(events["syn_ns"][late])
    found: Indexes = rows[again | late | _reset_at_ack(events, batch.verdicts.after[rows])]
    return found


def _reset_at_ack(events: Events, after: U8) -> Bool:
    """Did this host reset it at its ACK, perhaps by tcp_abort_on_overflow? It had not waited for data then."""
    own = (after == After.RESET_BY_SERVER) & (HOPS[events["reset_ttl"]] == 0)
    own &= (events["request_ns"] == 0) | (events["request_ns"] == events["ack_ns"])
    found: Bool = own & (events["ack_ns"] != 0) & (events["settled_ns"] < events["ack_ns"] + np.uint64(RESET_SOON_NS))
    return found


def _late(events: Events, answered_syn: U8) -> Bool:
    """Was a later SYN answered, and the first one not, as far as is known?"""
    again_ns = events["retx"]["after_us"][:, 0].astype(np.uint64) * np.uint64(1000)
    after = events["synack_ns"] > events["syn_ns"] + again_ns
    found: Bool = (events["retx_count"] != 0) & after & (answered_syn != 1)
    return found


@dataclass(frozen=True, slots=True)
class _Seen:
    """One row per handshake: what is known of the queues of this host that its SYN or ACK may have met."""

    here: Bool  # a socket of this host listens for it
    elsewhere: Bool  # nobody does here, or the host sends it elsewhere
    route: Bool  # the host has a way to answer
    not_deferred: Bool  # it has no TCP_DEFER_ACCEPT
    known: Bool  # whatever they dropped is known
    dropped: Bool  # one of them dropped something meanwhile
    alone: Bool  # and no other listener of this host did, or there is none
    full: Bool  # one was seen full
    all_full: Bool  # all were, or the very socket was

    @classmethod
    def nothing(cls, count: int) -> _Seen:
        return cls(*(np.zeros(count, np.bool_) for _ in cls.__slots__))


class Queues:
    """Names the listener whose queue explains a handshake."""

    def __init__(self, evidence: KernelEvidence, listeners: Listeners) -> None:
        self._evidence, self._listeners = evidence, listeners
        self.table = QueueTable()

    def judge(self, asked: Asked) -> None:
        """Give causes to rows whose listener's queue was full, or that waits for data."""
        events = asked.events
        silent = asked.is_result(HandshakeResult.NO_REPLY)
        after_ack = asked.is_result(HandshakeResult.ESTABLISHED) & (events["synacks_after_ack"] != 0)
        again = asked.after == After.SYNACK_AGAIN
        late = asked.answered & _late(events, asked.case.batch.verdicts.answered_syn[asked.rows])
        sent = (events["request_ns"] != 0) | (events["syn"]["payload_len"] != 0)
        reset = _reset_at_ack(events, asked.after)
        local = asked.at_server & (silent | after_ack | late | reset)
        if not (local | again).any():
            return
        rose = self._evidence.rose(events["syn_ns"], events["settled_ns"])
        moved = (rose.drops > 0) | (rose.overflows > 0) | (rose.syn_queue > 0)
        rows = np.flatnonzero(local & rose.known & (moved | again))
        seen, chosen = self._look(asked, rows, np.where(late, events["synack_ns"], events["settled_ns"])[rows])
        here = _Part(asked, rows, rose.only(rows), seen, (silent | late)[rows], reset[rows])
        here.likely()
        waits = (again & ~sent)[rows] & ~seen.elsewhere & ~seen.not_deferred
        here.blame(waits & (here.rose.deferred > 0), _DEFERRED, _LIKELY)
        here.possible()

        # elsewhere no counters are known: what the client did tells the two apart
        away = again.copy()
        away[rows] &= seen.elsewhere
        unacked = (events["request_repeats"] != 0) & (events["request_acked"] == 0)
        asked.blame(away & unacked, _FULL, _POSSIBLE, CauseAt.SERVER)
        asked.blame(away & ~sent, _DEFERRED, _POSSIBLE, CauseAt.SERVER)
        self._name(asked, rows, seen, chosen)

    def _look(self, asked: Asked, rows: Indexes, until_ns: U64) -> tuple[_Seen, list[QueueAnswer | None]]:
        """What the root part has told of these rows' listeners, and which of each to name."""
        seen, chosen = _Seen.nothing(len(rows)), list[QueueAnswer | None]([None] * len(rows))
        if not len(rows):
            return seen, chosen
        events = pick(asked.events, rows)
        answers = self._answers(asked, rows, keys := asked.case.keys.listeners[asked.rows[rows]])
        for key, told in answers.items():
            at = np.flatnonzero(keys == np.uint64(key))
            seen.here[at] = bool(told.sockets) and not told.translated
            seen.elsewhere[at] = told.sockets == 0 or bool(told.translated)
            seen.route[at] = told.leaves_by is not None
            seen.not_deferred[at] = told.defers is False
            if told.accept:
                best = _compare(told, pick(events, at), until_ns[at], seen, at)
                for row, number in zip(at.tolist(), best.tolist(), strict=True):
                    chosen[row] = told.accept[number]
            seen.alone[at] |= told.alone & ~seen.known[at]
        return seen, chosen

    def _answers(self, asked: Asked, rows: Indexes, keys: U64) -> dict[int, ListenerAnswer]:
        """By the keys of their services; of several clients' answers one whose SYN the host does not send elsewhere."""
        found: dict[int, ListenerAnswer] = {}
        for row, key in zip(asked.rows[rows].tolist(), keys.tolist(), strict=True):
            told = asked.case.silent.get(row)
            if told is not None and (key not in found or found[key].translated):
                found[key] = told
        for key in set(keys.tolist()) - found.keys():
            told = self._listeners.answer(key)
            if told is not None:
                found[key] = told
        return found

    def _name(self, asked: Asked, rows: Indexes, seen: _Seen, chosen: list[QueueAnswer | None]) -> None:
        """Fill in which listener it was."""
        causes = asked.case.causes
        made = causes.handshake_cause[asked.rows[rows]]
        for at in np.flatnonzero(among(_OURS).take(made)).tolist():
            queue = chosen[at]
            if queue is not None:
                full = made[at] == _FULL and bool(seen.full[at])
                causes.listener[asked.rows[rows[at]]] = self.table.number(queue, as_full=full)

    def judge_cookies(self, asked: Asked) -> None:
        """SYN cookies let a handshake fail: without a request in memory, this host cannot send its SYN-ACK again.

        Only where the SYN-ACK looks like one, since the counter is the whole host's.
        """
        if not (asked.at_server & asked.answered).any():
            return
        events = asked.events
        half_open = asked.is_result(HandshakeResult.HALF_OPEN)
        in_vain = (events["request_repeats"] >= IN_VAIN) & (events["request_acked"] == 0)
        in_vain &= among((After.SILENCE, After.SYNACK_AGAIN)).take(asked.after)
        may = asked.at_server & asked.answered & (half_open | in_vain) & (HOPS[events["synack"]["ttl"]] == 0)
        rows = np.flatnonzero(may & ~asked.has_cause)
        if not len(rows):
            return
        events = pick(events, rows)
        rose = self._evidence.rose(events["syn_ns"], events["synack_ns"])
        waited = events["settled_ns"] - events["synack_ns"] >= np.uint64(SENT_AGAIN_NS)
        once = (events["synack_count"] <= events["syn_count"]) & (events["synacks_after_ack"] == 0)
        wanted, given = events["syn"]["has"], events["synack"]["has"]
        bare = ~(has(given, Has.WSCALE) | has(given, Has.SACK) | has(given, Has.TIMESTAMPS))
        bare &= has(wanted, Has.WSCALE) & has(wanted, Has.SACK)
        looks = rose.always_cookies | bare | (half_open[rows] & waited)
        found = np.zeros(len(asked.rows), np.bool_)
        found[rows] = (rose.cookies_sent > 0) & once & looks
        asked.blame(found, HandshakeCause.SYN_COOKIES, _LIKELY, CauseAt.THIS_HOST)


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of handshakes at this host whose queues may have been full, and what is known of them."""

    asked: Asked
    rows: Indexes
    rose: Rose
    seen: _Seen
    unanswered: Bool  # the first SYN
    reset: Bool  # by this host, which a program may have done

    def blame(self, which: Bool, cause: HandshakeCause, confidence: Confidence) -> None:
        self.asked.case.blame(self.asked.rows[self.rows[which]], cause, confidence, CauseAt.THIS_HOST)

    @property
    def _may_be_full(self) -> Bool:
        here = np.where(self.unanswered, self.seen.here, ~self.seen.elsewhere)
        found: Bool = here & (self.rose.overflows > 0) & (self.seen.dropped | ~self.seen.known)
        return found

    def likely(self) -> None:
        """What the listener's own drops and its queue support."""
        seen, rose, full = self.seen, self.rose, self._may_be_full
        self.blame(full & seen.all_full & seen.dropped & ~self.reset, _FULL, _CERTAIN)
        self.blame(full & (seen.full | (seen.alone & (rose.syn_queue == 0))), _FULL, _LIKELY)
        syn = self.unanswered & seen.here & seen.alone & (rose.overflows == 0)
        self.blame(syn & (rose.syn_queue > 0), _SYN_FULL, _LIKELY)
        # without cookies, the last quarter of tcp_max_syn_backlog is kept for clients that it knows
        dropped = seen.known & seen.dropped & (rose.drops > 0) & seen.route
        self.blame(syn & dropped & rose.never_cookies, _SYN_FULL, _LIKELY)

    def possible(self) -> None:
        """Where another listener may have been the one."""
        self.blame(self._may_be_full, _FULL, _POSSIBLE)
        syn = self.unanswered & self.seen.here & (self.seen.dropped | ~self.seen.known)
        self.blame(syn & (self.rose.syn_queue > 0), _SYN_FULL, _POSSIBLE)


def _compare(told: ListenerAnswer, events: Events, until_ns: U64, seen: _Seen, at: Indexes) -> Indexes:
    """Look at the sockets of a service, of which each row has met one; returns the number of the fullest."""
    syn_ns = events["syn_ns"]
    queues = told.accept
    own = np.array([events["server_socket"] == one.inode for one in queues], np.bool_)
    own |= ~own.any(axis=0)  # which of them it met is not known
    full = np.array([_was_full(one, syn_ns, until_ns) for one in queues], np.bool_)
    dropped, alone = (np.array(found, np.bool_) for found in zip(*(
        _has_dropped(one, syn_ns, until_ns) for one in queues
    ), strict=True))  # fmt: skip
    known = np.array([_is_known(one, syn_ns, until_ns) for one in queues], np.bool_) | dropped
    complete = len(queues) == told.sockets
    seen.known[at] = (known | ~own).all(axis=0) & complete
    seen.dropped[at], seen.alone[at] = (dropped & own).any(axis=0), (alone & own).any(axis=0)
    seen.full[at], seen.all_full[at] = (full & own).any(axis=0), (full | ~own).all(axis=0) & complete
    fill = np.array([min(one.queued / (one.backlog + 1), 1) for one in queues])[:, None]
    best: Indexes = np.argmax(8 * own + 4 * full + 2 * dropped + fill, axis=0)
    return best


def _was_full(queue: QueueAnswer, syn_ns: U64, until_ns: U64) -> Bool:
    if queue.full is None:
        return np.zeros(len(syn_ns), np.bool_)
    found: Bool = (syn_ns <= queue.full.seen_ns) & (queue.full.seen_ns <= until_ns + np.uint64(SEEN_FULL_NS))
    return found


def _has_dropped(queue: QueueAnswer, syn_ns: U64, until_ns: U64) -> tuple[Bool, Bool]:
    """Has it meanwhile, and was it once the only one?"""
    dropped, alone = np.zeros(len(syn_ns), np.bool_), np.zeros(len(syn_ns), np.bool_)
    for one in queue.dropped:
        then = (syn_ns <= one.until_ns) & (one.after_ns <= until_ns)
        dropped |= then
        alone |= then & one.alone
    return dropped, alone


def _is_known(queue: QueueAnswer, syn_ns: U64, until_ns: U64) -> Bool:
    if queue.known_ns is None:
        return np.zeros(len(syn_ns), np.bool_)
    since_ns, known_until_ns = queue.known_ns
    found: Bool = (syn_ns >= since_ns) & (until_ns <= known_until_ns)
    return found
