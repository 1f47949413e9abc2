"""Verdicts: does Fast Open work, do handshakes succeed, and since when not?"""

from __future__ import annotations

from tracer.aggregate.breaks import Break
from tracer.aggregate.history import HistoryView, Window
from tracer.records.run import Totals
from tracer.vocabulary.fates import FAILED_WORDS, fate_words, unless_certain
from tracer.vocabulary.numbers import age, count, share
from tracer.vocabulary.places import at_place
from tracer.vocabulary.printable import plural

# of so many failed handshakes the verdict is red
_MANY = 0.05
# of fewer a share would say more than is known
_FEW = 10
Verdict = tuple[str, str]  # a sentence and its group: ok, degraded, failed; text where there is nothing to judge


class Ago:
    """Says when something was as long before the newest moment; a report says the time of day instead."""

    def at(self, seconds: int) -> str:
        """To stand behind what happened then."""
        return f"{age(seconds)} ago"

    def until(self, seconds: int) -> str:
        """Likewise behind what went on until then."""
        return f"until {age(seconds)} ago"


AGO = Ago()


def failed(totals: Totals) -> int:
    """Handshakes that were refused or never finished."""
    return sum(totals.results.get(name, 0) for name in FAILED_WORDS)


def part_of(part: int | None, whole: int, thing: str = "") -> str:
    """A share, or of few the number: "98 % of 2,204 SYNs", "none of 3 SYNs", "2 of 3 SYNs"."""
    things = f" {thing}" if thing else ""
    if whole >= _FEW:
        return f"{share(part or 0, whole)} of {count(whole)}{things}"
    return f"{part or 'none'} of {whole}{things}"


def fast_open(
    history: HistoryView, window: Window, found: Break | None, *, ended: bool = False, when: Ago = AGO
) -> Verdict:
    """Does Fast Open work? A break comes first, and one that is over is told while it is in the window."""
    totals = history.totals(window)
    if found is not None and found.over_s is None:
        worked = f"{count(found.seen - found.bad)} of the last {count(found.seen)} SYNs with data worked"
        before = part_of(found.seen_before - found.bad_before, found.seen_before)
        if found.quiet:
            worked = (
                f"it worked in {count(found.seen - found.bad)} of the last {count(found.seen)} handshakes of clients "
                "for which it had worked"
            )
            stopped = f"~ Fast Open seems to have stopped working {when.at(found.since_s)}"
            return f"{stopped}: {worked}; before in {before}.", "degraded"
        verb = "broke" if 2 * found.bad > found.seen else "got worse"
        return f"✗ Fast Open {verb} {when.at(found.since_s)}: {worked}; before {before}.", "failed"
    text, style = sentence(totals, ended=ended)
    if not totals.handshakes and history.total.handshakes:
        text = f"No handshake within the last {window.value}."
    if found is None or found.over_s is None or found.over_s >= (window.seconds or history.reach_s):
        return text, style
    since = history.totals_of_last(found.over_s + 1)
    lived, sent = since.tfo_lived or 0, since.tfo_with_data
    ended_so = "did not work" if found.quiet else "failed"
    spell = f"it {ended_so} for {age(found.since_s - found.over_s)} {when.until(found.over_s)}"
    if lived >= 0.95 * sent > 0:
        return f"✓ Fast Open works again: {part_of(lived, sent, _sent(sent))}; {spell}.", "ok"
    return f"{text.removesuffix('.')}; {spell}.", style


def handshakes(history: HistoryView, window: Window, found: Break | None, *, when: Ago = AGO) -> Verdict | None:
    """Do handshakes succeed? None if there are none."""
    totals = history.totals(window)
    if found is not None and found.over_s is None:
        now = f"{count(found.bad)} of the last {count(found.seen)}"
        before = f"before {part_of(found.bad_before, found.seen_before)}"
        words, many = worst_fate(found.totals)
        most = f"most are {words}" if 2 * many > found.bad else f"{count(many)} are {words}"
        return f"✗ Handshakes began to fail {when.at(found.since_s)}: {now}, {before}; {most}.", "failed"
    if not totals.handshakes:
        return None
    spell = ""
    if found is not None and found.over_s is not None and found.over_s < (window.seconds or history.reach_s):
        spell = (
            f" For {age(found.since_s - found.over_s)} {when.until(found.over_s)} {count(found.bad)} of "
            f"{count(found.seen)} failed."
        )
    bad = failed(totals)
    of = f"{count(totals.handshakes)} {plural(totals.handshakes, 'handshake')}"
    if not bad:
        return f"✓ No handshake failed, of {count(totals.handshakes)}.", "ok"
    words, seen = worst_fate(totals)
    most = words if seen == bad else f"{count(seen)} of them {words}"
    many = bad >= _MANY * totals.handshakes and not spell
    return f"{'✗' if many else '~'} {count(bad)} of {of} failed: {most}.{spell}", "failed" if many else "degraded"


def worst_fate(totals: Totals) -> tuple[str, int]:
    """How most of those failed that did: "refused, nobody listens at 192.0.2.1:443", and how many did so.

    Where more than half of a result have one cause it is told, with their number.
    """
    result = max(FAILED_WORDS, key=lambda name: totals.results.get(name, 0))
    seen = totals.results.get(result, 0)
    place = next((one for one in totals.failed_at or () if one.result == result), None)
    where = at_place(place.ip, place.port, place.handshakes, seen) if place else ""
    causes = (totals.failed_causes or {}).get(result, {})
    cause = max(causes, key=lambda name: causes[name], default=None)
    if cause is not None and 2 * causes[cause] <= seen:
        cause = None
    words = fate_words(result, cause).replace(": ", ", ", 1) + unless_certain(cause, totals.handshake_confidences)
    return words + where, causes[cause] if cause is not None else seen


def sentence(totals: Totals, *, ended: bool = False) -> Verdict:
    """What totals say of Fast Open."""
    if not totals.handshakes and ended:
        return "No handshake was seen. Health (5) says what the packets were.", "text"
    if not totals.handshakes:
        return "No handshake has settled yet. Waiting for traffic.", "text"
    if not totals.tfo_attempts:
        return "Nobody tries Fast Open: no SYN carried the option or data.", "text"
    sent = totals.tfo_with_data
    if not sent:
        granted = totals.outcomes.get("cookie_granted", 0)
        if granted:
            return "Clients get cookies; no SYN with data has been sent yet, so nothing is saved yet.", "text"
        return "Clients ask for cookies and get none: Fast Open does not work here.", "failed"
    ratio = (totals.tfo_lived or 0) / sent
    if ratio >= 0.95:
        return f"✓ Fast Open works: {_numbers(totals, sent)}", "ok"
    if totals.tfo_lived:
        often = "most" if ratio > 0.5 else "half" if ratio == 0.5 else "some"
        return f"~ Fast Open works for {often}: {_numbers(totals, sent)}", "degraded"
    return f"✗ Fast Open does not work: {_numbers(totals, sent)}", "failed"


def _numbers(totals: Totals, sent: int) -> str:
    """The share of SYNs with data that worked, and that of those which the server acked, if it is another."""
    lived = totals.tfo_lived or 0
    worked = part_of(lived, sent, _sent(sent))
    if lived == totals.tfo_accepted:
        return f"{worked} accepted."
    acked = share(totals.tfo_accepted, sent) if sent >= _FEW else totals.tfo_accepted or "none"
    return f"{worked}, {acked} acked."


def _sent(number: int) -> str:
    return f"{plural(number, 'SYN')} with data"
