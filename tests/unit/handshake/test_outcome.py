"""Outcomes and durations against a second judge (tests/support/second_judge.py), and sentences of TFO.md."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support import longer
from tests.support.events import event_dtype
from tests.support.second_judge import (
    Case,
    Seg,
    acked_by,
    after_of,
    cases,
    delays_of,
    durations_of,
    group_of,
    lived,
    outcome_of,
    record,
    request_of,
    taken_by,
)
from tracer.handshake.durations import Durations, measure
from tracer.handshake.outcome import judge
from tracer.vocabulary.vocabulary import After, Group, Outcome, Request, Vantage, word, words_or_null


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
        assert Group(verdicts.group[row]).word == group_of(case), case
        assert words_or_null(After)[verdicts.after[row]] == after_of(case), case
        assert bool(verdicts.lived[row]) == lived(case), case
        if case.synack is not None:
            which = taken_by(case)[0]
            assert int(verdicts.answered_syn[row]) == (0 if which is None else which + 1), case
        assert bool(verdicts.attempted[row]) == (outcome != "not_attempted"), case
        assert int(verdicts.acked_payload_len[row]) == (acked_by(case) if case.synack is not None else 0), case
        durations_expected = durations_of(case)
        assert durations_expected.keys() == {one.name for one in fields(Durations)}
        for name, value in durations_expected.items():
            measured = float(getattr(durations, name)[row])
            if name == "delay_us" and outcome == "syn_timeout_fallback" and measured in delays_of(case):
                continue
            assert close(measured, value), (name, case)


@settings(max_examples=longer.either(200, 600), deadline=None)
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
    for name in ("request", "outcome", "group", "acked_payload_len", "answered_after_us", "after", "lived"):
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
            "a challenge ACK answered the first SYN, so nothing timed out",
            Case(Seg(cookie=COOKIE, length=9), answer(), ((1_006_000, None),), challenge_acks=1),
            "cookie_and_data",
            "data_not_acked",
        ),
        (
            "nor the request",
            Case(Seg(cookie=b""), answer(), ((1_006_000, None),), challenge_acks=1),
            "cookie_request",
            "cookie_not_granted",
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
    if case.synack is not None:
        case = replace(case, synack_at=9_000 * MS)  # after all SYNs
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
