"""The line for typing a filter; below it what Tab completes, and a line that says whether it is valid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, Static

from tracer.errors import TfotraceError
from tracer.filters.fields import Field
from tui.filtering import Filter, parse
from tui.lines import cut, safe

HINT = "type an expression; tab completes it, f1 explains filters"
REST_S = 0.3  # apply a valid filter after this long without typing, so that its beginnings do not count


class Text(Input):
    """Leaves escape and arrow down to the screen, and tab to the filter line."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "screen.back", show=False),
        Binding("down", "screen.to_list", show=False),
        Binding("tab", "complete(1)", show=False),
        Binding("shift+tab", "complete(-1)", show=False),
        Binding("f1", "app.help", show=False),
    ]

    class Complete(Message):
        """Tab was pressed: take the next candidate, or the one before."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    async def on_key(self, event: events.Key) -> None:
        """No filter begins with a question mark: there it asks for help, elsewhere it is typed."""
        if event.character == "?" and not self.value:
            event.stop()
            event.prevent_default()
            await self.run_action("app.help")

    def action_complete(self, by: int) -> None:
        """Complete what stands before the cursor."""
        self.post_message(self.Complete(by))

    def validate_value(self, value: str) -> str:
        """Make pasted text safe: it may contain escapes."""
        return safe(value)


@dataclass(slots=True)
class _Cycle:
    """Candidates that Tab goes through: `before` and `after` are the text around them."""

    before: str
    after: str
    candidates: Sequence[str]
    at: int

    @property
    def text(self) -> str:
        """The filter with the candidate."""
        return self.before + self.candidates[self.at] + self.after


class FilterLine(Vertical):
    """Reports what is typed when typing pauses, and at once on enter."""

    class Typed(Message):
        """A valid filter was typed; None for an empty one."""

        def __init__(self, condition: Filter | None, text: str) -> None:
            super().__init__()
            self.condition, self.text = condition, text

    class Entered(Message):
        """Enter was pressed on a valid filter."""

    class NotValid(Message):
        """What is typed is no filter."""

    def __init__(self, values: Callable[[Sequence[Field]], Iterable[str]]) -> None:
        """`values` gives values that fields have in the rows held."""
        super().__init__(id="filter-line")
        self._values = values
        self._cycle: _Cycle | None = None
        self.candidates = Static("", id="filter-candidates")
        self.input = Text(
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
        yield self.candidates
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
        self._forget_candidates()
        self._tell()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check the filter now; apply it when typing pauses."""
        event.stop()
        self._forget_candidates()
        self._typed()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Apply the filter now; go to the list if it is valid."""
        event.stop()
        self._forget_candidates()
        self._tell()
        if self.valid:
            self.post_message(self.Entered())

    def _typed(self) -> None:
        self._judge(self.input.value)
        self._stop_waiting()
        self._rest = self.set_timer(REST_S, self._tell)

    # completion

    @on(Text.Complete)
    def _complete(self, event: Text.Complete) -> None:
        """Put the first candidate in, or the next one of those shown."""
        event.stop()
        cycle = self._cycle
        if cycle is None:
            cycle = self._candidates()
            if cycle is None:
                return
            if event.by < 0:
                cycle.at = len(cycle.candidates) - 1
        else:
            cycle.at = (cycle.at + event.by) % len(cycle.candidates)
        alone = len(cycle.candidates) == 1
        with self.prevent(Input.Changed):
            self.input.value = cycle.text
            self.input.cursor_position = len(cycle.text) - len(cycle.after)
        self._cycle = None if alone else cycle
        self._show_candidates(None if alone else cycle)
        self._typed()

    def _candidates(self) -> _Cycle | None:
        """What could stand at the cursor; where it stands there already, what could follow."""
        from tracer.filters.completion import complete

        text, at = self.input.value, self.input.cursor_position
        before, after = text[:at], text[at:]
        found = complete(before, at, self._values)
        if found.candidates == (before[found.begin :],) and not after.strip():
            before, after = f"{before} ", ""
            found = complete(before, len(before), self._values)
        return _Cycle(before[: found.begin], after, found.candidates, 0) if found.candidates else None

    def _forget_candidates(self) -> None:
        self._cycle = None
        self._show_candidates(None)

    def _show_candidates(self, cycle: _Cycle | None) -> None:
        """A line of candidates with the one taken; as many as fit, page by page."""
        self.candidates.set_class(cycle is not None, "there")
        if cycle is None:
            return
        place = f" {cycle.at + 1}/{len(cycle.candidates)}"
        room = max(10, self.size.width - 2 - len(place))
        page: list[int] = []
        used = 0
        for number, one in enumerate(cycle.candidates):
            needs = min(len(one), room) + 2
            if used + needs > room + 2:
                if cycle.at < number:
                    break
                page, used = [], 0
            page.append(number)
            used += needs
        parts: list[str | tuple[str, str]] = []
        for number in page:
            shown = safe(cut(cycle.candidates[number], room))
            parts += [(shown, "reverse") if number == cycle.at else shown, "  "]
        self.candidates.update(Content.assemble(*parts[:-1], (place, "dim")))

    def _stop_waiting(self) -> None:
        if self._rest is not None:
            self._rest.stop()
            self._rest = None

    def _tell(self) -> None:
        self._stop_waiting()
        text = self.input.value
        condition = self._judge(text)
        self.post_message(self.Typed(condition, text.strip()) if self.valid else self.NotValid())

    def _judge(self, text: str) -> Filter | None:
        condition: Filter | None = None
        try:
            condition = parse(text)
        except TfotraceError as error:
            self.valid, self.said = False, f"✗ not valid: {error}"
        else:
            self.valid, self.said = True, "✓ valid" if text.strip() else HINT
        self.verdict.update(Content(safe(self.said)))
        self.verdict.set_class(not self.valid, "invalid")
        self.verdict.set_class(self.valid and bool(text.strip()), "valid")
        return condition
