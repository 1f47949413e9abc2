"""A yes/no question."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static


class Question(ModalScreen[bool]):
    """Returns True for yes. Enter means no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q,ctrl+c", "answer(False)", "No"),
        Binding("left,right", "app.focus_next", show=False),
    ]
    AUTO_FOCUS = "#no"

    def __init__(self, question: str, yes: str) -> None:
        super().__init__()
        self._question, self._yes = question, yes

    def compose(self) -> ComposeResult:
        """The question and two buttons."""
        with Vertical(id="question"):
            yield Static(Content(self._question), id="question-text")
            with Horizontal():
                yield Button(Content(f"{self._yes} (y)"), id="yes", variant="error")
                yield Button(Content("No (n)"), id="no")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer by click or enter."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        """Answer by key."""
        self.dismiss(yes)
