"""The four themes: dark, light, and the terminal's own 16 colours on dark and on light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from textual.theme import BUILTIN_THEMES, Theme

DARK = Theme(
    name="tfotrace-dark", dark=True, primary="#5fafd7", secondary="#87afaf", accent="#d7af5f", warning="#e5b567",
    error="#e8706f", success="#7fc97f", foreground="#d8dee4", background="#101418", surface="#101418",
    panel="#1b2228", boost="#232c34",
)  # fmt: skip
LIGHT = Theme(
    name="tfotrace-light", dark=False, primary="#1f5f8b", secondary="#3f6f6f", accent="#8a5a00", warning="#8a5a00",
    error="#b3261e", success="#1e6b2e", foreground="#1c2126", background="#fafaf7", surface="#fafaf7",
    panel="#ecece6", boost="#e0e0d8",
)  # fmt: skip
# the terminal's palette is not known: these of its colours are readable on a dark ground and on a light one in all
# common palettes; what is not readable on a light ground (green, yellow) gets a ground of its own in tfotrace.tcss
ANSI_DARK = replace(
    BUILTIN_THEMES["ansi-dark"], primary="ansi_cyan", accent="ansi_cyan", warning="ansi_bright_yellow",
    error="ansi_bright_red",
)  # fmt: skip
ANSI_LIGHT = replace(BUILTIN_THEMES["ansi-light"], accent="ansi_blue", warning="ansi_yellow")
OWN = (DARK, LIGHT, ANSI_DARK, ANSI_LIGHT)
CYCLE = ("tfotrace-dark", "tfotrace-light", "ansi-dark", "ansi-light")


def first_theme(color_system: str | None, environment: Mapping[str, str]) -> str:
    """The theme that fits the terminal: its own colours if it has at most 16; light if it says that it is light."""
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    light = background in ("7", "15")
    if color_system in (None, "standard", "windows"):
        return "ansi-light" if light else "ansi-dark"
    return "tfotrace-light" if light else "tfotrace-dark"


def next_theme(current: str) -> str:
    """The theme after this one."""
    return CYCLE[(CYCLE.index(current) + 1) % len(CYCLE)] if current in CYCLE else CYCLE[0]
