"""The four themes: dark, light, and the terminal's own 16 colours on dark and on light."""

from __future__ import annotations

from collections.abc import Mapping

from textual.theme import Theme

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
OWN = (DARK, LIGHT)
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
