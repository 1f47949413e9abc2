"""Sums of servers by reason that move from stretch to stretch are those that are counted anew."""

from __future__ import annotations

import random
from collections import Counter

from tracer.aggregate.place_sums import Place, PlaceSums


def _counted(places: list[dict[Place, int]]) -> dict[int, dict[tuple[bytes, int], int]]:
    found: dict[int, dict[tuple[bytes, int], int]] = {}
    for one in places:
        for (reason, ip, port), times in one.items():
            sums = found.setdefault(reason, Counter())
            sums[ip, port] = sums.get((ip, port), 0) + times
    return found


def _step(source: random.Random) -> dict[Place, int]:
    return {
        (source.randrange(3), bytes([source.randrange(4)]), source.randrange(2)): source.randint(1, 9)
        for _ in range(source.randrange(4))
    }


def test_each_stretch_has_the_sums_of_its_steps() -> None:
    source, sums = random.Random(1), PlaceSums()
    steps = [_step(source) for _ in range(60)]
    for _ in range(300):
        now = source.randrange(1, len(steps))
        steps[now] = _step(source)  # the running step is replaced; a later question may be about an earlier moment
        for span in (1, 5, 12, 30, now):
            begin = max(0, now - span)
            assert sums.of(span, range(begin, now), steps[begin:now]) == _counted(steps[begin:now])


def test_what_was_found_does_not_change_later() -> None:
    sums = PlaceSums()
    first = sums.of(5, [1], [{(0, b"a", 80): 2}])
    sums.of(5, [1, 2], [{(0, b"a", 80): 2}, {(0, b"a", 80): 3}])
    assert first == {0: {(b"a", 80): 2}}


def test_without_steps_there_is_nothing() -> None:
    sums = PlaceSums()
    sums.of(5, [1], [{(0, b"a", 80): 2}])
    assert sums.of(5, [], []) == {}
