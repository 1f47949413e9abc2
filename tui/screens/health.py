"""5 Health: can we trust the figures, and what does the kernel say?"""

from __future__ import annotations

from collections.abc import Iterable

from textual.widget import Widget

from tracer.store.snapshot import Snapshot
from tracer.vocabulary.in_words import in_words
from tracer.vocabulary.local_time import clock
from tracer.vocabulary.meanings import COUNTERS, sysctl_meaning
from tracer.vocabulary.packets import NOT_READ, not_read
from tracer.vocabulary.printable import plural
from tracer.words.balance import BALANCE, TERMS
from tui.format import count, duration, share
from tui.lines import Line, Part, cell, cut, safe, wrap
from tui.screens.base import TracerScreen
from tui.widgets.bar import bar
from tui.widgets.panel import Panel, PanelGrid

_INTERFACES_SHOWN = 30


class Health(TracerScreen):
    """Seven panels."""

    NAME = "health"

    def __init__(self) -> None:
        super().__init__()
        self.panels = [Panel(title, id=f"health-{name}") for name, title, _ in _PANELS]
        self.rows = PanelGrid(*self.panels, id="health-grid")

    def body(self) -> Iterable[Widget]:
        """All panels in a grid."""
        yield self.rows

    def update(self, snapshot: Snapshot) -> None:
        """Update every panel."""
        self.rows.set_class(bool(not_read(snapshot.counters)), "-not-read")  # a line more in the balance sheet
        for panel, (_, _, lines) in zip(self.panels, _PANELS, strict=True):
            panel.put(lines(snapshot, panel.room[0]))


def balance_lines(snapshot: Snapshot, cells: int) -> list[Line]:
    """Every term, red if it is a loss, and whether the sheet balances; below it ring and lag."""
    sheet = snapshot.balance
    lines: list[Line] = []
    for name, meaning, is_loss in BALANCE:
        value = getattr(sheet, name)
        bad = is_loss and value
        lines.append((
            (f"{in_words(name):<11}", "strong"),
            (f"{count(value):>11}  ", "alarm" if bad else "text"),
            (cut(meaning, cells - 24), "dim"),
        ))  # fmt: skip
    carried = not_read(snapshot.counters)
    if carried:
        names = ", ".join(NOT_READ[kind].name for kind in carried)
        lines.append((
            (f"{'not read':<11}", "strong"), (f"{count(sum(carried.values())):>11}  ", "degraded"),
            (cut(f"frames inside {names}", cells - 24), "dim"),
        ))  # fmt: skip
    off = sheet.opened - sum(getattr(sheet, term) for term in TERMS)
    if off:
        lines.append(
            ((f"{count(abs(off))} {'not accounted for' if off > 0 else 'counted twice'} (in flight now)", "degraded"),)
        )
    else:
        which = "that was read " if carried else ""
        lines.append(((f"balances: every handshake {which}is accounted for", "ok"),))
    lines.append((
        ("event ring ", "dim"), *bar(snapshot.ring_fill, 1.0, 10, "failed" if snapshot.ring_fill > 0.5 else "accent"),
        (f" {share(snapshot.ring_fill, 1.0) if snapshot.ring_fill else '0 %'} waiting", "text"),
        (f", read after {duration(lag_us)}" if (lag_us := snapshot.drain_lag_us) is not None else "", "text"),
    ))  # fmt: skip
    if snapshot.table_size:
        lines.append((
            ("table      ", "dim"),
            *bar(sheet.still_open, snapshot.table_size, 10, "accent"),
            (f" {count(sheet.still_open)} of {count(snapshot.table_size)}", "text"),
        ))  # fmt: skip
    return lines


def interface_lines(snapshot: Snapshot, cells: int) -> list[Line]:
    """What is attached where, why, and which other programs are there."""
    lines: list[Line] = []
    shown = list(snapshot.interfaces)
    if len(shown) > _INTERFACES_SHOWN:  # those not traced now come first, then those with warnings
        shown = sorted(shown, key=lambda one: (one.present, not one.warnings))[:_INTERFACES_SHOWN]
    for one in shown:
        state: Part = ("attached", "ok") if one.present and snapshot.ended is None else ("not traced now", "alarm")
        if one.present and snapshot.ended is not None:
            state = ("detached", "dim")
        if snapshot.replay_of is not None:
            state = ("in the file", "dim")
        lines.append(((f"{safe(one.name)} ", "strong"), (f"({one.index}) {one.hook} ", "text"), state))
        lines.extend(wrap(safe(one.why), cells, "dim", 2))
        if one.others:
            lines.extend(wrap("also there: " + ", ".join(safe(name) for name in one.others), cells, "text", 2))
        for warning in one.warnings:
            lines.extend(wrap("! " + safe(warning), cells, "degraded", 2))
    more = len(snapshot.interfaces) - len(shown)
    if more:
        lines.append(((f"and {more:,} more {plural(more, 'interface')}; the start record (--json) has all", "dim"),))
    if snapshot.start is not None:
        lines.append((("kernel ", "dim"), (safe(snapshot.start.kernel), "text")))
        lines.append(
            (("tfotrace ", "dim"), (f"{snapshot.start.version}, transport {snapshot.start.transport}", "text"))
        )
    return lines or [(("none", "dim"),)]


