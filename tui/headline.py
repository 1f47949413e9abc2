"""The answer at the top of the overview: does Fast Open work, do handshakes succeed, and since when not?"""

from __future__ import annotations

from tracer.aggregate.breaks import Break, Broken, breaks
from tracer.aggregate.history import HistoryView, Window
from tracer.aggregate.worth import saved_words
from tracer.records.record import Totals
from tracer.store.snapshot import Snapshot
from tracer.vocabulary.fates import FAILED_WORDS, fate_words, unless_certain
from tracer.vocabulary.places import at_place
from tracer.vocabulary.printable import plural
from tui.alerts import age
from tui.format import count, rate, share
from tui.lines import Line, joined, width, wrap

WITH_DATA = ("cookie_and_data", "data_only", "cookie_request_and_data")
# of so many failed handshakes the verdict is red
_MANY = 0.05
# of fewer a share would say more than is known
_FEW = 10
Verdict = tuple[str, str]  # a sentence and its style


def with_data(totals: Totals) -> int:
    """The number of attempts with data in the SYN."""
    return sum(totals.requests.get(name, 0) for name in WITH_DATA)


def failed(totals: Totals) -> int:
    """Handshakes that were refused or never finished."""
    return sum(totals.results.get(name, 0) for name in FAILED_WORDS)


def part_of(part: int | None, whole: int, thing: str = "") -> str:
    """A share, or of few the number: "98 % of 2,204 SYNs", "none of 3 SYNs", "2 of 3 SYNs"."""
    things = f" {thing}" if thing else ""
    if whole >= _FEW:
        return f"{share(part or 0, whole)} of {count(whole)}{things}"
    return f"{part or 'none'} of {whole}{things}"


def headline_lines(snapshot: Snapshot, window: Window, cells: int, *, brief: bool = False) -> list[Line]:
    """The verdicts on Fast Open and on handshakes, whole; then the figures, in one line if `brief`."""
    totals = snapshot.history.totals(window)
    found = {one.what: one for one in breaks(snapshot.history)}
    lines: list[Line] = []
    for verdict, aside in (
        (fast_open(snapshot, window, found.get(Broken.FAST_OPEN)), in_all(snapshot, window, totals)),
        (handshakes(snapshot.history, window, found.get(Broken.HANDSHAKES)), ""),
    ):
        if verdict is not None:
            lines += _told(verdict, aside, cells)
    return lines + figure_lines(snapshot, totals, cells, brief)


def _told(verdict: Verdict, aside: str, cells: int) -> list[Line]:
    """A verdict, and behind it what comes second."""
    text, style = verdict[0], f"verdict-{verdict[1]}"
    sign = text[:2] if text[1:2] == " " else ""
    first, *more = wrap(text[len(sign) :], cells - len(sign), style)
    lines = [((sign, style), *first), *(((" " * len(sign), style), *line) for line in more)]
    longest = max(map(width, lines))
    lines = [(*line, (" " * (longest - width(line)), style)) for line in lines]
    if aside and width(lines[-1]) + len(aside) + 2 <= cells:
        lines[-1] = (*lines[-1], (f"  {aside}", "dim"))
    elif aside:
        lines += wrap(aside, cells, "dim", 2)
    return lines


def in_all(snapshot: Snapshot, window: Window, totals: Totals) -> str:
    """What the whole run says, if it is more than the window."""
    whole = snapshot.history.total
    if window is Window.ALL or whole.handshakes == totals.handshakes:
        return ""
    sent = with_data(whole)
    if not sent:
        return f"in all: {count(failed(whole))} of {count(whole.handshakes)} handshakes failed"
    return f"in all: {part_of(whole.tfo_lived, sent)}"


