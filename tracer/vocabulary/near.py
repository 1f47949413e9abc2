"""A word that was meant, for one that is unknown."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like `word`, whatever its case; None if none is like it."""
    by_plain = {one.casefold(): one for one in known}
    found = get_close_matches(word.casefold(), by_plain, 1)
    return by_plain[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean eth0?`, or nothing, to follow a sentence on an unknown word."""
    found = nearest(word, known)
    return "" if found is None else f": did you mean {found}?"
