"""l Listeners: one row per address and port of this host that answered; enter shows its handshakes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from tracer.aggregate.figures import Listening
from tracer.aggregate.history import Window
from tracer.filters.shown import process_text
from tracer.store.snapshot import Snapshot
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.printable import plural
from tui.actions import UNDER
from tui.format import count
from tui.lines import Part, safe
from tui.moments import window_words
from tui.screens.ranked import (
    NEVER,
    Ranked,
    RankedColumn,
    ago_column,
    cause_column,
    count_column,
    known,
    share_column,
)
from tui.widgets.row_list import ListColumn

Column = RankedColumn[Listening]


def address(one: Listening) -> str:
    """Address and port, an IPv6 address in brackets."""
    return endpoint_text(one.ip, one.port)


def _holder(one: Listening) -> str:
    return safe(process_text(one.process)) if one.process is not None else "-"


def _fast_open(one: Listening, _: int) -> Part:
    if one.fast_open is None:
        return ("-", "dim")
    return ("on", "text") if one.fast_open else ("off", "degraded")


def _fill(one: Listening) -> float:
    """A queue is full when more wait than its backlog."""
    return NEVER if one.queue is None else one.queue.queued / (one.queue.backlog + 1)


def _queue(one: Listening, _: int) -> Part:
    if one.queue is None:
        return ("-", "dim")
    return (f"{count(one.queue.queued)} of {count(one.queue.backlog)}", "failed" if _fill(one) >= 1 else "text")


_ADDRESS: Column = RankedColumn(
    ListColumn("listener", "Listener", 21, middle=True), lambda one, _: (address(one), "strong"), address, falls=False
)
_PROCESS: Column = RankedColumn(
    ListColumn("process", "Process", 22), lambda one, _: (_holder(one), "text"), _holder, falls=False
)
_SEEN: Column = count_column("handshakes", "Seen", 7, "text")
_FAILED: Column = count_column("handshakes_failed", "Failed", 6, "failed")
_LATELY: Column = count_column("failed_lately", "Lately", 6, "failed")
_CAUSE: Column = cause_column("handshakes_failed")
_ATTEMPTS: Column = count_column("attempts", "TFO", 7, "text")
_LIVED: Column = share_column("lived", "Lived", 7)
_FAST_OPEN: Column = RankedColumn(ListColumn("fast_open", "Fast Open", 9), _fast_open, known("fast_open"))
_QUEUE: Column = RankedColumn(ListColumn("queue", "Queue", 12, True), _queue, _fill)
_AGO: Column = ago_column()

BY_WIDTH: tuple[tuple[int, tuple[Column, ...]], ...] = (
    (139, (_ADDRESS, _SEEN, _FAILED, _LATELY, _ATTEMPTS, _LIVED, _FAST_OPEN, _QUEUE, _AGO, _PROCESS, _CAUSE)),
    (118, (_ADDRESS, _SEEN, _FAILED, _LATELY, _FAST_OPEN, _QUEUE, _PROCESS, _CAUSE)),
    (100, (_ADDRESS, _SEEN, _FAILED, _LATELY, _FAST_OPEN, _QUEUE, _AGO, _PROCESS)),
    (0, (_ADDRESS, _SEEN, _FAILED, _LATELY, _FAST_OPEN, _QUEUE, _PROCESS)),
)


class Listeners(Ranked[Listening]):
    """The list of listeners."""

    NAME = "listeners"
    EMPTY = "no listener of this host has answered yet"

    def columns_for(self, cells: int) -> Sequence[Column]:
        """As many as fit."""
        return next(found for least, found in BY_WIDTH if cells >= least)

    def things_of(self, snapshot: Snapshot) -> Sequence[Listening]:
        """With how many failed in the chosen window."""
        window = self.shell.window
        if window is Window.ALL:
            return [replace(one, failed_lately=one.handshakes_failed) for one in snapshot.listeners]
        failed = snapshot.history.failed_of(window)
        return [replace(one, failed_lately=failed[one.ip, one.port]) for one in snapshot.listeners]

    def words_of(self, things: Sequence[Listening], snapshot: Snapshot) -> str:
        """How many there are, and when lately was."""
        lately = window_words(self.shell.window, snapshot)
        return f"{count(len(things))} {plural(len(things), 'listener')}  ·  all handshakes, lately: {lately}"

    def key_of(self, thing: Listening) -> Hashable:
        """Address and port."""
        return thing.ip, thing.port

    def title_of(self, thing: Listening) -> str:
        """Its address."""
        return address(thing)

    def action_back(self) -> None:
        """Go to the peers."""
        self.shell.action_show(UNDER[self.NAME])

    def drill(self, thing: Listening) -> None:
        """Show its handshakes."""
        self.shell.show_handshakes_of(f"server.ip == {thing.ip} and server.port == {thing.port}")
