"""Who refused, and who answered in a server's place (tracer/causes/answers.py)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.support.asked import FORWARDED, NOBODY, NOT_KNOWN, WITHOUT, Asked
from tests.support.judged import Shake, fates, fates_at_once, host
from tracer.causes import slot_table
from tracer.causes.judge import CauseJudge
from tracer.ipc.messages import ListenerAnswer
from tracer.vocabulary.vocabulary import HandshakeResult, ResetFrom, SettleReason, Vantage

BY_SERVER, BY_CLIENT = ResetFrom.SERVER, ResetFrom.CLIENT
CLIENT, SERVER, TRANSIT, LOCAL = Vantage.CLIENT, Vantage.SERVER, Vantage.TRANSIT, Vantage.LOCAL
NEVER = replace(Shake(answered_ms=None), lasts_ms=3500)
REFUSED = Shake(answered_ms=None, rejected=True, reset_from=BY_SERVER, reset_ttl=60)
SERVED = Shake(response=True, ttl=60)
LIKELY, POSSIBLE = "refused likely server", "refused possible"
ON_PATH = "answered_on_path likely path"


def said(*shakes: Shake, vantage: Vantage = CLIENT) -> list[str]:
    return fates(CauseJudge(), *(replace(one, vantage=vantage) for one in shakes))


@pytest.mark.parametrize("vantage", [CLIENT, TRANSIT])
def test_refused_from_where_the_server_is(vantage: Vantage) -> None:
    assert said(REFUSED, SERVED, REFUSED, vantage=vantage) == [POSSIBLE, "", LIKELY]
    # the distance is the host's; other hosts, and the same one elsewhere, say nothing
    others = (replace(REFUSED, port=80), replace(REFUSED, server=2), replace(REFUSED, ifindex=3))
    assert said(SERVED, *others, vantage=vantage) == ["", LIKELY, POSSIBLE, POSSIBLE]


def test_of_resets_alone_no_distance_is_known() -> None:
    assert said(REFUSED, replace(REFUSED, reset_ttl=61)) == [POSSIBLE] * 2


def test_a_host_in_front_of_a_container_that_is_gone() -> None:
    """It refuses by itself, from one hop nearer; so does a packet filter there."""
    assert said(SERVED, replace(REFUSED, reset_ttl=61)) == ["", "answered_on_path possible path"]
    assert said(SERVED, replace(REFUSED, reset_ttl=59)) == ["", ON_PATH]


@pytest.mark.parametrize("ttl", [62, 63, 120])
def test_a_reset_from_elsewhere(ttl: int) -> None:
    forged = replace(REFUSED, reset_ttl=ttl)
    assert said(forged, SERVED, forged) == [POSSIBLE, "", ON_PATH]
    # the other port may be forwarded to another host, and this one refuses by itself
    assert said(SERVED, replace(forged, port=80)) == ["", POSSIBLE]
    # a server behind several paths has several distances
    assert said(SERVED, replace(SERVED, ttl=ttl), forged) == ["", "", LIKELY]


def test_initial_ttls_differ_by_kind_of_segment() -> None:
    assert said(SERVED, replace(REFUSED, reset_ttl=251), replace(REFUSED, reset_ttl=124)) == ["", LIKELY, LIKELY]


def test_what_answers_in_its_place_does_not_become_the_server() -> None:
    forged = replace(REFUSED, reset_ttl=62)
    half_open = replace(Shake(half_open=True), ttl=62, lasts_ms=3500)
    assert said(SERVED, half_open, half_open, forged) == ["", ON_PATH, ON_PATH, ON_PATH]
    assert said(half_open, REFUSED) == ["ack_missing possible", POSSIBLE]


@pytest.mark.parametrize("ttl", [60, 61])
def test_a_reset_is_compared_with_the_handshakes_own_answer(ttl: int) -> None:
    fits = ttl == 60
    aborted = Shake(rejected=True, reset_from=BY_SERVER, ttl=60, reset_ttl=ttl)
    assert said(aborted) == [LIKELY if fits else ON_PATH]
    after = replace(aborted, rejected=False, requested_ms=2)
    assert said(after) == ["reset_after_established likely server" if fits else ON_PATH]
    # a client that resets what it was sent says nothing
    assert said(replace(aborted, reset_from=BY_CLIENT)) == [""]


@pytest.mark.parametrize("ttl", [1, 2, 30])
def test_an_odd_ttl_tells_no_distance(ttl: int) -> None:
    """Routing daemons give their sessions a TTL of 1 once they are accepted."""
    after = Shake(reset_from=BY_SERVER, ttl=64, reset_ttl=ttl, requested_ms=2)
    assert said(after, replace(after, ttl=ttl, reset_ttl=64)) == ["reset_after_established likely"] * 2
    assert said(SERVED, replace(REFUSED, reset_ttl=ttl)) == ["", POSSIBLE]
    assert said(SERVED, replace(Shake(half_open=True), ttl=ttl)) == ["", "ack_missing possible"]


def test_health_checks_of_a_forwarded_port() -> None:
    """SYN, SYN-ACK, RST: they never work, and the other port is another host's."""
    check = Shake(port=8080, ttl=59, rejected=True, reset_from=BY_CLIENT)
    assert said(SERVED, check, check, check) == ["", "", "", ""]
    half_open = replace(check, rejected=False, reset_from=0, half_open=True)
    assert said(SERVED, half_open, half_open) == ["", *["ack_missing possible"] * 2]


