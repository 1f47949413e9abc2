"""Every action of the dashboard: key bindings, footer, help and palette are made from this list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.binding import Binding, BindingType

MAIN = ("overview", "handshakes", "peers", "statistics", "health")
UNDER = {"listeners": "peers"}  # screens without a number of their own: esc leads to another
TITLES = {
    "overview": "Overview", "handshakes": "Handshakes", "peers": "Peers", "statistics": "Statistics",
    "health": "Health", "listeners": "Listeners", "detail": "Handshake in detail",
}  # fmt: skip
EVERYWHERE = (*MAIN, *UNDER, "detail")
ALWAYS = ("help", "quit")  # in every footer
LISTS = ("handshakes", "peers", "listeners")
SUMMED_UP = ("overview", "statistics", "listeners")  # a chosen window is summed up there
OF_THE_PAST = ("overview", "handshakes", "peers", "statistics", "listeners")  # an earlier moment can be shown there


@dataclass(frozen=True, slots=True)
class Action:
    """One thing a user can do.

    `keys` are Textual's names, `shown` ours; `run` is the Textual action; `screens` is where it is valid; `footer` is
    its rank in the footer (smaller is more important, 0 is never shown).
    """

    id: str
    keys: tuple[str, ...]
    shown: str
    title: str
    help: str
    run: str
    screens: tuple[str, ...] = EVERYWHERE
    footer: int = 0
    palette: bool = True

    @property
    def binding(self) -> Binding:
        """The binding for all its keys."""
        return Binding(",".join(self.keys), self.run, self.title, key_display=self.shown, show=False, id=self.id)


@dataclass(frozen=True, slots=True)
class Move:
    """Keys that move in whatever has the focus: what they do in a list of rows, in lines that scroll, among options."""

    keys: str
    in_rows: str
    in_lines: str
    in_options: str


MOVES = (
    Move("up,k", "move(-1)", "scroll_up", "cursor_up"),
    Move("down,j", "move(1)", "scroll_down", "cursor_down"),
    Move("pageup,ctrl+b", "page(-1)", "page_up", "page_up"),
    Move("pagedown,ctrl+f", "page(1)", "page_down", "page_down"),
    Move("ctrl+u", "page(-0.5)", "half_page(-1)", "page_up"),
    Move("ctrl+d", "page(0.5)", "half_page(1)", "page_down"),
    Move("home,g", "first", "scroll_home", "first"),
    Move("end,G", "last", "scroll_end", "last"),
)
IN_ROWS: list[BindingType] = [Binding(one.keys, one.in_rows, show=False) for one in MOVES]
IN_LINES: list[BindingType] = [Binding(one.keys, one.in_lines, show=False) for one in MOVES]
IN_OPTIONS: list[BindingType] = [Binding(one.keys, one.in_options, show=False) for one in MOVES]


_SHOW = tuple(
    Action(f"show_{name}", (str(number),), str(number), TITLES[name], text, f"app.show('{name}')")
    for number, (name, text) in enumerate(
        (
            ("overview", "Is Fast Open working, what does it save, what fails?"),
            ("handshakes", "Each handshake as it settles"),
            ("peers", "Who it works for: one row per server or client"),
            ("statistics", "Distributions, options, names"),
            ("health", "Losses, kernel counters, sysctls, interfaces"),
        ),
        start=1,
    )
)

ACTIONS: tuple[Action, ...] = (
    *_SHOW,
    Action("detail", ("enter",), "enter", "Detail", "Open the selected handshake: ladder diagram, options, verdict",
           "detail", ("handshakes",), 1),
    Action("drill", ("enter",), "enter", "Its handshakes", "Show only the handshakes of the selected row",
           "drill", ("peers", "listeners"), 1),
    Action("listeners", ("l",), "l", "Listeners", "Who listens on this host, and what comes of it",
           "app.show('listeners')", MAIN, 18),
    Action("follow_way", ("enter",), "enter", "Its handshakes", "In a panel with a selected line: show only the "
           "handshakes that it stands for", "follow_way", ("overview", "statistics"), 1),
    Action("filter", ("slash",), "/", "Filter", "Show only handshakes that match an expression; it is checked while "
           "you type", "filter", ("handshakes",), 2),
    Action("filter_elsewhere", ("slash",), "/", "Filter", "Go to the handshakes and filter them",
           "app.filter_handshakes", ("overview", "peers", "statistics", "health", "listeners"), 7),
    Action("back", ("escape",), "esc", "Back", "Close this view; on Handshakes, drop the filter, "
           "or go back to where they were asked for",
           "back", ("handshakes", *UNDER, "detail"), 8),
    Action("sort", ("s",), "s", "Sort", "Sort by the next column", "sort_next", LISTS, 3),
    Action("reverse", ("S", "upper_s"), "S", "Reverse", "Reverse the order", "sort_reverse", LISTS, 6),
    Action("pause", ("space",), "space", "Pause", "Freeze the view; collection goes on, and new handshakes are counted",
           "app.pause", EVERYWHERE, 4),
    Action("window", ("w",), "w", "Window", "Sum up the last minute, 5 minutes, hour, or all handshakes",
           "app.next_window", SUMMED_UP, 5),
    Action("earlier", ("left_square_bracket",), "[", "Earlier", "Freeze the view on an earlier moment",
           "app.walk(-1)", OF_THE_PAST, 15),
    Action("later", ("right_square_bracket",), "]", "Later", "Go on to a later moment, at last to now", "app.walk(1)",
           OF_THE_PAST, 16),
    Action("much_earlier", ("left_curly_bracket",), "{", "Much earlier", "Ten steps earlier", "app.walk(-10)",
           OF_THE_PAST),
    Action("much_later", ("right_curly_bracket",), "}", "Much later", "Ten steps later", "app.walk(10)",
           OF_THE_PAST),
    Action("follow", ("f",), "f", "Follow", "Keep the newest handshake selected, or stay with the selected one",
           "follow", ("handshakes",), 5),
    Action("columns", ("c",), "c", "Columns", "Choose the columns", "columns", ("handshakes",), 9),
    Action("copy", ("y",), "y", "Copy", "Copy the selected row to the clipboard as JSON", "copy",
           (*LISTS, "detail"), 10),
    Action("export", ("e",), "e", "Export", "Write the listed handshakes to a JSON lines file in the current folder",
           "export", ("handshakes",), 11),
    Action("copy_ladder", ("Y", "upper_y"), "Y", "Copy ladder", "Copy the handshake's ladder diagram as plain text",
           "copy_ladder", ("handshakes", "detail"), 15),
    Action("export_ladder", ("E", "upper_e"), "E", "Export ladder", "Write the handshake's ladder diagram to a text "
           "file in the current folder", "export_ladder", ("handshakes", "detail"), 16),
    Action("next", ("n", "right"), "n", "Next", "Go to the next handshake in the list", "step(1)", ("detail",), 1),
    Action("previous", ("p", "left"), "p", "Previous", "Go to the previous handshake in the list", "step(-1)",
           ("detail",), 2),
    Action("clear", ("x",), "x", "Clear", "Forget everything and count from now on (asks first)",
           "app.clear", (*MAIN, *UNDER), 12),
    Action("theme", ("t",), "t", "Theme", "Next theme: dark, light, the terminal's 16 colours on dark or on light",
           "app.next_theme", EVERYWHERE, 13),
    Action("save_settings", ("W", "upper_w"), "W", "Save settings", "Write theme, columns, order and window to your "
           "tfotrace.toml (asks first)", "app.save_settings", EVERYWHERE, 17),
    Action("palette", ("ctrl+p",), "ctrl+p", "Palette", "Find an action by name", "app.command_palette",
           EVERYWHERE, 14, palette=False),
    Action("help", ("question_mark", "f1"), "?", "Help", "Explain this screen and its keys", "app.help",
           EVERYWHERE, 0),
    Action("quit", ("q", "ctrl+c"), "q", "Quit", "Detach the programs, print the summary and leave",
           "app.quit", EVERYWHERE, 0),
)  # fmt: skip

# what the other keys do in the focused list or panel, for help only
_SELECT = ("↑ ↓ j k pgup pgdn ctrl+b ctrl+f ctrl+u ctrl+d home end g G", "move the selection by a row, a page, half a "
           "page, or to an end")  # fmt: skip
_SCROLL = ("↑ ↓ j k pgup pgdn ctrl+b ctrl+f ctrl+u ctrl+d home end g G", "scroll by a line, a page, half a page, or to "
           "an end")  # fmt: skip
_PANELS = (("tab", "go to the next panel"), _SCROLL)
_RANKED = (
    _SELECT,
    ("← →", "scroll sideways"),
    ("mouse", "click a row to select it, click again for its handshakes, click a heading to sort by it"),
)
OTHER_KEYS: dict[str, tuple[tuple[str, str], ...]] = {
    "handshakes": (
        _SELECT,
        ("← →", "scroll sideways"),
        ("mouse", "click a row to select it, click again to open it, click a heading to sort by it"),
    ),
    "peers": _RANKED,
    "listeners": _RANKED,
    "detail": (_SCROLL,),
    "overview": _PANELS,
    "statistics": _PANELS,
    "health": _PANELS,
}


def actions_of(screen: str, actions: Sequence[Action] = ACTIONS) -> list[Action]:
    """The actions valid on a screen, in the order of the list."""
    return [action for action in actions if screen in action.screens]


def bindings_of(screen: str) -> list[Binding]:
    """The bindings of a screen."""
    return [action.binding for action in actions_of(screen)]


def footer_of(screen: str, actions: Sequence[Action] = ACTIONS) -> list[Action]:
    """The actions in a screen's footer, the most important first, then ? and q, which end it."""
    ranked = sorted((one for one in actions_of(screen, actions) if one.footer), key=lambda one: one.footer)
    return [*ranked, *(one for one in actions if one.id in ALWAYS)]
