r"""Regular expressions of filters: RE2's, whose time is linear in the length of the text.

Patterns meet the texts of strangers (SNI, HTTP Host, DNS names, process names). `re` would backtrack: a SNI of 50
letters and `([a-z0-9]+[-.]?)+$` would stop the process for ever. RE2 takes 27 ms and 3 MiB to load, so only who has a
pattern loads it; a pattern's memory ends at 8 MiB, whatever it meets.
Syntax: https://github.com/google/re2/wiki/Syntax (no look-around, no backreferences; \d, \s and \w are ASCII).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

_REMEMBERED = 4096  # texts of at most 256 characters: names come again, and to ask RE2 takes some 20 us


def searcher(pattern: str) -> Callable[[object], bool]:
    """Does a text contain what `pattern` describes, in upper or lower case?

    Raises:
        ValueError: RE2 does not take this pattern; the message is a sentence.
    """
    import re2

    options = re2.Options()
    options.case_sensitive = False
    options.never_capture = True  # only whether it matches is asked
    options.log_errors = False  # it would write to stderr
    try:
        search = re2.compile(pattern.encode(errors="surrogateescape"), options).search
    except re2.error as error:
        raise ValueError(_sentence(error)) from None

    @lru_cache(_REMEMBERED)
    def found(text: object) -> bool:
        return search(str(text).encode(errors="surrogatepass")) is not None

    return found


def _sentence(error: Exception) -> str:
    said = error.args[0]
    what, _, part = (said.decode(errors="backslashreplace") if isinstance(said, bytes) else str(said)).partition(": ")
    if what == "invalid perl operator" or (what == "invalid escape sequence" and part[1:2].isdigit()):
        why = "patterns have no look-around, backreferences or conditions, so that no text makes them slow"
        return f"{why}: {part} is not known"
    if what.startswith("pattern too large"):
        return "this regular expression is too large"
    return f"this is not a regular expression: {what}{': ' if part else ''}{part}"
