"""Single handshakes whose life went on in a way of its own, in plain numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support.rows import golden_events
from tests.support.second_judge import Case, Seg, record
from tracer.handshake.durations import Durations, measure
from tracer.handshake.ecn import answered_ecn
from tracer.handshake.life import NOT_KNOWN, request_acked
from tracer.handshake.outcome import Verdicts, judge
from tracer.vocabulary.vocabulary import (
    AFTER_WORDS,
    ANSWERED_ECN_WORDS,
    GROUP_OF,
    HandshakeResult,
    Outcome,
    SettleReason,
    Vantage,
    word,
)

COOKIE, OTHER = b"ABCDEFGH", b"abcdefgh"
MS = 1_000_000
SYN = Seg(cookie=COOKIE, length=517, stamps=(1, 0))


def judged(*cases: Case) -> tuple[Verdicts, Durations]:
    events = record(list(cases))
    verdicts = judge(events)
    vantage = np.array([Vantage[case.vantage.upper()] for case in cases], np.uint8)
    return verdicts, measure(events, verdicts, vantage)


def verdict(case: Case) -> tuple[str, str, str | None, bool, float]:
    """Outcome, group, after, lived, what was saved in µs."""
    verdicts, durations = judged(case)
    return (
        word(Outcome(verdicts.outcome[0])),
        ["n/a", "ok", "degraded", "failed"][verdicts.group[0]],
        AFTER_WORDS[verdicts.after[0]],
        bool(verdicts.lived[0]),
        float(durations.rtt_saved_us[0]),
    )


def accepted(**more: Any) -> Case:
    """SYN data that was taken after 30 ms, seen from the client."""
    synack = Seg(seq=77, ack=1001 + 517, stamps=(9, 1))
    return replace(Case(SYN, synack, synack_at=30 * MS, ack_at=31 * MS), **more)


def plain(**more: Any) -> Case:
    """An ordinary handshake."""
    return replace(Case(Seg(), Seg(seq=77, ack=1001), synack_at=30 * MS, ack_at=31 * MS), **more)


def test_a_first_answer_that_the_client_did_not_take() -> None:
    """SYN, SYN-ACK of A with another cookie, SYN again, SYN-ACK of B, ACK of B, SYN-ACK of A again, data of B."""
    case = Case(
        SYN, Seg(seq=555, ack=1001, stamps=(70_000, 1001)), again=((1_000_000, 1001),), synack_at=1_020 * MS,
        ack_at=1_021 * MS, response_at=1_050 * MS, request_at=1_021 * MS, reason="response",
        first=Seg(seq=77, ack=1001, cookie=OTHER, stamps=(9, 1)), first_at=20 * MS, synack_isns=2, synack_count=2,
    )  # fmt: skip
    verdicts, durations = judged(case)
    assert verdict(case)[:4] == ("data_not_acked_new_cookie", "degraded", "response", True)
    assert (int(verdicts.answered_syn[0]), int(verdicts.acked_payload_len[0])) == (2, 0)
    found = {name: float(getattr(durations, name)[0]) for name in Durations.__slots__}
    assert (found["delay_us"], found["synack_delay_us"], found["ack_delay_us"]) == (1_000_000, 20_000, 1000)
    assert (found["connect_us"], found["first_request_us"], found["first_response_us"]) == (
        1_021_000, 1_021_000, 1_050_000,
    )  # fmt: skip
    assert found["rtt_saved_us"] == 0


def test_the_same_with_the_first_taken() -> None:
    case = Case(
        SYN, Seg(seq=77, ack=1001, cookie=OTHER, stamps=(9, 1)), again=((1_000_000, 1001),), synack_at=1_030 * MS,
        ack_at=1_031 * MS,
    )  # fmt: skip
    verdicts, durations = judged(case)
    # TSecr names the first SYN, so the answer was slow and nothing fell back
    assert (verdict(case)[0], int(verdicts.answered_syn[0])) == ("data_not_acked_new_cookie", 1)
    assert (durations.delay_us[0], durations.synack_delay_us[0]) == (0, 1_030_000)


def test_a_syn_after_its_answer_makes_nothing_ambiguous() -> None:
    """SYN-ACK lost on the way to the client, seen here: the SYN comes again, the data was taken all the same."""
    for stamps in (None, (1, 0)):
        case = Case(Seg(length=9, stamps=stamps), Seg(seq=77, ack=1001), again=((1_000_000, None),), synack_at=3 * MS)
        verdicts, durations = judged(case)
        assert (verdict(case)[0], int(verdicts.answered_syn[0])) == ("data_not_acked", 1)
        assert (durations.delay_us[0], durations.rtt_us[0]) == (0, 3000)


def test_the_number_of_an_answered_syn_beyond_those_that_the_record_holds() -> None:
    """Linux may send 11 SYNs (tcp_syn_linear_timeouts); the latest takes the record's last place."""
    again = tuple((second * 1_000_000, 1 + second * 1000) for second in (1, 2, 3, 4, 5, 35))
    case = Case(SYN, Seg(seq=77, ack=1001, stamps=(9, 35_001)), again=again, synack_at=35_020 * MS)
    events = record([case] * 3)
    events["syn_count"], events["late_syns"] = (7, 10, 11), (0, 0, 1)
    events["retx_flags"][:, -1] = 0xC0
    verdicts = judge(events)
    assert verdicts.answered_syn.tolist() == [7, 10, 10]
    assert (verdicts.answered_after_us == 35_000_000).all()
    assert [ANSWERED_ECN_WORDS[asked] for asked in answered_ecn(events, verdicts.answered_syn)] == ["ecn"] * 3


