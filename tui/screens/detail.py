"""Enter: one handshake in full, next to one of the other kind with the same server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from textual.widget import Widget

from tracer.dissect.options import describe
from tracer.handshake.events import is_replayed
from tracer.records.record import Handshake
from tracer.store.chunks import StoreRows
from tracer.words.ladder import LADDER_MAX, ladder_lines
from tui.explain import Options, fact_lines, negotiated_lines, option_lines, options_of, verdict_lines
from tui.export import json_text
from tui.filtering import parse
from tui.lines import EMPTY, Line, beside, cell, wrap
from tui.screens.base import TracerScreen
from tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui.screens.handshakes import Handshakes

_BESIDE_FROM = 100  # cells: two ladders side by side


def counterpart(rows: StoreRows, record: Handshake) -> Handshake | None:
    """The newest established handshake of the other kind with the same server, preferably one with accepted data."""
    where = (
        f"server.ip == {record.server.ip} and server.port == {record.server.port} and handshake.result == established"
    )
    if record.tfo.request == "none":
        kinds: Sequence[str] = ("tfo.outcome == data_acked", "tfo.request != none")
    else:
        kinds = ("tfo.request == none",)
    for kind in kinds:
        condition = parse(f"{where} and {kind}")
        assert condition is not None
        found = rows.select(condition)
        if len(found):
            return rows.record(int(found[-1]))
    return None


def raw_options(rows: StoreRows, row: int, record: Handshake) -> Options:
    """Options from the bytes if the store has them, else from the record."""
    events = rows.part(row).events
    if is_replayed(events):
        return options_of(record)
    found = []
    for name in ("syn", "synack"):
        segment = events[name][0]
        found.append(describe(segment["options"].tobytes()[: int(segment["options_len"])]))
    return Options(found[0], found[1])


class Detail(TracerScreen):
    """The detail; next and previous follow the list that it was opened from."""

    NAME = "detail"
    AUTO_FOCUS = "Panel"

    def __init__(self, handshakes: Handshakes, position: int) -> None:
        super().__init__()
        self._list = handshakes
        order = handshakes.source.order
        assert order is not None
        self._order = order
        self._position = position
        self.panel = Panel("", id="detail-panel")
        self.record = order.rows.record(order.row_at(position))
        self._options = Options((), ())
        self.other: Handshake | None = None
        self._searched = False

    def body(self) -> Iterable[Widget]:
        """One panel that scrolls."""
        yield self.panel

    def on_mount(self) -> None:
        """Load the first handshake."""
        self._load()
        super().on_mount()

    def on_resize(self) -> None:
        """Make the lines again for the new width."""
        super().on_resize()
        self.call_after_refresh(self._paint)

    def _load(self) -> None:
        row = self._order.row_at(self._position)
        self.record = self._order.rows.record(row)
        self._options = raw_options(self._order.rows, row, self.record)
        self.other, self._searched = None, False
        self.panel.scroll_to(y=0, animate=False)
        self.run_worker(self._find_other(), group="counterpart", exclusive=True)
        self.call_after_refresh(self._paint)

    async def _find_other(self) -> None:
        self.other = await asyncio.to_thread(counterpart, self._order.rows, self.record)
        self._searched = True
        self._paint()

    def _paint(self) -> None:
        cells = self.panel.room[0] - 1
        if cells < 8:
            return
        self.panel.entitle(f"Handshake {self._position + 1} of {len(self._order)}")
        self.panel.put(detail_lines(self.record, self.other, self._searched, self._options, cells))

    def action_step(self, by: int) -> None:
        """Go to a neighbour in the list."""
        position = self._position + by
        if 0 <= position < len(self._order):
            self._position = position
            self._list.list.select(self._list_position())
            self._load()

    def _list_position(self) -> int:
        order = self._list.source.order
        found = None if order is None else order.position_of(self._order.number_at(self._position))
        return self._list.list.cursor if found is None else found

    def action_copy(self) -> None:
        """Copy the record as JSON."""
        self.app.copy_to_clipboard(json_text(self.record))
        self.shell.say(f"copied handshake {self.record.id} as JSON")

    def action_copy_ladder(self) -> None:
        """Copy the ladder as text."""
        self.copy_ladder(self.record)

    def action_export_ladder(self) -> None:
        """Write the ladder to a text file."""
        self.export_ladder(self.record)

    def action_back(self) -> None:
        """Go back to the list."""
        self.app.pop_screen()


def detail_lines(
    record: Handshake, other: Handshake | None, searched: bool, options: Options, cells: int
) -> list[Line]:
    """Verdict, ladders, facts, options and what was negotiated."""
    lines = [*verdict_lines(record, cells), EMPTY]
    kind, other_kind = "normal handshake", "handshake with Fast Open"
    if record.tfo.request != "none":
        kind, other_kind = other_kind, kind
    if other is not None and cells >= _BESIDE_FROM:
        half = min(LADDER_MAX, (cells - 3) // 2)
        left = [_title(f"This one: {kind}", half), *ladder_lines(record, half)]
        right = [_title(f"To compare: {other_kind}, same server", half), *ladder_lines(other, half)]
        lines += beside(left, right, half, 3)
    else:
        wide = min(LADDER_MAX, cells)
        lines += ladder_lines(record, wide)
        if other is not None:
            lines += [EMPTY, _title(f"To compare: {other_kind}, same server", wide), *ladder_lines(other, wide)]
    if other is None and searched:
        text = f"To compare: no {other_kind} to this server among those kept."
        lines += [EMPTY, *wrap(text, cells, "dim")]
    lines.append(EMPTY)
    lines += fact_lines(record, cells)
    lines.append(EMPTY)
    half = (cells - 3) // 2 if cells >= 76 else cells
    syn = option_lines("Options of the SYN", record.syn, options.syn, half)
    synack = option_lines("Options of the SYN-ACK", record.synack, options.synack, half)
    lines += beside(syn, synack, half, 3) if cells >= 76 else [*syn, EMPTY, *synack]
    lines.append(EMPTY)
    lines += [(("Negotiated", "title"),), *negotiated_lines(record, cells)]
    return lines


def _title(text: str, cells: int) -> Line:
    return ((cell(text, cells), "title"),)
