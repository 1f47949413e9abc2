"""What may be said of Fast Open's benefit, and the words for it: the same in summary, records and dashboard.

The difference of two medians is a fact only where its confidence interval leaves out 0. Fast Open can save one round
trip and delays nothing by one: a difference of more has other reasons as well, such as other requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tracer.aggregate.responses import ENOUGH
from tracer.records.run import Totals
from tracer.vocabulary.numbers import count, duration, with_error
from tracer.vocabulary.printable import cells, plural
from tracer.vocabulary.vocabulary import Difference

ABOUT_ONE = 1.25  # more round trips than this are more than one: of single handshakes they vary
LEAST = 0.05  # of a round trip: nobody notices less


class Compared(Protocol):
    """Responses of one server with Fast Open and without; None where there are too few of either kind."""

    @property
    def tfo_samples(self) -> int:
        """With SYN data acked whole."""

    @property
    def normal_samples(self) -> int:
        """Without data in the SYN."""

    @property
    def sooner_us(self) -> float | None:
        """The median without, less that with Fast Open."""

    @property
    def sooner_rtts(self) -> float | None:
        """The same in median round trips."""

    @property
    def sooner_low_us(self) -> float | None:
        """Where its 95 % confidence interval begins."""

    @property
    def sooner_high_us(self) -> float | None:
        """Where it ends."""


def difference_of(
    sooner_us: float | None, sooner_rtts: float | None, low_us: float | None, high_us: float | None
) -> Difference:
    """What the medians show; NONE where nothing can be said, as in records of versions that made no interval."""
    if sooner_us is None or low_us is None or high_us is None:
        return Difference.NONE
    trips = None if sooner_rtts is None else abs(sooner_rtts)
    if low_us <= 0 <= high_us or (trips is not None and trips < LEAST):
        return Difference.NO_DIFFERENCE
    if trips is not None and trips > ABOUT_ONE:
        return Difference.MUCH_SOONER if sooner_us > 0 else Difference.MUCH_LATER
    return Difference.SOONER if sooner_us > 0 else Difference.LATER


def difference(one: Compared) -> Difference:
    """Likewise."""
    return difference_of(one.sooner_us, one.sooner_rtts, one.sooner_low_us, one.sooner_high_us)


_OTHER_REASONS = {
    Difference.NO_DIFFERENCE: ("no difference to be seen", "no difference"),
    Difference.MUCH_SOONER: (
        "more than a round trip sooner: not Fast Open's doing alone",
        "> 1 RTT sooner: not TFO alone",
        "not only TFO",
    ),
    Difference.MUCH_LATER: (
        "more than a round trip later: not Fast Open's doing",
        "> 1 RTT later: not TFO's doing",
        "not by TFO",
    ),
}


def difference_words(one: Compared, room: int = 80) -> str:
    """What Fast Open changes at a server; the longest words that fit into so many cells, or else the shortest."""
    ways = _ways_to_say(one)
    return next((way for way in ways if cells(way) <= room), ways[-1])


def _ways_to_say(one: Compared) -> Sequence[str]:
    found, sooner_us, high_us = difference(one), one.sooner_us, one.sooner_high_us
    if found in _OTHER_REASONS:
        return _OTHER_REASONS[found]
    if found is Difference.NONE or sooner_us is None or high_us is None:
        least = min(one.tfo_samples, one.normal_samples)
        if not least:
            return "no comparison yet", "-"
        return (f"too few yet: {least} of {ENOUGH}", f"{least} of {ENOUGH}") if least < ENOUGH else ("not known", "-")
    word = "sooner" if found is Difference.SOONER else "later"
    exact = with_error(sooner_us, high_us - sooner_us)
    trips = () if one.sooner_rtts is None else (f"{exact} ({abs(one.sooner_rtts):.1f} RTT) {word}",)
    return *trips, f"{exact} {word}", f"{duration(abs(sooner_us))} {word}"


def saved_words(totals: Totals, room: int = 200) -> tuple[str, str]:
    """The round trips that Fast Open saved, and what lost SYNs of its attempts cost; "" where there were none.

    Nothing is made of their difference: a SYN without Fast Open is lost as easily, and a lost one costs as much as
    thousands of round trips to a server nearby.
    """
    trips, lost = totals.tfo_lived or 0, totals.tfo_resent or 0
    gain, loss = (
        f"{count(trips)} {plural(trips, 'round trip')} saved",
        f"{count(lost)} {plural(lost, 'attempt')} lost SYNs",
    )
    saved, cost = duration(totals.rtt_saved_us), duration(totals.delay_us)
    ways = (f"{gain}, about {saved} in all", f"{loss}, which took {cost}"), (f"{gain}: {saved}", f"{loss}: {cost}")
    found = next((way for way in ways if cells("; ".join(way)) <= room), ways[-1])
    return found[0] if trips else "", found[1] if lost else ""
