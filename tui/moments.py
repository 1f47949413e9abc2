"""Titles that say which handshakes a panel sums up."""

from __future__ import annotations

import numpy as np

from tracer.aggregate.history import NS_PER_S, Window
from tracer.filters.times import local_ns
from tracer.handshake.rows import Rows
from tracer.store.snapshot import Snapshot


def window_words(window: Window, snapshot: Snapshot, cells: int = 80) -> str:
    """ "last 5 min" or "all"; and up to which moment, if it is an earlier one and there is room for it."""
    words = "all" if window is Window.ALL else f"last {window.value}"
    whole = f"{words} until {snapshot.moment}" if snapshot.moment is not None else words
    return whole if len(whole) <= cells else words


def title_of_window(title: str, window: Window, snapshot: Snapshot, cells: int) -> str:
    """The title of a panel over so many cells that sums up the window."""
    return f"{title}, {window_words(window, snapshot, cells - len(title) - 4)}"


def within(way: str, window: Window, snapshot: Snapshot) -> str:
    """A filter that finds of those that another finds only the window's: by their SYNs, the time that lists show.

    Without the day, where all rows are of one day.
    """
    history, rows = snapshot.history, snapshot.rows
    if window.seconds is None or not len(rows) or history.totals(window).handshakes == history.total.handshakes:
        return way
    first, last = rows.part(0), rows.part(len(rows) - 1)
    now_s = history.now_ns // NS_PER_S
    begin = _text((now_s - window.seconds + 1) * NS_PER_S + int(last.offset_ns[0]))
    now = _text(history.now_ns + int(last.offset_ns[0]))
    days = {text.partition("T")[0] for text in (begin, now, _text(_syn_ns(first)))}
    return f"{way} and time >= {begin if len(days) > 1 else begin.partition('T')[2]}"


def _syn_ns(one: Rows) -> int:
    return int(one.events["syn_ns"][0]) + int(one.offset_ns[0])


def _text(time_ns: int) -> str:
    return str(np.datetime64(local_ns(time_ns), "ns"))[:19]
