"""Each row of TFO.md section 4 as tracer/causes/judge.py infers it, and what must not be inferred."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.asked import Asked
from tests.support.judged import Shake, batch, causes, host, judge_at_once, judge_one_by_one, outcomes
from tests.support.rows import random_batch
from tracer.causes.judge import CauseJudge
from tracer.vocabulary.vocabulary import (
    Cause,
    Confidence,
    CookieCheck,
    Group,
    HandshakeResult,
    Outcome,
    Vantage,
    word,
)

A, B, C, D = (bytes([number]) * 8 for number in (0xA0, 0xB0, 0xC0, 0xD0))
SERVER, TRANSIT, LOCAL = Vantage.SERVER, Vantage.TRANSIT, Vantage.LOCAL

ASKED = Shake(cookie=b"", back=A)
TAKEN = Shake(cookie=A, data=100, acked=100)
PLAIN = Shake()
NOT_GRANTED = Shake(cookie=b"")
IGNORED = Shake(cookie=A, data=100)
DATA_ONLY = Shake(data=100)
FALLBACK = Shake(cookie=A, data=100, again_ms=1000)
ELSEWHERE = Shake(500, cookie=D, data=100, acked=100, server=9)  # shows that the client keeps its address


def refused(sent: bytes, given: bytes, at_ms: float = 1000) -> Shake:
    return Shake(at_ms, cookie=sent, data=100, back=given)


@pytest.mark.parametrize("vantage", Vantage)
def test_ordinary_traffic_has_no_cause_and_asks_for_none(vantage: Vantage) -> None:
    asked = Asked()
    judge = CauseJudge(asked)
    shakes = [replace(one, vantage=vantage) for one in (PLAIN, ASKED, PLAIN, replace(PLAIN, again_ms=5))]
    assert causes(judge.judge(batch(*shakes * 3))) == [""] * 12
    assert not asked


def test_each_refusal_brings_another_cookie() -> None:
    shakes = [refused(A, B, 1000), refused(B, C, 2000), refused(C, D, 3000)]
    for judge in (judge_one_by_one, judge_at_once):
        # where nobody ever took a cookie, the server may see the client at another address each time
        assert judge(CauseJudge(), *shakes) == [
            "cookie_stale possible", "key_not_shared possible", "key_not_shared possible"
        ]  # fmt: skip
        assert judge(CauseJudge(), ELSEWHERE, *shakes) == [
            "", "cookie_stale possible", "key_not_shared likely", "key_not_shared likely"
        ]  # fmt: skip


def test_a_server_that_returns_to_an_older_cookie_is_several() -> None:
    between = Shake(1500, cookie=B, data=100, acked=100)
    assert judge_one_by_one(CauseJudge(), refused(A, B, 1000), between, refused(B, A, 2000)) == [
        "cookie_stale possible", "", "key_not_shared likely"
    ]  # fmt: skip


def test_a_pool_once_found_out_is_known_to_other_clients() -> None:
    judge = CauseJudge()
    judge_one_by_one(judge, ELSEWHERE, refused(A, B, 1000), refused(B, A, 2000))
    other = [replace(refused(C, D, 3000), client=7, port=port) for port in (443, 444)]
    assert judge_one_by_one(judge, *other) == ["key_not_shared likely", "cookie_stale possible"]


def test_rotations_a_while_apart_are_no_pool() -> None:
    learned = [Shake(at, cookie=cookie, data=100, acked=100) for at, cookie in ((500, A), (1500, B), (2500, C))]
    shakes = [learned[0], refused(A, B, 1000), learned[1], refused(B, C, 2000), learned[2]]
    assert judge_one_by_one(CauseJudge(), *shakes) == ["", "cookie_stale likely", "", "cookie_stale likely", ""]


def test_syns_under_way_while_the_client_learns_are_no_pool() -> None:
    shakes = [refused(A, B, 1000 + number / 10) for number in range(6)]
    assert causes(CauseJudge().judge(batch(*shakes))) == ["cookie_stale possible"] * 6


def test_key_rotation_is_certain_where_the_backup_key_was_seen_to_match() -> None:
    rotated = Shake(cookie=A, data=100, acked=100, back=B)
    assert judge_one_by_one(CauseJudge(), rotated) == ["key_rotation likely"]
    asked = Asked(host(1100), checks=(CookieCheck.VALID_BACKUP,))
    here = replace(rotated, vantage=SERVER)
    judged = CauseJudge(asked).judge(batch(here))
    assert causes(judged) == ["key_rotation certain"]
    assert judged.causes.cookie_check.tolist() == [CookieCheck.VALID_BACKUP]
    assert [(one.cookie, one.given, one.accepted) for one in asked[0].cookies] == [(A, B, True)]
    # data that came with a request, or the same cookie back: no backup key was at work
    assert judge_one_by_one(CauseJudge(), replace(rotated, cookie=b""), replace(rotated, back=A)) == ["", ""]


def test_the_cookie_of_the_first_answer_counts_whichever_the_client_took() -> None:
    rotated = Shake(cookie=A, data=100, acked=100, back=A, first_back=B)
    assert judge_one_by_one(CauseJudge(), rotated, replace(rotated, back=B, first_back=A)) == [
        "key_rotation likely",
        "",
    ]
    first = replace(refused(A, D), first_back=B)
    assert judge_one_by_one(CauseJudge(), ELSEWHERE, first, refused(B, C, 2000))[2] == "key_not_shared likely"
    assert judge_one_by_one(CauseJudge(), ELSEWHERE, first, refused(D, C, 2000))[2] == "cookie_stale possible"


def test_cookies_that_nobody_is_told_of_are_not_checked() -> None:
    asked = Asked(host(1100), checks=(CookieCheck.VALID_BACKUP,))
    rotated = Shake(cookie=A, data=100, acked=100, back=B, vantage=SERVER)
    judged = CauseJudge(asked, check_cookies=False).judge(batch(rotated))
    assert causes(judged) == ["key_rotation likely"]
    assert judged.causes.cookie_check.tolist() == [CookieCheck.NONE]
    assert not asked


def test_an_option_of_a_wrong_length() -> None:
    for vantage in Vantage:
        wrong = Shake(malformed=True, vantage=vantage)
        assert judge_one_by_one(CauseJudge(), wrong, replace(wrong, data=100)) == ["option_malformed certain"] * 2
        # another one that is right counts, and a cookie is a cookie
        assert judge_one_by_one(CauseJudge(), replace(wrong, cookie=b"", back=A)) == [""]


def test_the_same_cookie_back() -> None:
    shakes = [Shake(cookie=A, data=100, back=A), Shake(cookie=A, back=A)]
    assert judge_one_by_one(CauseJudge(), *shakes) == ["child_failed likely"] * 2


def test_away_from_the_server_nothing_is_said_of_its_host() -> None:
    for vantage in (Vantage.CLIENT, TRANSIT):
        judge = CauseJudge(Asked(host(2000, 0)))
        judge.add_host(host(900, 0, TCPFastOpenListenOverflow=1))
        judge.add_host(host(1100, 0, TCPFastOpenListenOverflow=9))
        seen = [replace(one, vantage=vantage) for one in (NOT_GRANTED, IGNORED)]
        assert causes(judge.judge(batch(*seen))) == ["not_supported possible"] * 2


def test_where_it_has_worked_the_server_does_not_do_without() -> None:
    assert judge_one_by_one(CauseJudge(), ASKED, IGNORED, replace(IGNORED, port=80)) == [
        "", "", "not_supported possible"
    ]  # fmt: skip


def test_cookies_that_are_required() -> None:
    assert judge_one_by_one(CauseJudge(), DATA_ONLY, ASKED, DATA_ONLY) == [
        "cookie_required possible", "", "cookie_required likely"
    ]  # fmt: skip
    assert judge_one_by_one(CauseJudge(), Shake(cookie=b"", data=100, back=A)) == ["cookie_required likely"]
    judge = CauseJudge(Asked(host(1100), host(1200)))
    judge.add_host(host(990))
    here = [replace(one, vantage=SERVER) for one in (DATA_ONLY, ASKED, DATA_ONLY)]
    assert judge_one_by_one(judge, *here) == ["cookie_required likely", "", "cookie_required certain"]


def test_cookies_that_are_not_required() -> None:
    taken = replace(DATA_ONLY, acked=100)
    assert judge_one_by_one(CauseJudge(), NOT_GRANTED, taken, NOT_GRANTED) == [
        "not_supported possible", "", "cookie_not_required likely"
    ]  # fmt: skip
    # one that has granted a cookie since wants them after all
    assert judge_one_by_one(CauseJudge(), taken, ASKED, NOT_GRANTED) == ["", "", ""]
    judge = CauseJudge(Asked(host(1100, 0x203), host(1200, 0x203)))
    judge.add_host(host(990, 0x203))
    here = [replace(one, vantage=SERVER) for one in (NOT_GRANTED, taken, NOT_GRANTED)]
    assert judge_one_by_one(judge, *here) == ["cookie_not_required likely", "", "cookie_not_required certain"]


def test_what_a_client_sends_to_one_port_says_nothing_of_another() -> None:
    empty = Shake(cookie=A, port=444, vantage=SERVER)
    shakes = [replace(TAKEN, vantage=SERVER)] * 5
    assert judge_one_by_one(CauseJudge(), *shakes, empty) == [""] * 6


def test_the_answer_to_the_bare_syn_of_who_went_on_says_nothing_of_the_server() -> None:
    shake = replace(FALLBACK, resumed=HandshakeResult.ABORTED)
    judged = CauseJudge().judge(batch(shake))
    assert (outcomes(judged), causes(judged)) == (["data_not_acked"], [""])


def test_a_syn_that_was_sent_again_at_once_was_not_lost() -> None:
    shake = replace(DATA_ONLY, again_ms=0.2)
    judged = CauseJudge().judge(batch(shake))
    assert (outcomes(judged), causes(judged)) == (["syn_timeout_fallback"], [""])


def test_a_cookie_without_data_from_who_always_sent_some() -> None:
    empty = Shake(cookie=A)
    for vantage, said in ((SERVER, "payload_stripped possible"), (TRANSIT, "payload_stripped possible"), (LOCAL, "")):
        judge = CauseJudge()
        shakes = [replace(one, vantage=vantage) for one in (TAKEN, TAKEN, TAKEN, empty, empty)]
        assert judge_one_by_one(judge, *shakes) == ["", "", "", said, ""]
    few = [replace(one, vantage=SERVER) for one in (TAKEN, TAKEN, empty)]
    assert judge_one_by_one(CauseJudge(), *few) == ["", "", ""]


NEAR, FAR = replace(NOT_GRANTED, id=77, vantage=TRANSIT), Shake(1000.1, id=77, vantage=TRANSIT, ifindex=3)


@pytest.mark.parametrize("order", [(NEAR, FAR), (FAR, NEAR)])
def test_an_option_that_is_gone_at_the_other_interface(order: tuple[Shake, Shake]) -> None:
    assert causes(CauseJudge().judge(batch(*order))) == ["option_stripped certain"] * 2
    judge = CauseJudge()
    judge.set_interfaces({2: 2, 3: 3})
    assert judge_one_by_one(judge, *order)[1] == "option_stripped certain"


def test_what_is_not_stripped() -> None:
    judge = CauseJudge()
    same = [NEAR, replace(NEAR, ifindex=3)]
    assert causes(judge.judge(batch(*same))) == ["not_supported possible"] * 2
    # the first SYN was lost in between: what is seen behind is the bare one that followed
    late = [replace(NEAR, again_ms=1000), replace(FAR, at_ms=2000.1)]
    assert "option_stripped certain" not in causes(CauseJudge().judge(batch(*late)))
    # one of the interfaces was not traced yet when the first SYN passed: its first is the other's second
    joined = [replace(NEAR, again_ms=1000), replace(FAR, at_ms=1999.99)]
    assert "option_stripped certain" not in causes(CauseJudge().judge(batch(*joined)))
    # two places on one interface are not two ends
    assert "option_stripped certain" not in causes(CauseJudge().judge(batch(NEAR, replace(FAR, ifindex=2))))


def test_what_a_syn_proxy_between_the_interfaces_does_is_not_stripping() -> None:
    # it answers by itself, and goes on to the server once the client has taken that
    near = replace(NEAR, answered_ms=0.1)
    assert "option_stripped certain" not in causes(CauseJudge().judge(batch(near, replace(FAR, at_ms=1000.3))))
    data = replace(IGNORED, id=77, vantage=TRANSIT, answered_ms=0.1)
    emptied = Shake(1000.3, cookie=A, id=77, vantage=TRANSIT, ifindex=3)
    assert not any("certain" in cause for cause in causes(CauseJudge().judge(batch(data, emptied))))
    assert causes(CauseJudge().judge(batch(near, replace(FAR, at_ms=1000.05)))) == ["option_stripped certain"] * 2


def test_a_cookie_that_was_lost_between_the_interfaces_is_not_stripped() -> None:
    # Linux repeats the SYN-ACK without it
    near = replace(NEAR, answered_ms=1000)
    far = replace(NEAR, at_ms=1000.1, ifindex=3, back=A, synacks=2)
    for seen in ((near, far), (far, near)):
        assert "option_stripped certain" not in causes(CauseJudge().judge(batch(*seen)))


def test_a_cookie_or_data_that_is_gone_on_the_way() -> None:
    granted = [NEAR, replace(NEAR, at_ms=1000.1, answered_ms=0.8, ifindex=3, back=A)]
    assert causes(CauseJudge().judge(batch(*granted))) == ["option_stripped certain"] * 2
    emptied = [replace(IGNORED, id=9, vantage=TRANSIT), Shake(1000.1, cookie=A, id=9, vantage=TRANSIT, ifindex=3)]
    assert causes(CauseJudge().judge(batch(*emptied))) == ["payload_stripped certain"] * 2


@pytest.mark.parametrize("seed", range(6))
def test_whatever_comes_a_cause_fits_its_outcome_and_its_vantage(seed: int) -> None:
    made = random_batch(seed, 3000)
    judge = CauseJudge(Asked(*(host(10_000_000 + number) for number in range(9))))
    judge.add_host(host(0.5))
    judged = judge.judge(made)
    cause, confidence = judged.causes.cause, judged.causes.confidence
    assert ((cause == Cause.NONE) == (confidence == Confidence.NONE)).all()
    outcome, vantage = judged.verdicts.outcome, judged.vantage
    plain = (outcome == Outcome.NOT_ATTEMPTED) & (cause != Cause.NONE)
    assert set(cause[plain].tolist()) <= {Cause.OPTION_STRIPPED, Cause.OPTION_MALFORMED}
    of_the_host = [Cause.SERVER_DISABLED, Cause.LISTENER_DISABLED, Cause.QUEUE_OVERFLOW, Cause.SYN_COOKIES]
    assert ((vantage[np.isin(cause, of_the_host)] & 2) != 0).all()
    good = np.isin(outcome, [Outcome.DATA_ACKED, Outcome.COOKIE_GRANTED])
    lived = good & (judged.verdicts.group == Group.OK)
    assert set(cause[lived].tolist()) <= {Cause.NONE, Cause.OPTION_STRIPPED, Cause.OPTION_MALFORMED}
    allowed = {Cause.NONE, Cause.OPTION_STRIPPED, Cause.OPTION_MALFORMED, Cause.PATH_BREAKS_AFTER_ACCEPT}
    assert set(cause[good].tolist()) <= allowed
    broken = cause == Cause.PATH_BREAKS_AFTER_ACCEPT
    assert broken.any()
    assert (judged.verdicts.group[broken] == Group.FAILED).all()
    assert ((vantage[broken] & 2) == 0).all()
    assert (confidence[broken & judged.verdicts.lived] == Confidence.POSSIBLE).all()
    assert not judged.causes.cookie_check[(vantage & 2) == 0].any()
    named = {word(Cause(number)) for number in cause.tolist()}
    assert len(named) > 4, "the made-up traffic gives reason for some"
