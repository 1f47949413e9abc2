"""Handshakes described in a few words and judged with their causes, for tests of tracer/causes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from tests.support.events import blank
from tests.support.rows import batch_of
from tracer.causes.judge import CauseJudge
from tracer.handshake.batch import Batch
from tracer.ipc.messages import Host
from tracer.vocabulary.vocabulary import (
    Cause,
    CauseAt,
    Confidence,
    HandshakeCause,
    HandshakeResult,
    Has,
    Outcome,
    SettleReason,
    Vantage,
    word,
)

MS = 1_000_000
_ids = count(1)


@dataclass(frozen=True)
class Shake:
    """One handshake. `cookie`, `back`: None without the option, b"" a request. Times in ms; None = not answered."""

    at_ms: float = 1000
    cookie: bytes | None = None
    data: int = 0
    back: bytes | None = None
    acked: int = 0
    answered_ms: float | None = 1
    again_ms: float | None = None  # another SYN, which is the one that was answered
    once_more_ms: float | None = None  # a third SYN, which then is that one
    first_answered: bool = False  # TSecr says that it was the first SYN after all
    ecn: bool = False  # asked for by the first SYN
    ecn_again: bool = False  # and by the others
    client: int = 1
    server: int = 1
    network: int = 1  # of the server
    port: int = 443
    vantage: Vantage = Vantage.CLIENT
    ttl: int = 64  # of the SYN-ACK
    ifindex: int = 2
    egress: bool = False
    reason: SettleReason = SettleReason.BY_TIMEOUT
    challenge_acks: int = 0
    id: int = 0
    lasts_ms: float = 10  # until it is settled
    response: bool = False  # the server sent data, which settles it
    reset_from: int = 0  # whose RST settled it
    repeats: int = 0  # of the request, which the SYN-ACK had not acked
    request_acked: bool = False
    resumed: int = 0  # HandshakeResult of the earlier record
    misfit_rsts: int = 0
    misfit_synacks: int = 0
    misfit_icmps: int = 0
    malformed: bool = False  # the SYN's option
    malformed_back: bool = False  # the SYN-ACK's
    one_way: bool = False  # the client went on, but no SYN-ACK was seen
    synacks: int = 1
    seq: int = 0  # of the SYN; 0: another one for each
    synacks_after_ack: int = 0
    half_open: bool = False
    socket: int = 0  # of the server
    options: int = 0  # of the SYN (Has)
    options_back: int = 0
    rejected: bool = False  # by the reset
    reset_ttl: int = 64
    icmp: tuple[int, int] | None = None  # type and code, which settled it
    family: int = 4
    isns: int = 1  # of the SYN-ACKs
    late_syns: int = 0
    ack_echoes: bool = False  # the first SYN-ACK's timestamp
    requested_ms: float | None = None  # the client sent data, after its ACK
    client_fin: bool = False
    first_back: bytes | None = None  # the first SYN-ACK's cookie, acking the same, where the client took another one


def batch(*shakes: Shake) -> Batch:
    """The batch that these make."""
    events = blank(len(shakes))
    for row, one in enumerate(shakes):
        _fill(events[row], one)
    return batch_of(events, np.array([int(one.vantage) for one in shakes], np.uint8))


def _fill(event: Any, one: Shake) -> None:
    begin = int(one.at_ms * MS)
    event["id"] = one.id or next(_ids)
    event["client"] = np.frombuffer(bytes(10) + b"\xff\xff\x0a\0\0" + bytes([one.client]), np.uint8)
    event["server"] = np.frombuffer(bytes(10) + b"\xff\xff\x0a\0" + bytes([one.network, one.server]), np.uint8)
    event["resumed"] = one.resumed
    event["client_port"], event["server_port"], event["ifindex"] = 40000, one.port, one.ifindex
    event["syn_ns"], event["settled_ns"], event["family"] = begin, begin + int(one.lasts_ms * MS), 4
    event["synack_count"] = one.synacks if one.answered_ms is not None else 0
    event["syn_count"], event["egress"], event["challenge_acks"] = 1, one.egress, one.challenge_acks
    event["reason"] = one.reason
    event["reset_from"], event["request_repeats"] = one.reset_from, one.repeats
    event["request_acked"] = one.request_acked
    for name in ("misfit_rsts", "misfit_synacks", "misfit_icmps", "one_way"):
        event[name] = getattr(one, name)
    if one.repeats or one.request_acked:
        event["request_ns"] = begin + 2 * MS
    if one.response:
        event["reason"], event["response_ns"] = SettleReason.BY_RESPONSE, event["settled_ns"]
    elif one.reset_from:
        event["reason"] = SettleReason.BY_RST
    event["result"] = HandshakeResult.ESTABLISHED if one.answered_ms is not None else HandshakeResult.NO_REPLY
    for name, cookie in (("syn", one.cookie), ("synack", one.back)):
        segment = event[name]
        segment["tfo_offset"] = 0xFF
        if name == "syn" or one.answered_ms is not None:
            segment["has"] = Has.SEGMENT
        if cookie is not None:
            segment["has"] = segment["has"] | Has.TFO
            segment["tfo_offset"], segment["tfo_kind"], segment["cookie_len"] = 2, 34, len(cookie)
            segment["options"][2 : 2 + len(cookie)] = np.frombuffer(cookie, np.uint8)
    seq = one.seq or next(_ids) * 1000
    event["syn"]["seq"], event["syn"]["payload_len"], event["syn"]["ttl"] = seq, one.data, 64
    if one.malformed:
        event["syn"]["has"] |= Has.TFO_MALFORMED
    if one.malformed_back:
        event["synack"]["has"] |= Has.TFO_MALFORMED
    event["synack"]["ttl"] = one.ttl
    event["synack"]["ack"] = seq + 1 + one.acked
    if one.again_ms is not None:
        event["syn_count"], event["retx_count"] = 2, 1
        event["retx"][0]["after_us"] = int(one.again_ms * 1000)
    if one.once_more_ms is not None:
        event["syn_count"], event["retx_count"] = 3, 2
        event["retx"][1]["after_us"] = int(one.once_more_ms * 1000)
    event["syn"]["tcp_flags"], event["retx_flags"][:] = 0x02 | one.ecn * 0xC0, one.ecn_again * 0xC0
    if one.first_answered:
        for name, value in (("syn", "ts_val"), ("synack", "ts_ecr")):
            event[name][value], event[name]["has"] = 7, event[name]["has"] | Has.TIMESTAMPS
    event["synacks_after_ack"], event["server_socket"] = one.synacks_after_ack, one.socket
    event["syn"]["has"] |= one.options
    event["synack"]["has"] |= one.options_back
    if one.half_open:
        event["result"] = HandshakeResult.HALF_OPEN
    event["reset_ttl"] = one.reset_ttl if one.reset_from else 0
    event["synack_isns"], event["late_syns"] = one.isns * (one.answered_ms is not None), one.late_syns
    event["client_fin"], event["family"] = one.client_fin, one.family
    if one.rejected:
        event["result"] = HandshakeResult.REJECTED if one.answered_ms is None else HandshakeResult.ABORTED
    if one.icmp is not None:
        event["result"], event["reason"] = HandshakeResult.UNREACHABLE, SettleReason.BY_ICMP
        event["icmp_type"], event["icmp_code"] = one.icmp
    if one.ack_echoes:
        event["synack"]["has"] |= Has.TIMESTAMPS
        event["synack"]["ts_val"] = event["ack_ts_ecr"] = 5
    if one.requested_ms is not None:
        event["request_ns"] = begin + int(one.requested_ms * MS)
    if one.first_back is not None:
        first, synack = event["first_answer"], event["synack"]
        first["ns"], first["seq"], first["ack"] = begin + MS // 2, synack["seq"] + 1, synack["ack"]
        first["has"], first["tfo_kind"], first["cookie_len"] = Has.SEGMENT | Has.TFO, 34, len(one.first_back)
        first["cookie"][: len(one.first_back)] = np.frombuffer(one.first_back, np.uint8)
    if one.answered_ms is not None:
        event["synack_ns"] = begin + int((one.answered_ms + (one.once_more_ms or one.again_ms or 0)) * MS)
        if event["result"] == HandshakeResult.ESTABLISHED:
            event["ack_ns"] = event["synack_ns"] + 1000


def causes(judged: Batch) -> list[str]:
    """Each row's cause and confidence: "key_rotation likely", or "" for none."""
    return [
        f"{word(Cause(cause))} {word(Confidence(confidence))}" if cause else ""
        for cause, confidence in zip(judged.causes.cause.tolist(), judged.causes.confidence.tolist(), strict=True)
    ]


