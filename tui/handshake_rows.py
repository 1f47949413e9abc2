"""Handshakes as rows of a list: columns, text and style, made only for rows on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tracer.records import fate
from tracer.records.record import Handshake
from tracer.store.list_columns import COLUMNS
from tracer.vocabulary.vocabulary import GROUP_OF, word
from tui.lines import Part, group_sign, group_style, safe
from tui.order import Order
from tui.widgets.row_list import ListColumn

CELLS_HELD = 512
AHEAD = 32  # rows made at a time
_GROUPS = {word(outcome): group.word for outcome, group in GROUP_OF.items()}
# two cells more for the sign
_WIDTHS = {"outcome": 28, "group": 10}

# by the width of the screen; the last column takes the rest
_DEFAULTS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (190, ("time", "interface", "client", "server", "result", "request", "outcome", "rtt", "first_response", "saved",
           "payload_len", "name")),
    (150, ("time", "client", "server", "result", "outcome", "rtt", "first_response", "payload_len", "name")),
    (115, ("time", "client", "server", "outcome", "rtt", "payload_len", "name")),
    (96, ("time", "server", "outcome", "rtt", "payload_len", "name")),
    (0, ("time", "server", "outcome", "rtt", "payload_len")),
)  # fmt: skip


def default_columns(cells: int) -> tuple[str, ...]:
    """The default columns on a screen of that width."""
    return next(names for least, names in _DEFAULTS if cells >= least)


def list_column(name: str) -> ListColumn:
    """The list's form of a column of tracer/store/list_columns.py."""
    column = COLUMNS[name]
    return ListColumn(name, column.title, _WIDTHS.get(name, column.width), column.right)


def outcome_cell(text: str, outcome: str | None, group: str | None) -> Part:
    """An outcome with the sign and colour of its group; the word says it where the connection died only afterwards."""
    died = group == "failed" and _GROUPS.get(outcome or "", group) != group
    return (f"{group_sign(group)} {text}{', died' if died else ''}", group_style(group))


def row_cells(record: Handshake, columns: Sequence[str]) -> list[Part]:
    """Text and style of each column of one handshake."""
    group, standing = record.tfo.group, fate.standing(record)
    cells: list[Part] = []
    for name in columns:
        text = safe(COLUMNS[name].text(record))
        if name == "outcome" and fate.told_first(record):
            cells.append((f"{group_sign(standing)} {safe(fate.fate(record.handshake))}", group_style(standing)))
        elif name == "outcome":
            cells.append(outcome_cell(text, record.tfo.outcome, group))
        elif name == "group":
            cells.append((f"{group_sign(group)} {text}", group_style(group)))
        elif name == "result" and record.handshake.result != "established":
            cells.append((text, "failed"))
        elif name == "handshake_cause" and record.handshake.cause is not None:
            cells.append((text, group_style(standing)))
        elif name in ("time", "interface", "vantage"):
            cells.append((text, "dim"))
        else:
            cells.append((text, "text"))
    return cells


@dataclass(slots=True)
class HandshakeRows:
    """A RowSource over an order of rows. Cells are cached by row number, so a new order costs nothing."""

    columns: tuple[str, ...] = ()
    order: Order | None = None
    _cells: dict[int, list[Part]] = field(default_factory=dict)

    def __len__(self) -> int:
        return 0 if self.order is None else len(self.order)

    def set_columns(self, columns: tuple[str, ...]) -> None:
        """Use other columns, which need new cells."""
        if columns != self.columns:
            self.columns = columns
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
        rows = order.rows_at(position, position + AHEAD)
        known = (order.rows.first + rows).tolist()
        end = next((at for at, number in enumerate(known) if at and number in self._cells), len(known))
        for number, record in zip(known[:end], order.rows.gather(rows[:end]), strict=True):
            self._cells[number] = row_cells(record, self.columns)
