"""Who answered, and which segments were lost, between two places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.compare.headers import Findings
from tracer.compare.join import SAME_SEGMENT_NS, Joined, Offset, acked_first
from tracer.compare.model import Share, Times, Towards
from tracer.compare.place import Place, Rows
from tracer.handshake import ecn
from tracer.handshake.events import has
from tracer.ipc.event_header import constant
from tracer.vocabulary.changes import Piece, What
from tracer.vocabulary.vocabulary import After, HandshakeResult, Has, SettleReason

Bool = NDArray[np.bool_]
BY_CLIENT, BY_SERVER = constant("RESET_BY_CLIENT"), constant("RESET_BY_SERVER")
SATURATED = 255
REPEATED_US = 5000  # no request is sent again sooner: the shortest tail loss probe (RFC 8985) of Linux is 2 jiffies
FOR_EVER_NS = 1 << 62
MARGIN_NS = 20_000_000  # at the ends of a recording: to write its start and its end takes a moment


@dataclass(frozen=True, slots=True)
class Answers:
    """Whose SYN-ACK the near place saw, a row for each joined handshake."""

    in_between: Bool  # that of somebody between the places
    renumbered: Bool  # the server's, with another initial sequence number


@dataclass(frozen=True, slots=True)
class Watch:
    """From when to when a place surely watched, on the clock of the joined rows, ns."""

    since: int
    until: int
    place: Place


def answers(joined: Joined, far_watch: Watch) -> Answers:
    """Compare the SYN-ACKs of both places.

    One whose numbers are rewritten passes both places one after the other, with the same timestamps. A proxy's own
    comes to the near place with timestamps of its own, before the far place sees any.
    """
    near, far = joined.near, joined.far
    here, there = _seen(near["synack"]), _seen(far["synack"])
    differ = here & there & (near["synack"]["seq"] != far["synack"]["seq"])
    stamped = has(near["synack"]["has"], Has.TIMESTAMPS) & has(far["synack"]["has"], Has.TIMESTAMPS)
    later = near["synack_ns"] - far["synack_ns"]
    error = _error_ns(joined)
    in_time = (later > -error) & (later < SAME_SEGMENT_NS)
    same = np.where(stamped, near["synack"]["ts_val"] == far["synack"]["ts_val"], in_time)
    differ &= stamped | (error < SAME_SEGMENT_NS)
    plain = (near["resumed"] == 0) & (far["resumed"] == 0)  # else the answer has a record of its own
    # each side may have taken another one of several answers
    differ &= (near["synack_isns"] <= 1) & (far["synack_isns"] <= 1) & plain
    unanswered = here & _result(far, HandshakeResult.NO_REPLY) & (far["synack_count"] == 0) & plain
    unanswered &= _waited(far, near["synack_ns"], far_watch.until)
    unanswered &= _is_heard(far)
    unanswered &= bool(np.any((far["synack_count"] > 0) | (far["reset_from"] == BY_SERVER)))
    return Answers(differ & ~same | unanswered, differ & same)


def tell_fates(
    joined: Joined, found: Answers, missing: Rows, findings: Findings, missed: Findings, near_watch: Watch,
    far_watch: Watch,
) -> None:  # fmt: skip
    """Tell who else answered and what was lost.

    `missing` are rows that only the near place has; `missed` tells theirs.
    """
    near, far = joined.near, joined.far
    every = len(near) + len(missing)
    findings.tell(What.ANSWERED_ON_PATH, Piece.SYNACK, Towards.CLIENT, found.in_between, every)
    findings.tell(What.ISN_CHANGED, Piece.SYNACK, Towards.CLIENT, found.renumbered, len(near))
    isn = near["syn"]["seq"] != far["syn"]["seq"]
    findings.tell(What.ISN_CHANGED, Piece.SYN, Towards.SERVER, isn, len(near))
    missed.tell(What.ANSWERED_ON_PATH, Piece.SYNACK, Towards.CLIENT, _seen(missing["synack"]), every, certain=False)
    _refused(near, far, missing, findings, missed)
    counted = _counted(joined, near_watch, far_watch) & ~found.in_between
    _lost_syns(joined, found, counted & _ended_before(far, far_watch, near_watch), missing, findings, missed)
    _lost_synacks(joined, found, counted & _ended_before(near, near_watch, far_watch), findings)
    _lost_later(joined, ~found.in_between, findings, near_watch, far_watch)


def expected(alone: Rows, joined_near: Rows, ahead: Offset, span: tuple[int, int]) -> Bool:
    """Which rows of the near place alone would the far place have seen, had they arrived?

    Those while it watched (`span`, on its clock), to servers of which it saw other handshakes. That it saw others of
    the client says nothing: a client has other servers, behind other paths.
    """
    known = np.isin(_addresses(alone["server"]), np.unique(_addresses(joined_near["server"])))
    when = alone["syn_ns"] + ahead.ns
    margin = MARGIN_NS + (ahead.error_ns or 0)
    there: Bool = known & (when >= span[0] + margin) & (when <= span[1] - margin)
    return there


def by_another_path(missing: Rows, joined_near: Rows) -> Bool:
    """Which rows of the near place alone are to servers that are also reached by a path around the far place?

    Those of which one was answered from as far away as the answers that both places saw: that was the server itself.
    """
    known = _distances(joined_near, joined_near["synack"]["ttl"])[_seen(joined_near["synack"])]
    around = _seen(missing["synack"]) & np.isin(_distances(missing, missing["synack"]["ttl"]), known)
    around |= (missing["reset_from"] == BY_SERVER) & np.isin(_distances(missing, missing["reset_ttl"]), known)
    servers = _addresses(missing["server"])
    found: Bool = np.isin(servers, servers[around])
    return found


def divide(joined: Joined, found: Answers) -> Times | None:
    """How the round trip divides, by handshakes of which no segment was repeated. Clocks need not agree for it."""
    near, far = joined.near, joined.far
    clean = joined.same_syn & joined.same_synack & ~found.in_between
    for rows in (near, far):
        clean &= (rows["syn_count"] == 1) & (rows["synack_count"] == 1)
    if not clean.any():
        return None
    near, far = near[clean], far[clean]
    beyond = far["synack_ns"] - far["syn_ns"]
    between = near["synack_ns"] - near["syn_ns"] - beyond
    acked = near["ack_ns"] != 0
    before = near["ack_ns"][acked] - near["synack_ns"][acked]
    return Times(_share(before), _share(between), _share(beyond))


def _share(spans_ns: NDArray[np.int64]) -> Share | None:
    if not len(spans_ns):
        return None
    median, p95 = np.quantile(spans_ns / 1000, (0.5, 0.95)).tolist()
    return Share(median, p95, len(spans_ns))


def _is_heard(rows: Rows) -> Bool:
    """Which rows are to servers whose answers do not pass by the place on another way, as far as it has seen?"""
    servers = _addresses(rows["server"])
    found: Bool = ~np.isin(servers, servers[rows["one_way"] != 0])
    return found


def _seen(segment: NDArray[np.void]) -> Bool:
    return has(segment["has"], Has.SEGMENT)


def _result(rows: Rows, *results: HandshakeResult) -> Bool:
    return np.isin(rows["result"], [int(one) for one in results])


def _addresses(addresses: NDArray[np.uint8]) -> NDArray[np.void]:
    return np.ascontiguousarray(addresses).view("V16").ravel()


def _distances(rows: Rows, ttl: NDArray[np.uint8]) -> NDArray[np.void]:
    """A server and a TTL as one comparable value a row."""
    return np.concatenate((rows["server"], ttl[:, None]), axis=1).view("V17").ravel()


def _error_ns(joined: Joined) -> int:
    """How far the clocks' offset may be wrong."""
    offset = joined.offset
    return offset.error_ns if offset is not None and offset.error_ns is not None else FOR_EVER_NS


