"""Every style can be read in each theme, in the palettes that terminals have, and the verdict stands out most."""

from __future__ import annotations

import pytest
from rich.color import Color
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from textual.pilot import Pilot

from tests.tui.driving import drive, press
from tui.app import Dashboard
from tui.lines import STYLES, cell
from tui.paint import strip
from tui.themes import CYCLE

Triplet = tuple[int, int, int]
LEAST = 3.5
# these are no words: parts of bars, and what is drawn over words that have their own colour
NO_WORDS = {"bar-track", "normal", "cursor-blur"}


def _palette(normal: str, bright: str, light: bool) -> TerminalTheme:
    def colours(text: str) -> list[Triplet]:
        return [(int(one[:2], 16), int(one[2:4], 16), int(one[4:], 16)) for one in text.split()]

    black, white = (0, 0, 0), (255, 255, 255)
    return TerminalTheme(white if light else black, black if light else white, colours(normal), colours(bright))


PALETTES = {
    "xterm": ("000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5",
              "7f7f7f ff0000 00ff00 ffff00 5c5cff ff00ff 00ffff ffffff"),
    "console": ("000000 aa0000 00aa00 aa5500 0000aa aa00aa 00aaaa aaaaaa",
                "555555 ff5555 55ff55 ffff55 5555ff ff55ff 55ffff ffffff"),
    "tango": ("2e3436 cc0000 4e9a06 c4a000 3465a4 75507b 06989a d3d7cf",
              "555753 ef2929 8ae234 fce94f 729fcf ad7fa8 34e2e2 eeeeec"),
}  # fmt: skip


def _light(colour: Triplet) -> float:
    parts = [value / 255 for value in colour]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(style: Style, palette: TerminalTheme) -> float:
    def shown(colour: Color | None, foreground: bool) -> Triplet:
        return tuple((colour or Color.default()).get_truecolor(palette, foreground))  # type: ignore[return-value]

    one, other = _light(shown(style.color, True)), _light(shown(style.bgcolor, False))
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def _styles(theme: str) -> dict[str, Style]:
    found: dict[str, Style] = {}

    async def script(pilot: Pilot[None], app: Dashboard) -> None:
        await press(pilot, "1")
        styles = app.book.on(app.screen.background_colors[1])
        found.update({name: styles[name] for name in STYLES})

    drive(script, theme=theme)
    return found


@pytest.mark.parametrize("theme", CYCLE)
def test_every_style_can_be_read_and_the_verdict_has_a_ground_of_its_own(theme: str) -> None:
    styles = _styles(theme)
    ground = styles["text"].bgcolor
    for name, (normal, bright) in PALETTES.items():
        palette = _palette(normal, bright, "light" in theme)
        for style in set(STYLES) - NO_WORDS:
            assert _contrast(styles[style], palette) >= LEAST, f"{style} in {theme}, {name}"
    for group in ("ok", "degraded", "failed"):
        assert styles[f"verdict-{group}"].bgcolor != ground
        assert styles[f"verdict-{group}"].bold
        assert not styles[group].bold


@pytest.mark.parametrize("theme", CYCLE)
def test_signals_are_green_yellow_and_red_and_nothing_else_has_these_colours(theme: str) -> None:
    styles = _styles(theme)

    def hue(name: str) -> Color | None:
        style = styles[name]
        return style.color if style.bgcolor == styles["text"].bgcolor else style.bgcolor

    if theme.startswith("ansi"):
        numbers = {name: hue(name) for name in ("ok", "degraded", "failed")}
        assert [one.number if one is not None else None for one in numbers.values()] == (
            [None, 3, 1] if "light" in theme else [2, 11, 9]
        )
    for name in ("dim", "title", "strong", "accent", "key", "header", "none", "normal"):
        colour = styles[name].color
        if colour is not None and not colour.is_default:
            parts = colour.get_truecolor()
            assert max(parts) - min(parts) < 40, f"{name} is coloured in {theme}"


def test_a_ground_is_that_of_the_words_alone() -> None:
    ground, base = Style(bgcolor="yellow"), Style(bgcolor="white")
    made = strip(
        ((cell("50 %", 8, right=True), "degraded"), ("  ", "degraded")), {"text": base, "degraded": ground}, 12
    )
    assert made.text == "    50 %    "
    assert "".join(one.text for one in made if one.style == ground) == "50 %"
