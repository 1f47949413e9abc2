"""Other keys for actions, as a user's settings have them: are they keys, and is each free where its action is valid?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import punctuation

from textual.binding import Binding
from textual.keys import Keys, key_to_character

from tui.actions import ACTIONS, EVERYWHERE, MOVES, Action


class KeysError(ValueError):
    """Keys that cannot be had: of which actions, and why."""

    def __init__(self, ids: Sequence[str], why: str) -> None:
        super().__init__(why)
        self.ids = ids


_CHARACTERS = {
    binding.key: character
    for character in punctuation.replace(",", "")
    for binding in Binding.make_bindings([Binding(character, "none")])
} | {"comma": ","}
# Textual has names for what is no key as well: <ignore>, <any>, <scroll-up>, ctrl-at
_NAMES = {name for name in (str(key.value) for key in Keys) if name[0] != "<" and name != "ctrl-at"} | {*_CHARACTERS}
_SHOWN = {"escape": "esc", "space": "space", "enter": "enter"}
_MOVING = {key for move in MOVES for key in move.keys.split(",")} | {"tab", "shift+tab"}


def key_name(key: str) -> str | None:
    """Textual's name of a key, which may be given as a character ("?" is question_mark); None if it is no key."""
    if key == " ":
        return "space"
    if len(key) == 1 and key.isprintable():
        name: str = next(iter(Binding.make_bindings([Binding("comma" if key == "," else key, "none")]))).key
        return name
    plain = key.removeprefix("alt+")
    return key if plain in _NAMES or (plain.isidentifier() and key_to_character(plain) is not None) else None


def shown(name: str) -> str:
    """A key as footer and help show it."""
    character = key_to_character(name) or ""
    return _SHOWN.get(name) or _CHARACTERS.get(name) or (character if character.isprintable() else "") or name


def _names(action_id: str, keys: Sequence[str]) -> tuple[str, ...]:
    found: list[str] = []
    for key in keys:
        name = key_name(key)
        if name is None:
            says = f'"{key}" is no key: write a character, or a name such as "space", "f5" or "ctrl+x"'
            raise KeysError([action_id], says)
        if name in _MOVING:
            raise KeysError([action_id], f"{action_id} cannot have {shown(name)}, which moves in lists and panels")
        found.append(name)
        if len(name) == 1 and name.isupper():  # terminals spell these in two ways
            found.append(f"upper_{name.lower()}")
    return tuple(found)


def rebound(keys: Mapping[str, Sequence[str]]) -> tuple[Action, ...]:
    """All actions, those named with these keys instead of their own.

    Raises:
        KeysError: something is no key, or has two meanings on a screen.
    """
    names = {action_id: _names(action_id, given) for action_id, given in keys.items()}
    actions = tuple(
        replace(one, keys=names[one.id], shown=shown(names[one.id][0])) if one.id in names else one for one in ACTIONS
    )
    for screen in EVERYWHERE:
        has: dict[str, str] = {}
        for one in actions:
            for key in one.keys if screen in one.screens else ():
                other = has.setdefault(key, one.id)
                if other != one.id:
                    raise KeysError([other, one.id], f"{other} and {one.id} both have {shown(key)} on {screen}")
    return actions
