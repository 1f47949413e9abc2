"""Floods of half-open handshakes (tracer/causes/flood.py)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.judged import Shake, fates_at_once
from tracer.causes.judge import CauseJudge
from tracer.vocabulary.vocabulary import SettleReason, Vantage

HALF_OPEN = Shake(half_open=True, lasts_ms=3500, vantage=Vantage.SERVER, synacks=2)
SERVED = Shake(response=True, vantage=Vantage.SERVER)
FLOOD, MISSING = "syn_flood likely", "ack_missing possible"


def half_open(
    count: int, *, every_ms: float = 25, addresses: int = 200, begin_ms: float = 1000, **of: object
) -> list[Shake]:
    """So many, each of the next address."""
    return [
        replace(HALF_OPEN, at_ms=begin_ms + number * every_ms, client=1 + number % addresses, **of)
        for number in range(count)
    ]


def served(count: int, every_ms: float = 25) -> list[Shake]:
    return [replace(SERVED, at_ms=1000 + number * every_ms, client=201 + number % 50) for number in range(count)]


def said(*shakes: Shake, size: int = 0) -> list[str]:
    """What is said of them; in batches of any size the same."""
    each = [replace(one, id=number + 1, seq=number + 1) for number, one in enumerate(shakes)]
    judge, size = CauseJudge(), size or len(each)
    return [text for begin in range(0, len(each), size) for text in fates_at_once(judge, *each[begin : begin + size])]


def flooded(*shakes: Shake) -> int:
    return said(*shakes).count(FLOOD)


@pytest.mark.parametrize("vantage", list(Vantage))
def test_from_the_hundredth_on(vantage: Vantage) -> None:
    assert said(*half_open(150, vantage=vantage)) == [MISSING] * 99 + [FLOOD] * 51


@pytest.mark.parametrize(
    ("shakes", "count"),
    [
        (half_open(99), 0),
        (half_open(100), 1),
        (half_open(100, every_ms=100), 1),  # in just ten seconds
        (half_open(300, every_ms=110), 0),
        (half_open(200, addresses=49), 0),
        (half_open(200, addresses=50), 101),
        (half_open(60) + half_open(60, port=80), 0),  # at two listeners
        (half_open(60) + half_open(60, server=2), 0),
        (half_open(60) + half_open(60, ifindex=3), 0),
        (half_open(60) + half_open(60, begin_ms=60_000), 0),  # at two times
        # a flood that comes again
        (half_open(120) + half_open(120, begin_ms=60_000), 42),
    ],
)
def test_what_a_flood_is(shakes: list[Shake], count: int) -> None:
    assert flooded(*shakes) == count


def test_among_many_others_they_are_none() -> None:
    assert flooded(*served(150), *half_open(150)) == 0
    assert flooded(*served(149), *half_open(150)) == 1
    assert flooded(*served(100), *half_open(150)) == 50
    # those of another listener, or of long ago, do not count
    assert flooded(*(replace(one, port=80) for one in served(150)), *half_open(150)) == 51
    assert flooded(*served(150), *half_open(150, begin_ms=60_000)) == 51


def test_other_failures_are_no_flood() -> None:
    unanswered = [replace(one, half_open=False, answered_ms=None) for one in half_open(200)]
    refused = [replace(one, half_open=False, answered_ms=None, rejected=True, reset_from=2) for one in half_open(200)]
    assert flooded(*unanswered, *refused) == 0
    # clients that try anew
    assert flooded(*half_open(200, reason=SettleReason.BY_NEW_SYN)) == 0


def test_where_acks_are_not_seen() -> None:
    """A capture of packets with the flag SYN: nobody's ACK is in it, and no SYN-ACK comes again."""
    lone = half_open(150, synacks=1)
    assert said(*lone) == [MISSING] * 10 + [""] * 140
    # one whose SYN-ACK came again has lost its ACK
    assert said(*lone, replace(HALF_OPEN, at_ms=6000))[-1] == MISSING
    # SYN cookies are not sent again, but the ACKs of others are seen there
    assert flooded(SERVED, *lone) == 51
    assert flooded(replace(SERVED, ifindex=3), *lone) == 0


def test_what_is_left_at_the_end() -> None:
    """All are settled at once, in any order."""
    left = half_open(200, every_ms=20, reason=SettleReason.AT_END)
    at_end = [replace(one, lasts_ms=5200 - one.at_ms) for one in left]
    mixed = [at_end[place] for place in np.random.default_rng(1).permutation(200).tolist()]
    found = said(*mixed)
    assert found.count(FLOOD) + found.count("") == 200, "the end explains the others"
    assert 90 <= found.count(FLOOD) <= 101
    assert FLOOD not in found[:99]
    # in flight when tracing ended
    assert flooded(SERVED, *(replace(one, lasts_ms=900, synacks=1) for one in left)) == 0
    # those of a flood that was there before
    assert flooded(*half_open(100), *(replace(one, lasts_ms=900, synacks=1) for one in left)) == 201


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_batches_make_no_difference(size: int) -> None:
    rng = np.random.default_rng(2)
    shakes = [*served(140), *half_open(400, addresses=60), *half_open(150, port=80, every_ms=70, addresses=51)]
    shakes = [shakes[place] for place in rng.permutation(len(shakes)).tolist()]
    shakes.sort(key=lambda one: one.at_ms + one.lasts_ms)
    whole = said(*shakes)
    assert 100 < whole.count(FLOOD) < 500
    assert said(*shakes, size=size) == whole


def test_memory_is_bounded() -> None:
    judge = CauseJudge()
    for port in range(1, 75):  # 22,200 in all
        fates_at_once(judge, *half_open(300, port=port, every_ms=1))
    floods = judge._fates._floods
    assert len(floods._keys) == len(floods._clients) == len(floods._syn_ns) <= 1 << 14
