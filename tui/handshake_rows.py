"""Handshakes as rows of a list: columns, text and style, made only for rows on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tracer.filters.shown import died
from tracer.records import fate
from tracer.records.life import drop_of
from tracer.records.record import Handshake
from tracer.store.list_columns import COLUMNS
from tracer.vocabulary.fates import brief_cause
from tracer.words.signs import group_sign, group_style
from tui.lines import Part, safe
from tui.order import Order
from tui.widgets.row_list import ListColumn

CELLS_HELD = 512
PAGE = 32
# with the sign before it
_WIDTHS = {"result": 28, "outcome": 45, "group": 10}
_SIGN_CELLS = 2

# by the width of the screen; the last column takes the rest
_DEFAULTS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (240, ("time", "interface", "client", "server", "result", "rtt", "first_response", "saved", "request", "process",
           "payload_len", "cause", "name")),
    (200, ("time", "client", "server", "result", "rtt", "first_response", "saved", "process", "payload_len", "cause",
           "name")),
    (190, ("time", "client", "server", "result", "rtt", "process", "payload_len", "cause", "name")),
    (160, ("time", "client", "server", "result", "rtt", "process", "payload_len", "cause")),
    (140, ("time", "client", "server", "result", "rtt", "process", "cause")),
    (120, ("time", "client", "server", "result", "rtt", "cause")),
    (103, ("time", "client", "server", "outcome")),
    (90, ("time", "server", "rtt", "outcome")),
    (0, ("time", "server", "outcome")),
)  # fmt: skip


def default_columns(cells: int) -> tuple[str, ...]:
    """The default columns on a screen of that width."""
    return next(names for least, names in _DEFAULTS if cells >= least)


def list_column(name: str) -> ListColumn:
    """The list's form of a column of tracer/store/list_columns.py."""
    column = COLUMNS[name]
    width, is_end = _WIDTHS.get(name, column.width), name in ("client", "server")
    return ListColumn(name, column.title, width, column.right, is_end)


def outcome_cell(text: str, outcome: str | None, group: str | None) -> Part:
    """An outcome with the sign and colour of its group; the word says it where the connection died only afterwards."""
    return (f"{group_sign(group)} {text}{', died' if died(outcome, group) else ''}", group_style(group))


def _fitting(name: str, text: str, record: Handshake, cells: int) -> str:
    """The text, or what matters most of it if it does not fit: the sign says already that a handshake failed."""
    timing = record.handshake
    if len(text) <= cells or timing.cause is None or name not in ("outcome", "cause"):
        return text
    dropped = drop_of(timing)
    if name == "outcome" and fate.told_first(record):
        text = safe(brief_cause(timing.cause, dropped))
    return safe(dropped) if dropped is not None and len(text) > cells else text


def row_cells(record: Handshake, columns: Sequence[str], widths: Sequence[int] | None = None) -> list[Part]:
    """Text and style of each column of one handshake; `widths`, if given, say how much room there is."""
    group, standing = record.tfo.group, fate.standing(record)
    told = group_style(standing)
    cells: list[Part] = []
    for at, name in enumerate(columns):
        text = safe(COLUMNS[name].text(record))
        if widths is not None:
            text = _fitting(name, text, record, widths[at] - (_SIGN_CELLS if name == "outcome" else 0))
        if name in ("result", "outcome"):
            cells.append((f"{group_sign(standing)} {text}", told))
        elif name == "group":
            cells.append((f"{group_sign(group)} {text}", group_style(group)))
        elif name == "cause" or (name == "handshake_cause" and record.handshake.cause is not None):
            cells.append((text, told if told in ("failed", "degraded") else "text"))
        elif name in ("time", "interface", "vantage"):
            cells.append((text, "dim"))
        else:
            cells.append((text, "text"))
    return cells


@dataclass(slots=True)
class HandshakeRows:
    """A RowSource over an order of rows. Cells are cached by row number, so a new order costs nothing."""

    columns: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    order: Order | None = None
    page: int = PAGE  # rows made at a time: as many as are shown
    _cells: dict[int, list[Part]] = field(default_factory=dict)

    def __len__(self) -> int:
        return 0 if self.order is None else len(self.order)

    def set_columns(self, columns: tuple[str, ...], widths: tuple[int, ...]) -> None:
        """Use other columns, or other widths, which need new cells."""
        if (columns, widths) != (self.columns, self.widths):
            self.columns, self.widths = columns, widths
            self._cells.clear()

    def forget(self) -> None:
        """Drop the cache, since numbers may mean other rows now."""
        self._cells.clear()

    def record(self, position: int) -> Handshake:
        """The record of a row."""
        assert self.order is not None
        return self.order.rows.record(self.order.row_at(position))

    def cells(self, position: int) -> Sequence[Part]:
        """Text and style of each column."""
        assert self.order is not None
        number = self.order.number_at(position)
        found = self._cells.get(number)
        if found is None:
            if len(self._cells) >= CELLS_HELD:
                self._cells.clear()
            self._make(position)
            found = self._cells[number]
        return found

    def _make(self, position: int) -> None:
        """Make cells from a position down to the first cached row: the list asks for these rows next."""
        order = self.order
        assert order is not None
        rows = order.rows_at(position, position + self.page)
        known = (order.rows.first + rows).tolist()
        end = next((at for at, number in enumerate(known) if at and number in self._cells), len(known))
        for number, record in zip(known[:end], order.rows.gather(rows[:end]), strict=True):
            self._cells[number] = row_cells(record, self.columns, self.widths)
