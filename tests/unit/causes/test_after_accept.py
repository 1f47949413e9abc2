"""SYN data that was taken on connections that died: when the path is blamed for it, and how surely."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from tests.support.judged import MS, Shake, batch, causes, host, judge_one_by_one
from tracer.causes import after_accept, slot_table
from tracer.causes.judge import CauseJudge
from tracer.causes.peer_history import REMEMBER_NS
from tracer.ipc.messages import Host, HostAnswer, HostQuestion
from tracer.vocabulary.vocabulary import SettleReason, Vantage

A, B = b"\xa0" * 8, b"\xb0" * 8
BY_CLIENT, BY_SERVER = 1, 2
POSSIBLE, LIKELY, CERTAIN = (f"path_breaks_after_accept {sure}" for sure in ("possible", "likely", "certain"))

RESET = Shake(cookie=A, data=100, acked=100, reset_from=BY_SERVER, ttl=60)  # from nearer than the SYN-ACK
REPEATED = Shake(cookie=A, data=100, acked=100, repeats=2, lasts_ms=5000)
LIVED = Shake(cookie=A, data=100, acked=100, response=True)
PLAIN = Shake(response=True)
DIED_PLAINLY = Shake(reset_from=BY_SERVER)
AWAY = (Vantage.CLIENT, Vantage.TRANSIT)


def at(shake: Shake, at_ms: float) -> Shake:
    return replace(shake, at_ms=at_ms)


class Looks:
    """A root part that answers each question with the next look at the host."""

    def __init__(self, *looks: Host) -> None:
        self.looks, self.asked = list(looks), 0

    def __call__(self, _question: HostQuestion) -> HostAnswer | None:
        self.asked += 1
        return HostAnswer(self.asked, self.looks.pop(0), []) if self.looks else None


@pytest.mark.parametrize("vantage", AWAY)
@pytest.mark.parametrize(
    "shake",
    [
        RESET,
        REPEATED,
        replace(RESET, back=B),
        replace(RESET, acked=60),
        replace(REPEATED, acked=60),
        replace(REPEATED, cookie=None),
        replace(REPEATED, repeats=9, reset_from=BY_CLIENT),
    ],
)
def test_one_death_may_be_the_path(shake: Shake, vantage: Vantage) -> None:
    seen = [replace(at(shake, when), vantage=vantage) for when in (1000, 9000)]
    assert judge_one_by_one(CauseJudge(), *seen) == [POSSIBLE, POSSIBLE]


@pytest.mark.parametrize("vantage", AWAY)
@pytest.mark.parametrize("shake", [RESET, REPEATED])
@pytest.mark.parametrize(
    "plain", [PLAIN, replace(PLAIN, cookie=b"", back=A), replace(PLAIN, cookie=A, data=100, back=B)]
)
def test_the_second_is_likely_where_a_plain_one_lived(shake: Shake, vantage: Vantage, plain: Shake) -> None:
    died = [replace(at(shake, when), vantage=vantage) for when in (1000, 9000, 19_000)]
    served = replace(plain, vantage=vantage)
    assert [one for one in judge_one_by_one(CauseJudge(), at(served, 500), *died) if "path" in one] == [
        POSSIBLE, LIKELY, LIKELY
    ]  # fmt: skip
    assert [one for one in judge_one_by_one(CauseJudge(), died[0], at(served, 8000), *died[1:]) if "path" in one] == [
        POSSIBLE, LIKELY, LIKELY
    ]  # fmt: skip
    assert causes(CauseJudge().judge(batch(at(served, 500), *died)))[1:] == [POSSIBLE, LIKELY, LIKELY]


def test_it_needs_the_same_client_server_port_and_place() -> None:
    for other in ({"client": 2}, {"server": 2}, {"port": 80}, {"ifindex": 3}):
        elsewhere = replace(at(PLAIN, 500), **other)
        assert judge_one_by_one(CauseJudge(), elsewhere, RESET, at(RESET, 2000))[1:] == [POSSIBLE, POSSIBLE]
        first = replace(RESET, **other)
        assert judge_one_by_one(CauseJudge(), at(PLAIN, 500), first, at(RESET, 2000))[1:] == [POSSIBLE, POSSIBLE]


def test_one_that_lived_since_takes_it_back() -> None:
    shakes = [at(PLAIN, 500), at(RESET, 1000), at(LIVED, 2000), at(RESET, 3000), at(RESET, 4000), at(LIVED, 5000)]
    assert judge_one_by_one(CauseJudge(), *shakes, at(RESET, 6000)) == [
        "",
        POSSIBLE,
        "",
        POSSIBLE,
        LIKELY,
        "",
        POSSIBLE,
    ]
    # one before the first death says nothing about what came since
    early = [at(LIVED, 100), at(PLAIN, 500), at(RESET, 1000), at(RESET, 2000)]
    assert judge_one_by_one(CauseJudge(), *early) == ["", "", POSSIBLE, LIKELY]
    partly = replace(LIVED, at_ms=2000, acked=60)
    assert judge_one_by_one(CauseJudge(), at(PLAIN, 500), RESET, partly, at(RESET, 3000))[-1] == POSSIBLE


def test_a_reset_after_the_server_acked_what_followed_may_be_the_path_but_shows_that_it_passes() -> None:
    acked = replace(RESET, request_acked=True)
    shakes = [at(PLAIN, 500), at(RESET, 1000), at(acked, 2000), at(acked, 3000), at(RESET, 4000), at(RESET, 5000)]
    assert judge_one_by_one(CauseJudge(), *shakes) == ["", POSSIBLE, POSSIBLE, POSSIBLE, POSSIBLE, LIKELY]
    assert causes(CauseJudge().judge(batch(*shakes))) == ["", POSSIBLE, POSSIBLE, POSSIBLE, POSSIBLE, LIKELY]


def test_resets_of_the_server_itself_show_nothing_of_the_path() -> None:
    own = replace(RESET, reset_ttl=60)
    shakes = [at(PLAIN, 500), *(at(own, when) for when in (1000, 2000, 3000)), at(RESET, 4000), at(RESET, 5000)]
    assert judge_one_by_one(CauseJudge(), *shakes) == ["", POSSIBLE, POSSIBLE, POSSIBLE, POSSIBLE, LIKELY]


def test_what_was_long_ago_is_forgotten() -> None:
    later = 1000 + REMEMBER_NS / MS
    for first, again in ((500, 1000), (later, later + 500)):
        shakes = [at(PLAIN, first), at(RESET, again), at(RESET, later + 1000)]
        assert judge_one_by_one(CauseJudge(), *shakes)[-1] == (LIKELY if first == later else POSSIBLE)


@pytest.mark.parametrize("vantage", AWAY)
@pytest.mark.parametrize(
    "shake",
    [
        replace(LIVED, reset_from=BY_SERVER),  # answered, then reset
        Shake(reason=SettleReason.BY_FIN),  # a health check
        Shake(reset_from=BY_CLIENT),
        replace(RESET, reset_from=BY_CLIENT),
        replace(REPEATED, repeats=0),  # a slow server
        replace(REPEATED, repeats=1),
        Shake(reset_from=BY_SERVER),  # no attempt
        Shake(repeats=5),
        replace(RESET, acked=0),
        replace(REPEATED, acked=0),
        replace(RESET, reason=SettleReason.AT_END, reset_from=0),
    ],
)
def test_false_friends(shake: Shake, vantage: Vantage) -> None:
    seen = [replace(at(shake, when), vantage=vantage) for when in (1000, 9000)]
    judge = CauseJudge()
    judge_one_by_one(judge, replace(at(PLAIN, 500), vantage=vantage))
    assert not any("path_breaks" in one for one in judge_one_by_one(judge, *seen))
    # nor do they make a death after them the second
    died = replace(at(RESET, 20_000), vantage=vantage)
    assert judge_one_by_one(judge, died) == [POSSIBLE]


def test_batches_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    known = random.Random(1)  # with secrets of the run, two keys sometimes share a place
    monkeypatch.setattr(slot_table.secrets, "token_bytes", known.randbytes)
    monkeypatch.setattr(slot_table.secrets, "randbits", known.getrandbits)
    rng = np.random.default_rng(1)
    kinds = [PLAIN, RESET, REPEATED, LIVED, replace(LIVED, acked=60), Shake(reset_from=BY_CLIENT)]
    chosen = rng.choice(len(kinds), 600, p=[0.1, 0.35, 0.2, 0.15, 0.05, 0.15])
    shakes = [
        replace(at(kinds[kind], 1000 + row), client=int(rng.integers(1, 4)), port=int(rng.integers(1, 30)), id=row + 1)
        for row, kind in enumerate(chosen.tolist())
    ]
    one_by_one = judge_one_by_one(CauseJudge(), *shakes)
    assert {"", POSSIBLE, LIKELY} == set(one_by_one)
    for size in (7, 100, 600):
        judge = CauseJudge()
        found = [causes(judge.judge(batch(*shakes[begin : begin + size]))) for begin in range(0, 600, size)]
        assert [one for part in found for one in part] == one_by_one


@pytest.mark.parametrize("vantage", [Vantage.SERVER, Vantage.LOCAL])
@pytest.mark.parametrize("shake", [RESET, REPEATED])
def test_at_the_server_the_path_is_not_blamed(shake: Shake, vantage: Vantage) -> None:
    seen = [replace(at(one, when), vantage=vantage) for one, when in ((PLAIN, 500), (shake, 1000), (shake, 9000))]
    assert judge_one_by_one(CauseJudge(), *seen) == ["", "", ""]


def test_what_another_host_had_acked_is_no_acceptance() -> None:
    made = batch(RESET)
    made.verdicts.acked_payload_len[:] = 0  # of the SYN-ACK that the client took; the first one acked the data
    assert causes(CauseJudge().judge(made)) == [""]


def test_a_server_that_resets_plain_connections_as_well() -> None:
    again = [at(PLAIN, 1000), at(RESET, 2000), at(DIED_PLAINLY, 3000), at(RESET, 4000)]
    for judged in (judge_one_by_one(CauseJudge(), *again), causes(CauseJudge().judge(batch(*again)))):
        assert judged == ["", POSSIBLE, "", POSSIBLE]
    # what comes later, or was another server's, contradicts nothing
    other = [again[0], again[1], replace(again[2], port=80), again[3], at(DIED_PLAINLY, 5000)]
    for judged in (judge_one_by_one(CauseJudge(), *other), causes(CauseJudge().judge(batch(*other)))):
        assert judged == ["", POSSIBLE, "", LIKELY, ""]


def test_it_goes_before_a_rotated_key() -> None:
    assert judge_one_by_one(CauseJudge(), replace(RESET, back=B)) == [POSSIBLE]
    assert judge_one_by_one(CauseJudge(), replace(LIVED, back=B)) == ["key_rotation likely"]


def test_certain_where_the_clients_kernel_saw_a_blackhole() -> None:
    asked = Looks(host(6100, TCPFastOpenBlackhole=5))
    judge = CauseJudge(asked)
    judge.add_host(host(900, TCPFastOpenBlackhole=4))
    assert judge_one_by_one(judge, REPEATED) == [CERTAIN]
    assert asked.asked == 1
    # a look that came after it was settled is not taken again
    assert judge_one_by_one(judge, at(REPEATED, 1001)) == [CERTAIN]
    assert asked.asked == 1


def test_a_rise_in_a_look_before_it_was_settled_counts_too() -> None:
    judge = CauseJudge(Looks())
    for when, seen in ((900, 4), (1900, 4), (4000, 5)):
        judge.add_host(host(when, TCPFastOpenBlackhole=seen))
    assert judge_one_by_one(judge, REPEATED) == [CERTAIN]


@pytest.mark.parametrize(
    ("shake", "looks"),
    [
        (REPEATED, [host(900), host(6100)]),  # nothing rose
        (REPEATED, [host(800), host(900, TCPFastOpenBlackhole=1), host(6100, TCPFastOpenBlackhole=1)]),  # before it
        (REPEATED, [host(1500, TCPFastOpenBlackhole=1), host(6100, TCPFastOpenBlackhole=2)]),  # no look before it
        (REPEATED, [host(900), host(6100, TCPFastOpenBlackhole=0), host(9000, TCPFastOpenBlackhole=1)]),  # after it
        (RESET, [host(900), host(1100, TCPFastOpenBlackhole=1)]),  # a reset in order: the kernel saw another's
        (replace(REPEATED, vantage=Vantage.TRANSIT), [host(900), host(6100, TCPFastOpenBlackhole=1)]),
        (REPEATED, []),
    ],
)
def test_what_is_not_certain(shake: Shake, looks: list[Host]) -> None:
    judge = CauseJudge(Looks())
    for look in looks:
        judge.add_host(look)
    assert judge_one_by_one(judge, shake) == [POSSIBLE]


def test_nobody_is_asked_about_deaths_that_the_kernel_does_not_count() -> None:
    asked = Looks()
    judge = CauseJudge(asked)
    judge_one_by_one(judge, RESET, LIVED, PLAIN, replace(REPEATED, vantage=Vantage.TRANSIT))
    assert not asked.asked


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(after_accept, "PAIRS", 16)
    judge = CauseJudge()
    shakes = [
        replace(one, client=client, port=port) for client in range(1, 200) for port in (1, 2) for one in (PLAIN, RESET)
    ]
    found = causes(judge.judge(batch(*shakes)))
    assert set(found) == {"", POSSIBLE}
    assert len(judge._after_accept._served["when_ns"]) == len(judge._after_accept._broken["when_ns"]) == 16
