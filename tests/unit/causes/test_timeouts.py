"""SYNs with data that timed out: when the path is blamed, and what takes that back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.support import longer
from tests.support.judged import MS, Shake, batch, causes, judge_at_once, judge_one_by_one
from tracer.causes import slot_table
from tracer.causes.judge import CauseJudge
from tracer.causes.peer_history import REMEMBER_NS
from tracer.vocabulary.vocabulary import Vantage

A = b"\xa0" * 8
LOSS, DROPS = "packet_loss possible", "path_drops_syn_data likely"
AWAY, WAYS = (Vantage.CLIENT, Vantage.TRANSIT), (judge_one_by_one, judge_at_once)
HOUR_MS = REMEMBER_NS / MS

Way = Callable[..., list[str]]

FALLBACK = Shake(cookie=A, data=100, again_ms=1000)
TAKEN = Shake(cookie=A, data=100, acked=100)
REFUSED = Shake(cookie=A, data=100, back=b"\xb0" * 8)
LOST = Shake(again_ms=1000)  # without data


def at(shake: Shake, at_ms: float) -> Shake:
    return replace(shake, at_ms=at_ms)


def last(judge: Way, *shakes: Shake) -> str:
    """The cause of the last of these, a minute apart."""
    return judge(CauseJudge(), *(at(one, 60_000 * number) for number, one in enumerate(shakes, 1)))[-1]


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("vantage", AWAY)
def test_two_in_a_row_are_the_path(judge: Way, vantage: Vantage) -> None:
    again = [replace(FALLBACK, at_ms=when, vantage=vantage) for when in (1000, 5000, 9000)]
    plain = replace(Shake(response=True), at_ms=500, vantage=vantage)
    assert judge(CauseJudge(), plain, *again) == ["", LOSS, DROPS, DROPS]
    # Linux waits for no cookie where it needs none
    assert judge(CauseJudge(), *(replace(one, cookie=None) for one in again)) == [LOSS, DROPS, DROPS]


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("change", [{"client": 2}, {"server": 2}, {"ifindex": 3}, {"at_ms": 1000 + HOUR_MS}])
def test_two_elsewhere_are_not(judge: Way, change: dict[str, int]) -> None:
    assert judge(CauseJudge(), FALLBACK, replace(FALLBACK, **{"at_ms": 5000, **change})) == [LOSS] * 2


@pytest.mark.parametrize("judge", WAYS)
def test_without_data_there_is_nothing_to_object_to_but_the_option(judge: Way) -> None:
    requests = [Shake(when, cookie=b"", again_ms=1000) for when in (1000, 5000, 9000)]
    assert judge(CauseJudge(), *requests) == [LOSS] * 3


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("passed", [TAKEN, REFUSED, replace(TAKEN, acked=60), replace(TAKEN, client=2, port=80)])
def test_data_that_passed_takes_it_back(judge: Way, passed: Shake) -> None:
    assert last(judge, passed, FALLBACK, FALLBACK) == LOSS
    assert last(judge, FALLBACK, passed, FALLBACK) == LOSS
    assert last(judge, FALLBACK, FALLBACK, passed, FALLBACK, FALLBACK) == LOSS
    # but not what passed on another way, or went unanswered
    for other in (replace(passed, server=2), replace(passed, ifindex=3), replace(passed, answered_ms=None)):
        assert last(judge, other, FALLBACK, FALLBACK) == DROPS
    before = [at(passed, 1), at(FALLBACK, 5 + HOUR_MS), at(FALLBACK, 9 + HOUR_MS)]
    assert judge(CauseJudge(), *before)[-1] == DROPS


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize(
    "lost",
    [
        LOST,
        replace(LOST, ecn=True),
        replace(LOST, cookie=b"", back=A),
        replace(LOST, once_more_ms=3000),
        replace(LOST, client=2, port=80, response=True),
        replace(FALLBACK, once_more_ms=3000, client=2),
    ],
)
def test_a_syn_without_data_that_was_lost_takes_it_back(judge: Way, lost: Shake) -> None:
    assert last(judge, lost, FALLBACK, FALLBACK) == LOSS
    assert last(judge, FALLBACK, lost, FALLBACK) == LOSS
    # but not one that was lost on another way, answered late, sent again at once, or never answered
    for other in (
        replace(lost, server=2),
        replace(lost, ifindex=3),
        replace(lost, answered_ms=None),
        *([] if lost.data else [replace(lost, first_answered=True)]),
        *([] if lost.once_more_ms else [replace(lost, again_ms=5)]),
    ):
        assert last(judge, other, FALLBACK, FALLBACK) == DROPS
    before = [at(lost, 1), at(FALLBACK, 5 + HOUR_MS), at(FALLBACK, 9 + HOUR_MS)]
    assert judge(CauseJudge(), *before)[-1] == DROPS


@pytest.mark.parametrize("judge", WAYS)
def test_the_bare_syn_that_was_lost_after_the_data_takes_it_back(judge: Way) -> None:
    twice = replace(FALLBACK, once_more_ms=3000)
    assert last(judge, FALLBACK, twice) == LOSS
    assert last(judge, twice, FALLBACK) == LOSS


@pytest.mark.parametrize("judge", WAYS)
def test_a_syn_that_asked_for_ecn_may_have_been_dropped_for_that(judge: Way) -> None:
    ecn = replace(FALLBACK, ecn=True)
    assert last(judge, ecn, ecn, ecn) == LOSS
    assert last(judge, FALLBACK, ecn) == LOSS
    kept = replace(ecn, ecn_again=True)
    assert last(judge, kept, kept) == DROPS


@pytest.mark.parametrize("judge", WAYS)
@pytest.mark.parametrize("vantage", [Vantage.SERVER, Vantage.LOCAL])
def test_at_the_server_the_syn_has_arrived(judge: Way, vantage: Vantage) -> None:
    assert judge(CauseJudge(), *(replace(FALLBACK, at_ms=when, vantage=vantage) for when in (1000, 5000))) == [""] * 2


@pytest.mark.parametrize("seed", range(4))
def test_random_loss_of_a_third_of_all_syns_is_soon_seen_to_be_that(seed: int) -> None:
    rng = random.Random(seed)
    judge, blamed = CauseJudge(), []
    for number in range(300):
        plain = rng.random() < 0.5
        one = Shake() if plain else TAKEN
        if rng.random() < 1 / 3:
            one = replace(one, acked=0, again_ms=1000, once_more_ms=3000 if rng.random() < 1 / 3 else None)
        said = judge_one_by_one(judge, at(one, 1000 * number))
        blamed += [number] if said == [DROPS] else []
    assert all(number < 20 for number in blamed)


@pytest.mark.parametrize("seed", range(longer.either(3, 6)))
def test_batches_make_no_difference(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    known = random.Random(seed)  # with secrets of the run, two keys sometimes share a place
    monkeypatch.setattr(slot_table.secrets, "token_bytes", known.randbytes)
    monkeypatch.setattr(slot_table.secrets, "randbits", known.getrandbits)
    rng = random.Random(seed)
    kinds = [*[FALLBACK] * 20, replace(FALLBACK, once_more_ms=3000), TAKEN, REFUSED, LOST, Shake(), Shake()]
    seen = [
        replace(
            rng.choice(kinds), at_ms=number * rng.choice((10, 100_000)), client=rng.randrange(3),
            server=rng.randrange(9), ifindex=rng.choice((2, 2, 3)), vantage=rng.choice(AWAY),
        )
        for number in range(400)
    ]  # fmt: skip
    one_by_one = judge_one_by_one(CauseJudge(), *seen)
    assert {LOSS, DROPS} <= set(one_by_one)
    assert judge_at_once(CauseJudge(), *seen) == one_by_one
    cuts = sorted({0, len(seen), *(rng.randrange(len(seen)) for _ in range(20))})
    judge = CauseJudge()
    parts = [causes(judge.judge(batch(*seen[start:stop]))) for start, stop in pairwise(cuts)]
    assert [said for part in parts for said in part] == one_by_one
