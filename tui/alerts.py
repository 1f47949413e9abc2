"""What must be seen on every screen at once: something that worked has begun to fail. In words."""

from __future__ import annotations

from collections import Counter

from rich.cells import cell_len

from tracer.aggregate.breaks import Break, Broken, breaks
from tracer.store.snapshot import Snapshot
from tracer.vocabulary.fates import brief_cause, unless_certain
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.places import at_place
from tui.format import age, count, share

_WHAT = {Broken.FAST_OPEN: "Fast Open", Broken.HANDSHAKES: "Handshakes"}
_OF = {Broken.FAST_OPEN: "SYNs with data", Broken.HANDSHAKES: "handshakes"}


def _forms(one: Break) -> tuple[str, ...]:
    """What broke, when, how far, and why, where most of it has one cause: the longest form first."""
    verb = "has" if one.what is Broken.FAST_OPEN else "have"
    began = f"{_WHAT[one.what]} {verb} been failing for {age(one.since_s)}: {count(one.bad)} of {count(one.seen)}"
    briefly, of = f"{_WHAT[one.what]} {verb} begun to fail", f" {_OF[one.what]}"
    if one.quiet:  # nothing fails: clients may have changed their mind
        briefly, of = f"{_WHAT[one.what]} seems to have stopped working", ", of clients for which it had worked"
        began = f"{briefly} {age(one.since_s)} ago: {count(one.bad)} of {count(one.seen)} without it"
    before = f"{share(one.bad_before, one.seen_before)} before"
    why, place = _why(one)
    return (
        f"{began}{of}, {before}{why}{place}",
        f"{began}{why}{place}",
        f"{began}{why}",
        began,
        briefly,
    )


def _why(one: Break) -> tuple[str, str]:
    """The cause of more than half, and where."""
    causes = Counter(one.totals.causes if one.what is Broken.FAST_OPEN else {})
    if one.what is Broken.HANDSHAKES:
        for of in (one.totals.failed_causes or {}).values():
            causes.update(of)
    if not causes or 2 * max(causes.values()) <= one.bad:
        return "", ""
    ((cause, _),) = causes.most_common(1)
    if one.what is Broken.FAST_OPEN:
        return f": {in_words(cause)}{unless_certain(cause, one.totals.cause_confidences)}", ""
    words = brief_cause(cause) + unless_certain(cause, one.totals.handshake_confidences)
    place = max(one.totals.failed_at or (), key=lambda at: at.handshakes, default=None)
    if place is None:
        return f": {words}", ""
    return f": {words}", at_place(place.ip, place.port, place.handshakes, one.bad)


def alerts(snapshot: Snapshot, cells: int = 400) -> list[str]:
    """All breaks that go on, in lines of so many cells: in one, or in shorter words, or a line for each."""
    found = [_forms(one) for one in breaks(snapshot.history) if one.over_s is None]
    if not found:
        return []
    whole = ["  ".join(forms) for forms in zip(*(forms[:2] for forms in found), strict=True)]
    fits = next((text for text in whole if cell_len(text) <= cells), None)
    if fits is not None:
        return [fits]
    return [next((text for text in forms if cell_len(text) <= cells), forms[-1]) for forms in found]
