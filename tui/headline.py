"""The answer at the top of the overview: does Fast Open work, what does it save, what fails most?"""

from __future__ import annotations

from tracer.records.record import Totals
from tracer.store.snapshot import Snapshot
from tracer.vocabulary.vocabulary import GROUP_OF, Group, Outcome, word
from tui.format import count, duration, rate, share
from tui.lines import Line, Part, wrap
from tui.widgets.shares import died_words, outcome_words

WITH_DATA = ("cookie_and_data", "data_only", "cookie_request_and_data")


def with_data(totals: Totals) -> int:
    """The number of attempts with data in the SYN."""
    return sum(totals.requests.get(name, 0) for name in WITH_DATA)


def worst(totals: Totals) -> tuple[str, int] | None:
    """The most frequent degraded or failed outcome in words, or connections that died after a good one."""
    found = [
        (outcome_words(word(outcome)), totals.outcomes.get(word(outcome), 0))
        for outcome in Outcome
        if GROUP_OF[outcome] in (Group.DEGRADED, Group.FAILED)
    ]
    found += [(died_words(outcome), seen) for outcome, seen in (totals.died or {}).items()]
    words, seen = max(found, key=lambda item: item[1])
    return (words, seen) if seen else None


def sentence(totals: Totals, cells: int = 80, *, ended: bool = False) -> tuple[str, str]:
    """One sentence and its style."""
    if not totals.handshakes and ended:
        return "No handshake was seen. Health (5) says what the packets were.", "dim"
    if not totals.handshakes:
        return "No handshake has settled yet. Waiting for traffic.", "dim"
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
    lines = wrap(text, cells, style)[:1]
    numbers: list[Part] = [
        (f"{rate(snapshot.handshakes_per_s)} ", "strong"), ("handshakes", "dim"),
        ("   ", "text"),
        (f"{rate(snapshot.attempts_per_s)} ", "strong"), ("TFO attempts", "dim"),
        ("   ", "text"),
        (f"{count(totals.handshakes)} ", "strong"), ("seen, ", "dim"),
        (f"{count(totals.tfo_attempts)} ", "strong"), ("with TFO", "dim"),
    ]  # fmt: skip
    lines.append(tuple(numbers))
    net_style = "ok" if totals.net_saved_us > 0 else "failed" if totals.net_saved_us < 0 else "dim"
    net_word = "gained" if totals.net_saved_us >= 0 else "lost"
    saved: list[Part] = [
        ("round trips saved ", "dim"), (duration(totals.rtt_saved_us), "strong"),
        ("   fallbacks cost ", "dim"), (duration(totals.delay_us), "strong"),
        ("   net ", "dim"), (f"{duration(abs(totals.net_saved_us))} {net_word}", net_style),
    ]  # fmt: skip
    lines.append(tuple(saved))
    trouble = worst(totals)
    if trouble is not None:
        words, seen = trouble
        lines.append((("most frequent problem ", "dim"), (f"{words}, {count(seen)} times", "strong")))
    else:
        lines.append((("nothing went wrong so far", "dim"),))
    return lines
