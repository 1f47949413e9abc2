"""Text for people: strings from the network made safe for a terminal, widths and plurals."""

from __future__ import annotations

import unicodedata

# control, format (right-to-left marks too), surrogate, private use, unassigned, line and paragraph separators
_UNFIT = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str) -> str:
    """`text` with an escape for everything that could move the cursor, set a colour or change the direction."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in _UNFIT else c for c in text)


def cells(text: str) -> int:
    """How wide a printable text is on a terminal."""
    return sum(_cells(character) for character in text)


def cut(text: str, room: int) -> str:
    """A printable text cut to at most `room` cells, with "…" at the cut."""
    if cells(text) <= room:
        return text
    kept, used = [], 0
    for character in text:
        used += _cells(character)
        if used >= room:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…" if room > 0 else ""


def cell(text: str, room: int, right: bool = False) -> str:
    """A printable text cut or padded to exactly `room` cells."""
    text = cut(text, room)
    gap = " " * (room - cells(text))
    return gap + text if right else text + gap


def plural(number: int, thing: str) -> str:
    """The word after a number: 1 handshake, 2 handshakes."""
    return thing if number == 1 else f"{thing}s"


def times(number: int) -> str:
    """ "once", or "N times"."""
    return "once" if number == 1 else f"{number} times"


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
