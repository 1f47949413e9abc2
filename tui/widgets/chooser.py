"""Choose columns: a list with marks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tracer.store.list_columns import COLUMNS
from tui.actions import IN_OPTIONS

_NAMES = tuple(COLUMNS)


class _Columns(OptionList):
    BINDINGS: ClassVar[list[BindingType]] = [*IN_OPTIONS]


class Chooser(ModalScreen[tuple[str, ...] | None]):
    """Returns the chosen columns; () for the default; None for no change."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", priority=True),
        Binding("enter,c", "take", "Take", priority=True),
        Binding("d", "default", "Default"),
        Binding("escape,q,ctrl+c", "leave", "Cancel"),
    ]

    def __init__(self, chosen: Sequence[str]) -> None:
        super().__init__()
        self._before = tuple(chosen)
        self.marked = set(chosen)
        self.list = _Columns(*(Option(self._prompt(name)) for name in _NAMES), id="chooser-list")

    def _prompt(self, name: str) -> Content:
        column = COLUMNS[name]
        mark = "[x]" if name in self.marked else "[ ]"
        return Content.assemble(f"{mark} {column.title:<14}  ", (column.says, "dim"))

    def compose(self) -> ComposeResult:
        """The list and its keys."""
        with Vertical(id="chooser"):
            yield Static(Content("Columns: space marks, enter applies, d default, esc cancels"), id="chooser-hint")
            yield self.list

    def _turn(self, index: int) -> None:
        name = _NAMES[index]
        self.marked ^= {name}
        self.list.replace_option_prompt_at_index(index, self._prompt(name))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Mark or unmark the clicked column."""
        event.stop()
        self._turn(event.option_index)

    def action_mark(self) -> None:
        """Mark or unmark the highlighted column."""
        if self.list.highlighted is not None:
            self._turn(self.list.highlighted)

    def action_take(self) -> None:
        """Take the marked columns: first those shown before, in their order, then the others."""
        kept = [name for name in self._before if name in self.marked]
        kept += [name for name in _NAMES if name in self.marked and name not in kept]
        self.dismiss(tuple(kept))

    def action_default(self) -> None:
        """Choose by the width of the screen."""
        self.dismiss(())

    def action_leave(self) -> None:
        """Change nothing."""
        self.dismiss(None)
