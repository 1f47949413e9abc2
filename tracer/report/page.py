"""The page: verdict first, then why and what to do, plots, peers, the worst handshakes, losses."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tracer.aggregate.breaks import Broken, breaks
from tracer.aggregate.figures import Peer
from tracer.aggregate.history import HistoryView, Window
from tracer.aggregate.reasons import Reason, Trend, reasons
from tracer.aggregate.series import SeriesView
from tracer.aggregate.worth import difference_words, saved_words
from tracer.records.run import Totals
from tracer.report.handshakes import worst_handshakes
from tracer.report.html import Child, Column, Element, element, page, raw, table
from tracer.report.plots import connect_median, plots
from tracer.report.style import SHEET
from tracer.report.times import At, Span
from tracer.report.worst import Worst
from tracer.store.snapshot import Snapshot
from tracer.version import __version__
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.fates import brief_cause
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.local_time import local, zone
from tracer.vocabulary.numbers import age, count, duration, share
from tracer.vocabulary.packets import NOT_READ, not_read
from tracer.vocabulary.places import at_place
from tracer.vocabulary.printable import cut, plural
from tracer.vocabulary.vocabulary import word
from tracer.words.balance import BALANCE, TERMS
from tracer.words.reasons import told
from tracer.words.signs import group_sign
from tracer.words.verdicts import Verdict, fast_open, handshakes

REASONS = 12
BUSIEST, FAILED = 15, 10  # peers
NOTICES = 10
NAME_CELLS = 60  # of a name from the network
# no script, no address, nothing fetched, no form: a style sheet within the page is all there is
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_WORST_OF = {"failed": 2, "degraded": 1, "text": 0, "ok": 0}


@dataclass(frozen=True, slots=True)
class Source:
    """What is reported on: the files, or else the interfaces."""

    files: tuple[str, ...]


def report_page(source: Source, snapshot: Snapshot, series: SeriesView, worst: Worst) -> str:
    """The whole page as HTML."""
    history = series.history
    span = Span(history.began_ns, history.now_ns)
    title = f"TCP handshakes of {_what(source, snapshot)}"
    body = element("body", _head(title, snapshot, history, span))
    main = element("main", *_why(history, span), *_plots(series, span), *_peers(snapshot.peers))
    main.extend(worst_handshakes(worst, span, connect_median(series)))
    main.extend(_accounts(snapshot))
    main.extend(_more(source, snapshot, history))
    body.append(main)
    body.append(element("footer", element("p", f"Made by tfotrace {__version__}. ", cls="dim")))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        raw("style", SHEET),
    )
    return page(element("html", head, body, lang="en"))


def _what(source: Source, snapshot: Snapshot) -> str:
    names = tuple(map(os.path.basename, source.files)) or tuple(one.name for one in snapshot.interfaces)
    shown_names = ", ".join(cut(name, NAME_CELLS) for name in names[:5])
    return f"{shown_names} and {len(names) - 5} more" if len(names) > 5 else shown_names or "this host"


def _head(title: str, snapshot: Snapshot, history: HistoryView, span: Span) -> Element:
    totals = history.total
    found = {one.what: one for one in breaks(history)}
    when = At(span)
    verdicts: list[Verdict] = [
        fast_open(history, Window.ALL, found.get(Broken.FAST_OPEN), ended=True, when=when),
        *filter(None, [handshakes(history, Window.ALL, found.get(Broken.HANDSHAKES), when=when)]),
    ]
    if not totals.handshakes:  # a page has no screen that says what the packets were
        verdicts = [("No handshake was seen.", "text")]
    worst = max((style for _, style in verdicts), key=lambda one: (_WORST_OF[one], one == "ok"))
    box = element("section", cls=f"verdicts {worst}", aria_label="Verdict")
    box.extend(element("p", text, cls=style) for text, style in verdicts)
    figures = _figures(totals)
    if figures:
        box.append(element("p", figures, cls="dim"))
    return element(
        "header", element("h1", title), *(element("p", one, cls="dim") for one in _where(snapshot, span, totals)), box
    )


def _where(snapshot: Snapshot, span: Span, totals: Totals) -> list[str]:
    """When and where it was traced."""
    found = []
    if totals.handshakes:
        took_s = max(0, span.ended_ns - span.began_ns) // 1_000_000_000
        found.append(f"{span.whole()} ({age(took_s)})")
    if snapshot.interfaces:
        where = [f"{one.name} by {one.hook}" for one in snapshot.interfaces]
        more = f" and {len(where) - 8} more" if len(where) > 8 else ""
        found.append(f"Traced at {', '.join(where[:8])}{more}")
    if snapshot.start is not None and snapshot.start.table_size:  # else its recording has none
        start = snapshot.start
        found.append(f"by tfotrace {start.version} under Linux {start.kernel}: {cut(shlex.join(start.argv), 200)}")
    return found


def _figures(totals: Totals) -> str:
    if not totals.tfo_attempts:
        return ""
    tried = f"{count(totals.tfo_attempts)} of {count(totals.handshakes)} handshakes tried Fast Open"
    return "; ".join([tried, *filter(None, saved_words(totals))]) + "."


# --- why ---


def _why(history: HistoryView, span: Span) -> list[Element]:
    totals = history.total
    if not totals.handshakes:
        return []
    found = reasons(history, Window.ALL, REASONS, newest_first=False)
    title = element("h2", "Why, and what to do")
    if not found:
        return [title, element("p", "Nothing went wrong.")]
    return [title, element("ol", *(_reason(one, totals, span) for one in found), cls="reasons")]


def _reason(reason: Reason, totals: Totals, span: Span) -> Element:
    one = told(reason)
    where = reason.where
    place = at_place(where.ip, where.port, where.handshakes, where.of, lately=where.lately) if where else ""
    sure = _confidence(reason, totals)
    advice = one.remedy[:1].upper() + one.remedy[1:]
    trend = _trend(reason, span)
    return element(
        "li",
        element("strong", f"{group_sign(one.group)} {count(reason.seen)} {one.words}", cls=one.group),
        place, f" ({sure})" if sure else "", element("span", f" · {trend}", cls="dim") if trend else "",
        element("p", advice), element("p", "Find them: ", element("code", f"--filter-record '{one.way}'"), cls="dim"),
    )  # fmt: skip


def _confidence(reason: Reason, totals: Totals) -> str:
    """How sure the cause is where it is surest."""
    if reason.fate is not None:
        return (totals.handshake_confidences or {}).get(word(reason.fate[1]), "") if reason.fate[1] else ""
    return (totals.cause_confidences or {}).get(word(reason.cause), "") if reason.cause is not None else ""


def _trend(reason: Reason, span: Span) -> str:
    if reason.trend is Trend.RISING:
        return "▲ rising"
    if reason.trend is Trend.FALLING:
        return "▼ falling"
    if reason.trend is Trend.GONE and reason.last_s is not None:
        return f"last {At(span).at(reason.last_s)}"
    return ""


def _plots(series: SeriesView, span: Span) -> list[Element]:
    found = plots(series, span)
    if not found:
        return []
    note = "Handshakes count at the time of their first SYN."
    return [element("h2", "Over time"), element("div", *found, cls="plots"), element("p", note, cls="dim")]


# --- peers ---


def _peers(peers: Sequence[Peer]) -> list[Element]:
    found: list[Element] = []
    for role in ("server", "client"):
        of_role = sorted((one for one in peers if one.role == role), key=_busiest_first)
        if of_role:
            found.append(_peer_table(role, of_role))
    return [element("h2", "Servers and clients" if len(found) > 1 else "Servers"), *found] if found else []


def _busiest_first(one: Peer) -> tuple[int, int, str, int]:
    # not by when they were seen, which a recording tells less exactly
    return -one.handshakes, -one.handshakes_failed, one.ip, one.port or 0


@dataclass(frozen=True, slots=True)
class _PeerColumn:
    column: Column
    cell: Callable[[Peer], Child]
    of: str = ""  # only servers or clients


def _end(one: Peer) -> Element:
    name = element("span", f" {cut(one.name, NAME_CELLS)}", cls="dim") if one.name else ""
    return element("span", endpoint_text(one.ip, one.port) if one.port is not None else one.ip, name)


def _difference(one: Peer) -> str:
    return difference_words(one) if one.tfo_samples else ""


_PEER_COLUMNS = (
    _PeerColumn(Column("server"), _end, "server"),
    _PeerColumn(Column("client"), _end, "client"),
    _PeerColumn(Column("handshakes", True), lambda one: count(one.handshakes)),
    _PeerColumn(Column("failed", True), lambda one: count(one.handshakes_failed)),
    _PeerColumn(Column("mostly because"), lambda one: brief_cause(one.cause) if one.cause else ""),
    _PeerColumn(Column("SYNs with data", True), lambda one: count(one.with_data) if one.with_data else ""),
    _PeerColumn(Column("worked", True), lambda one: share(one.lived, one.with_data) if one.with_data else ""),
    _PeerColumn(Column("RTT", True), lambda one: duration(one.rtt_median_us)),
    _PeerColumn(
        Column("first byte with Fast Open"), lambda one: difference_words(one) if one.tfo_samples else "", "server"
    ),
)


def _peer_table(role: str, peers: Sequence[Peer]) -> Element:
    """The busiest, and those where most failed."""
    columns = [one for one in _PEER_COLUMNS if one.of in ("", role)]
    chosen = [*peers[:BUSIEST], *sorted(peers[BUSIEST:], key=lambda one: -one.handshakes_failed)[:FAILED]]
    shown = [one for at, one in enumerate(chosen) if at < BUSIEST or one.handshakes_failed]
    more = ""
    if len(peers) > len(shown):
        others = len(shown) - BUSIEST
        failed = f", and {others} more where most handshakes failed" if others else ""
        more = f"The busiest {BUSIEST} of {count(len(peers))}{failed}. "
    what = "; what Fast Open changes is given with its 95 % confidence interval" if role == "server" else ""
    rows = [[column.cell(one) for column in columns] for one in shown]
    return table(f"{more}RTT is a median{what}.", [one.column for one in columns], rows)


# --- is it all, and where is more ---


_BALANCE = (Column("term"), Column("handshakes", True), Column("meaning"))


def _accounts(snapshot: Snapshot) -> list[Element]:
    """The balance sheet, what was not read, and what was said during the run."""
    sheet, carried = snapshot.balance, not_read(snapshot.counters)
    off = sheet.opened - sum(getattr(sheet, term) for term in TERMS)
    lost = sum(getattr(sheet, name) for name, _, is_loss in BALANCE if is_loss)
    found: list[Element] = [element("h2", "Is anything missing?")]
    if not sheet.opened and not sheet.emitted and snapshot.counters.get("packets"):
        found.append(element("p", f"✓ Nothing: of {_packets(snapshot)} none began a handshake.", cls="ok"))
    elif not sheet.opened and not sheet.emitted:
        found.append(element("p", "There is no balance sheet: the recording has no end, or was made without one."))
    elif lost or off:
        what = f"✗ {count(lost)} {plural(lost, 'handshake')} lost" if lost else "~ Nothing was lost"
        unclear = f"; {count(abs(off))} {'not accounted for' if off > 0 else 'counted twice'}" if off else ""
        found.append(element("p", f"{what}{unclear}.", cls="failed" if lost else "degraded"))
    else:
        found.append(element("p", "✓ Nothing: every handshake that began is accounted for.", cls="ok"))
    if carried:
        names = ", ".join(f"{count(seen)} inside {NOT_READ[kind].name}" for kind, seen in carried.items())
        found.append(element("p", f"~ Frames that may hold handshakes were not read: {names}.", cls="degraded"))
    if sheet.opened or sheet.emitted:
        rows: list[list[Child]] = [
            [in_words(name), count(getattr(sheet, name)), meaning] for name, meaning, _ in BALANCE
        ]
        found.append(table("The balance sheet.", _BALANCE, rows))
    if snapshot.ended_early and snapshot.ended is not None:
        found.append(element("p", f"The run ended early: {snapshot.ended}.", cls="failed"))
    told_now = [element("li", f"{_time(one.ts)}: {cut(one.text, 300)}") for one in snapshot.notices]
    if told_now:
        found += [element("p", "Told during the run:"), element("ul", *told_now[-NOTICES:])]
    return found


def _packets(snapshot: Snapshot) -> str:
    seen = snapshot.counters["packets"]
    return f"{count(seen)} {plural(seen, 'packet')}"


def _time(ts: str) -> str:
    return f"{local(ts)[:19].replace('T', ' ')} {zone(ts)}"


def _more(source: Source, snapshot: Snapshot, history: HistoryView) -> list[Element]:
    """Command lines that say more."""
    lines: list[tuple[str, str]] = []
    if source.files:
        name = shlex.quote(source.files[0])
        lines.append((f"tfotrace replay {name}", "the dashboard over it"))
        first = next(iter(reasons(history, Window.ALL, 1, newest_first=False)), None)
        way = told(first).way if first is not None else "tfo.request != none"
        lines.append((f"tfotrace replay {name} --text --filter-record {shlex.quote(way)}", "a line for each of these"))
    elif snapshot.interfaces:
        names = shlex.join(dict.fromkeys(one.name if one.named else "any" for one in snapshot.interfaces))
        lines.append((f"sudo tfotrace {cut(names, 200)} -w events.jsonl", "trace again, and keep every handshake"))
    lines.append(("sudo tfotrace doctor", "at a server: is Fast Open on, and who listens with it"))
    rows = [element("li", element("code", line), f": {what}") for line, what in lines]
    return [element("h2", "To see more"), element("ul", *rows)]
