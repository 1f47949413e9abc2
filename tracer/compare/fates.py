"""Who answered, and which segments were lost, between two places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.compare.headers import Findings
from tracer.compare.join import SAME_SEGMENT_NS, Joined
from tracer.compare.model import Piece, Share, Times, Towards, What
from tracer.compare.place import Rows
from tracer.handshake import ecn
from tracer.handshake.events import has
from tracer.ipc.event_header import constant
from tracer.vocabulary.vocabulary import After, HandshakeResult, Has, SettleReason

Bool = NDArray[np.bool_]
BY_CLIENT, BY_SERVER = constant("RESET_BY_CLIENT"), constant("RESET_BY_SERVER")
SATURATED = 255
MARGIN_NS = 20_000_000  # at the ends of a recording: to write its start and its end takes a moment


@dataclass(frozen=True, slots=True)
class Answers:
    """Whose SYN-ACK the near place saw, a row for each joined handshake."""

    in_between: Bool  # that of somebody between the places
    renumbered: Bool  # the server's, with another initial sequence number


def answers(joined: Joined) -> Answers:
    """Compare the SYN-ACKs of both places.

    One whose numbers are rewritten passes both places one after the other, with the same timestamps. A proxy's own
    comes to the near place with timestamps of its own, before the far place sees any.
    """
    near, far = joined.near, joined.far
    here, there = _seen(near["synack"]), _seen(far["synack"])
    differ = here & there & (near["synack"]["seq"] != far["synack"]["seq"])
    stamped = has(near["synack"]["has"], Has.TIMESTAMPS) & has(far["synack"]["has"], Has.TIMESTAMPS)
    later = near["synack_ns"] - far["synack_ns"]
    error = joined.offset.error_ns if joined.offset is not None else None
    in_time = (later > -(error or 0)) & (later < SAME_SEGMENT_NS)
    same = np.where(stamped, near["synack"]["ts_val"] == far["synack"]["ts_val"], in_time)
    # each side may have taken another one of several answers
    differ &= (near["synack_isns"] <= 1) & (far["synack_isns"] <= 1)
    unanswered = here & _result(far, HandshakeResult.NO_REPLY) & (far["one_way"] == 0) & (far["synack_count"] == 0)
    return Answers(differ & ~same | unanswered, differ & same)


def tell_fates(
    joined: Joined, found: Answers, missing: Rows, findings: Findings, missed: Findings, until: tuple[int, int]
) -> None:
    """Tell who else answered and what was lost.

    `missing` are rows that only the near place has; `missed` tells theirs. `until`: when the recordings of the near and
    the far place end, on the clock of the joined rows.
    """
    near, far = joined.near, joined.far
    every = len(near) + len(missing)
    findings.tell(What.ANSWERED, Piece.SYNACK, Towards.CLIENT, found.in_between, every)
    findings.tell(What.ISN_CHANGED, Piece.SYNACK, Towards.CLIENT, found.renumbered, len(near))
    isn = near["syn"]["seq"] != far["syn"]["seq"]
    findings.tell(What.ISN_CHANGED, Piece.SYN, Towards.SERVER, isn, len(near))
    missed.tell(What.ANSWERED, Piece.SYNACK, Towards.CLIENT, _seen(missing["synack"]), every, certain=False)
    _refused(near, far, missing, findings, missed)
    _lost_syns(joined, found, missing, findings, missed)
    _lost_answers(joined, found, findings, until)


def expected(alone: Rows, joined_near: Rows, ahead_ns: int, span: tuple[int, int]) -> Bool:
    """Which rows of the near place alone would the far place have seen, had they arrived?

    Those while it watched (`span`, on its clock), to servers or from clients of which it saw other handshakes.
    """
    known = np.zeros(len(alone), np.bool_)
    for name in ("client", "server"):
        seen = np.unique(_addresses(joined_near[name]))
        known |= np.isin(_addresses(alone[name]), seen)
    when = alone["syn_ns"] + ahead_ns
    there: Bool = known & (when >= span[0] + MARGIN_NS) & (when <= span[1] - MARGIN_NS)
    return there


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


def _seen(segment: NDArray[np.void]) -> Bool:
    return has(segment["has"], Has.SEGMENT)


def _result(rows: Rows, *results: HandshakeResult) -> Bool:
    return np.isin(rows["result"], [int(one) for one in results])


def _addresses(addresses: NDArray[np.uint8]) -> NDArray[np.void]:
    return np.ascontiguousarray(addresses).view("V16").ravel()


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
    by_server = (near["reset_from"] == BY_SERVER) & (far["reset_from"] == 0) & waited
    # the far place saw its server answer, so the RST that came instead is not its server's
    by_server |= _result(near, HandshakeResult.REJECTED) & (far["reset_from"] != BY_SERVER) & _seen(far["synack"])
    every = len(near) + len(missing)
    findings.tell(What.REFUSED, Piece.RST, Towards.CLIENT, by_server, every)
    waited = _timed_out(near) & ((near["after"] == After.SILENCE) | _result(near, HandshakeResult.NO_REPLY))
    by_client = (far["reset_from"] == BY_CLIENT) & (near["reset_from"] == 0) & waited
    findings.tell(What.REFUSED, Piece.RST, Towards.SERVER, by_client, every)
    alone = ~_seen(missing["synack"])
    rejected = alone & _result(missing, HandshakeResult.REJECTED)
    missed.tell(What.REFUSED, Piece.RST, Towards.CLIENT, rejected, every, certain=False)
    unreachable = alone & _result(missing, HandshakeResult.UNREACHABLE)
    missed.tell(What.REFUSED, Piece.ICMP, Towards.CLIENT, unreachable, every, certain=False)


def _lost_syns(joined: Joined, found: Answers, missing: Rows, findings: Findings, missed: Findings) -> None:
    """SYNs that passed the near place and not the far one, by what they carried."""
    near, far = joined.near, joined.far
    whole = ~found.in_between & (near["syn_count"] < SATURATED) & (far["syn_count"] < SATURATED)
    # the near place's first SYN is older than the far one's
    first = whole & ~joined.same_syn & (near["syn_count"] > far["syn_count"])
    again = whole & joined.same_syn & (near["syn_count"] > far["syn_count"])
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


def _lost_answers(joined: Joined, found: Answers, findings: Findings, until: tuple[int, int]) -> None:
    near, far = joined.near, joined.far
    whole = ~found.in_between
    more = np.where(whole, far["synack_count"].astype(int) - near["synack_count"], 0)
    lost = (more > 0) & (far["synack_count"] < SATURATED) & (near["reset_from"] == 0) & (near["one_way"] == 0)
    sent = int(far["synack_count"][whole].sum())
    findings.tell(What.LOST, Piece.SYNACK, Towards.CLIENT, lost, sent, count=int(more[lost].sum()))
    established = whole & _result(near, HandshakeResult.ESTABLISHED) & (near["ack_ns"] != 0) & joined.same_synack
    unheard = established & _result(far, HandshakeResult.HALF_OPEN) & _waited(far, near["ack_ns"], until[1])
    findings.tell(What.LOST, Piece.ACK, Towards.SERVER, unheard, established)
    both = established & _result(far, HandshakeResult.ESTABLISHED)
    again = np.where(both, near["request_repeats"].astype(int) - far["request_repeats"], 0)
    findings.tell(What.LOST, Piece.REQUEST, Towards.SERVER, again > 0, both, count=int(again[again > 0].sum()))
    silent = both & (far["response_ns"] != 0) & (near["response_ns"] == 0)
    silent &= np.isin(near["after"], (int(After.SILENCE), int(After.NONE))) & _waited(
        near, far["response_ns"], until[0]
    )
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
