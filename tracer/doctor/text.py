"""The report as text: five questions, their findings, the commands that would fix them, and the sum of those."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from tracer.doctor.model import Level, Listener, Report, Topic, to_do
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.printable import printable

_QUESTIONS = {
    Topic.TRACING: "Can I trace here?",
    Topic.SETTINGS: "Is Fast Open on?",
    Topic.LISTENERS: "Which listeners use it?",
    Topic.COOKIES: "Which servers gave this host a cookie?",
    Topic.COUNTERS: "What do the counters say?",
}
# SGR codes; colour never carries meaning alone, the words are there too
_COLOURS = {Level.OK: "32", Level.WARNING: "33", Level.PROBLEM: "1;31", Level.UNKNOWN: "35"}
_WORD = 9
_WIDTH = 100
_LISTENERS_SHOWN = 60


def lines(report: Report, colour: bool = False) -> Iterator[str]:
    """The whole report, line by line. Names of programs and interfaces are made safe to print."""
    for topic, question in _QUESTIONS.items():
        yield question
        for finding in report.findings:
            if finding.topic is topic:
                yield from _indented(finding.text, _marked(finding.level, colour))
                if finding.command is not None:
                    yield f"{' ' * (_WORD + 4)}> {printable(finding.command)}"
        if topic is Topic.LISTENERS and report.listeners:
            yield from _table(report.listeners)
        yield ""
    command = to_do(report.findings)
    if command is not None:
        yield f"to do: {printable(command)}"
        if any(
            one.topic is Topic.SETTINGS and one.level is Level.WARNING and not one.command for one in report.findings
        ):
            yield "then decide on the warnings above that have no command"
    yield _sum(report)


def _marked(level: Level, colour: bool) -> str:
    word = f"{level.value:{_WORD}}"
    return f"  \x1b[{_COLOURS[level]}m{word}\x1b[0m" if colour and level in _COLOURS else f"  {word}"


def _indented(text: str, mark: str) -> Iterator[str]:
    # wrap sentences between words, never commands
    folded = textwrap.wrap(printable(text), _WIDTH - _WORD - 2, break_long_words=False, break_on_hyphens=False)
    for number, line in enumerate(folded):
        yield (mark if number == 0 else " " * (_WORD + 2)) + line


def _table(listeners: tuple[Listener, ...]) -> Iterator[str]:
    same: dict[tuple[str, str, str], int] = {}
    for item in listeners:
        row = (endpoint_text(item.ip, item.port), _holders(item), _fast_open(item))
        same[row] = same.get(row, 0) + 1  # SO_REUSEPORT: many sockets at one address
    rows = [("LISTENS AT", "PROCESS", "FAST OPEN")]
    rows += [(f"{place} ({n} sockets)" if n > 1 else place, who, how) for (place, who, how), n in same.items()]
    shown = rows[: _LISTENERS_SHOWN + 1]
    widths = [max(len(row[column]) for row in shown) for column in (0, 1)]
    for place, who, how in shown:
        yield f"    {place:{widths[0]}}  {who:{widths[1]}}  {how}"
    if len(rows) > len(shown):
        yield f"    and {len(rows) - len(shown)} more (--json has them all)"


def _holders(item: Listener) -> str:
    if not item.processes:
        return f"? (user {item.uid})"
    first = item.processes[0]
    more = f" +{len(item.processes) - 1}" if len(item.processes) > 1 else ""
    return printable(f"{first.name} ({first.pid}{more})")


def _fast_open(item: Listener) -> str:
    if item.fast_open is None:
        return "unknown"
    if not item.fast_open:
        return "no"
    words = f"queue {item.queue}"
    if item.own_keys:
        words += ", a key of its own" if item.own_keys == 1 else ", a key and backup key of its own"
    return f"{words}, no cookie needed" if item.no_cookie else words


def _sum(report: Report) -> str:
    counts = {level: sum(finding.level is level for finding in report.findings) for level in Level}
    words = [
        f"{counts[level]} {word}{'' if counts[level] == 1 else 's'}"
        for level, word in ((Level.PROBLEM, "problem"), (Level.WARNING, "warning"))
    ]
    if counts[Level.UNKNOWN]:
        words.append(f"{counts[Level.UNKNOWN]} unknown")
    return ", ".join(words) + "; doctor changed nothing"