def fast_open(snapshot: Snapshot, window: Window, found: Break | None) -> Verdict:
    """Does Fast Open work? A break comes first, and one that is over is told while it is in the window."""
    history = snapshot.history
    totals = history.totals(window)
    if found is not None and found.over_s is None:
        worked = f"{count(found.seen - found.bad)} of the last {count(found.seen)} SYNs with data worked"
        before = part_of(found.seen_before - found.bad_before, found.seen_before)
        verb = "broke" if 2 * found.bad > found.seen else "got worse"
        return f"✗ Fast Open {verb} {age(found.since_s)} ago: {worked}; before {before}.", "failed"
    text, style = sentence(totals, ended=snapshot.ended is not None)
    if not totals.handshakes and history.total.handshakes:
        text = f"No handshake within the last {window.value}."
    if found is None or found.over_s is None or found.over_s >= (window.seconds or 3600):
        return text, style
    since = history.totals_of_last(found.over_s + 1)
    lived, sent = since.tfo_lived or 0, with_data(since)
    spell = f"it failed for {age(found.since_s - found.over_s)} until {age(found.over_s)} ago"
    if lived >= 0.95 * sent > 0:
        return f"✓ Fast Open works again: {part_of(lived, sent, _sent(sent))}; {spell}.", "ok"
    return f"{text.removesuffix('.')}; {spell}.", style


def handshakes(history: HistoryView, window: Window, found: Break | None) -> Verdict | None:
    """Do handshakes succeed? None if there are none."""
    totals = history.totals(window)
    if found is not None and found.over_s is None:
        now = f"{count(found.bad)} of the last {count(found.seen)}"
        before = f"before {part_of(found.bad_before, found.seen_before)}"
        words, many = worst_fate(found.totals)
        most = f"most are {words}" if 2 * many > found.bad else f"{count(many)} are {words}"
        return f"✗ Handshakes began to fail {age(found.since_s)} ago: {now}, {before}; {most}.", "failed"
    if not totals.handshakes:
        return None
    spell = ""
    if found is not None and found.over_s is not None and found.over_s < (window.seconds or 3600):
        spell = (
            f" For {age(found.since_s - found.over_s)} until {age(found.over_s)} ago {count(found.bad)} of "
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
    sent = with_data(totals)
    if not sent:
        granted = totals.outcomes.get("cookie_granted", 0)
        if granted:
            return "Clients get cookies; no SYN with data has been sent yet, so nothing is saved yet.", "text"
        return "Clients ask for cookies and get none: Fast Open does not work here.", "failed"
    ratio = (totals.tfo_lived or 0) / sent
    if ratio >= 0.95:
        return f"✓ Fast Open works: {_numbers(totals, sent)}", "ok"
    if ratio >= 0.5:
        return f"~ Fast Open works for most: {_numbers(totals, sent)}", "degraded"
    if totals.tfo_lived:
        return f"~ Fast Open works for few: {_numbers(totals, sent)}", "degraded"
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


def figure_lines(snapshot: Snapshot, totals: Totals, cells: int, brief: bool) -> list[Line]:
    """How many handshakes, how often, and the time saved: in one line if there is room or `brief`, which drops it."""
    numbers: Line = (
        (f"{count(totals.handshakes)} ", "text"), (f"{plural(totals.handshakes, 'handshake')}, ", "dim"),
        (f"{count(totals.tfo_attempts)} ", "text"), ("with TFO", "dim"),
    )  # fmt: skip
    rates: Line = (
        ("now ", "dim"), (rate(snapshot.handshakes_per_s), "text"), (", ", "dim"),
        (f"{rate(snapshot.attempts_per_s)} ", "text"), ("with TFO", "dim"),
    )  # fmt: skip
    both = joined((numbers, rates))
    numbers = both if width(both) <= cells and not snapshot.at_rest else numbers
    if not totals.handshakes:
        return []
    if not totals.tfo_attempts:
        return [numbers]
    gain, loss = saved_words(totals, cells)
    saved: Line = ((gain or "no round trip saved", "text" if gain else "dim"),)
    if loss:
        saved = (*saved, ("; ", "dim"), (loss, "text"))
    both = joined((numbers, saved))
    if width(both) <= cells:
        return [both]
    return [numbers] if brief or width(saved) > cells else [numbers, saved]