def _counted(joined: Joined, near_watch: Watch, far_watch: Watch) -> Bool:
    """Do the counts of both places tell of the same time? They do unless a place began to watch too late, or saw the
    handshake settled by something else than its end, or in several records."""
    near, far = joined.near, joined.far
    since = max(near_watch.since, far_watch.since) + MARGIN_NS
    found: Bool = joined.same_syn | (joined.offset is not None) & (np.minimum(near["syn_ns"], far["syn_ns"]) >= since)
    for rows in (near, far):
        found &= (rows["resumed"] == 0) & (rows["reason"] != SettleReason.BY_NEW_SYN)
    return found


def _ended_before(rows: Rows, watch: Watch, other: Watch) -> Bool:
    """Which rows are not just cut by their recording's end, after which the other place went on to count?"""
    found: Bool = rows["reason"] != SettleReason.AT_END
    return found | (watch.until >= other.until)


def _timed_out(rows: Rows) -> Bool:
    ended: Bool = rows["reason"] == SettleReason.BY_TIMEOUT
    return ended


def _waited(rows: Rows, since_ns: NDArray[np.int64], until_ns: int) -> Bool:
    """Did a place wait in vain for what passed the other one then: to the timeout, or to the end of its recording?"""
    found = _timed_out(rows)
    found |= (rows["reason"] == SettleReason.AT_END) & (since_ns + SAME_SEGMENT_NS < until_ns)
    return found


