"""A screen of one list in an order that the user chooses: peers, listeners. Enter on a row shows its handshakes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tracer.store.snapshot import Snapshot
from tracer.vocabulary.fates import brief_cause
from tui.export import json_text
from tui.format import clock, count, share
from tui.lines import Part, cut, safe
from tui.screens.base import TracerScreen
from tui.widgets.row_list import ListColumn, RowList

NEVER = float("-inf")
_CAUSE_CELLS = 26  # of the longest words
_LAST_WORD = "~"  # sorts behind all words

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RankedColumn(Generic[T]):
    """How a column shows a thing at a moment and sorts by it. `falls`: the greatest first."""

    column: ListColumn
    text: Callable[[T, int], Part]
    key: Callable[[T], float | str]
    falls: bool = True


def count_column(name: str, title: str, width: int, style: str) -> RankedColumn[T]:
    """A count, in a style unless it is 0."""

    def text(thing: T, _: int) -> Part:
        value = getattr(thing, name)
        return (count(value), style if value else "dim")

    return RankedColumn(ListColumn(name, title, width, True), text, known(name))


def share_column(name: str, title: str, width: int) -> RankedColumn[T]:
    """A part of the SYNs with data."""

    def counts(thing: T) -> tuple[int, int]:
        return getattr(thing, name), thing.with_data  # type: ignore[attr-defined]

    def ratio(thing: T) -> float:
        part, with_data = counts(thing)
        return part / with_data if with_data else NEVER

    def text(thing: T, _: int) -> Part:
        part, with_data = counts(thing)
        if not with_data:
            return ("-", "dim")
        style = "ok" if part >= 0.95 * with_data else "degraded" if part else "failed"
        return (share(part, with_data), style)

    return RankedColumn(ListColumn(name, title, width, True), text, ratio)


def known(name: str) -> Callable[[object], float]:
    """A number of a thing; what is not known is the least."""
    return lambda thing: NEVER if getattr(thing, name) is None else getattr(thing, name)


def cause_column(failed: str) -> RankedColumn[T]:
    """The most frequent cause; `failed` is the name of how many failed."""

    def text(thing: T, _: int) -> Part:
        cause = _cause(thing)
        if cause is None:
            return ("-", "dim")
        return (safe(brief_cause(cause)), "failed" if getattr(thing, failed) else "degraded")

    return RankedColumn(
        ListColumn("cause", "Mostly since", _CAUSE_CELLS), text, lambda thing: _cause(thing) or _LAST_WORD, falls=False
    )


def _cause(thing: object) -> str | None:
    found: str | None = getattr(thing, "cause")  # noqa: B009 - things of lists have one
    return found


def ago_column() -> RankedColumn[T]:
    """How long ago it was seen last."""

    def text(thing: T, now_ns: int) -> Part:
        return (clock(max(0.0, now_ns - seen_ns(thing)) / 1e9), "dim")

    seen_ns = known("last_seen_ns")
    return RankedColumn(ListColumn("last", "Ago", 5, True), text, seen_ns)


@dataclass(slots=True)
class RankedRows(Generic[T]):
    """A RowSource over things in order."""

    columns: Sequence[RankedColumn[T]] = ()
    things: Sequence[T] = ()
    now_ns: int = 0

    def __len__(self) -> int:
        return len(self.things)

    def cells(self, position: int) -> Sequence[Part]:
        """Text and style of each column."""
        thing = self.things[position]
        return [one.text(thing, self.now_ns) for one in self.columns]


class Ranked(TracerScreen, Generic[T]):
    """The state, then the list. Subclasses say of which things, with which columns, and what one is."""

    AUTO_FOCUS = "RowList"
    EMPTY = ""

    def __init__(self) -> None:
        super().__init__()
        self.list = RowList(empty=self.EMPTY, id=f"{self.NAME}-list")
        self.state = Static("", id="list-state")
        self.source: RankedRows[T] = RankedRows()
        self.sort, self.descending = "handshakes", True
        self._shown_of: tuple[object, ...] = ()
        self._left_at: Hashable = None  # the key of the row that was selected when another screen came

    def body(self) -> Iterable[Widget]:
        """The state, then the list."""
        yield self.state
        yield self.list

    def leave(self) -> None:
        """Release what was listed."""
        self._left_at = None if self.selected is None else self.key_of(self.selected)
        super().leave()
        self._shown_of = ()
        self.source = self.list.source = RankedRows(self.source.columns)

    def columns_for(self, cells: int) -> Sequence[RankedColumn[T]]:
        """The columns of a screen of that width; one is named handshakes."""
        raise NotImplementedError

    def things_of(self, snapshot: Snapshot) -> Sequence[T]:
        """What is listed; the same object, or an equal one, as long as nothing changes."""
        raise NotImplementedError

    def words_of(self, things: Sequence[T], snapshot: Snapshot) -> str:
        """How many of what there are, and of when."""
        raise NotImplementedError

    def key_of(self, thing: T) -> Hashable:
        """What tells a thing from others."""
        raise NotImplementedError

    def title_of(self, thing: T) -> str:
        """A thing in short."""
        raise NotImplementedError

    def drill(self, thing: T) -> None:
        """Show its handshakes."""
        raise NotImplementedError

    def hint(self, snapshot: Snapshot) -> str:  # noqa: ARG002 - for subclasses
        """What can be done here, where there is room for it."""
        return "enter: its handshakes"

    def update(self, snapshot: Snapshot) -> None:
        """Sort, and keep the selected row."""
        columns, things = self.columns_for(self.size.width), self.things_of(snapshot)
        wanted = (things, self.size.width, self.sort, self.descending)
        if wanted == self._shown_of:
            return
        selected = self._left_at if self.selected is None else self.key_of(self.selected)
        self._shown_of, self._left_at = wanted, None
        by = {one.column.id: one for one in columns}
        if self.sort not in by:
            self.sort, self.descending = "handshakes", True
        things = sorted(things, key=by[self.sort].key, reverse=self.descending)
        self.source = RankedRows(columns, things, snapshot.taken_ns)
        self.list.set_columns([one.column for one in columns], (self.sort, self.descending))
        at = next((at for at, thing in enumerate(things) if self.key_of(thing) == selected), 0)
        self.list.show(self.source, at, keep_view=selected is not None)
        text = self.words_of(things, snapshot)
        text += f"  ·  by {by[self.sort].column.title.lower()} {'▼' if self.descending else '▲'}"
        hint = f"  ·  {self.hint(snapshot)}"
        room = max(10, self.size.width - 2)
        self.state.update(Content(text + hint if len(text + hint) <= room else cut(text, room)), layout=False)

    @property
    def selected(self) -> T | None:
        """The selected row's."""
        return self.source.things[self.list.cursor] if self.list.cursor < len(self.source) else None

    def _sort_by(self, column: str, descending: bool) -> None:
        self.sort, self.descending = column, descending
        if self.snapshot is not None:
            self.update(self.snapshot)

    def on_row_list_heading(self, event: RowList.Heading) -> None:
        """Sort by the clicked heading, or reverse the order."""
        if event.column == self.sort:
            self.action_sort_reverse()
            return
        self._sort_by(event.column, next(one.falls for one in self.source.columns if one.column.id == event.column))

    def on_row_list_opened(self) -> None:
        """Show the row's handshakes on a second click."""
        self.action_drill()

    def action_sort_next(self) -> None:
        """Sort by the next column."""
        columns = self.source.columns
        if columns:
            ids = [one.column.id for one in columns]
            following = columns[(ids.index(self.sort) + 1) % len(ids)]
            self._sort_by(following.column.id, following.falls)

    def action_sort_reverse(self) -> None:
        """Reverse the order."""
        self._sort_by(self.sort, not self.descending)

    def action_drill(self) -> None:
        """Show the handshakes of the selected row."""
        if self.selected is not None:
            self.drill(self.selected)

    def action_copy(self) -> None:
        """Copy the selected row as JSON."""
        if self.selected is not None:
            self.app.copy_to_clipboard(json_text(self.selected))
            self.shell.say(f"copied {self.title_of(self.selected)} as JSON")