def test_an_answer_that_overtook_its_syn() -> None:
    case = Case(
        SYN, Seg(seq=77, ack=1001, stamps=(9, 1001)), again=((1_000_000, 1001),), synack_at=999_990 * 1000,
    )  # fmt: skip
    verdicts, durations = judged(case)
    assert (verdict(case)[0], int(verdicts.answered_syn[0])) == ("syn_timeout_fallback", 2)
    assert durations.delay_us[0] == 1_000_000
    assert np.isnan(durations.rtt_us[0])


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (accepted(reason="response", response_at=60 * MS), ("data_acked", "ok", "response", True, 30_000)),
        (
            accepted(reason="rst", reset_from="server", settled_at=70 * MS),
            ("data_acked", "failed", "reset_by_server", False, 0),
        ),
        (
            accepted(reason="rst", reset_from="server", request_acked=True),
            ("data_acked", "failed", "reset_by_server", True, 0),
        ),
        (accepted(reason="rst", reset_from="client"), ("data_acked", "ok", "reset_by_client", False, None)),
        (accepted(reason="timeout"), ("data_acked", "ok", "silence", False, None)),
        (accepted(reason="timeout", request_repeats=1), ("data_acked", "ok", "silence", False, None)),
        (accepted(reason="timeout", request_repeats=2), ("data_acked", "failed", "silence", False, 0)),
        (
            accepted(reason="timeout", request_repeats=2, request_acked=True),
            ("data_acked", "ok", "silence", True, 30_000),
        ),
        (accepted(reason="timeout", request_acked=True), ("data_acked", "ok", "silence", True, 30_000)),
        (accepted(reason="at_end"), ("data_acked", "ok", None, False, None)),
        (accepted(reason="new_syn"), ("data_acked", "ok", None, False, None)),
        (
            accepted(result="aborted", reason="rst", reset_from="server"),
            ("data_acked", "failed", None, False, 0),
        ),
        # the client half-closes: its FIN settles nothing
        (
            accepted(reason="response", client_fin=True, response_at=60 * MS),
            ("data_acked", "ok", "response", True, 30_000),
        ),
        (accepted(reason="timeout", client_fin=True), ("data_acked", "ok", "client_closed", False, None)),
        (accepted(reason="fin", client_fin=True), ("data_acked", "ok", "client_closed", True, 30_000)),
        (accepted(reason="fin"), ("data_acked", "ok", "server_closed", True, 30_000)),
        # without Fast Open the group stays, whatever happens
        (plain(reason="timeout", client_fin=True), ("not_attempted", "n/a", "closed_unused", False, 0)),
        (plain(reason="fin", client_fin=True), ("not_attempted", "n/a", "closed_unused", True, 0)),
        (plain(reason="rst", reset_from="client"), ("not_attempted", "n/a", "closed_unused", False, 0)),
        (plain(reason="rst", reset_from="server"), ("not_attempted", "n/a", "reset_by_server", False, 0)),
        (plain(reason="timeout", request_at=31 * MS, request_repeats=3), ("not_attempted", "n/a", "silence", False, 0)),
        (plain(reason="timeout", synacks_after_ack=3), ("not_attempted", "n/a", "synack_again", False, 0)),
        # the server's direction is not seen
        (
            Case(SYN, one_way=True, reason="timeout", ack_at=30 * MS, request_repeats=4),
            (None, "n/a", None, False, None),
        ),
        (
            Case(SYN, one_way=True, reason="response", ack_at=30 * MS, response_at=60 * MS),
            (None, "n/a", "response", True, None),
        ),
    ],
)  # fmt: skip
def test_what_became_of_it(case: Case, expected: tuple[Any, ...]) -> None:
    found = verdict(case)
    assert (found[0] if found[0] != "unknown" else None, *found[1:4]) == expected[:4]
    assert found[4] == expected[4] if expected[4] is not None else np.isnan(found[4])


