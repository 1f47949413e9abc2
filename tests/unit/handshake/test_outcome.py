"""Outcomes and durations against a second, scalar judge written from TFO.md and DESIGN.md section 3 alone.

The second judge looks at one handshake at a time, with plain integers, and shares no code with the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.events import blank, event_dtype
from tracer.handshake.durations import measure
from tracer.handshake.outcome import judge
from tracer.vocabulary.vocabulary import GROUP_OF, HandshakeResult, Outcome, Request, Vantage, word

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
    """Times are ns after some beginning, None = did not happen. `again`: (µs after the first SYN, TSval) each."""

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
    """A requested cookie in the SYN-ACK; any other is ignored (TFO.md section 1)."""
    if case.synack is None or case.syn.cookie is None:
        return None
    return case.synack.cookie or None


def answered_syn(case: Case) -> tuple[int | None, bool]:
    """(which SYN the SYN-ACK answers, 0 = the first; None = open), (may it be a later one?)."""
    assert case.synack is not None
    if not case.again:
        return 0, False
    if case.syn.stamps is not None and case.synack.stamps is not None:
        echo = case.synack.stamps[1]
        sent = [case.syn.stamps[0], *(stamp for _, stamp in case.again)]
        named = [number for number, stamp in enumerate(sent) if stamp == echo]
        if len(named) == 1:
            return named[0], named[0] > 0
    return None, True


def outcome_of(case: Case) -> str:
    """TFO.md section 3, from the paragraph on precedence down through the table."""
    syn = case.syn
    if syn.cookie is None and not syn.length:
        return "not_attempted"
    if case.synack is None:
        if case.one_way:  # the SYN-ACK took another road
            return "unknown"
        return "rejected" if case.result in ("rejected", "unreachable") else "no_answer"
    acked, back = acked_by(case), cookie_back(case)
    if acked > syn.length:
        return "over_acked"
    if acked:
        if acked < syn.length:
            return "data_partly_acked"
        return "data_acked_new_cookie" if back else "data_acked"
    # acked is 0; a cookie that came back answers a SYN with the option, so not a bare one
    if answered_syn(case)[1] and back is None:
        return "syn_timeout_fallback"
    if syn.length or syn.cookie:
        stem = "data_not_acked" if syn.length else "cookie_only"
        if back is None:
            return stem
        return f"{stem}_same_cookie" if back == syn.cookie else f"{stem}_new_cookie"
    return "cookie_not_granted" if back is None else "cookie_granted"


def minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def durations_of(case: Case) -> dict[str, float | None]:
    """DESIGN.md section 3, microseconds."""
    found: dict[str, float | None] = dict.fromkeys(
        ("synack_delay_us", "ack_delay_us", "rtt_us", "first_response_us", "rtt_saved_us", "delay_us")
    )
    synack_us, ack_us, response_us = (
        None if at is None else at / 1000 for at in (case.synack_at, case.ack_at, case.response_at)
    )
    found["first_response_us"] = response_us
    if case.synack is not None:
        which, _ = answered_syn(case)
        after: float | None = None
        if which is not None:
            after = 0.0 if which == 0 else case.again[which - 1][0]
        found["synack_delay_us"] = minus(synack_us, after)
        found["delay_us"] = after
        if which is None and outcome_of(case) == "syn_timeout_fallback":
            found["delay_us"] = case.again[-1][0]  # the last one's, unless TSecr names another: delays_of()
        stamps = case.synack.stamps
        first_synack = stamps is not None and case.ack_echo != 0 and stamps[0] == case.ack_echo
        if case.synack_count <= 1 or first_synack:
            found["ack_delay_us"] = minus(ack_us, synack_us)
    first, second = found["synack_delay_us"], found["ack_delay_us"]
    both = None if first is None or second is None else first + second
    found["rtt_us"] = {"client": first, "server": second, "transit": both, "local": both}[case.vantage]
    if case.synack is not None:
        acked = acked_by(case)
        if case.syn.length and acked == case.syn.length:
            found["rtt_saved_us"] = found["rtt_us"]
        elif acked == 0:
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
        for name, at in (("synack_ns", case.synack_at), ("ack_ns", case.ack_at), ("response_ns", case.response_at)):
            event[name] = 0 if at is None else BEGAN_NS + at
        event["result"] = HandshakeResult[case.result.upper()]
        event["one_way"] = case.one_way
        event["synack_count"] = case.synack_count if case.synack is not None else 0
        event["ack_ts_ecr"] = case.ack_echo
        event["syn_count"] = 1 + len(case.again)
        event["retx_count"] = len(case.again)
        for place, (after, stamp) in zip(event["retx"], case.again, strict=False):
            place["after_us"], place["ts_val"] = after, stamp or 0
        fill_segment(event["syn"], case.syn)
        if case.synack is not None:
            fill_segment(event["synack"], case.synack)
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
    synack = None
    times: list[int | None] = [None, None, None]
    if draw(st.booleans()):
        acked = draw(st.sampled_from([0, 0, length, length, 1, max(0, length - 1), length + 1, 2**32 - 1, 2**31]))
        echo = draw(
            st.sampled_from([stamp for stamp in [syn.stamps and syn.stamps[0], *(s for _, s in again), 99] if stamp])
        )
        synack = Seg(
            seq=draw(st.sampled_from([0, 77, 2**32 - 1])),
            ack=(syn.seq + 1 + acked) % 2**32,
            length=draw(st.sampled_from([0, 0, 100])),
            cookie=draw(st.one_of(COOKIES, st.just(syn.cookie))),
            malformed=draw(st.sampled_from([False, False, True])),
            stamps=(draw(STAMPS), echo) if draw(st.booleans()) else None,
        )
        at = (again[-1][0] * 1000 if again else 0) + draw(st.integers(1, 2_000_000_000))
        times = [at, None, None]
        if draw(st.booleans()):
            times[1] = at + draw(st.integers(0, 2_000_000_000))
    if draw(st.booleans()):
        times[2] = (times[1] or times[0] or 1) + draw(st.integers(0, 2_000_000_000))
    return Case(
        syn=syn,
        synack=synack,
        again=tuple(again),
        result=draw(st.sampled_from([word(one) for one in HandshakeResult if one is not HandshakeResult.NONE])),
        one_way=draw(st.booleans()),
        synack_count=draw(st.sampled_from([1, 1, 2, 255])),
        ack_echo=draw(st.one_of(st.just(0), STAMPS)),
        synack_at=times[0],
        ack_at=times[1],
        response_at=times[2],
        vantage=draw(st.sampled_from([word(one) for one in Vantage])),
    )


def close(one: float, other: float | None) -> bool:
    if other is None:
        return math.isnan(one)
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-6)


def compare(batch: list[Case]) -> None:
    events = record(batch)
    before = events.copy()
    verdicts = judge(events)
    vantage = np.array([Vantage[case.vantage.upper()] for case in batch], np.uint8)
    durations = measure(events, verdicts, vantage)
    assert (events == before).all()
    for row, case in enumerate(batch):
        outcome = outcome_of(case)
        assert word(Request(verdicts.request[row])) == request_of(case.syn), case
        assert word(Outcome(verdicts.outcome[row])) == outcome, case
        assert GROUP_OF[Outcome(verdicts.outcome[row])].word == GROUPS[outcome]
        assert int(verdicts.group[row]) == GROUP_OF[Outcome(verdicts.outcome[row])]
        assert bool(verdicts.attempted[row]) == (outcome != "not_attempted"), case
        assert int(verdicts.acked_payload_len[row]) == (acked_by(case) if case.synack is not None else 0), case
        for name, value in durations_of(case).items():
            measured = float(getattr(durations, name)[row])
            if name == "delay_us" and outcome == "syn_timeout_fallback" and measured in delays_of(case):
                continue
            assert close(measured, value), (name, case)


@settings(max_examples=600, deadline=None)
@given(st.lists(cases(), max_size=8))
@example([])
def test_both_judges_agree(batch: list[Case]) -> None:
    compare(batch)


@settings(max_examples=100, deadline=None)
@given(st.lists(cases(), min_size=2, max_size=8), st.randoms())
def test_a_verdict_does_not_depend_on_its_neighbours(batch: list[Case], order: Any) -> None:
    places = list(range(len(batch)))
    order.shuffle(places)
    straight, mixed = judge(record(batch)), judge(record([batch[place] for place in places]))
    for name in ("request", "outcome", "group", "acked_payload_len", "answered_after_us"):
        np.testing.assert_array_equal(getattr(straight, name)[places], getattr(mixed, name))


# --- sentences of TFO.md, one handshake each: the second judge must agree with them too ---

COOKIE, OTHER = b"ABCDEFGH", b"abcdefgh"
MS = 1_000_000


def answer(acked: int = 0, cookie: bytes | None = None, **more: Any) -> Seg:
    return Seg(seq=77, ack=1001 + acked, cookie=cookie, **more)


@pytest.mark.parametrize(
    ("sentence", "case", "request_word", "outcome"),
    [
        ("no option and no data", Case(synack=answer()), "none", "not_attempted"),
        ("an odd ack number is not judged", Case(synack=answer(5)), "none", "not_attempted"),
        ("a request is granted", Case(Seg(cookie=b""), answer(cookie=COOKIE)), "cookie_request", "cookie_granted"),
        ("a request is not", Case(Seg(cookie=b""), answer()), "cookie_request", "cookie_not_granted"),
        (
            "an empty option grants nothing",
            Case(Seg(cookie=b""), answer(cookie=b"")),
            "cookie_request",
            "cookie_not_granted",
        ),
        (
            "an all-zero cookie is valid",
            Case(Seg(cookie=b""), answer(cookie=bytes(8))),
            "cookie_request",
            "cookie_granted",
        ),
        ("all acked", Case(Seg(cookie=COOKIE, length=9), answer(9)), "cookie_and_data", "data_acked"),
        (
            "all acked and the same cookie back",
            Case(Seg(cookie=COOKIE, length=9), answer(9, COOKIE)),
            "cookie_and_data",
            "data_acked_new_cookie",
        ),
        ("partly", Case(Seg(cookie=COOKIE, length=9), answer(8)), "cookie_and_data", "data_partly_acked"),
        ("none", Case(Seg(cookie=COOKIE, length=9), answer()), "cookie_and_data", "data_not_acked"),
        (
            "another cookie",
            Case(Seg(cookie=COOKIE, length=9), answer(0, OTHER)),
            "cookie_and_data",
            "data_not_acked_new_cookie",
        ),
        (
            "the same",
            Case(Seg(cookie=COOKIE, length=9), answer(0, COOKIE)),
            "cookie_and_data",
            "data_not_acked_same_cookie",
        ),
        (
            "the same beginning is another cookie",
            Case(Seg(cookie=COOKIE, length=9), answer(0, COOKIE[:4])),
            "cookie_and_data",
            "data_not_acked_new_cookie",
        ),
        ("no data", Case(Seg(cookie=COOKIE), answer()), "cookie", "cookie_only"),
        ("no data, another", Case(Seg(cookie=COOKIE), answer(0, OTHER)), "cookie", "cookie_only_new_cookie"),
        ("no data, the same", Case(Seg(cookie=COOKIE), answer(0, COOKIE)), "cookie", "cookie_only_same_cookie"),
        ("too much", Case(Seg(cookie=COOKIE, length=9), answer(10)), "cookie_and_data", "over_acked"),
        (
            "one too few is 4 GiB too much",
            Case(Seg(cookie=COOKIE, length=9), answer(-1)),
            "cookie_and_data",
            "over_acked",
        ),
        (
            "across the wrap",
            Case(Seg(seq=2**32 - 5, cookie=COOKIE, length=9), Seg(ack=5)),
            "cookie_and_data",
            "data_acked",
        ),
        ("data without cookie", Case(Seg(length=9), answer(9)), "data_only", "data_acked"),
        ("an unsolicited cookie is ignored", Case(Seg(length=9), answer(0, COOKIE)), "data_only", "data_not_acked"),
        ("malformed counts as absent", Case(Seg(malformed=True), answer(0, COOKIE)), "malformed", "not_attempted"),
        ("RST", Case(Seg(cookie=COOKIE, length=9), result="rejected"), "cookie_and_data", "rejected"),
        ("ICMP", Case(Seg(cookie=b""), result="unreachable"), "cookie_request", "rejected"),
        ("nothing", Case(Seg(cookie=COOKIE, length=9), result="no_reply"), "cookie_and_data", "no_answer"),
        (
            "a bare SYN answered, by TSecr",
            Case(Seg(cookie=COOKIE, length=9, stamps=(1, 0)), answer(stamps=(5, 1007)), ((1_006_000, 1007),)),
            "cookie_and_data",
            "syn_timeout_fallback",
        ),
        (
            "the first SYN answered late, by TSecr",
            Case(Seg(cookie=COOKIE, length=9, stamps=(1, 0)), answer(stamps=(5, 1)), ((1_006_000, 1007),)),
            "cookie_and_data",
            "data_not_acked",
        ),
        (
            "without timestamps more than one SYN is a fallback",
            Case(Seg(cookie=COOKIE, length=9), answer(), ((1_006_000, None),)),
            "cookie_and_data",
            "syn_timeout_fallback",
        ),
        (
            "acked beats fallback",
            Case(Seg(cookie=COOKIE, length=9), answer(9), ((1_006_000, None),)),
            "cookie_and_data",
            "data_acked",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_sentence_of_the_document(sentence: str, case: Case, request_word: str, outcome: str) -> None:
    assert (request_of(case.syn), outcome_of(case)) == (request_word, outcome)
    compare([case])


def test_round_trips_by_vantage() -> None:
    def timed(vantage: str, **more: Any) -> dict[str, float | None]:
        case = Case(Seg(cookie=COOKIE, length=9), answer(9), synack_at=3 * MS, ack_at=5 * MS, response_at=9 * MS,
                    vantage=vantage, **more)  # fmt: skip
        compare([case])
        return durations_of(case)

    assert timed("client")["rtt_us"] == timed("client")["rtt_saved_us"] == 3000
    assert timed("server")["rtt_us"] == timed("server")["rtt_saved_us"] == 2000
    assert timed("transit")["rtt_us"] == 5000
    assert timed("client")["first_response_us"] == 9000
    assert timed("server", synack_count=2)["rtt_us"] is None
    assert timed("client", synack_count=2)["rtt_us"] == 3000


def test_a_fallback_costs_its_wait_and_saves_nothing() -> None:
    syn = Seg(cookie=COOKIE, length=9, stamps=(1, 0))
    case = Case(syn, answer(stamps=(5, 1007)), ((1_006_000, 1007),), synack_at=1_009 * MS)
    compare([case])
    found = durations_of(case)
    assert (found["delay_us"], found["rtt_saved_us"], found["synack_delay_us"]) == (1_006_000, 0, 3000)


def test_a_record_is_of_one_size_and_at_most_448_bytes() -> None:
    assert event_dtype().itemsize <= 448