def _refused(near: Rows, far: Rows, missing: Rows, findings: Findings, missed: Findings) -> None:
    """RSTs that came out of the middle: the place that the RST should have passed first waited, and saw none."""
    waited = _timed_out(far) & (
        (far["after"] == After.SILENCE) | _result(far, HandshakeResult.NO_REPLY, HandshakeResult.HALF_OPEN)
    )
    unseen = (near["reset_from"] == BY_SERVER) & (far["reset_from"] == 0) & waited & _is_heard(far)
    # the far place saw its server answer, so the RST that came instead is not its server's
    went_on = (far["reason"] != SettleReason.AT_END) & (near["resumed"] == 0) & (far["resumed"] == 0)
    instead = (
        _result(near, HandshakeResult.REJECTED) & (far["reset_from"] != BY_SERVER) & _seen(far["synack"]) & went_on
    )
    every = len(near) + len(missing)
    findings.tell(What.REFUSED, Piece.RST, Towards.CLIENT, instead, every)
    # what a place did not see is no proof
    findings.tell(What.REFUSED, Piece.RST, Towards.CLIENT, unseen & ~instead, every, certain=False)
    waited = _timed_out(near) & ((near["after"] == After.SILENCE) | _result(near, HandshakeResult.NO_REPLY))
    by_client = (far["reset_from"] == BY_CLIENT) & (near["reset_from"] == 0) & waited
    findings.tell(What.REFUSED, Piece.RST, Towards.SERVER, by_client, every, certain=False)
    alone = ~_seen(missing["synack"])
    rejected = alone & _result(missing, HandshakeResult.REJECTED)
    missed.tell(What.REFUSED, Piece.RST, Towards.CLIENT, rejected, every, certain=False)
    unreachable = alone & _result(missing, HandshakeResult.UNREACHABLE)
    missed.tell(What.REFUSED, Piece.ICMP, Towards.CLIENT, unreachable, every, certain=False)


