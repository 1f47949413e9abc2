"""What was lost, late, or eaten for asking for ECN (tracer/causes/losses.py, silence.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.judged import Shake, fates, fates_at_once, judge_one_by_one
from tracer.causes.judge import CauseJudge
from tracer.vocabulary.vocabulary import HandshakeResult, ResetFrom, SettleReason, Vantage

CLIENT, SERVER, TRANSIT, LOCAL = Vantage.CLIENT, Vantage.SERVER, Vantage.TRANSIT, Vantage.LOCAL
AWAY = (CLIENT, TRANSIT)
HOUR_MS = 3_600_000
SERVED = Shake(response=True, lasts_ms=1100)
AGAIN = replace(SERVED, again_ms=1000, lasts_ms=2000)
NEVER = Shake(answered_ms=None, lasts_ms=7000)
HALF_OPEN = Shake(half_open=True, lasts_ms=3500)
LOST, ONE_OF_BOTH = "synack_lost likely", "syn_or_synack_lost possible"
SLOW, LOSS, DOWN = "slow_answer likely", "packet_loss possible", "filtered_or_down possible"
ONCE, BLOCKED = "ecn_blocked possible", "ecn_blocked likely"


def said(*shakes: Shake, vantage: Vantage = CLIENT) -> list[str]:
    each = [
        replace(one, vantage=vantage, id=number + 1, seq=number + 1, at_ms=one.at_ms + 10 * number)
        for number, one in enumerate(shakes)
    ]
    found = fates(CauseJudge(), *each)
    assert found == fates_at_once(CauseJudge(), *each), "how they come in batches makes no difference"
    return found


# --- nothing came back ---


@pytest.mark.parametrize("vantage", AWAY)
def test_silence(vantage: Vantage) -> None:
    assert said(NEVER, SERVED, NEVER, vantage=vantage) == [DOWN, "", LOSS]
    # another port, another server, another interface, long ago
    others = (replace(NEVER, port=80), replace(NEVER, server=2), replace(NEVER, ifindex=3))
    assert said(SERVED, *others, replace(NEVER, at_ms=HOUR_MS + 2000), vantage=vantage) == ["", DOWN, DOWN, DOWN, DOWN]


@pytest.mark.parametrize("vantage", [SERVER, LOCAL])
def test_this_hosts_own_silence_is_no_loss(vantage: Vantage) -> None:
    assert said(NEVER, SERVED, NEVER, vantage=vantage) == ["", "", ""]


@pytest.mark.parametrize(
    "change",
    [
        {"reason": SettleReason.AT_END}, {"reason": SettleReason.BY_NEW_SYN}, {"misfit_icmps": 1},
        {"resumed": HandshakeResult.REJECTED},
    ],
)  # fmt: skip
def test_silence_that_is_none(change: dict[str, object]) -> None:
    assert said(SERVED, replace(NEVER, **change)) == ["", ""]


def test_where_answers_are_not_seen_silence_says_nothing() -> None:
    one_way = Shake(one_way=True, answered_ms=None, reason=SettleReason.BY_FIN)
    assert said(NEVER, one_way, NEVER) == [DOWN, "", ""]
    # an interface that shows answers of others does so of this service
    assert said(SERVED, one_way, replace(NEVER, port=80), NEVER) == ["", "", DOWN, ""]
    # one that shows none at all says nothing of anybody
    assert said(one_way, replace(NEVER, server=7), replace(NEVER, server=7, ifindex=3)) == ["", "", DOWN]
    assert said(one_way, replace(NEVER, at_ms=HOUR_MS + 2000)) == ["", ""]


@pytest.mark.parametrize("vantage", list(Vantage))
def test_an_ack_that_never_comes(vantage: Vantage) -> None:
    assert said(HALF_OPEN, vantage=vantage) == ["ack_missing possible"]
    for reason in (SettleReason.AT_END, SettleReason.BY_NEW_SYN):
        assert said(replace(HALF_OPEN, reason=reason), vantage=vantage) == [""]
    reset = replace(HALF_OPEN, half_open=False, rejected=True, reset_from=ResetFrom.CLIENT)
    assert said(reset, vantage=vantage) == [""]


# --- a later SYN was answered ---


@pytest.mark.parametrize("vantage", AWAY)
def test_a_syn_or_its_answer_was_lost(vantage: Vantage) -> None:
    assert said(AGAIN, replace(AGAIN, again_ms=1000, once_more_ms=3000), vantage=vantage) == [ONE_OF_BOTH] * 2
    # the answer came first, and crossed the second SYN
    crossed = replace(SERVED, again_ms=1000, answered_ms=-0.5, late_syns=1)
    assert said(crossed, vantage=vantage) == [""]


@pytest.mark.parametrize("vantage", [SERVER, LOCAL, TRANSIT])
def test_a_synack_was_lost(vantage: Vantage) -> None:
    asked_again = replace(SERVED, again_ms=1000, answered_ms=-999, late_syns=1, synacks=2)
    assert said(asked_again, vantage=vantage) == [LOST]
    assert said(replace(asked_again, half_open=True, response=False), vantage=vantage) == [LOST]
    # the client's ACK echoes the first one, which had arrived
    assert said(replace(asked_again, ack_echoes=True), vantage=vantage) == [SLOW]
    # on the way, one that passes after a second may have been sent again for one that was lost before
    after_a_second = replace(asked_again, again_ms=1010, answered_ms=-5, ack_echoes=True)
    assert said(after_a_second, vantage=vantage) == [SLOW if vantage & Vantage.SERVER else ""]
    # it was not answered again: the second SYN was on its way with the ACK
    assert said(replace(asked_again, synacks=1), vantage=vantage) == [""]
    # sent again by the server alone
    assert said(replace(SERVED, synacks=2), vantage=vantage) == [""]


def test_at_the_clients_own_host_the_first_synack_has_arrived() -> None:
    asked_again = replace(SERVED, again_ms=1000, answered_ms=-999, late_syns=1, synacks=2)
    assert said(asked_again) == [""]


# --- late ---


def slow(after_again_ms: float, response_ms: float | None = None) -> Shake:
    """TSecr names the first SYN; the SYN-ACK came so long after the second one, the response so long after the ACK."""
    asked_ms = 1000 + after_again_ms + 1
    lasts_ms = asked_ms + (response_ms if response_ms is not None else 10_000)
    return Shake(
        again_ms=1000, answered_ms=after_again_ms, first_answered=True, requested_ms=asked_ms, lasts_ms=lasts_ms,
        response=response_ms is not None, request_acked=response_ms is None,
    )  # fmt: skip


@pytest.mark.parametrize("vantage", AWAY)
@pytest.mark.parametrize(
    ("shake", "cause"),
    [
        (slow(300, 5), SLOW),
        (slow(300), SLOW),
        # a SYN-ACK that was lost and sent again echoes the first SYN, too, and comes a round trip after the second
        (slow(1), ONE_OF_BOTH),
        (slow(20, 20), ONE_OF_BOTH),
        (slow(300, 300), ONE_OF_BOTH),
        (slow(20, 500), ONE_OF_BOTH),  # servers that take their time
        (slow(20, 1500), ONE_OF_BOTH),
        (slow(300, 1300), ONE_OF_BOTH),
        # no TSecr tells
        (replace(slow(300, 5), first_answered=False), ONE_OF_BOTH),
    ],
)
def test_an_answer_that_came_late(vantage: Vantage, shake: Shake, cause: str) -> None:
    assert said(shake, vantage=vantage) == [cause]


@pytest.mark.parametrize("vantage", [SERVER, LOCAL])
def test_a_server_knows_which_synacks_it_has_sent(vantage: Vantage) -> None:
    assert said(slow(1, 5), vantage=vantage) == [SLOW]
    assert said(AGAIN, vantage=vantage) == [""]


# --- ECN ---

EATEN = replace(AGAIN, ecn=True)
PASSED = replace(SERVED, ecn=True)
REFUSED = Shake(answered_ms=None, rejected=True, reset_from=ResetFrom.SERVER, ecn=True)


@pytest.mark.parametrize("vantage", AWAY)
def test_syns_with_ecn_are_eaten(vantage: Vantage) -> None:
    assert said(EATEN, EATEN, EATEN, vantage=vantage) == [ONCE, BLOCKED, BLOCKED]
    late = replace(EATEN, once_more_ms=3000, ecn_again=True)  # the third one was plain, if by its flags
    assert said(late, vantage=vantage) == [ONE_OF_BOTH], "all of them asked"
    # others, and long ago
    other = (replace(EATEN, server=2), replace(EATEN, port=80), replace(EATEN, at_ms=HOUR_MS + 2000))
    assert said(EATEN, *other, vantage=vantage) == [ONCE] * 4


@pytest.mark.parametrize("vantage", AWAY)
def test_syns_with_ecn_that_pass_take_it_back(vantage: Vantage) -> None:
    assert said(PASSED, EATEN, EATEN, vantage=vantage) == ["", LOSS, LOSS]
    assert said(EATEN, PASSED, EATEN, vantage=vantage) == [ONCE, "", LOSS]
    assert said(replace(PASSED, port=80), EATEN, vantage=vantage) == ["", LOSS]
    # one that came through when it was sent again has passed, too
    assert said(replace(EATEN, ecn_again=True), EATEN, vantage=vantage) == [ONE_OF_BOTH, LOSS]
    assert said(replace(PASSED, server=2), EATEN, vantage=vantage) == ["", ONCE]


def test_syns_with_ecn_that_say_nothing() -> None:
    assert said(AGAIN, AGAIN) == [ONE_OF_BOTH] * 2, "they did not ask for it"
    # the first SYN's data or its option may be what is eaten
    data = replace(EATEN, cookie=b"c" * 8, data=100)
    assert said(data, replace(EATEN, cookie=b"")) == [ONE_OF_BOTH] * 2
    assert said(replace(EATEN, first_answered=True)) == [ONE_OF_BOTH]
    for vantage in (SERVER, LOCAL):
        assert said(EATEN, EATEN, vantage=vantage) == ["", ""]


def test_syns_with_ecn_are_refused() -> None:
    likely = "refused likely server"
    assert said(REFUSED, SERVED, REFUSED, REFUSED) == ["refused possible", "", BLOCKED, BLOCKED]
    assert said(SERVED, REFUSED, SERVED, REFUSED) == ["", ONCE, "", BLOCKED]
    # a service that was stopped refuses all
    assert said(SERVED, REFUSED, REFUSED, REFUSED) == ["", ONCE, ONCE, ONCE]
    # a server that refuses plain ones as well is closed
    plain = replace(REFUSED, ecn=False)
    assert said(SERVED, plain, REFUSED, SERVED, REFUSED) == ["", likely, likely, "", ONCE]
    assert said(PASSED, SERVED, REFUSED) == ["", "", likely]
    assert said(SERVED, replace(REFUSED, port=80)) == ["", likely], "nobody took a plain one there"


def test_fast_open_keeps_its_own_cause() -> None:
    lost = replace(AGAIN, cookie=b"c" * 8, data=100)
    judge = CauseJudge()
    assert judge_one_by_one(judge, lost) == ["packet_loss possible"]
    assert fates(judge, lost) == [ONE_OF_BOTH]
