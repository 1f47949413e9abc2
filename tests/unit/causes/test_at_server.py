"""What a host says of its own answers, and what it must not: causes with a witness (tracer/causes/at_server.py)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.asked import (
    FORWARDED,
    MIXED,
    NOBODY,
    NOT_KNOWN,
    NOT_READABLE,
    WIRE,
    WITH_FAST_OPEN,
    WITHOUT,
    Asked,
)
from tests.support.judged import Shake, batch, causes, fates, host, judge_one_by_one
from tracer.causes.judge import CauseJudge
from tracer.causes.witness import CLIENTS_MAX, SILENT_MAX
from tracer.ipc.messages import ClientAnswer, FlowQuestion, Host, HostAnswer, HostQuestion, ListenerAnswer
from tracer.vocabulary.vocabulary import ClientFail, HandshakeCause, HandshakeResult, SettleReason, Vantage

A, B = b"\xa0" * 8, b"\xb0" * 8
SERVER, TRANSIT, LOCAL, CLIENT = Vantage.SERVER, Vantage.TRANSIT, Vantage.LOCAL, Vantage.CLIENT
NOT_GRANTED = Shake(cookie=b"", vantage=SERVER)
IGNORED = Shake(cookie=A, data=100, vantage=SERVER)
FULL, COOKIES = {"TCPFastOpenListenOverflow": 1}, {"SyncookiesSent": 1}


def judging(before: Host, after: Host, listens: ListenerAnswer | None = WITH_FAST_OPEN) -> CauseJudge:
    judge = CauseJudge(Asked(after, listens=listens))
    judge.add_host(before)
    return judge


@pytest.mark.parametrize("vantage", [SERVER, LOCAL])
@pytest.mark.parametrize(
    ("before", "after", "listens", "cause"),
    [
        (host(990, 1), host(1100, 1), WITHOUT, "server_disabled certain"),
        (host(990, 1), host(1100, 1), WITH_FAST_OPEN, "server_disabled certain"),
        (host(990, 1), host(1100, 1), NOT_KNOWN, "server_disabled likely"),
        (host(990, 3), host(1100, 1), WITH_FAST_OPEN, "server_disabled likely"),
        (host(990, 1), host(1100, 3), WITH_FAST_OPEN, "server_disabled likely"),
        (host(990), host(1100), WITHOUT, "listener_disabled likely"),
        (host(990), host(1100), NOT_READABLE, "listener_disabled possible"),
        (host(990), host(1100), MIXED, "listener_disabled possible"),
        (host(990), host(1100), NOT_KNOWN, "listener_disabled possible"),
        (host(990), host(1100), WITH_FAST_OPEN, "answered_before_listener likely"),
        # a listener took notice of the request, or of another: it may want no cookies by an option of its own
        (host(990), host(1100, TCPFastOpenCookieReqd=1), WITH_FAST_OPEN, ""),
        (host(990), host(1100, TCPFastOpenPassiveFail=1), WITH_FAST_OPEN, ""),
        (host(990), host(1100, **FULL), WITH_FAST_OPEN, "queue_overflow likely"),
        (host(990), host(1100, **FULL), NOT_READABLE, "queue_overflow possible"),
        (host(990), host(1100, **COOKIES), NOT_KNOWN, "syn_cookies possible"),
        # a neighbour's
        (host(990), host(1100, **FULL), WITHOUT, "listener_disabled likely"),
        (host(990), host(1100, **COOKIES), WITHOUT, "listener_disabled likely"),
        (host(990), host(1100, TCPReqQFullDoCookies=1), WITH_FAST_OPEN, "syn_cookies likely"),
        (host(990), host(1100, **COOKIES), WITH_FAST_OPEN, "syn_cookies likely"),
        (host(990), host(1100, **COOKIES, TCPFastOpenListenOverflow=4), WITH_FAST_OPEN, "queue_overflow possible"),
        (host(990), host(1100, SyncookiesSent=9, TCPFastOpenListenOverflow=4), WITH_FAST_OPEN, "syn_cookies possible"),
        (host(990, syn_cookies=2), host(1100, syn_cookies=2, **COOKIES), WITHOUT, "syn_cookies certain"),
        (host(990, syn_cookies=2), host(1100, syn_cookies=2), WITHOUT, "listener_disabled likely"),
        (host(990), host(1100, syn_cookies=2, **COOKIES), WITH_FAST_OPEN, "syn_cookies likely"),
        (host(990), host(1100, syn_cookies=2), WITHOUT, "listener_disabled likely"),
        (host(990), host(1100, syn_cookies=2), WITH_FAST_OPEN, "answered_before_listener likely"),
        # it answered though nobody listens: the socket table is of another time
        (host(990, 1), host(1100, 1), NOBODY, ""),
        (host(990), host(1100, **FULL), NOBODY, ""),
        # the SYN goes elsewhere: this host's settings say nothing
        (host(990, 1), host(1100, 1), FORWARDED, "not_supported possible"),
        (host(990), host(1100, **FULL), FORWARDED, "not_supported possible"),
    ],
)  # fmt: skip
def test_at_the_server_its_host_explains(
    vantage: Vantage, before: Host, after: Host, listens: ListenerAnswer, cause: str
) -> None:
    seen = [replace(one, vantage=vantage) for one in (NOT_GRANTED, replace(IGNORED, cookie=b""))]
    assert causes(judging(before, after, listens).judge(batch(*seen))) == [cause] * 2


def test_a_look_that_is_young_enough_is_not_taken_again() -> None:
    asked = Asked(host(1100))
    judge = CauseJudge(asked)
    judge.add_host(host(990))
    assert judge_one_by_one(judge, NOT_GRANTED, NOT_GRANTED) == ["answered_before_listener likely"] * 2
    assert [len(one.listeners) for one in asked] == [1]


def test_a_sysctl_that_was_otherwise_in_between() -> None:
    judge = judging(host(900, 1), host(1100, 1))
    for when, value in ((1000.2, 3), (1000.6, 1)):
        judge.add_host(host(when, value))
    assert judge_one_by_one(judge, NOT_GRANTED) == ["server_disabled likely"]


def test_a_listener_that_got_fast_open_meanwhile() -> None:
    asked = Asked(host(1100), host(4100), host(5200), listens=WITHOUT)
    judge = CauseJudge(asked)
    judge.add_host(host(990))
    assert judge_one_by_one(judge, NOT_GRANTED) == ["listener_disabled likely"]
    asked.listens = WITH_FAST_OPEN
    assert judge_one_by_one(judge, replace(NOT_GRANTED, at_ms=4000)) == ["listener_disabled possible"]
    assert judge_one_by_one(judge, replace(NOT_GRANTED, at_ms=5150)) == ["answered_before_listener likely"]


def test_an_option_of_a_wrong_length_in_the_answer() -> None:
    judge = judging(host(990), host(1100), WITHOUT)
    for vantage in Vantage:
        wrong = replace(NOT_GRANTED, vantage=vantage, malformed_back=True)
        assert judge_one_by_one(judge, wrong, replace(wrong, cookie=A, data=100)) == ["", ""]


def test_a_forwarded_port_is_not_explained_by_this_host() -> None:
    judge = judging(host(990, 1), host(1100, 1))
    assert judge_one_by_one(judge, replace(NOT_GRANTED, ttl=63)) == ["not_supported possible"]


def test_without_an_answer_of_the_root_part_nothing_is_said() -> None:
    """Fast Open may be off here, or a SYN proxy may have answered: what one sees from afar is no explanation."""
    data_only = Shake(data=100, vantage=SERVER)
    judge = CauseJudge(Asked())
    judge.add_host(host(990))
    assert judge_one_by_one(judge, NOT_GRANTED, IGNORED, data_only) == ["", "", ""]
    # it has worked before, which elsewhere makes these likely
    worked, taken = Shake(cookie=b"", back=A, vantage=SERVER), replace(data_only, acked=100)
    assert judge_one_by_one(judge, worked, data_only) == ["", ""]
    assert judge_one_by_one(judge, replace(taken, port=80), replace(NOT_GRANTED, port=80)) == ["", ""]


def test_a_handshake_before_the_first_look_at_its_host() -> None:
    for listens, cause in ((WITH_FAST_OPEN, ""), (NOBODY, ""), (FORWARDED, "not_supported possible")):
        assert judge_one_by_one(CauseJudge(Asked(host(1100), listens=listens)), NOT_GRANTED) == [cause]


def test_a_replay_knows_no_host() -> None:
    assert judge_one_by_one(CauseJudge(), NOT_GRANTED) == ["not_supported possible"]


def test_counters_that_moved_before_the_syn_say_nothing() -> None:
    judge = CauseJudge(Asked(host(1100, TCPFastOpenListenOverflow=5), listens=WITHOUT))
    judge.add_host(host(900))
    judge.add_host(host(990, TCPFastOpenListenOverflow=5))
    assert judge_one_by_one(judge, NOT_GRANTED) == ["listener_disabled likely"]


# --- who does not answer at all ---

UNANSWERED = Shake(answered_ms=None, vantage=SERVER, lasts_ms=3500)
DROPPED = "host_dropped possible this_host"


def fate(shake: Shake, *looks: Host, listens: ListenerAnswer = WITHOUT) -> str:
    before, *after = looks or (host(990), host(4600))
    judge = CauseJudge(Asked(*after, listens=listens))
    judge.add_host(before)
    return fates(judge, shake)[0]


@pytest.mark.parametrize("shake", [UNANSWERED, replace(UNANSWERED, cookie=A, data=100)])
@pytest.mark.parametrize("listens", [WITHOUT, WITH_FAST_OPEN, MIXED, NOT_READABLE])
def test_a_host_that_listens_and_does_not_answer(shake: Shake, listens: ListenerAnswer) -> None:
    assert fate(shake, listens=listens) == DROPPED
    assert fate(replace(shake, vantage=LOCAL, egress=True), listens=listens) == DROPPED
    judge = judging(host(990), host(4600), listens)
    assert judge_one_by_one(judge, shake) == [""], "it is no cause of Fast Open's"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # elsewhere only the wire tells
        ({"vantage": CLIENT}, "filtered_or_down possible"),
        ({"vantage": TRANSIT}, "filtered_or_down possible"),
        ({"egress": True}, ""),
        ({"misfit_rsts": 1}, "answer_does_not_fit likely"),
        ({"misfit_synacks": 1}, "answer_does_not_fit likely"),
        ({"misfit_icmps": 1}, ""),
        ({"resumed": HandshakeResult.REJECTED}, ""),
        # tracing ended, or the client gave up and tried anew: it might have been answered
        ({"reason": SettleReason.AT_END}, ""),
        ({"reason": SettleReason.BY_NEW_SYN}, ""),
        # it has answered, if a later SYN
        ({"answered_ms": 1, "again_ms": 1000}, ""),
    ],
)
def test_whom_nobody_accuses_of_silence(change: dict[str, object], said: str) -> None:
    assert fate(replace(UNANSWERED, **change)) == said


MAY_GO_ELSEWHERE, NO_ROUTE = ListenerAnswer(1, [0], None, WIRE), ListenerAnswer(1, [0], False, None)


@pytest.mark.parametrize("listens", [NOBODY, FORWARDED, NOT_KNOWN, MAY_GO_ELSEWHERE, NO_ROUTE])
def test_silence_without_a_listening_socket(listens: ListenerAnswer) -> None:
    assert fate(UNANSWERED, listens=listens) == ""


@pytest.mark.parametrize("counter", ["ListenOverflows", "ListenDrops", "TCPReqQFullDrop", "TCPACKSkippedChallenge"])
def test_silence_while_a_queue_was_full(counter: str) -> None:
    assert not fate(UNANSWERED, host(990), host(4600, **{counter: 1})).startswith("host_dropped")
    assert fate(UNANSWERED, host(990, **{counter: 1}), host(4600, **{counter: 1})) == DROPPED


def test_silence_without_looks_around_it() -> None:
    assert fate(UNANSWERED, host(1200), host(4600)) == ""
    assert fate(UNANSWERED, host(990)) == ""


def test_looks_of_long_ago_are_kept() -> None:
    late = replace(UNANSWERED, lasts_ms=65_000)
    looks = [host(990)] + [host(1000 + number * 60) for number in range(1, 1200)]
    judge = CauseJudge(Asked(host(80_000)))
    for look in looks:
        judge.add_host(look)
    assert fates(judge, late) == [DROPPED]


def test_where_answers_leave_by_another_road() -> None:
    judge = CauseJudge(Asked(host(4600), host(4700)))
    judge.add_host(host(990))
    other_road = replace(UNANSWERED, one_way=True, reason=SettleReason.BY_FIN)
    assert fates(judge, other_road, UNANSWERED, replace(UNANSWERED, port=80)) == ["", "", DROPPED]


def test_where_the_answer_would_leave_by_an_interface_that_is_not_traced() -> None:
    # the last ones are one group, whose records have both directions
    for groups, said in (({2: 2}, ""), ({2: 2, 7: 7}, ""), ({2: 9, 7: 9}, DROPPED)):
        judge = CauseJudge(Asked(host(4600), listens=ListenerAnswer(1, [0], False, 7)))
        judge.set_interfaces(groups)
        judge.add_host(host(990))
        assert fates(judge, UNANSWERED) == [said]


def test_an_answer_that_is_not_complete_is_asked_for_again() -> None:
    asked = Asked(host(1100), host(1300), listens=NOT_READABLE)
    judge = CauseJudge(asked)
    judge.add_host(host(990))
    assert judge_one_by_one(judge, NOT_GRANTED) == ["listener_disabled possible"]
    asked.listens = WITHOUT
    late = replace(NOT_GRANTED, at_ms=1150)
    assert judge_one_by_one(judge, late, late) == ["listener_disabled likely"] * 2
    assert [len(one.listeners) for one in asked] == [1, 1]


def test_a_listener_that_has_worked_is_not_called_disabled() -> None:
    judge = judging(host(990), host(2100), NOT_READABLE)
    granted = replace(NOT_GRANTED, back=A)
    assert judge_one_by_one(judge, granted, replace(NOT_GRANTED, at_ms=2000)) == ["", ""]


def test_an_answer_as_late_as_one_that_is_sent_again() -> None:
    for vantage, said in ((CLIENT, ""), (TRANSIT, ""), (SERVER, "listener_disabled likely")):
        judge = judging(host(990), host(3100), WITHOUT)
        late = replace(NOT_GRANTED, answered_ms=1010, vantage=vantage, lasts_ms=1020)
        assert judge_one_by_one(judge, late) == [said]


def test_a_port_that_is_still_in_use() -> None:
    asked = Asked(host(9000))
    judge = CauseJudge(asked)
    judge.add_host(host(990))
    for vantage in Vantage:
        bare = Shake(cookie=A, data=100, again_ms=1000, challenge_acks=1, vantage=vantage)
        assert fates(judge, bare, replace(bare, answered_ms=None)) == ["port_still_in_use likely"] * 2
        assert judge_one_by_one(judge, bare, replace(bare, answered_ms=None)) == [""] * 2
        # a stray ACK beside an answer to the first SYN, and beside one that took the SYN's data when it came again
        beside = fates(judge, replace(bare, again_ms=None), replace(bare, acked=100))
        assert beside[0] == ""
        assert not beside[1].startswith("port_still_in_use")


def test_the_clients_own_kernel_takes_a_cause_back() -> None:
    seen = replace(IGNORED, vantage=CLIENT)
    for answer, cause in (
        (ClientAnswer(ClientFail.DATA_NOT_ACKED, False), "not_supported possible"),
        (ClientAnswer(ClientFail.NONE, True), ""),
        (None, "not_supported possible"),
    ):
        asked = Asked(host(1100), client=answer)
        judged = CauseJudge(asked).judge(batch(seen, Shake()))
        assert causes(judged) == [cause, ""]
        assert judged.causes.client_fail.tolist() == [answer.fail if answer else 0, 0]
        assert [len(one.clients) for one in asked] == [1]


def test_nobody_asks_for_clients_elsewhere_or_that_succeeded() -> None:
    asked = Asked(host(1100))
    taken = Shake(cookie=A, data=100, acked=100)
    judge_one_by_one(CauseJudge(asked), replace(IGNORED, vantage=TRANSIT), taken, Shake(), Shake(cookie=b"", back=A))
    assert not asked


def test_each_unanswered_flow_is_asked_about() -> None:
    def ask(question: HostQuestion) -> HostAnswer:
        asked.extend(question.listeners)
        # DNAT takes the SYNs of one client only
        told = [ListenerAnswer(1, [0], one.client[-1] == 2, WIRE) for one in question.listeners]
        return HostAnswer(0, host(4600), listeners=told)

    asked: list[FlowQuestion] = []
    for clients in ((1, 2, 3), (2, 1, 3)):
        judge = CauseJudge(ask)
        judge.add_host(host(990))
        batch_of_all = batch(*(replace(UNANSWERED, client=client) for client in clients))
        causes_of_all = judge.judge(batch_of_all).causes.handshake_cause.tolist()
        assert causes_of_all == [0 if client == 2 else HandshakeCause.HOST_DROPPED for client in clients]
    assert [one.client[-1] for one in asked] == [1, 2, 3, 2, 1, 3]
    # no more than so many at a time: nothing is said of the others
    many = batch(*(replace(UNANSWERED, client=1 + number % 200) for number in range(3 * SILENT_MAX)))
    judge = CauseJudge(Asked(host(4600), listens=WITHOUT))
    judge.add_host(host(990))
    assert np.count_nonzero(judge.judge(many).causes.handshake_cause) == SILENT_MAX


def test_each_answer_belongs_to_its_question() -> None:
    """Two services, two silent flows and two clients in one batch."""

    def ask(question: HostQuestion) -> HostAnswer:
        listeners = [ListenerAnswer(1, [0 if one.server_port == 80 else 16], False, WIRE) for one in question.listeners]
        clients = [
            ClientAnswer(ClientFail.DATA_NOT_ACKED, one.client[-1] == 2) if one.client[-1] < 3 else None
            for one in question.clients
        ]
        return HostAnswer(0, host(4700), listeners=listeners, clients=clients)

    judge = CauseJudge(ask)
    judge.add_host(host(990))
    failed = replace(IGNORED, vantage=CLIENT)
    judged = judge.judge(
        batch(
            NOT_GRANTED, replace(NOT_GRANTED, port=80), UNANSWERED,
            *(replace(failed, client=number) for number in (1, 2, 3)),
        )
    )  # fmt: skip
    assert causes(judged) == [
        "answered_before_listener likely", "listener_disabled likely", "", "not_supported possible", "",
        "not_supported possible",
    ]  # fmt: skip
    assert judged.causes.confidence.tolist()[4] == 0
    fails = [ClientFail.NONE] * 3 + [ClientFail.DATA_NOT_ACKED] * 2 + [ClientFail.NONE]
    assert judged.causes.client_fail.tolist() == fails


def test_a_look_from_before_the_silence_ended_does_not_do() -> None:
    judge = CauseJudge(Asked(host(4600, ListenDrops=1), listens=WITHOUT))
    for when in (990, 1010, 4400):
        judge.add_host(host(when))
    assert fates(judge, UNANSWERED) == [""], "the queue was full between that look and its end"


def test_fast_open_that_was_off_for_a_moment_leaves_nobody_else_to_blame() -> None:
    judge = judging(host(900), host(1100))
    for when, value in ((1000.2, 1), (1000.6, 3)):
        judge.add_host(host(when, value))
    assert judge_one_by_one(judge, NOT_GRANTED) == [""]


def test_the_newest_clients_are_asked_about() -> None:
    asked = Asked(host(1100), client=ClientAnswer(ClientFail.DATA_NOT_ACKED, False))
    failed = [replace(IGNORED, vantage=CLIENT, client=1 + number) for number in range(CLIENTS_MAX + 3)]
    judged = CauseJudge(asked).judge(batch(*failed))
    assert judged.causes.client_fail.tolist() == [0] * 3 + [ClientFail.DATA_NOT_ACKED] * CLIENTS_MAX


def test_a_listener_is_the_same_whichever_client_is_asked_about() -> None:
    """DNAT for some clients does not change what the listener has."""
    asked = Asked(host(1100), host(2100), listens=FORWARDED)
    judge = CauseJudge(asked)
    judge.add_host(host(990))
    assert judge_one_by_one(judge, NOT_GRANTED) == ["not_supported possible"]
    asked.listens = WITH_FAST_OPEN
    assert judge_one_by_one(judge, replace(NOT_GRANTED, at_ms=2000)) == ["answered_before_listener likely"]


def test_a_listener_that_was_opened_after_the_look_at_the_sockets() -> None:
    """The last answer says that nobody listens at the port, and yet this host's own stack takes the SYN."""
    asked = Asked(host(1100), host(1500), listens=NOBODY)
    judge = CauseJudge(asked)
    judge.add_host(host(990))
    assert judge_one_by_one(judge, NOT_GRANTED) == [""]
    for vantage in (SERVER, LOCAL):
        seen = replace(NOT_GRANTED, at_ms=1050, vantage=vantage)
        assert judge_one_by_one(judge, seen) == [""]
    asked.listens = WITHOUT
    assert judge_one_by_one(judge, replace(NOT_GRANTED, at_ms=1450)) == ["listener_disabled possible"]