def outcomes(judged: Batch) -> list[str]:
    return [word(Outcome(outcome)) for outcome in judged.verdicts.outcome.tolist()]


def judge_one_by_one(judge: CauseJudge, *shakes: Shake) -> list[str]:
    """The causes of handshakes, each in its own batch."""
    whole = batch(*shakes)
    return [causes(judge.judge(whole.rows(row, row + 1)))[0] for row in range(len(shakes))]


def judge_at_once(judge: CauseJudge, *shakes: Shake) -> list[str]:
    """The causes of handshakes, all in one batch."""
    return causes(judge.judge(batch(*shakes)))


def fates(judge: CauseJudge, *shakes: Shake) -> list[str]:
    """The causes of handshakes' fates, each in its own batch: cause, confidence, place."""
    whole = batch(*shakes)
    return [_fates(judge.judge(whole.rows(row, row + 1)))[0] for row in range(len(shakes))]


def fates_at_once(judge: CauseJudge, *shakes: Shake) -> list[str]:
    """The same, all in one batch."""
    return _fates(judge.judge(batch(*shakes)))


def _fates(judged: Batch) -> list[str]:
    made = judged.causes
    columns = (made.handshake_cause, made.handshake_confidence, made.cause_at)
    kinds = (HandshakeCause, Confidence, CauseAt)
    return [
        " ".join(word(kind(number)) for kind, number in zip(kinds, numbers, strict=True) if number)
        for numbers in zip(*(column.tolist() for column in columns), strict=True)
    ]


def host(at_ms: float, fast_open: int = 3, syn_cookies: int = 1, **counters: int) -> Host:
    """A look at the host."""
    return Host(counters, {"tcp_fastopen": str(fast_open), "tcp_syncookies": str(syn_cookies)}, int(at_ms * MS))
