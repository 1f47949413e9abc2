"""The summary on standard error that every run ends with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tracer.aggregate.aggregate import losses
from tracer.aggregate.benefit import tell
from tracer.aggregate.unread import Source, tell_not_read, tell_why_none
from tracer.aggregate.worth import saved_words
from tracer.records.record import End, Totals
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.causes import DROPPED, handshake_sentence, tfo_sentence
from tracer.vocabulary.fates import brief_cause
from tracer.vocabulary.printable import plural
from tracer.vocabulary.vocabulary import After, HandshakeResult, word

NAMED_SHARE = 4  # the first line names a cause of a quarter or more
TOP_CAUSES = 3  # each with what to do about it
_ESTABLISHED = word(HandshakeResult.ESTABLISHED)
_UNUSED = word(After.CLOSED_UNUSED)
_AS_IT_SHOULD = {word(one) for one in (After.RESPONSE, After.CLIENT_CLOSED, After.SERVER_CLOSED)}


def summarize(
    record: End, narrate: Callable[[str], None], *, whole: bool = True, source: Source = Source.INTERFACES
) -> None:
    """Narrate the summary; not `whole`: the last balance is missing."""
    totals, sheet = record.totals, record.balance
    attempts = f"{totals.tfo_attempts} {plural(totals.tfo_attempts, 'TFO attempt')}{_acceptance(totals)}"
    narrate(
        f"{totals.handshakes} {plural(totals.handshakes, 'handshake')}{_results(totals)} in {record.duration_s:.1f} s, "
        f"{attempts}"
    )
    if not totals.handshakes:
        tell_why_none(record, source, narrate)
    tell_not_read(record.not_read or {}, source, narrate)
    _tell_after(totals.after or {}, narrate)
    saved = "; ".join(filter(None, saved_words(totals)))
    if saved:
        narrate(saved)
    tell(record.benefits, narrate)
    failed = {name: count for name, count in totals.outcomes.items() if name not in ("not_attempted", "data_acked")}
    if failed:
        top = sorted(failed.items(), key=lambda item: -item[1])[:5]
        narrate("other outcomes: " + ", ".join(f"{name} {count}" for name, count in top))
    sure = totals.handshake_confidences or {}
    for name, count in _top(totals.handshake_causes or {}):
        narrate(f"cause of {count}: {_sure(name, sure)}. {_sentence(name, sure)}")
    for name, count in _top(totals.causes):
        narrate(f"cause of {count}: {name}. {tfo_sentence(name)}")
    filtered = record.counters.get("filtered")
    if filtered:
        narrate(f"{filtered} {plural(filtered, 'SYN')} did not match --filter, not followed")
    unread = max(0, sheet.emitted - sheet.received) if sheet is not None else 0
    lost = losses(sheet) + unread if sheet is not None else 0
    if sheet is not None and lost:
        narrate(
            f"{lost} {plural(lost, 'handshake')} lost: {sheet.lost} ring full, {sheet.evicted} table full, "
            f"{sheet.suppressed} unanswered above 10,000 a second, {sheet.dropped} not written, {unread} not read"
        )
    elif sheet is not None and whole:
        narrate("nothing lost")
    else:
        narrate("whether handshakes were lost is not known: the last balance is missing")


def _top(causes: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(causes.items(), key=lambda item: -item[1])[:TOP_CAUSES]


def _sure(words: str, confidence: Mapping[str, str], name: str | None = None) -> str:
    found = confidence.get(name or words)
    return words if found is None else f"{words} ({found})"


def _sentence(name: str, confidence: Mapping[str, str]) -> str:
    if name == "host_dropped" and confidence.get(name) == "certain":
        return DROPPED
    return handshake_sentence(name)


def _results(totals: Totals) -> str:
    """How many came to what, where that failed most, and why: nothing if all were established."""
    if not totals.results.keys() - {_ESTABLISHED}:
        return ""
    places = {one.result: one for one in totals.failed_at or ()}
    parts = []
    for name, count in sorted(totals.results.items(), key=lambda item: -item[1]):
        if name == _ESTABLISHED:
            continue
        words, place = f"{count} {name.replace('_', ' ')}", places.get(name)
        if place is not None:
            words += f" at {endpoint_text(place.ip, place.port) if place.ip is not None else f'port {place.port}'}"
        causes = (totals.failed_causes or {}).get(name, {})
        for cause, seen in _top(causes)[:1]:
            # of the others nobody may know why, such as the first ones of a flood
            if 2 * seen > sum(causes.values()) and NAMED_SHARE * seen >= count:
                words += f", {_sure(brief_cause(cause), totals.handshake_confidences or {}, cause)}"
        parts.append(words)
    established = totals.results.get(_ESTABLISHED)
    return f": {f'{established} established, ' if established else ''}{'; '.join(parts)},"


def _acceptance(totals: Totals) -> str:
    """How many SYNs with data worked: an ack of the data alone is no success."""
    sent, lived = totals.tfo_with_data, totals.tfo_lived or 0
    if not sent:
        return ""
    share, only_acked = 100 * lived / sent, totals.tfo_accepted - lived
    dead = f"; {only_acked} accepted, then dead or silent" if only_acked else ""
    return f" ({sent} with data, {share:.1f} % of these accepted and lived{dead})"


def _tell_after(after: Mapping[str, int], narrate: Callable[[str], None]) -> None:
    """Narrate how connections went on, unless all of them went on as they should."""
    unused = after.get(_UNUSED, 0)
    if not after.keys() - _AS_IT_SHOULD:
        return
    told = sorted(((name, count) for name, count in after.items() if name != _UNUSED), key=lambda item: -item[1])
    parts = [", ".join(f"{name} {count}" for name, count in told)] if told else []
    if unused:
        parts.append(f"{unused} closed unused by the client, which is no failure")
    narrate("after the handshake: " + "; ".join(parts))
