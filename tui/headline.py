"""The answer at the top of the overview: does Fast Open work, what does it save, what fails most?"""

from __future__ import annotations

from tracer.aggregate.worth import saved_words
from tracer.records.record import Totals
from tracer.store.snapshot import Snapshot
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.fates import FAILED_WORDS, brief_cause, failed_words
from tracer.vocabulary.printable import plural
from tracer.vocabulary.vocabulary import GROUP_OF, Group, Outcome, word
from tui.format import count, rate, share
from tui.lines import Line, Part, cut, verdict_style, wrap
from tui.widgets.shares import died_words, outcome_words

WITH_DATA = ("cookie_and_data", "data_only", "cookie_request_and_data")


def with_data(totals: Totals) -> int:
    """The number of attempts with data in the SYN."""
    return sum(totals.requests.get(name, 0) for name in WITH_DATA)


def failed(totals: Totals) -> int:
    """Handshakes that were refused or never finished."""
    return sum(totals.results.get(name, 0) for name in FAILED_WORDS)


def worst(totals: Totals) -> tuple[str, int] | None:
    """What is most frequent: a way in which handshakes failed, a degraded or failed outcome, a death afterwards."""
    found = [_worst_fate(totals)]
    found += [
        (outcome_words(word(outcome)), totals.outcomes.get(word(outcome), 0))
        for outcome in Outcome
        if GROUP_OF[outcome] in (Group.DEGRADED, Group.FAILED)
    ]
    found += [(died_words(outcome), seen) for outcome, seen in (totals.died or {}).items()]
    words, seen = max(found, key=lambda item: item[1])
    return (words, seen) if seen else None


def _worst_fate(totals: Totals) -> tuple[str, int]:
    """The result that is most frequent among those that failed, where, and why."""
    result = max(FAILED_WORDS, key=lambda name: totals.results.get(name, 0))
    seen = totals.results.get(result, 0)
    place = next((one for one in totals.failed_at or () if one.result == result), None)
    where = f" at {endpoint_text(place.ip, place.port) if place.ip else f'port {place.port}'}" if place else ""
    causes = (totals.failed_causes or {}).get(result, {})
    cause = max(causes, key=lambda name: causes[name], default=None)
    if cause is None or 2 * causes[cause] <= seen:
        return f"{failed_words(result)}{where}", seen
    return f"{failed_words(result)}{where}, {brief_cause(cause)}", seen


def sentence(totals: Totals, cells: int = 80, *, ended: bool = False) -> tuple[str, str]:
    """One sentence and its style."""
    if not totals.handshakes and ended:
        return "No handshake was seen. Health (5) says what the packets were.", "dim"
    if not totals.handshakes:
        return "No handshake has settled yet. Waiting for traffic.", "dim"
    if not totals.tfo_attempts and failed(totals):
        number = f"{count(failed(totals))} of {count(totals.handshakes)} handshakes failed"
        return f"✗ {number}. Nobody tries Fast Open.", "failed"
    if not totals.tfo_attempts:
        return "Nobody tries Fast Open: no SYN carried the option or data.", "dim"
    sent = with_data(totals)
    if not sent:
        granted = totals.outcomes.get("cookie_granted", 0)
        if granted:
            return "Clients get cookies; no SYN with data has been sent yet, so nothing is saved yet.", "text"
        return "Clients ask for cookies and get none: Fast Open does not work here.", "failed"
    ratio = (totals.tfo_lived or 0) / sent
    if ratio >= 0.95:
        return f"✓ Fast Open works: {_numbers(totals, sent, cells - 20)}", "ok"
    if ratio >= 0.5:
        return f"~ Fast Open works for most: {_numbers(totals, sent, cells - 28)}", "degraded"
    if totals.tfo_lived:
        return f"~ Fast Open works for few: {_numbers(totals, sent, cells - 27)}", "degraded"
    return f"✗ Fast Open does not work: {_numbers(totals, sent, cells - 27)}", "failed"


def _numbers(totals: Totals, sent: int, cells: int) -> str:
    """The share of SYNs with data that worked, and that of those which the server acked, if it is another."""
    lived = totals.tfo_lived or 0
    worked = f"{share(lived, sent)} of {count(sent)} SYNs with data"
    if lived == totals.tfo_accepted:
        return f"{worked} accepted."
    both = f"{worked}, {share(totals.tfo_accepted, sent)} acked."
    return both if len(both) <= cells else f"{worked}."


def headline_lines(snapshot: Snapshot, cells: int) -> list[Line]:
    """Four lines: the answer, the rates, the time saved, the most frequent problem."""
    totals = snapshot.totals
    text, style = sentence(totals, cells, ended=snapshot.ended is not None)
    lines = wrap(text, cells, verdict_style(style))[:1]
    numbers: list[Part] = [
        (f"{count(totals.handshakes)} ", "strong"), ("handshakes, ", "dim"),
        (f"{count(failed(totals))} failed", "failed" if failed(totals) else "dim"), (", ", "dim"),
        (f"{count(totals.tfo_attempts)} ", "strong"), ("with TFO   ", "dim"),
        (rate(snapshot.handshakes_per_s), "strong"), (", ", "dim"),
        (f"{rate(snapshot.attempts_per_s)} ", "strong"), ("with TFO", "dim"),
    ]  # fmt: skip
    lines.append(tuple(numbers))
    gain, loss = saved_words(totals, cells)
    saved: list[Part] = [(gain or "no round trip saved so far", "ok" if gain else "dim")]
    if loss:
        saved += [("; ", "dim"), (loss, "degraded")]
    lines.append(tuple(saved))
    trouble = worst(totals)
    if trouble is not None:
        words, seen = trouble
        title, often = "most frequent problem ", f", {count(seen)} {plural(seen, 'time')}"
        lines.append(((title, "dim"), (cut(words, cells - len(title) - len(often)) + often, "strong")))
    else:
        lines.append((("nothing went wrong so far", "dim"),))
    return lines
