"""The summary on standard error that every run ends with."""

from __future__ import annotations

from collections.abc import Callable

from tracer.aggregate.aggregate import losses
from tracer.aggregate.benefit import tell
from tracer.records.record import End
from tracer.vocabulary.causes import CAUSES
from tracer.vocabulary.printable import plural

TOP_CAUSES = 3  # each with what to do about it


def summarize(record: End, narrate: Callable[[str], None], *, whole: bool = True) -> None:
    """Narrate the summary; not `whole`: the last balance is missing."""
    totals, sheet = record.totals, record.balance
    accepted = ""
    if totals.tfo_with_data:
        share = 100 * totals.tfo_accepted / totals.tfo_with_data
        accepted = f" ({totals.tfo_with_data} with data, {share:.1f} % of these accepted)"
    attempts = f"{totals.tfo_attempts} {plural(totals.tfo_attempts, 'TFO attempt')}{accepted}"
    narrate(
        f"{totals.handshakes} {plural(totals.handshakes, 'handshake')} in {record.duration_s:.1f} s, {attempts}, "
        f"net time saved {totals.net_saved_us / 1000:.1f} ms"
    )
    tell(record.benefits, narrate)
    failed = {name: count for name, count in totals.outcomes.items() if name not in ("not_attempted", "data_acked")}
    if failed:
        top = sorted(failed.items(), key=lambda item: -item[1])[:5]
        narrate("other outcomes: " + ", ".join(f"{name} {count}" for name, count in top))
    for name, count in sorted(totals.causes.items(), key=lambda item: -item[1])[:TOP_CAUSES]:
        narrate(f"cause of {count}: {name}. {CAUSES[name]}")
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
