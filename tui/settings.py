"""A user's settings of the dashboard: what tfotrace.toml says, and how what is on the screen gets into it.

    theme = "ansi-dark"           # tfotrace-dark, tfotrace-light, ansi-dark, ansi-light
    columns = ["time", "server"]  # of the list of handshakes; [] for those that fit the screen
    sort = "-rtt"                 # a column; with - the greatest or newest comes first
    window = "5m"                 # 1m, 5m, 1h, all; a replay begins with all

    [keys]                        # of actions by their names, which help shows in ( )
    pause = "p"
    quit = ["q", "ctrl+x"]

Where the file is: tui/settings_file.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from tracer.aggregate.history import Window
from tracer.vocabulary import spans
from tui.actions import ACTIONS
from tui.rebinding import KeysError, rebound
from tui.themes import CYCLE

_FEW = 6  # so many words are all named in a sentence
_HEAD = "# Settings of tfotrace's dashboard.\n"


class SettingsError(Exception):
    """What is wrong in the file, and in which line."""


@dataclass(frozen=True, slots=True)
class Settings:
    """None: as without settings."""

    theme: str | None = None
    columns: tuple[str, ...] | None = None  # (): those that fit the screen
    sort: tuple[str, bool] | None = None  # a column; descending?
    window: Window | None = None
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def parse(text: str) -> tuple[Settings, tuple[str, ...]]:
    """The settings, and the names in the file that mean nothing.

    Raises:
        SettingsError: a line is wrong.
    """
    found = _document(text).unwrap()
    values: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in found.items():
        if name in _READ:
            values[name] = _read(text, name, value)
        else:
            unknown.append(name)
    keys: dict[str, tuple[str, ...]] = values.get("keys", {})
    known = {one.id for one in ACTIONS}
    unknown += [f"keys.{name}" for name in keys if name not in known]
    values["keys"] = {name: given for name, given in keys.items() if name in known}
    _try_keys(text, values["keys"])
    return Settings(**values), tuple(unknown)


def _read(text: str, name: str, value: object) -> Any:
    try:
        return _READ[name](value)
    except KeysError as error:
        raise SettingsError(f"line {_line_of_keys(text, error.ids)}: {error}") from None
    except ValueError as error:
        raise SettingsError(f"line {_line_of(text, name)}: {error}") from None


def changed(text: str, settings: Settings) -> str:
    """The file's text with these settings, all but keys; the rest of it, comments too, stays as it is.

    A window of None leaves that of the file.

    Raises:
        SettingsError: the text is not TOML.
    """
    document = _document(text or _HEAD)
    sort, descending = settings.sort or ("time", True)
    document["theme"] = settings.theme
    document["columns"] = list(settings.columns or ())
    document["sort"] = f"-{sort}" if descending else sort
    if settings.window is not None:
        document["window"] = settings.window.value
    return str(document.as_string())


def _document(text: str) -> Any:
    import tomlkit  # only who has a file waits for it
    from tomlkit.exceptions import ParseError, TOMLKitError

    try:
        return tomlkit.parse(text)
    except ParseError as error:
        says = str(error).partition(" at line ")[0]
        raise SettingsError(f"line {error.line}: this is not TOML: {says}") from None
    except TOMLKitError as error:
        raise SettingsError(f"line 1: this is not TOML: {error}") from None


def _line_of(text: str, name: str, begin: int = 1, before: str = r"(\[\s*)?") -> int:
    """The line where a name gets its value, or begins a table: the first from `begin` on, or that."""
    pattern = re.compile(rf"""\s*{before}["']?{re.escape(name)}["']?\s*[=.\]]""")
    lines = text.splitlines()[begin - 1 :]
    return next((number for number, line in enumerate(lines, begin) if pattern.match(line)), begin)


def _line_of_keys(text: str, ids: Iterable[str]) -> int:
    """The last of the lines where actions get their keys; outside [keys] some names are those of settings."""
    begin = _line_of(text, "keys")
    is_table = text.splitlines()[begin - 1].lstrip().startswith("[")
    before = "" if is_table else r"""["']?keys["']?\s*\.\s*"""
    return max((_line_of(text, name, begin, before) for name in ids), default=begin)


def _try_keys(text: str, keys: Mapping[str, Sequence[str]]) -> None:
    try:
        rebound(keys)
    except KeysError as error:
        line = _line_of_keys(text, (name for name in error.ids if name in keys))
        raise SettingsError(f"line {line}: {error}") from None


def _one_of(what: str, words: Sequence[str]) -> Callable[[object], str]:
    def read(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        near = get_close_matches(str(value), words) if len(words) > _FEW else words
        raise ValueError(f"{value!r} is no {what}" + (f": use one of {', '.join(near)}" if near else ""))

    return read


def _column(value: object) -> str:
    from tracer.store.list_columns import COLUMNS

    return _one_of("column", tuple(COLUMNS))(value)


def _columns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError('columns are a list, such as ["time", "server", "rtt"]')
    return tuple(dict.fromkeys(_column(one) for one in value))


def _sort(value: object) -> tuple[str, bool]:
    text = value if isinstance(value, str) else ""
    return _column(text.removeprefix("-") if text else value), text.startswith("-")


def _window(value: object) -> Window:
    length = spans.seconds(value) if isinstance(value, str) else None
    for one in Window:
        if value == one.value or (length is not None and one.seconds == length):
            return one
    raise ValueError(f"{value!r} is no window: use one of 1m, 5m, 1h, all")


def _keys(value: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise ValueError("[keys] is a table of actions and their keys")
    found = {}
    for name, given in value.items():
        listed = [given] if isinstance(given, str) else given
        if not isinstance(listed, list) or not listed or not all(isinstance(one, str) and one for one in listed):
            raise KeysError([name], f'{name} needs a key or a list of keys, such as "p" or ["p", "ctrl+p"]')
        found[name] = tuple(listed)
    return found


_READ: dict[str, Callable[[object], Any]] = {
    "theme": _one_of("theme", CYCLE),
    "columns": _columns,
    "sort": _sort,
    "window": _window,
    "keys": _keys,
}
