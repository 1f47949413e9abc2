"""Turns lines into Textual's segments, nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol, cast

from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tracer.words.signs import GROUP_SIGN
from tui.lines import STYLES, Line, safe

COMPONENTS = {f"t--{name}" for name in STYLES}


class StyleBook(Widget):
    """Holds the styles of tfotrace.tcss for all widgets: a lookup in each widget would cost far more.

    It is invisible, on the bottommost screen, so its colours are blended with the screen's background.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = COMPONENTS
    DEFAULT_CSS = "StyleBook { width: 1; height: 1; visibility: hidden; }"

    def __init__(self) -> None:
        super().__init__()
        self._on: dict[Color, Palette] = {}

    def forget(self) -> None:
        """Drop all styles after a change of theme."""
        self._on.clear()

    def on(self, background: Color) -> Palette:
        """The styles on a background."""
        palette = self._on.get(background)
        if palette is None:
            palette = self._on[background] = Palette(self, background.rich_color if background.a else None)
        return palette


class Palette:
    """The styles on one background, each made on first use."""

    def __init__(self, book: StyleBook, background: RichColor | None) -> None:
        self._book, self._background = book, background
        self._styles: dict[str, Style] = {}

    def __getitem__(self, name: str) -> Style:
        style = self._styles.get(name)
        if style is None:
            rules = self._book.get_component_styles(f"t--{name}")
            style = rules.rich_style
            if not rules.has_rule("background"):
                style = Style(color=style.color, bgcolor=self._background) + rules.text_style
            self._styles[name] = style
        return style


class HasBook(Protocol):
    """An app with a StyleBook."""

    book: StyleBook


def styles_of(widget: Widget) -> Palette:
    """The styles on a widget's current background."""
    return cast(HasBook, widget.app).book.on(widget.background_colors[1])


class Painted(Widget):
    """A widget of many lines: it looks for its styles once for all that it paints, for that takes long.

    It is never the first base of a class: Textual takes the rules of that one alone.
    """

    _palette: Palette | None = None

    @property
    def palette(self) -> Palette:
        """The styles on the widget's current background."""
        return self._palette or styles_of(self)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Paint lines."""
        self._palette = styles_of(self)
        try:
            return super().render_lines(crop)
        finally:
            self._palette = None


def strip(line: Line, styles: Palette | Mapping[str, Style], cells: int, over: Style | None = None) -> Strip:
    """A line as exactly `cells` cells; `over` is applied over every part (a cursor).

    This escapes any text that is still unescaped: no control character ever gets into a segment.
    """
    base = styles["text"]
    segments: list[Segment] = []
    used = 0
    for text, name in line:
        shown = safe(text)
        style = base if name == "text" else styles[name]
        used += cell_len(shown)
        if name in GROUP_SIGN and style.bgcolor != base.bgcolor:
            words = shown.rstrip(" ")
            if "▀" <= words.lstrip(" ")[:1] <= "▟":  # a bar is of the colour that is the words' ground
                style = Style(color=style.bgcolor, bgcolor=base.bgcolor)
            else:  # the ground is that of the words alone
                begin = len(words) - len(words.lstrip(" "))
                for part, own in ((words[:begin], base), (words[begin:], style)):
                    segments.append(Segment(part, own if over is None else own + over))
                shown, style = shown[len(words) :], base
        segments.append(Segment(shown, style if over is None else style + over))
    if used < cells:
        segments.append(Segment(" " * (cells - used), base if over is None else base + over))
        used = cells
    made = Strip(segments, used)
    return made.crop(0, cells) if used > cells else made
