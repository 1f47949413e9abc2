"""Titles that say which handshakes a panel sums up."""

from __future__ import annotations

from tracer.aggregate.history import Window
from tracer.store.snapshot import Snapshot


def window_words(window: Window, snapshot: Snapshot, cells: int = 80) -> str:
    """ "last 5 min" or "all"; and up to which moment, if it is an earlier one and there is room for it."""
    words = "all" if window is Window.ALL else f"last {window.value}"
    whole = f"{words} until {snapshot.moment}" if snapshot.moment is not None else words
    return whole if len(whole) <= cells else words


def title_of_window(title: str, window: Window, snapshot: Snapshot, cells: int) -> str:
    """The title of a panel over so many cells that sums up the window."""
    return f"{title}, {window_words(window, snapshot, cells - len(title) - 4)}"
