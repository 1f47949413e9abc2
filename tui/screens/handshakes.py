"""2 Handshakes: one row per handshake; sort, filter, choose columns, open one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tracer.aggregate.figures import Peer
from tracer.aggregate.worth import difference_words
from tracer.filters.fields import Field
from tracer.linux import allocator
from tracer.records.record import Handshake
from tracer.store.list_columns import COLUMNS
from tracer.store.snapshot import Snapshot
from tracer.vocabulary.printable import plural
from tui.export import export_path, json_text, write_export
from tui.filtering import Filter
from tui.format import count
from tui.handshake_rows import PAGE, HandshakeRows, default_columns, list_column
from tui.lines import cut
from tui.order import BY_TIME, Order, Place, Timeline, arrange, is_cheap
from tui.screens.base import TracerScreen
from tui.seen import seen_values
from tui.widgets.chooser import Chooser
from tui.widgets.filter_line import FilterLine
from tui.widgets.row_list import RowList

NO_ROWS = "no handshake to show"
REORDER_S = 0.5  # remake a sorted or filtered list at most this often


@dataclass(frozen=True, slots=True)
class _Way:
    """The screen that asked for what is listed, and what the list showed before."""

    screen: str
    filter_text: str
    following: bool
    place: Place | None


class Handshakes(TracerScreen):
    """The live list."""

    NAME = "handshakes"
    AUTO_FOCUS = "RowList"

    def __init__(self, filter_text: str = "") -> None:
        """Start with this filter, which must be valid; the user can change and drop it."""
        super().__init__()
        self._first_filter = filter_text
        self.list = RowList(empty=NO_ROWS, id="handshake-list")
        self.filter_line = FilterLine(self._values)
        self.state = Static("", id="list-state")
        self.source = HandshakeRows()
        self.sort, self.descending = BY_TIME, True
        self.following = True
        self.condition: Filter | None = None
        self.filter_text = ""
        self._entered: tuple[str, Filter | None] = ("", None)  # the filter that was there before somebody typed
        self.chosen: tuple[str, ...] = ()
        self._timeline = Timeline()
        self._place: Place | None = None  # what the user looks at: it comes back when it is shown again
        self._shown_of: tuple[object, ...] = ()
        self._ordering = False
        self._ordered_at = 0.0
        self._peer: tuple[str, Peer] | None = None  # the filter that shows one peer's handshakes, and the peer
        self._way: _Way | None = None
        self._state_cells = 0  # the width that the state was cut for

    def body(self) -> Iterable[Widget]:
        """State, filter, list."""
        yield self.state
        yield self.filter_line
        yield self.list

    def on_mount(self) -> None:
        """Set the first filter."""
        if self._first_filter:
            self.filter_line.set_text(self._first_filter)

    def leave(self) -> None:
        """Release all rows, since the store may drop them, and what sorts and filters have cached of them."""
        if self.snapshot is not None:
            self.snapshot.rows.forget()
        super().leave()
        self.source.order = None
        self._shown_of = ()
        self._way = None
        self.list.empty = ""  # until it is shown again

    # what is shown

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return self.chosen or default_columns(self.size.width)

    def update(self, snapshot: Snapshot) -> None:
        """Show new rows, or the rows in a new way."""
        if self.columns != self.source.columns or self.list.widths != self.source.widths:
            self._columns_changed()
        rows = snapshot.rows
        wanted = (rows.first, len(rows), self.condition, self.sort, self.descending)
        if wanted == self._shown_of:
            if self._state_cells != self.size.width:
                self._say_state()
            return
        if is_cheap(self.condition, self.sort):
            self._take(arrange(rows, None, self.sort, self.descending, self._timeline), wanted)
        elif not self._ordering:
            same_way = wanted[2:] == self._shown_of[2:]
            if not same_way or time.monotonic() - self._ordered_at >= REORDER_S:
                self._ordering = True
                self.run_worker(self._reorder(snapshot, wanted), group="order", exit_on_error=True)

    async def _reorder(self, snapshot: Snapshot, wanted: tuple[object, ...]) -> None:
        condition, sort, descending = self.condition, self.sort, self.descending
        try:
            order = await asyncio.to_thread(arrange, snapshot.rows, condition, sort, descending, self._timeline)
        finally:
            self._ordering = False
            self._ordered_at = time.monotonic()
        if self.snapshot is None:  # left meanwhile
            snapshot.rows.forget()
            return
        if (condition, sort, descending) == (self.condition, self.sort, self.descending):
            is_new = wanted[2:] != self._shown_of[2:]
            self._take(order, wanted)
            if is_new:  # what was sorted by before is free now, in many pieces
                await asyncio.to_thread(allocator.give_back)
        else:
            self.update(self.snapshot)

    def _take(self, order: Order, wanted: tuple[object, ...]) -> None:
        before = self.source.order
        if before is not None and order.rows.first < before.rows.first:
            self.source.forget()
        self._shown_of = wanted
        self.source.order, self.source.page = order, max(PAGE, self.list.page_rows)
        self.list.empty = NO_ROWS
        if self.following or self._place is None:
            self.list.show(self.source, order.newest, keep_view=False)
            self._remember(self.list.cursor)
        else:
            self.list.show(self.source, order.nearest(self._place), keep_view=True)
        self._say_state()

    def _values(self, fields: Sequence[Field]) -> list[str]:
        """What fields have in the newest rows, for completion."""
        return [] if self.snapshot is None else seen_values(self.snapshot.rows, fields)

    def _remember(self, position: int) -> None:
        order = self.source.order
        self._place = order.place_at(position) if order is not None and position < len(order) else None

    def _columns_changed(self) -> None:
        self.list.set_columns([list_column(name) for name in self.columns], (self.sort, self.descending))
        self.source.set_columns(self.columns, self.list.widths)

    def _order_changed(self) -> None:
        self.list.set_columns([list_column(name) for name in self.columns], (self.sort, self.descending))
        if self.snapshot is not None:
            self.update(self.snapshot)
        self._say_state()

    def _say_state(self) -> None:
        self._state_cells = self.size.width
        held = len(self.snapshot.rows) if self.snapshot is not None else 0
        gone = self.snapshot.rows.first if self.snapshot is not None else 0
        everything = f"{count(held)} {plural(held, 'handshake')}"
        parts = [f"{count(len(self.source))} of {count(held)} shown" if self.condition else everything]
        if gone:
            parts.append(f"{count(gone)} older ones dropped")
        parts.append(self._order_words())
        parts.append("following" if self.following else "not following (f)")
        # what is typed may not be valid yet: the list still shows what was entered before
        if self.filter_text and not (self.filter_line.is_open and self.filter_line.valid):
            parts.append(f"filter {self.filter_text}")
        room = max(10, self.size.width - 2)
        parts += self._benefit_words(room - len("  ·  ".join([*parts, ""])))
        self.state.update(Content(cut("  ·  ".join(parts), room)), layout=False)

    def _benefit_words(self, room: int) -> list[str]:
        """What TFO saves at the server, if the handshakes of one server are shown."""
        if self._peer is None or self._peer[0] != self.filter_text or self.snapshot is None:
            return []
        of = self._peer[1]
        peer = next(
            (one for one in self.snapshot.peers if (one.role, one.ip, one.port) == (of.role, of.ip, of.port)), of
        )
        if peer.sooner_us is None:
            return []
        words = f"first response with TFO: {difference_words(peer)}, {peer.tfo_samples} against {peer.normal_samples}"
        if len(words) <= room:
            return [words]
        samples = f", {peer.tfo_samples}/{peer.normal_samples}"
        return [f"TFO: {difference_words(peer, room - len(samples) - len('TFO: '))}{samples}"]

    def _order_words(self) -> str:
        if self.sort == BY_TIME:
            return "newest first" if self.descending else "oldest first"
        column = COLUMNS[self.sort]
        if column.right:
            return f"by {column.title}, {'greatest' if self.descending else 'least'} first"
        return f"by {column.title}, {'Z to A' if self.descending else 'A to Z'}"

    # messages

    def on_row_list_moved(self, event: RowList.Moved) -> None:
        """The user selected a row: stay with it."""
        order = self.source.order
        self.following = order is not None and event.position == order.newest
        self._remember(event.position)
        self._say_state()

    def on_row_list_opened(self) -> None:
        """Open the row on a second click."""
        self.action_detail()

    def on_row_list_heading(self, event: RowList.Heading) -> None:
        """Sort by the clicked heading, or reverse the order."""
        if event.column == self.sort:
            self.action_sort_reverse()
        else:
            self._sort_by(event.column)

    def on_filter_line_typed(self, event: FilterLine.Typed) -> None:
        """Apply a valid filter at once."""
        self._apply(event.text, event.condition)
        if not self.filter_line.input.has_focus:
            self._entered = event.text, event.condition

    def on_filter_line_not_valid(self) -> None:
        """Show what was shown before somebody typed: the begin of a word may have been a filter that finds nothing."""
        self._apply(*self._entered)

    def _apply(self, text: str, condition: Filter | None) -> None:
        self.filter_text = text
        if condition != self.condition:
            self.condition = condition
            self._order_changed()
        self._say_state()

    def on_filter_line_entered(self) -> None:
        """Go back to the list."""
        self._entered = self.filter_text, self.condition
        self.list.focus()

    # actions

    def set_filter(self, text: str, peer: Peer | None = None) -> None:
        """Show only handshakes that match; `peer` is given if they are those of one peer."""
        self._peer = None if peer is None else (text, peer)
        self.following, self._place = True, None
        self.filter_line.set_text(text)
        self.list.focus()

    def come_from(self, screen: str, text: str, peer: Peer | None) -> None:
        """Show what another screen asks for; esc goes back there."""
        self._way = _Way(screen, self.filter_text, self.following, self._place)
        self.set_filter(text, peer)

    def _go_back(self, way: _Way) -> None:
        if way.filter_text:
            self.set_filter(way.filter_text)
        else:
            self.filter_line.close()
        self.following, self._place = way.following, way.place
        self.shell.action_show(way.screen)

    def action_filter(self) -> None:
        """Open the filter."""
        self._entered = self.filter_text, self.condition
        self.filter_line.open()

    def action_to_list(self) -> None:
        """Go from the filter to the list."""
        self.list.focus()

    def action_back(self) -> None:
        """Go back to the screen that asked for these handshakes, or drop the filter."""
        if self._way is not None:
            self._go_back(self._way)
        elif self.filter_line.is_open:
            self.filter_line.close()
            self.list.focus()
            self._say_state()

    def _sort_by(self, column: str) -> None:
        self.sort = column
        # the newest and the longest first; words from A to Z
        self.descending = column == BY_TIME or COLUMNS[column].right
        self._order_changed()

    def action_sort_next(self) -> None:
        """Sort by the next column shown; after the last one, by time."""
        ways = (BY_TIME, *(name for name in self.columns if name != BY_TIME))
        at = ways.index(self.sort) + 1 if self.sort in ways else 0
        self._sort_by(ways[at % len(ways)])

    def action_sort_reverse(self) -> None:
        """Reverse the order."""
        self.descending = not self.descending
        self._order_changed()

    def action_follow(self) -> None:
        """Follow the newest handshake, or stay with the selected one."""
        self.following = not self.following
        self._shown_of = ()
        if self.snapshot is not None:
            self.update(self.snapshot)
        self._say_state()

    def action_columns(self) -> None:
        """Choose columns."""

        def answered(columns: tuple[str, ...] | None) -> None:
            if columns is not None:
                self.chosen = columns
                self._columns_changed()

        self.app.push_screen(Chooser(self.columns), answered)

    def record_at(self, position: int) -> Handshake | None:
        """The record of a row in the list."""
        return self.source.record(position) if 0 <= position < len(self.source) else None

    def action_detail(self) -> None:
        """Open the selected handshake."""
        if self.record_at(self.list.cursor) is not None:
            self.shell.open_detail(self.list.cursor)

    def action_copy(self) -> None:
        """Copy the selected record as JSON."""
        record = self.record_at(self.list.cursor)
        if record is not None:
            self.app.copy_to_clipboard(json_text(record))
            self.shell.say(f"copied handshake {record.id} as JSON")

    def action_copy_ladder(self) -> None:
        """Copy the ladder of the selected handshake as text."""
        record = self.record_at(self.list.cursor)
        if record is not None:
            self.copy_ladder(record)

    def action_export_ladder(self) -> None:
        """Write the ladder of the selected handshake to a text file."""
        record = self.record_at(self.list.cursor)
        if record is not None:
            self.export_ladder(record)

    def action_export(self) -> None:
        """Export the listed handshakes in the order shown."""
        order = self.source.order
        if order is None or not len(order):
            self.shell.say("nothing to export", error=True)
            return
        self.run_worker(self._export(order), group="export", exit_on_error=True)

    async def _export(self, order: Order) -> None:
        path = export_path(Path.cwd(), time.localtime())
        try:
            written = await asyncio.to_thread(write_export, path, order.records())
        except OSError as error:
            self.shell.say(f"cannot write {path}: {error.strerror}", error=True)
            return
        self.shell.say(f"{count(written)} {plural(written, 'handshake')} in {path.name}")
