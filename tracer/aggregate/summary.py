"""The summary on standard error that every run ends with: handshakes, why they failed, Fast Open, losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tracer.aggregate.aggregate import losses
from tracer.aggregate.benefit import tell
from tracer.aggregate.unread import Source, tell_not_read, tell_why_none
from tracer.aggregate.worth import saved_words
from tracer.records.interface_sums import InterfaceSums
from tracer.records.run import Balance, End, Totals
from tracer.vocabulary.causes import DROPPED, handshake_sentence, remedy, tfo_sentence
from tracer.vocabulary.fates import brief_cause, failed_words, unless_certain
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.places import MOST, at_place
from tracer.vocabulary.printable import plural
from tracer.vocabulary.vocabulary import After, HandshakeResult, Outcome, word

NAMED_SHARE = 4  # the first line names a cause of a quarter or more
TOP_CAUSES = 3  # each with what to do about it
TOP_OUTCOMES = 5
FEW = 10  # of fewer a percentage would say more than is known
_ESTABLISHED = word(HandshakeResult.ESTABLISHED)
_UNUSED = word(After.CLOSED_UNUSED)
_AS_IT_SHOULD = {word(one) for one in (After.RESPONSE, After.CLIENT_CLOSED, After.SERVER_CLOSED)}
# told by the sentence on attempts, or no outcome of any
_COUNTED = {word(one) for one in (Outcome.NOT_ATTEMPTED, Outcome.DATA_ACKED)}
_AFTERS = {
    word(After.RESPONSE): "answered",
    word(After.RESET_BY_SERVER): "reset by the server",
    word(After.RESET_BY_CLIENT): "reset by the client",
    word(After.CLIENT_CLOSED): "closed by the client",
    word(After.SERVER_CLOSED): "closed by the server",
    word(After.SYNACK_AGAIN): "sent the SYN-ACK again",
    word(After.SILENCE): "silent",
}


def summarize(
    record: End, narrate: Callable[[str], None], *, whole: bool = True, source: Source = Source.INTERFACES
) -> None:
    """Narrate the summary; not `whole`: the last balance is missing."""
    totals = record.totals
    narrate(f"{_number(totals.handshakes, 'handshake')} in {record.duration_s:.1f} s{_results(totals)}")
    if not totals.handshakes:
        tell_why_none(record, source, narrate)
    tell_not_read(record.not_read or {}, source, narrate)
    _tell_after(totals.after or {}, narrate)
    _tell_causes(totals, narrate)
    _tell_fast_open(totals, narrate)
    tell(record.benefits, narrate)
    filtered = record.counters.get("filtered")
    if filtered:
        narrate(f"{_number(filtered, 'SYN')} did not match --filter, not followed")
    _tell_interfaces(record.interfaces, narrate)
    _tell_losses(record.balance, narrate, whole=whole)


def _times(number: int) -> str:
    return {0: "never", 1: "once"}.get(number, f"{number:,} times")


def _tell_interfaces(sums: InterfaceSums | None, narrate: Callable[[str], None]) -> None:
    """Narrate what was not traced, or not for all of the time."""
    if sums is None:
        return
    if sums.removed:
        removed, again = _times(sums.removed), _times(sums.attached_again)
        narrate(f"somebody removed tfotrace's programs from an interface {removed}; they were attached again {again}")
    if sums.not_traced:
        narrate(f"{_number(sums.not_traced, 'interface')} could not be traced at the end")


def _number(number: int, thing: str) -> str:
    return f"{number:,} {plural(number, thing)}"


def _top(counts: Mapping[str, int], most: int = TOP_CAUSES) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])[:most]


# --- handshakes ---


def _results(totals: Totals) -> str:
    """How many came to what, where that failed most, and why."""
    if not totals.handshakes:
        return ""
    established = totals.results.get(_ESTABLISHED, 0)
    if established == totals.handshakes:
        return ", established" if established == 1 else ", all established"
    others = [one for one in _top(totals.results, len(totals.results)) if one[0] != _ESTABLISHED]
    first = [f"{established:,} established"] if established else []
    simple = ", ".join([*first, *(_result(totals, *one) for one in others[:1])])
    return f": {'; '.join([simple, *(_result(totals, *one) for one in others[1:])])}"


def _result(totals: Totals, name: str, count: int) -> str:
    """ "200 half open at 10.0.1.1:80, a SYN flood (likely)"."""
    words = f"{count:,} {failed_words(name)}{_at(totals, name)}"
    causes = (totals.failed_causes or {}).get(name, {})
    for cause, seen in _top(causes, 1):
        # of the others nobody may know why, such as the first ones of a flood
        if 2 * seen > sum(causes.values()) and NAMED_SHARE * seen >= count:
            mostly = "" if seen >= MOST * count else "mostly "
            words += f", {mostly}{brief_cause(cause)}{unless_certain(cause, totals.handshake_confidences)}"
    return words


def _at(totals: Totals, result: str) -> str:
    """Where a result is seen."""
    place = next((one for one in totals.failed_at or () if one.result == result), None)
    return "" if place is None else at_place(place.ip, place.port, place.handshakes, totals.results.get(result, 0))


def _tell_after(after: Mapping[str, int], narrate: Callable[[str], None]) -> None:
    """Narrate how connections went on, unless all of them went on as they should."""
    if not after.keys() - _AS_IT_SHOULD:
        return
    told = [one for one in _top(after, len(after)) if one[0] != _UNUSED]
    parts = [", ".join(f"{count:,} {_AFTERS.get(name, in_words(name))}" for name, count in told)] if told else []
    unused = after.get(_UNUSED, 0)
    if unused:
        parts.append(f"{unused:,} closed unused by the client, which is no failure")
    narrate(f"once established: {'; '.join(parts)}")


def _tell_causes(totals: Totals, narrate: Callable[[str], None]) -> None:
    """Narrate the most frequent causes of handshakes that failed or were slow."""
    sure = totals.handshake_confidences or {}
    for name, count in _top(totals.handshake_causes or {}):
        certain = name == "host_dropped" and sure.get(name) == "certain"
        words = f"{brief_cause(name)}{unless_certain(name, sure)}{_place(totals, name, count)}"
        advice = _advice(DROPPED if certain else handshake_sentence(name))
        narrate(f"cause of {_number(count, 'handshake')}: {words}. {advice}")


def _place(totals: Totals, cause: str, count: int) -> str:
    """Where a cause is seen, if those of one result are nearly all that have it, and nearly all of that result do."""
    for result, causes in (totals.failed_causes or {}).items():
        seen = causes.get(cause, 0)
        if seen >= MOST * count and seen >= MOST * totals.results.get(result, 0):
            return _at(totals, result)
    return ""


def _advice(sentence: str) -> str:
    """What to do, as a sentence of its own."""
    advice = remedy(sentence).removesuffix(".")
    return advice[:1].upper() + advice[1:]


# --- Fast Open ---


def _tell_fast_open(totals: Totals, narrate: Callable[[str], None]) -> None:
    """Narrate what came of attempts, why they did not work, and what the others saved."""
    if totals.tfo_attempts:
        narrate(f"Fast Open: {_number(totals.tfo_attempts, 'attempt')}, {_accepted(totals)}")
    elif totals.handshakes:
        narrate("Fast Open: nobody tried it")
    others = {name: count for name, count in totals.outcomes.items() if name not in _COUNTED}
    if others:
        words = (f"{in_words(name)} ({count:,})" for name, count in _top(others, TOP_OUTCOMES))
        rest = sum(others.values()) - sum(count for _, count in _top(others, TOP_OUTCOMES))
        more = f", others ({rest:,})" if rest else ""
        narrate(f"other outcomes of Fast Open: {', '.join(words)}{more}")
    for name, count in _top(totals.causes):
        # a malformed option is no attempt
        why = f"{in_words(name)}{unless_certain(name, totals.cause_confidences)}"
        narrate(f"Fast Open in {_number(count, 'handshake')}: {why}. {_advice(tfo_sentence(name))}")
    saved = "; ".join(filter(None, saved_words(totals)))
    if saved:
        narrate(saved)


def _accepted(totals: Totals) -> str:
    """How many SYNs with data worked: an ack of the data alone is no success."""
    sent, lived = totals.tfo_with_data, totals.tfo_lived or 0
    if not sent:
        return "none with data in the SYN"
    share = f" ({100 * lived / sent:.1f} %)" if sent >= FEW else ""
    only_acked = totals.tfo_accepted - lived
    was = "was" if only_acked == 1 else "were"
    dead = f", {only_acked:,} {was} accepted and then dead or silent" if only_acked else ""
    return f"of {_number(sent, 'SYN')} with data {f'{lived:,}' if lived else 'none'} worked{share}{dead}"


# --- losses ---


def _tell_losses(sheet: Balance | None, narrate: Callable[[str], None], *, whole: bool) -> None:
    """Narrate what was lost and where, or that nothing was."""
    unread = max(0, sheet.emitted - sheet.received) if sheet is not None else 0
    lost = losses(sheet) + unread if sheet is not None else 0
    if sheet is not None and lost:
        places = (
            (sheet.lost, "ring full"),
            (sheet.evicted, "table full (see --table-size)"),
            (sheet.suppressed, "unanswered above 10,000 a second"),
            (sheet.dropped, "not written"),
            (unread, "not read"),
        )
        parts = ", ".join(f"{number:,} {words}" for number, words in places if number)
        narrate(f"{_number(lost, 'handshake')} lost: {parts}")
    elif sheet is not None and whole:
        narrate("nothing lost")
    else:
        narrate("whether handshakes were lost is not known: the last balance is missing")
