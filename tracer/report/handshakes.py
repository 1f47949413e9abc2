"""Single handshakes: verdict, what it means, and the ladder of the dashboard's detail screen as text."""

from __future__ import annotations

from tracer.records import fate
from tracer.records.record import Handshake
from tracer.records.server_name import server_name
from tracer.report.html import Element, element, lines
from tracer.report.times import Span
from tracer.report.worst import Worst
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.meanings import SETTLED
from tracer.vocabulary.numbers import count, duration
from tracer.vocabulary.printable import cut
from tracer.words.handshake import verdict
from tracer.words.ladder import ladder_lines
from tracer.words.signs import GROUP_SIGN

KINDS = 10
DOUBLE = 5  # so many kinds have two, if they were at several servers
SLOW = 4  # medians
LADDER_CELLS = 96  # a page has more room than a terminal: what the kernel says is not cut
_NAME_CELLS = 60


def worst_handshakes(worst: Worst, span: Span, median_us: float) -> list[Element]:
    """Of each kind one or two, those that failed first; then the slowest, if they are slow: see the median."""
    articles: list[Element] = []
    kinds = sorted(worst.kinds(), key=lambda one: fate.standing(one.shown[0]) != "failed")
    for at, kind in enumerate(kinds[:KINDS]):
        which = f"one of {count(kind.seen)} of its kind" if kind.seen > 1 else "the only one of its kind"
        articles += [_article(record, which, span) for record in kind.shown[: 2 if at < DOUBLE else 1]]
    slow = [one for one in worst.slowest() if (one.handshake.connect_us or 0) >= SLOW * median_us]
    articles += [_article(one, "one of the slowest", span) for one in slow]
    return [element("h2", "One by one"), *articles] if articles else []


def _article(record: Handshake, which: str, span: Span) -> Element:
    name = cut(server_name(record) or _http_host(record), _NAME_CELLS)
    client, server = (endpoint_text(one.ip, one.port) for one in (record.client, record.server))
    took = record.handshake.connect_us
    facts = [
        f"{client} to {server}{f' ({name})' if name else ''}",
        span.moment(record.ts),
        *([f"connected after {duration(took)}"] if took is not None else []),
        *([SETTLED[record.handshake.settled_by]] if fate.was_cut_short(record.handshake) else []),
        which,
        f"id {record.id}",
    ]
    (first, style), *others = verdict(record)
    ladder = ["".join(text for text, _ in line).rstrip() for line in ladder_lines(record, LADDER_CELLS)]
    return element(
        "article",
        element("h3", first, cls=style),
        element("p", " · ".join(facts), cls="dim"),
        *(element("p", text, cls=style if style in GROUP_SIGN else "text") for text, style in others),
        lines("pre", ladder),
    )


def _http_host(record: Handshake) -> str:
    """The host that HTTP data in the SYN names."""
    return (record.http.host or "") if record.http is not None else ""
