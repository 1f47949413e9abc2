"""The line for typing a filter, and below it a line that says whether it is valid."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, Static

from tracer.errors import TfotraceError
from tui.filtering import Filter, parse
from tui.lines import safe

REST_S = 0.3  # apply a valid filter after this long without typing, so that its beginnings do not count


class _Text(Input):
    """Leaves escape and arrow down to the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "screen.back", show=False),
        Binding("down", "screen.to_list", show=False),
    ]

    def validate_value(self, value: str) -> str:
        """Make pasted text safe: it may contain escapes."""
        return safe(value)


class FilterLine(Vertical):
    """Reports a valid filter when typing pauses, and at once on enter."""

    class Typed(Message):
        """A valid filter was typed; None for an empty one."""

        def __init__(self, condition: Filter | None, text: str) -> None:
            super().__init__()
            self.condition, self.text = condition, text

    class Entered(Message):
        """Enter was pressed on a valid filter."""

    def __init__(self) -> None:
        super().__init__(id="filter-line")
        self.input = _Text(
            placeholder="group == failed and server.port == 443", id="filter-input", select_on_focus=False
        )
        self.verdict = Static("", id="filter-verdict")
        self.valid = True
        self.said = ""
        self._rest: Timer | None = None

    def compose(self) -> ComposeResult:
        """The input, and the verdict below it."""
        with Horizontal():
            yield Static(Content(" filter: "), id="filter-mark")
            yield self.input
        yield self.verdict

    @property
    def is_open(self) -> bool:
        """Is the line on the screen?"""
        return self.has_class("open")

    def open(self) -> None:
        """Show the line and focus it."""
        self.add_class("open")
        self.input.focus()
        self._judge(self.input.value)

    def close(self) -> None:
        """Drop the filter and hide the line."""
        self.set_text("")
        self.remove_class("open")

    def set_text(self, text: str) -> None:
        """Set a filter and apply it at once."""
        self.add_class("open")
        with self.prevent(Input.Changed):
            self.input.value = text
        self._tell()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check the filter now; apply it when typing pauses."""
        event.stop()
        self._judge(event.value)
        self._stop_waiting()
        self._rest = self.set_timer(REST_S, self._tell)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Apply the filter now; go to the list if it is valid."""
        event.stop()
        self._tell()
        if self.valid:
            self.post_message(self.Entered())

    def _stop_waiting(self) -> None:
        if self._rest is not None:
            self._rest.stop()
            self._rest = None

    def _tell(self) -> None:
        self._stop_waiting()
        text = self.input.value
        condition = self._judge(text)
        if self.valid:
            self.post_message(self.Typed(condition, text.strip()))

    def _judge(self, text: str) -> Filter | None:
        condition: Filter | None = None
        try:
            condition = parse(text)
        except TfotraceError as error:
            self.valid, self.said = False, f"✗ not valid: {error}"
        else:
            self.valid, self.said = True, "✓ valid" if text.strip() else "type an expression; ? explains filters"
        self.verdict.update(Content(safe(self.said)))
        self.verdict.set_class(not self.valid, "invalid")
        self.verdict.set_class(self.valid and bool(text.strip()), "valid")
        return condition