def test_when_the_request_left_and_the_reset_came() -> None:
    later = Seg(seq=77, ack=1001)
    _, durations = judged(
        accepted(request_at=40 * MS, reason="rst", reset_from="server", settled_at=63 * MS),
        replace(accepted(request_at=40 * MS), synack=later),
        plain(request_at=45 * MS),
        plain(),
    )
    np.testing.assert_array_equal(durations.first_request_us, [0, 40_000, 45_000, np.nan])
    np.testing.assert_array_equal(durations.reset_after_us, [63_000, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(durations.connect_us, [31_000] * 4)


def test_whether_the_request_was_acked() -> None:
    events = record([
        plain(), plain(request_acked=True), plain(result="half_open"), plain(one_way=True),
        plain(one_way=True, response_at=60 * MS, request_acked=True),
    ])  # fmt: skip
    assert request_acked(events).tolist() == [0, 1, NOT_KNOWN, NOT_KNOWN, 1]


def test_what_the_answered_syn_asked_for() -> None:
    events = record([plain()] * 5)
    events["syn"]["tcp_flags"] = [0x0C2, 0x1C2, 0x002, 0x1C2, 0x1C2]
    events["retx_flags"] = [0, 0xC0, 0xC1, 0, 0, 0]
    answered = np.array([1, 1, 3, 4, 0], np.uint8)
    words = [ANSWERED_ECN_WORDS[number] for number in answered_ecn(events, answered).tolist()]
    assert words == ["ecn", "accecn", "ecn", "accecn", None]
    assert ANSWERED_ECN_WORDS[answered_ecn(events, np.full(5, 2, np.uint8))[0]] == "none"


def test_recorded_handshakes_are_judged_as_before() -> None:
    """Those that the server answered keep group and gain, whatever the rules say of others."""
    events = golden_events()
    verdicts = judge(events)
    answered = np.flatnonzero(
        (events["result"] == HandshakeResult.ESTABLISHED) & (events["reason"] == SettleReason.BY_RESPONSE)
    )
    assert len(answered) > 200
    assert verdicts.lived[answered].all()
    groups = np.array([GROUP_OF[outcome] for outcome in Outcome])[verdicts.outcome]
    np.testing.assert_array_equal(verdicts.group, groups)
    durations = measure(events, verdicts, np.ones(len(events), np.uint8))
    whole = answered[
        (verdicts.acked_payload_len == events["syn"]["payload_len"])[answered]
        & (verdicts.acked_payload_len != 0)[answered]
    ]
    np.testing.assert_array_equal(durations.rtt_saved_us[whole], durations.rtt_us[whole])