def test_an_address_with_several_distances() -> None:
    """Anycast, or several paths of different length: one more is no stranger."""
    several = [replace(SERVED, ttl=ttl) for ttl in (54, 53, 52)]
    one_more = replace(Shake(half_open=True), ttl=51)
    assert said(*several, one_more, replace(REFUSED, reset_ttl=51))[3:] == ["ack_missing possible", POSSIBLE]


def test_routes_change() -> None:
    hours_later_ms = 3 * 3_600_000
    reset = replace(REFUSED, reset_ttl=58, at_ms=hours_later_ms)
    assert said(SERVED, reset) == ["", POSSIBLE]
    # from where it is now
    assert said(SERVED, replace(SERVED, ttl=58, at_ms=hours_later_ms), reset) == ["", "", LIKELY]
    back = replace(REFUSED, at_ms=hours_later_ms)
    assert said(SERVED, replace(SERVED, ttl=58, at_ms=hours_later_ms), back) == ["", "", ON_PATH]


@pytest.mark.parametrize("size", [3, 50, 1000])
def test_batches_make_no_difference(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    known = random.Random(3)  # with secrets of the run, two keys sometimes share a place
    monkeypatch.setattr(slot_table.secrets, "token_bytes", known.randbytes)
    monkeypatch.setattr(slot_table.secrets, "randbits", known.getrandbits)
    kinds = [
        SERVED, replace(SERVED, ttl=61), REFUSED, replace(REFUSED, reset_ttl=61), NEVER, replace(NEVER, misfit_rsts=1),
        Shake(half_open=True, ttl=62), Shake(half_open=True, ttl=60), replace(SERVED, ecn=True),
        replace(SERVED, ecn=True, again_ms=1000), replace(REFUSED, ecn=True), Shake(one_way=True, answered_ms=None),
        Shake(requested_ms=2, lasts_ms=3000, client_fin=True, request_acked=True, reason=SettleReason.BY_FIN),
        Shake(requested_ms=2, lasts_ms=3000, request_acked=True, reset_from=BY_CLIENT),
    ]  # fmt: skip
    shakes = [
        replace(
            known.choice(kinds), at_ms=1000 + 60_000 * number, port=known.randint(1, 12), server=known.randint(1, 4)
        )
        for number in range(600)
    ]
    each = [replace(one, id=number + 1, seq=number + 1) for number, one in enumerate(shakes)]
    whole = fates(CauseJudge(), *each)
    assert {"", ON_PATH, LIKELY, POSSIBLE, "client_gave_up likely"} <= set(whole)
    judge = CauseJudge()
    parts = [fates_at_once(judge, *each[begin : begin + size]) for begin in range(0, len(each), size)]
    assert [one for part in parts for one in part] == whole


def test_two_initial_numbers() -> None:
    two = Shake(isns=2, synacks=2, ttl=60)
    assert said(replace(two, response=True)) == [ON_PATH]
    assert said(replace(two, repeats=3)) == [ON_PATH]
    assert said(replace(two, isns=1)) == [""]
    # a server that has forgotten the first SYN, or sends SYN cookies, gives the second SYN another number
    again = replace(two, again_ms=1000, response=True)
    assert said(again) == ["syn_or_synack_lost possible"]
    assert said(replace(again, isns=3, synacks=3)) == [ON_PATH]
    for vantage in (SERVER, LOCAL):
        assert said(replace(two, response=True, ttl=64), vantage=vantage) == [""]


def test_answers_from_elsewhere_that_led_to_nothing() -> None:
    in_vain = replace(Shake(repeats=3), ttl=62, lasts_ms=5000)
    assert said(SERVED, in_vain) == ["", ON_PATH]
    assert said(in_vain) == ["silent_after_established likely"]
    # the route has changed
    assert said(SERVED, replace(SERVED, ttl=62), in_vain) == ["", "", "silent_after_established likely"]
    assert said(SERVED, replace(in_vain, request_acked=True)) == ["", ""]


# --- this host's own resets ---


@pytest.mark.parametrize("vantage", [SERVER, LOCAL])
@pytest.mark.parametrize(
    ("listens", "cause"),
    [(NOBODY, "no_listener {} this_host"), (WITHOUT, ""), (NOT_KNOWN, ""), (FORWARDED, "")],
)
def test_own_resets(vantage: Vantage, listens: ListenerAnswer, cause: str) -> None:
    judge = CauseJudge(Asked(host(1100), host(2100), listens=listens))
    judge.add_host(host(990))
    own = replace(REFUSED, vantage=vantage, reset_ttl=64)
    # of the first one it is not known whether somebody listened, and has ended since
    again = replace(own, at_ms=2000)
    assert fates(judge, own, again) == [cause.format("likely"), cause.format("certain")]
    # what is bridged or translated looks alike, and the kernel would say it of its own
    judge = CauseJudge(Asked(host(1100), host(2100), listens=listens), hears_drops=True)
    judge.add_host(host(990))
    assert fates(judge, own, again) == ["", ""]


def test_a_listener_that_has_ended() -> None:
    asked = Asked(host(1100), host(2100), host(3100), listens=WITHOUT)
    judge = CauseJudge(asked)
    judge.add_host(host(990))
    own = replace(REFUSED, vantage=SERVER, reset_ttl=64)
    assert fates(judge, own) == [""]
    asked.listens = NOBODY
    assert fates(judge, replace(own, at_ms=2000)) == [""], "when it ended is not known"
    assert fates(judge, replace(own, at_ms=3000)) == ["no_listener certain this_host"]


def test_own_resets_in_a_replay() -> None:
    for vantage in (SERVER, LOCAL):
        assert said(replace(REFUSED, reset_ttl=64), vantage=vantage) == [""]
        assert said(replace(REFUSED, reset_ttl=61), vantage=vantage) == [""]


def test_a_container_behind_this_host_refuses() -> None:
    judge = CauseJudge(Asked(host(1100), listens=FORWARDED))
    judge.add_host(host(990))
    assert fates(judge, replace(REFUSED, vantage=SERVER, reset_ttl=63)) == [POSSIBLE]


# --- ICMP ---


@pytest.mark.parametrize(
    ("family", "icmp", "prohibited"),
    [
        (4, (3, 13), True), (4, (3, 10), True), (4, (3, 9), True), (4, (3, 3), False), (4, (3, 1), False),
        (4, (1, 1), False), (6, (1, 1), True), (6, (1, 5), True), (6, (1, 6), True), (6, (1, 0), False),
        (6, (1, 4), False), (6, (3, 13), False),
    ],
)  # fmt: skip
def test_icmp_errors(family: int, icmp: tuple[int, int], prohibited: bool) -> None:
    unreachable = Shake(answered_ms=None, family=family, icmp=icmp)
    cause = "firewall_rejected likely" if prohibited else ""
    assert said(unreachable) == said(unreachable, vantage=TRANSIT) == [cause]
    assert said(unreachable, vantage=SERVER) == [""]


# --- what does not fit ---


@pytest.mark.parametrize("vantage", list(Vantage))
@pytest.mark.parametrize("change", [{"misfit_rsts": 2}, {"misfit_synacks": 1}])
def test_answers_that_do_not_fit(vantage: Vantage, change: dict[str, int]) -> None:
    unfit = replace(NEVER, **change)
    for reason in (SettleReason.BY_TIMEOUT, SettleReason.AT_END, SettleReason.BY_NEW_SYN):
        assert said(replace(unfit, reason=reason), vantage=vantage) == ["answer_does_not_fit likely"]
    # one that fitted came as well
    assert said(replace(Shake(response=True), **change), vantage=vantage) == [""]


@pytest.mark.parametrize("result", [HandshakeResult.REJECTED, HandshakeResult.NO_REPLY])
def test_records_of_handshakes_that_went_on(result: HandshakeResult) -> None:
    gone_on = Shake(again_ms=1000, resumed=result, response=True)
    assert said(gone_on, replace(gone_on, ecn=True), replace(NEVER, resumed=result)) == ["", "", ""]
