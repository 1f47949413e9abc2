"""A second, scalar judge of outcomes and durations, written from TFO.md and DESIGN.md section 3 alone.

It looks at one handshake at a time, with plain integers, and shares no code with tracer/handshake.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.events import blank
from tracer.vocabulary.vocabulary import HandshakeResult, ResetFrom, SettleReason, Vantage, word

# --- one handshake, in the words of TFO.md ---


@dataclass(frozen=True)
class Seg:
    """A SYN or SYN-ACK. `cookie` None: no well-formed option; b"": the option without a cookie."""

    seq: int = 1000
    ack: int = 0
    length: int = 0
    cookie: bytes | None = None
    malformed: bool = False
    stamps: tuple[int, int] | None = None  # TSval, TSecr


@dataclass(frozen=True)
class Case:
    """Times are ns after the first SYN, None = did not happen. `again`: (µs after the first SYN, TSval) each.

    `first`: the first SYN-ACK, if the client took another one, which is `synack`.
    """

    syn: Seg = Seg()
    synack: Seg | None = None
    again: tuple[tuple[int, int | None], ...] = ()
    result: str = "established"
    one_way: bool = False
    synack_count: int = 1
    ack_echo: int = 0
    synack_at: int | None = None
    ack_at: int | None = None
    response_at: int | None = None
    vantage: str = "client"
    first: Seg | None = None
    first_at: int | None = None
    reason: str = "at_end"
    reset_from: str = "none"
    settled_at: int = 9_000_000_000
    request_at: int | None = None
    request_acked: bool = False
    request_repeats: int = 0
    client_fin: bool = False
    synacks_after_ack: int = 0
    synack_isns: int = 1
    resumed: str = "none"
    challenge_acks: int = 0


# --- the second judge ---

GROUPS = {
    "not_attempted": "n/a",
    "cookie_granted": "ok",
    "cookie_not_granted": "degraded",
    "data_acked": "ok",
    "data_acked_new_cookie": "ok",
    "data_partly_acked": "degraded",
    "data_not_acked": "degraded",
    "data_not_acked_new_cookie": "degraded",
    "data_not_acked_same_cookie": "degraded",
    "syn_timeout_fallback": "failed",
    "cookie_only": "n/a",
    "cookie_only_new_cookie": "degraded",
    "cookie_only_same_cookie": "degraded",
    "over_acked": "failed",
    "no_answer": "failed",
    "rejected": "failed",
    "unknown": "n/a",
}


def request_of(syn: Seg) -> str:
    if syn.cookie is None:
        if syn.malformed:
            return "malformed"
        return "data_only" if syn.length else "none"
    name = "cookie" if syn.cookie else "cookie_request"
    return name + ("_and_data" if syn.length else "")


def acked_by(case: Case) -> int:
    """TFO.md section 2."""
    assert case.synack is not None
    return (case.synack.ack - (case.syn.seq + 1)) % 2**32


def cookie_back(case: Case) -> bytes | None:
    """A requested cookie in the first SYN-ACK; any other is ignored (TFO.md section 1)."""
    synack = case.first or case.synack
    if synack is None or case.syn.cookie is None:
        return None
    return synack.cookie or None


def answered_syn(case: Case, synack: Seg, at: int) -> tuple[int | None, bool]:
    """(which SYN a SYN-ACK answers, 0 = the first; None = open), (may it be a later one?)."""
    before = [number for number, (after, _) in enumerate(case.again, 1) if after <= at // 1000]
    if case.again and case.syn.stamps is not None and synack.stamps is not None:
        echo = synack.stamps[1]
        sent = [case.syn.stamps[0], *(stamp for _, stamp in case.again)]
        named = [number for number, stamp in enumerate(sent) if stamp == echo]
        # one that came after the SYN-ACK was answered only if no other can have been
        named = [number for number in named if number in (0, *before)] or named
        if len(named) == 1:
            return named[0], named[0] > 0
        if named:
            return None, True
    return (None, True) if before else (0, False)


def taken_by(case: Case) -> tuple[int | None, bool]:
    """Which SYN the SYN-ACK answers that the client took."""
    assert case.synack is not None
    assert case.synack_at is not None
    return answered_syn(case, case.synack, case.synack_at)


def outcome_of(case: Case) -> str:
    """TFO.md section 3, from the paragraph on precedence down through the table."""
    syn = case.syn
    if syn.cookie is None and not syn.length:
        return "not_attempted"
    synack, at = case.first or case.synack, case.first_at if case.first else case.synack_at
    if synack is None:
        if case.one_way:  # the SYN-ACK took another road
            return "unknown"
        return "rejected" if case.result in ("rejected", "unreachable") else "no_answer"
    assert at is not None
    acked, back = (synack.ack - (syn.seq + 1)) % 2**32, cookie_back(case)
    if acked > syn.length:
        return "over_acked"
    if acked:
        if acked < syn.length:
            return "data_partly_acked"
        return "data_acked_new_cookie" if back else "data_acked"
    # acked is 0; a cookie that came back answers a SYN with the option, so not a bare one
    # who goes on after a reset, an ICMP error or a challenge ACK did not wait for a timeout
    timed_out = case.resumed in ("none", "no_reply") and not case.challenge_acks
    if answered_syn(case, synack, at)[1] and back is None and timed_out:
        return "syn_timeout_fallback"
    if syn.length or syn.cookie:
        stem = "data_not_acked" if syn.length else "cookie_only"
        if back is None:
            return stem
        return f"{stem}_same_cookie" if back == syn.cookie else f"{stem}_new_cookie"
    return "cookie_not_granted" if back is None else "cookie_granted"


def server_seen(case: Case) -> bool:
    return not case.one_way or case.response_at is not None


def after_of(case: Case) -> str | None:
    """DESIGN.md section 3, `after`."""
    if case.result != "established" or not server_seen(case):
        return None
    sent = case.request_at is not None or case.syn.length > 0
    match case.reason:
        case "response":
            return "response"
        case "rst" if case.reset_from == "server":
            return "reset_by_server"
        case "rst" if case.reset_from == "client":
            return "reset_by_client" if sent else "closed_unused"
        case "fin" | "timeout" if case.client_fin:
            return "client_closed" if sent else "closed_unused"
        case "fin":
            return "server_closed"
        case "timeout":
            return "synack_again" if case.synacks_after_ack else "silence"
    return None


def lived(case: Case) -> bool:
    return case.result == "established" and (case.response_at is not None or case.reason == "fin" or case.request_acked)


def died(case: Case) -> bool:
    """Does the group of an attempt turn to failed?"""
    if GROUPS[outcome_of(case)] == "n/a":
        return False
    was_reset = case.result in ("established", "aborted") and case.reset_from == "server"
    return (was_reset and case.response_at is None) or (case.request_repeats >= 2 and not lived(case))


def group_of(case: Case) -> str:
    return "failed" if died(case) else GROUPS[outcome_of(case)]


def minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def durations_of(case: Case) -> dict[str, float | None]:
    """DESIGN.md section 3, microseconds."""
    found: dict[str, float | None] = dict.fromkeys(
        ("synack_delay_us", "ack_delay_us", "rtt_us", "first_response_us", "rtt_saved_us", "delay_us", "connect_us",
         "first_request_us", "reset_after_us")
    )  # fmt: skip
    synack_us, ack_us, response_us, request_us = (
        None if at is None else at / 1000 for at in (case.synack_at, case.ack_at, case.response_at, case.request_at)
    )
    found["first_response_us"], found["connect_us"] = response_us, ack_us
    taken = case.synack is not None and case.syn.length > 0 and acked_by(case) > 0
    found["first_request_us"] = 0.0 if taken else request_us
    found["reset_after_us"] = None if case.reset_from == "none" else case.settled_at / 1000
    if case.synack is not None:
        which, _ = taken_by(case)
        after: float | None = None
        if which is not None:
            after = 0.0 if which == 0 else case.again[which - 1][0]
        found["synack_delay_us"] = minus(synack_us, after)
        if (found["synack_delay_us"] or 0) < 0:  # the SYN-ACK overtook its SYN
            found["synack_delay_us"] = None
        found["delay_us"] = after
        if which is None and outcome_of(case) == "syn_timeout_fallback":
            assert case.synack_at is not None
            before = [wait for wait, _ in case.again if wait <= case.synack_at // 1000]
            found["delay_us"] = before[-1] if before else None  # unless TSecr names another: delays_of()
        stamps = case.synack.stamps
        first_synack = stamps is not None and case.ack_echo != 0 and stamps[0] == case.ack_echo
        before_ack = max(case.synack_count - case.synacks_after_ack, 0)
        if before_ack <= max(case.synack_isns, 1) or first_synack:
            found["ack_delay_us"] = minus(ack_us, synack_us)
    first, second = found["synack_delay_us"], found["ack_delay_us"]
    both = None if first is None or second is None else first + second
    found["rtt_us"] = {"client": first, "server": second, "transit": both, "local": both}[case.vantage]
    if case.synack is not None:
        acked = acked_by(case)
        if case.syn.length and acked == case.syn.length and lived(case):
            found["rtt_saved_us"] = found["rtt_us"]
        elif acked == 0:
            found["rtt_saved_us"] = 0.0
    if died(case):
        found["rtt_saved_us"] = 0.0
    return found


def delays_of(case: Case) -> set[float]:
    """What a fallback may have cost where TSecr names several SYNs: the documents do not choose between these."""
    assert case.synack is not None
    if case.synack.stamps is None or case.syn.stamps is None:
        return set()
    return {after for after, stamp in case.again if stamp == case.synack.stamps[1]}


# --- cases as records of the kernel ---

BEGAN_NS = 5_000_000_000
TIMESTAMPS, SEGMENT, TFO, MALFORMED = 1 << 4, 1 << 0, 1 << 5, 1 << 6  # event.h, HAS_*


def fill_segment(place: NDArray[np.void], seg: Seg) -> None:
    options = b""
    place["has"] = SEGMENT | (MALFORMED if seg.malformed else 0)
    place["seq"], place["ack"], place["payload_len"] = seg.seq, seg.ack, seg.length
    place["ts_offset"] = place["tfo_offset"] = 0xFF
    if seg.stamps is not None:
        place["has"] |= TIMESTAMPS
        place["ts_val"], place["ts_ecr"] = seg.stamps
        options += b"\x01\x01\x08\x0a"
        place["ts_offset"] = len(options)
        options += b"".join(stamp.to_bytes(4, "big") for stamp in seg.stamps)
    if seg.cookie is not None:
        place["has"] |= TFO
        place["tfo_kind"], place["cookie_len"] = 34, len(seg.cookie)
        options += bytes((34, 2 + len(seg.cookie)))
        place["tfo_offset"] = len(options)
        options += seg.cookie
    options += b"\xee" * ((40 - len(options)) // 2)  # something behind the cookie that is not of it
    place["options_len"] = len(options)
    place["options"][: len(options)] = list(options)


def record(cases: list[Case]) -> NDArray[np.void]:
    events = blank(len(cases))
    for event, case in zip(events, cases, strict=True):
        event["syn_ns"] = BEGAN_NS
        for name, at in (
            ("synack_ns", case.synack_at), ("ack_ns", case.ack_at), ("request_ns", case.request_at),
            ("response_ns", case.response_at), ("settled_ns", case.settled_at),
        ):  # fmt: skip
            event[name] = 0 if at is None else BEGAN_NS + at
        event["result"] = HandshakeResult[case.result.upper()]
        reasons = [word(one).removeprefix("by_") for one in SettleReason]
        event["reason"] = reasons.index(case.reason)
        event["reset_from"] = ResetFrom[case.reset_from.upper()]
        event["one_way"] = case.one_way
        event["resumed"] = HandshakeResult[case.resumed.upper()]
        for name in ("request_acked", "request_repeats", "client_fin", "synacks_after_ack", "synack_isns",
                     "challenge_acks"):  # fmt: skip
            event[name] = getattr(case, name)
        event["synack_count"] = case.synack_count if case.synack is not None else 0
        event["ack_ts_ecr"] = case.ack_echo
        event["syn_count"] = 1 + len(case.again)
        event["retx_count"] = len(case.again)
        for place, (after, stamp) in zip(event["retx"], case.again, strict=False):
            place["after_us"], place["ts_val"] = after, stamp or 0
        fill_segment(event["syn"], case.syn)
        if case.synack is not None:
            fill_segment(event["synack"], case.synack)
        if case.first is not None:
            whole = blank(1)[0]["synack"]
            fill_segment(whole, case.first)
            for name in ("seq", "ack", "ts_ecr", "has", "tfo_kind", "cookie_len"):
                event["first_answer"][name] = whole[name]
            assert case.first_at is not None
            event["first_answer"]["ns"] = BEGAN_NS + case.first_at
            event["first_answer"]["cookie"] = list((case.first.cookie or b"").ljust(16, b"\0"))
    return events


# few values, so that they meet: equal cookies, equal stamps, numbers around the wrap
STAMPS = st.sampled_from([1, 7, 1007, 2**32 - 1])
COOKIES = st.one_of(
    st.none(),
    st.sampled_from([b"", b"\0\0\0\0", b"\0" * 8, b"\0" * 16, b"ABCD", b"ABCDEFGH", b"ABCDEFGI", b"ABCDEFGHABCDEFGH"]),
)
LENGTHS = st.sampled_from([0, 0, 1, 2, 517, 1420, 65535])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    with_stamps, length = draw(st.booleans()), draw(LENGTHS)
    syn = Seg(
        seq=draw(st.sampled_from([0, 1, 1000, 2**31, 2**32 - 518, 2**32 - 2, 2**32 - 1])),
        length=length,
        cookie=draw(COOKIES),
        malformed=draw(st.sampled_from([False, False, True])),
        stamps=(draw(STAMPS), 0) if with_stamps else None,
    )
    again: list[tuple[int, int | None]] = []
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2, 6]))):
        later = 1_000_000 + (again[-1][0] if again else 0)
        again.append(
            (later + draw(st.integers(0, 1000)), draw(STAMPS) if with_stamps and draw(st.booleans()) else None)
        )
    synack, first = None, None
    times: list[int | None] = [None, None, None]
    first_at = None
    if draw(st.booleans()):
        synack = draw(answers(syn, again))
        at = draw(st.sampled_from([0, *(after * 1000 for after, _ in again)])) + draw(st.integers(1, 2_000_000_000))
        times = [at, None, None]
        if draw(st.booleans()):
            times[1] = at + draw(st.integers(0, 2_000_000_000))
        if draw(st.sampled_from([False, False, True])):
            first, first_at = draw(answers(syn, again)), draw(st.integers(1, at))
    if draw(st.booleans()):
        times[2] = (times[1] or times[0] or 1) + draw(st.integers(0, 2_000_000_000))
    life = draw(LIVES)
    if life["reason"] == "response" and times[2] is None:
        life["reason"] = "timeout"
    return Case(
        syn=syn,
        synack=synack,
        again=tuple(again),
        result=draw(st.sampled_from([word(one) for one in HandshakeResult if one is not HandshakeResult.NONE])),
        one_way=draw(st.booleans()),
        challenge_acks=draw(st.sampled_from([0, 0, 0, 1])),
        resumed=draw(st.sampled_from(["none", "none", "none", "no_reply", "aborted", "rejected", "unreachable"])),
        synack_count=draw(st.sampled_from([1, 1, 2, 255])),
        ack_echo=draw(st.one_of(st.just(0), STAMPS)),
        synack_at=times[0],
        ack_at=times[1],
        response_at=times[2],
        vantage=draw(st.sampled_from([word(one) for one in Vantage])),
        first=first,
        first_at=first_at,
        **life,
    )


@st.composite
def answers(draw: st.DrawFn, syn: Seg, again: list[tuple[int, int | None]]) -> Seg:
    length = syn.length
    acked = draw(st.sampled_from([0, 0, length, length, 1, max(0, length - 1), length + 1, 2**32 - 1, 2**31]))
    echo = draw(
        st.sampled_from([stamp for stamp in [syn.stamps and syn.stamps[0], *(s for _, s in again), 99] if stamp])
    )
    return Seg(
        seq=draw(st.sampled_from([0, 77, 2**32 - 1])),
        ack=(syn.seq + 1 + acked) % 2**32,
        length=draw(st.sampled_from([0, 0, 100])),
        cookie=draw(st.one_of(COOKIES, st.just(syn.cookie))),
        malformed=draw(st.sampled_from([False, False, True])),
        stamps=(draw(STAMPS), echo) if draw(st.booleans()) else None,
    )


LIVES = st.fixed_dictionaries(
    {
        "reason": st.sampled_from([word(one).removeprefix("by_") for one in SettleReason if one]),
        "reset_from": st.sampled_from([word(one) for one in ResetFrom]),
        "settled_at": st.integers(0, 20_000_000_000),
        "request_at": st.one_of(st.none(), st.integers(1, 9_000_000_000)),
        "request_acked": st.booleans(),
        "request_repeats": st.sampled_from([0, 0, 1, 2, 255]),
        "client_fin": st.booleans(),
        "synacks_after_ack": st.sampled_from([0, 0, 1]),
        "synack_isns": st.sampled_from([0, 1, 2]),
    }
)
