"""What is said of Fast Open's benefit: nothing that chance or other reasons may have made is told as a fact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from tracer.aggregate.aggregate import Aggregate
from tracer.aggregate.worth import difference, difference_words, saved_words
from tracer.records.run import Totals
from tracer.vocabulary.printable import cells
from tracer.vocabulary.vocabulary import Difference


@dataclass(frozen=True)
class Compared:
    sooner_us: float | None
    sooner_rtts: float | None
    sooner_low_us: float | None
    sooner_high_us: float | None
    tfo_samples: int = 20
    normal_samples: int = 30


def found(sooner_us: float, error_us: float, sooner_rtts: float | None) -> Compared:
    return Compared(sooner_us, sooner_rtts, sooner_us - error_us, sooner_us + error_us)


@pytest.mark.parametrize(
    ("one", "expected", "words"),
    [
        (found(40_400, 600, 1.01), Difference.SOONER, "40.4 ± 0.6 ms (1.0 RTT) sooner"),
        (found(-100, 20, -0.5), Difference.LATER, "100 ± 20 µs (0.5 RTT) later"),
        (found(40_400, 600, None), Difference.SOONER, "40.4 ± 0.6 ms sooner"),
        (found(54.4, 54.5, 0.9), Difference.NO_DIFFERENCE, "no difference to be seen"),
        (found(0, 0, 0), Difference.NO_DIFFERENCE, "no difference to be seen"),
        (found(1, 0.1, 0.02), Difference.NO_DIFFERENCE, "no difference to be seen"),
        # the median of ten quick answers against that of ten that had to wait for something
        (found(-3400, 200, -123.48), Difference.MUCH_LATER, "more than a round trip later: not Fast Open's doing"),
        (found(-3400, 3500, -123.48), Difference.NO_DIFFERENCE, "no difference to be seen"),
        (found(3400, 200, 1.3), Difference.MUCH_SOONER, "more than a round trip sooner: not Fast Open's doing alone"),
        # as in an older recording
        (Compared(40_400, 1.01, None, None), Difference.NONE, "not known"),
        (Compared(None, None, None, None, 12, 3), Difference.NONE, "too few yet: 3 of 10"),
        (Compared(None, None, None, None, 0, 12), Difference.NONE, "no comparison yet"),
    ],
)
def test_what_the_medians_show(one: Compared, expected: Difference, words: str) -> None:
    assert difference(one) is expected
    assert difference_words(one) == words
    if expected in (Difference.MUCH_SOONER, Difference.MUCH_LATER):
        assert "123" not in words


@pytest.mark.parametrize(
    ("one", "by_room"),
    [
        (
            found(40_400, 600, 1.01),
            {30: "40.4 ± 0.6 ms (1.0 RTT) sooner", 20: "40.4 ± 0.6 ms sooner", 14: "40.4 ms sooner"},
        ),
        (found(-3400, 200, -123.48), {31: "> 1 RTT later: not TFO's doing", 14: "not by TFO"}),
        (found(3400, 200, 3), {31: "> 1 RTT sooner: not TFO alone", 14: "not only TFO"}),
        (found(1, 2, 1), {30: "no difference to be seen", 14: "no difference"}),
        (Compared(None, None, None, None, 3, 12), {30: "too few yet: 3 of 10", 14: "3 of 10"}),
        (Compared(None, None, None, None, 3, 0), {30: "no comparison yet", 14: "-"}),
    ],
)
def test_the_words_fit(one: Compared, by_room: dict[int, str]) -> None:
    assert {room: difference_words(one, room) for room in by_room} == by_room
    for room in range(14, 80):
        assert cells(difference_words(one, room)) <= room


def totals(**changes: Any) -> Totals:
    return msgspec.structs.replace(Aggregate().totals(), **changes)


def test_what_was_saved_and_what_was_lost_are_told_apart() -> None:
    demo = totals(tfo_lived=41, rtt_saved_us=1200.0, tfo_resent=8, delay_us=8_075_000.0, net_saved_us=-8_073_800.0)
    assert saved_words(demo) == (
        "41 round trips saved, about 1.20 ms in all",
        "8 attempts lost SYNs, which took 8.07 s",
    )
    assert saved_words(demo, 76) == ("41 round trips saved: 1.20 ms", "8 attempts lost SYNs: 8.07 s")
    one = totals(tfo_lived=1, rtt_saved_us=40_000.0, tfo_resent=1, delay_us=1_000_000.0)
    assert saved_words(one) == ("1 round trip saved, about 40.0 ms in all", "1 attempt lost SYNs, which took 1.00 s")
    assert saved_words(totals()) == ("", "")
    assert saved_words(totals(tfo_lived=3, rtt_saved_us=99.0)) == ("3 round trips saved, about 99.0 µs in all", "")