def _lost_syns(
    joined: Joined, found: Answers, counted: Bool, missing: Rows, findings: Findings, missed: Findings
) -> None:
    """SYNs that passed the near place and not the far one, by what they carried."""
    near, far = joined.near, joined.far
    whole = counted & (near["syn_count"] < SATURATED) & (far["syn_count"] < SATURATED)
    # once the server's data passed the far place, it counts no SYNs any more: with Fast Open that may be before the ACK
    whole &= acked_first(far)
    stamped = has(near["syn"]["has"], Has.TIMESTAMPS) & has(far["syn"]["has"], Has.TIMESTAMPS)
    # the near place's first SYN is older than the far one's
    whole &= near["syn_count"] > far["syn_count"]
    first = whole & ~joined.same_syn & (stamped | (_error_ns(joined) < SAME_SEGMENT_NS))
    again = whole & joined.same_syn
    silent = _result(missing, HandshakeResult.NO_REPLY)
    for kind, carries in _KINDS.items():
        lost, gone = first & carries(near["syn"]), silent & carries(missing["syn"])
        all_of_them = int(
            np.count_nonzero(carries(near["syn"]) & ~found.in_between) + np.count_nonzero(carries(missing["syn"]))
        )
        findings.tell(What.LOST, Piece.SYN, Towards.SERVER, lost, all_of_them, before=kind)
        missed.tell(What.LOST, Piece.SYN, Towards.SERVER, gone, all_of_them, before=kind, certain=False)
    # what is sent again carries neither data nor Fast Open's option
    more = near["syn_count"].astype(int) - far["syn_count"]
    extra = int((more[first] - 1).sum() + more[again].sum())
    sent = int(near["syn_count"].sum()) - len(near)
    findings.tell(
        What.LOST,
        Piece.SYN,
        Towards.SERVER,
        again | (first & (more > 1)),
        max(sent, extra),
        before="sent again",
        count=extra,
    )


def _lost_synacks(joined: Joined, found: Answers, counted: Bool, findings: Findings) -> None:
    near, far = joined.near, joined.far
    more = np.where(counted, far["synack_count"].astype(int) - near["synack_count"], 0)
    lost = (more > 0) & (far["synack_count"] < SATURATED) & (near["reset_from"] == 0) & (near["one_way"] == 0)
    sent = int(far["synack_count"][~found.in_between].sum())
    findings.tell(What.LOST, Piece.SYNACK, Towards.CLIENT, lost, sent, count=int(more[lost].sum()))


def _lost_later(joined: Joined, whole: Bool, findings: Findings, near_watch: Watch, far_watch: Watch) -> None:
    """What came after the SYN-ACK."""
    near, far = joined.near, joined.far
    established = whole & _result(near, HandshakeResult.ESTABLISHED) & (near["ack_ns"] != 0) & joined.same_synack
    unheard = established & _result(far, HandshakeResult.HALF_OPEN) & _waited(far, near["ack_ns"], far_watch.until)
    findings.tell(What.LOST, Piece.ACK, Towards.SERVER, unheard, established)
    both = established & _result(far, HandshakeResult.ESTABLISHED)
    # the first one came late to the far place; a repetition after its answer passed there counts only at the near one
    late = joined.same_syn & (far["request_us"] - near["request_us"] > REPEATED_US)
    again = np.where(both & late, near["request_repeats"].astype(int) - far["request_repeats"], 0)
    findings.tell(What.LOST, Piece.REQUEST, Towards.SERVER, again > 0, both, count=int(again[again > 0].sum()))
    silent = both & (far["response_ns"] != 0) & (near["response_ns"] == 0)
    silent &= np.isin(near["after"], (int(After.SILENCE), int(After.NONE)))
    silent &= _waited(near, far["response_ns"], near_watch.until)
    patience = near_watch.place.response_timeout_ns
    if patience is None:
        return
    silent &= ~_timed_out(near) | (far["response_ns"] + SAME_SEGMENT_NS < near["ack_ns"] + patience)
    findings.tell(What.LOST, Piece.RESPONSE, Towards.CLIENT, silent, both)


def _with_data(syn: NDArray[np.void]) -> Bool:
    found: Bool = syn["payload_len"] > 0
    return found


def _with_option(syn: NDArray[np.void]) -> Bool:
    return has(syn["has"], Has.TFO) & ~_with_data(syn)


def _asking_for_ecn(syn: NDArray[np.void]) -> Bool:
    return ecn.asks_for_ecn(syn["tcp_flags"]) & ~_with_data(syn) & ~_with_option(syn)


def _plain(syn: NDArray[np.void]) -> Bool:
    return ~_with_data(syn) & ~_with_option(syn) & ~_asking_for_ecn(syn)


_KINDS = {"data": _with_data, "tfo": _with_option, "ecn": _asking_for_ecn, "plain": _plain}