def cost_lines(snapshot: Snapshot, cells: int) -> list[Line]:
    """CPU of each part over the last seconds, and run time of the kernel programs where the kernel measures it."""
    cost = snapshot.cost
    if cost is None:
        return [(("not known: recorded elsewhere" if snapshot.replay_of is not None else "not known yet", "dim"),)]
    lines: list[Line] = [(
        ("user part ", "dim"), (_of_cpu(cost.user_share), "text"), ("   root part ", "dim"),
        (_of_cpu(cost.root_share), "text"), ("   to load, once ", "dim"), (duration(cost.loading_us), "text"),
    )]  # fmt: skip
    if cost.programs is None:
        return [*lines, *wrap("kernel programs: not measured here (kernel.bpf_stats_enabled is not 1)", cells, "dim")]
    total = sum(one.share for one in cost.programs)
    single = ", ".join(
        f"{one.name} {_percent(one.share)} ({count(round(one.runs_per_s))}/s, {duration(one.ns_per_run / 1000)} each)"
        for one in sorted(cost.programs, key=lambda one: -one.share)
        if one.ns_per_run is not None
    )
    lines.append((("kernel programs ", "dim"), (_of_cpu(total), "text"), (", with those that they call", "dim")))
    return [*lines, *wrap(single, cells, "dim")]


def _of_cpu(part: float) -> str:
    """Share of one CPU: 1.0 is all of it."""
    return f"{_percent(part)} of a CPU"


def _percent(part: float) -> str:
    return f"{100 * part:.{1 if part < 0.1 else 0}f} %"


def kernel_lines(snapshot: Snapshot, cells: int) -> list[Line]:
    """The host's counters and their increase since the start."""
    host = snapshot.host
    if host is None:
        return [(("unknown here", "dim"),)]
    lines: list[Line] = []
    for name in sorted(host.counters, key=lambda one: (not one.startswith("TCPFastOpen"), one)):
        value, before = host.counters[name], host.counters_at_start.get(name, 0)
        if name.startswith("TCPACKSkipped") and not value:
            continue  # these are many, and rare
        gained = value - before
        short = name.removeprefix("TCP") if name.startswith("TCPFastOpen") else name
        lines.append((
            (cell(short, 23), "strong" if gained else "text"),
            (f"{count(value):>9} ", "text"),
            (cell(f"+{count(gained)}" if gained else "", 9), "accent"),
            (cut(COUNTERS.get(name, ""), cells - 42), "dim"),
        ))  # fmt: skip
    return lines


def sysctl_lines(snapshot: Snapshot, cells: int) -> list[Line]:
    """Important settings and the meaning of their values."""
    if snapshot.host is None:
        return [(("unknown here", "dim"),)]
    lines: list[Line] = []
    for name, value in snapshot.host.sysctls.items():
        short = name.rsplit(".", 1)[-1]
        lines.append(((f"{short} = ", "strong"), (safe(value), "text")))
        meaning = sysctl_meaning(name, value)
        if meaning:
            lines.extend(wrap(meaning, cells, "degraded" if "NOT" in meaning else "dim", 2))
    return lines


def counter_lines(snapshot: Snapshot, cells: int) -> list[Line]:
    """The programs' counters, with those at 0 in one sentence at the end."""
    lines: list[Line] = []
    for name, value in snapshot.counters.items():
        if value:
            odd = name.startswith(("malformed", "not_read")) or name in ("fragments", "payloads_lost", "lost")
            lines.append((
                (cell(_counter_name(name), 26), "text"),
                (f"{count(value):>12}", "degraded" if odd else "text"),
            ))  # fmt: skip
    zero = [_counter_name(name) for name, value in snapshot.counters.items() if not value]
    if zero:
        lines.extend(wrap(f"at 0: {', '.join(zero)}", cells, "dim"))
    return lines or [(("none yet", "dim"),)]


def _counter_name(name: str) -> str:
    kind = NOT_READ.get(name.removeprefix("not_read_"))
    return f"not read: {kind.name}" if kind is not None else in_words(name)


def notice_lines(snapshot: Snapshot, cells: int) -> list[Line]:
    """Notices, the newest first, then what this run does without."""
    lines: list[Line] = []
    for one in reversed(snapshot.notices):
        wrapped = wrap(safe(one.text), cells - 9)
        lines.append(((f"{clock(one.ts, 0)} ", "dim"), *wrapped[0]))
        lines.extend((((" " * 9), "text"), *more) for more in wrapped[1:])
    for lacking in (snapshot.start.without or ()) if snapshot.start is not None else ():
        lines.extend(wrap("! " + safe(lacking.text), cells, "degraded", 2))
    return lines or [(("none", "dim"),)]


_PANELS = (
    ("balance", "Balance sheet", balance_lines),
    ("interfaces", "Interfaces", interface_lines),
    ("notices", "Notices", notice_lines),
    ("cost", "What tracing costs now", cost_lines),
    ("kernel", "Kernel counters (TcpExt): now, since the start", kernel_lines),
    ("sysctls", "Settings of the kernel", sysctl_lines),
    ("counters", "Counters of the programs", counter_lines),
)
