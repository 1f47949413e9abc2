"""? or F1: explains the screen underneath and its keys, made from the list of actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from tracer.filters.filter import ALIASES
from tui.actions import OTHER_KEYS, TITLES, Action, actions_of
from tui.lines import EMPTY, Line, cell, wrap
from tui.widgets.panel import Panel

ABOUT: dict[str, str] = {
    "overview": "First two verdicts, on Fast Open and on all handshakes, of the time that w chooses; what broke of "
    "late comes before all else. Then why, and what to do: each cause with its number and whether that rises; enter "
    "shows its handshakes. The plots go back an hour, in steps of seconds at the right and of minutes at the left; a "
    "gap is a time without SYNs with data. A TFO attempt is ok if Fast Open worked (a cookie granted, data accepted), "
    "degraded if the connection works without the gain, failed if it cost time or the connection. Handshakes that "
    "failed (refused, unreachable, no reply, half open) are counted with or without Fast Open, with their causes. The "
    "RTT is what a handshake costs and what accepted data in the SYN saves. TFO against normal compares the median "
    "time from the first SYN to the first byte of the answer, server by server; what stands after ± is the 95 % "
    "confidence interval. A difference of more than a round trip has other reasons.",
    "handshakes": "One row per handshake, added when it has settled. The outcome is what Fast Open did, or how and "
    "why the handshake failed. Following keeps the newest one selected; moving the selection stops that, f starts it "
    "again. The end of this text explains filters, and so does f1 while you type one; the line below it then says "
    "whether it is valid.",
    "detail": "The verdict, then the handshake as a ladder: client left, server right, time downwards. Next to it is "
    "the newest handshake of the other kind (with or without Fast Open) with the same server, for comparison. Below: "
    "every option of both segments, and what both ends agreed on.",
    "peers": "One row per server (or client, if this host is the server). Failed counts handshakes that were refused "
    "or never finished, TFO ✗ those in which Fast Open failed; mostly since is the most frequent cause. Accepted is "
    "the share of SYNs with data that the server took. Cookie changes point to servers that do not share a key. First "
    "answer compares the medians of first responses with Fast Open and without: no difference means that chance may "
    "have made it, not by TFO that it is more than the one round trip that Fast Open can save.",
    "statistics": "What became of handshakes and why, what the SYNs looked like and how long things took, since the "
    "start or since the last clear.",
    "listeners": "One row per address and port of this host that answered a SYN, and who holds it. Lately counts what "
    "failed in the time that w chooses. Fast Open is on where it worked the last time that it was tried, off where "
    "this host's listener or sysctl was why it did not. The queue is the accept queue as it was when a handshake "
    "failed for it the last time: full when more wait than may.",
    "health": "The balance sheet shows whether every handshake is accounted for: opened = emitted + lost + evicted + "
    "suppressed + still open. Below it are the kernel's own counters, host-wide, and the settings that matter.",
}


_OWN_KEYS = (
    "What stands in ( ) at the end names an action: tfotrace.toml can give it other keys, in [keys], "
    'such as pause = "p". W writes the file, and says where it is.'
)


def filter_help(cells: int) -> list[Line]:
    """How to write a filter."""
    examples = (
        ("failed", "the handshake, or Fast Open; also slow and degraded"),
        ("group == failed", "what Fast Open did; also degraded, ok"),
        ("rtt > 50ms and port == 443", "joined by and, or, not, ( )"),
        ("sni ~ example", "contains; =~ for a regular expression"),
        ("10.0.0.0/8", "address or network; a bare word matches names too"),
        ('result in (refused, "no reply")', "one of several; words as shown, or as in records: no_reply"),
        ("cause != null", "with a known cause; why is that of the handshake, tfo.cause that of Fast Open"),
        ("time > 12:14", "of any day, as shown here; 12:14Z is UTC; or 2026-11-23T12:14:33"),
    )
    lines: list[Line] = [(("Filters", "title"), ("   tab completes names and values, again takes the next", "dim"))]
    for text, says in examples:
        lines.append(((cell(text, 33) + " ", "strong"), *wrap(says, max(40, cells - 34), "dim")[0]))
    fields = ", ".join(ALIASES)
    return [*lines, *wrap(f"Fields: {fields}, and any field of the JSON records by its dotted name.", cells, "dim")]


def help_lines(screen: str, actions: Sequence[Action], cells: int, *, filters_first: bool = False) -> list[Line]:
    """The help text of a screen; how to write a filter comes last, or first for whoever is typing one."""
    filters = filter_help(cells) if screen == "handshakes" else []
    lines = [*filters, EMPTY] if filters_first and filters else []
    lines += [*wrap(ABOUT.get(screen, ""), cells), EMPTY]
    keys = [(one.shown, f"{one.title}: {one.help} ({one.id})") for one in actions_of(screen, actions)]
    keys += list(OTHER_KEYS.get(screen, ()))
    for key, text in keys:
        wide = len(key) > 8
        if wide:
            lines.append(((key, "key"),))
        wrapped = wrap(text, cells - 10)
        lines.append(((cell("" if wide else key, 8) + "  ", "key"), *wrapped[0]))
        lines.extend(((" " * 10, "text"), *more) for more in wrapped[1:])
    lines += [EMPTY, *wrap(_OWN_KEYS, cells, "dim")]
    return lines if filters_first or not filters else [*lines, EMPTY, *filters]


class Help(ModalScreen[None]):
    """Lies over the screen that it explains."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,f1,q,ctrl+c,enter", "close", "Close")]

    def __init__(self, about: str, actions: Sequence[Action], *, filters_first: bool = False) -> None:
        super().__init__()
        self._about, self._actions, self._filters_first = about, actions, filters_first
        self.text = Panel(f"Help: {TITLES.get(about, about)}   (esc closes)", id="help-text")

    def compose(self) -> ComposeResult:
        """One panel with the text."""
        with Vertical(id="help"):
            yield self.text

    def on_mount(self) -> None:
        """Fill the panel once its width is known."""
        self.call_after_refresh(self._fill)

    def on_resize(self) -> None:
        """Fill the panel for the new width."""
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        cells = self.text.room[0] - 1
        self.text.put(help_lines(self._about, self._actions, cells, filters_first=self._filters_first))

    def action_close(self) -> None:
        """Close the help."""
        self.dismiss()
