"""A word that was meant, for one that is unknown."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like `word`; None if none is like it."""
    return next(iter(get_close_matches(word, list(known), 1)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean eth0?`, or nothing, to follow a sentence on an unknown word."""
    found = nearest(word, known)
    return "" if found is None else f": did you mean {found}?"
