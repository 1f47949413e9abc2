"""Parts of docs/REFERENCE.md that follow from the program: commands, options, keys, fields, words.

`make generate` writes them between `<!-- generated: NAME -->` and `<!-- end -->`; the rest is written by hand.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tracer.cli import arguments
from tracer.cli.examples import EXIT_CODES
from tracer.cli.parser import GROUPS
from tracer.cli.schema import json_schema
from tracer.filters.filter import ALIASES
from tracer.vocabulary.causes import CAUSES, HANDSHAKE_CAUSES
from tracer.vocabulary.meanings import AFTERS, EXPLANATIONS, REQUESTS, RESULTS, SETTLED
from tracer.vocabulary.vocabulary import GROUP_OF, Outcome, word
from tui.actions import ACTIONS, EVERYWHERE, TITLES

FILE = Path(__file__).resolve().parents[1] / "docs" / "REFERENCE.md"
_PART = re.compile(r"(<!-- generated: ([a-z ]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)
_OF_THE_CODE = re.compile(r" \((?:TFO|DESIGN)\.md[^)]*\)")  # for who reads docstrings
_WORDS_MAX = 12  # longer vocabularies have a table of their own, or are in the schema


def text() -> str:
    """What the file has to hold: its own text, with every generated part anew."""
    return _PART.sub(lambda found: f"{found[1]}{_blank(PARTS[found[2]]())}{found[3]}", FILE.read_text())


def _blank(lines: Iterable[str]) -> str:
    return "\n" + "\n".join(lines) + "\n\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(text: str) -> str:
    return _OF_THE_CODE.sub("", " ".join(text.split())).replace("|", "\\|")


# --- the command line ---


def _commands() -> Iterator[str]:
    rows = []
    for command, make in arguments.PARSERS.items():
        lines = [f"tfotrace {command}".strip() + f" {line}".rstrip() for line in make().synopsis]
        says = arguments.COMMANDS.get(command, "trace")
        rows += [(f"`{line}`", says) for line in lines if not line.endswith("COMMAND [...]")]
    return _table(("command", "what it does"), rows)


def _options() -> Iterator[str]:
    """One table per group, with every option once; the last column says which commands have it."""
    parsers = {command or "trace": make() for command, make in arguments.PARSERS.items()}
    for title in GROUPS:
        found: dict[str, tuple[str, list[str]]] = {}
        for command, parser in parsers.items():
            for action in parser.groups[title]._group_actions:
                if action.help != argparse.SUPPRESS:
                    found.setdefault(_spelled(action), (str(action.help), []))[1].append(command)
        if found:
            rows = ((f"`{name}`", says, _of(commands, len(parsers))) for name, (says, commands) in found.items())
            yield from (f"### {title[0].upper()}{title[1:]}", "", *_table(("option", "meaning", "commands"), rows), "")


def _spelled(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings)
    return f"{names} {action.metavar or ''}".strip()


def _of(commands: list[str], all_of_them: int) -> str:
    return "all" if len(commands) == all_of_them else ", ".join(commands)


def _exit_codes() -> Iterator[str]:
    return _table(("exit status", "meaning"), ((str(code), says) for code, says in EXIT_CODES.items()))


# --- the dashboard ---


def _keys() -> Iterator[str]:
    def where(screens: tuple[str, ...]) -> str:
        return "everywhere" if set(screens) == set(EVERYWHERE) else ", ".join(TITLES[one] for one in screens)

    rows = ((f"`{one.shown}`", f"`{one.id}`", one.help, where(one.screens)) for one in ACTIONS)
    return _table(("key", "its name in `[keys]`", "what it does", "where"), rows)


# --- records ---


def _fields(record: str) -> Callable[[], Iterator[str]]:
    def table() -> Iterator[str]:
        definitions = json_schema()["$defs"]
        return _table(("field", "type", "meaning"), _leaves(definitions, definitions[record], "", {}))

    return table


def _leaves(
    definitions: dict[str, Any], struct: dict[str, Any], prefix: str, seen: dict[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Every field below a struct. A struct that was there before is told by the name that it had there."""
    for name, field in struct["properties"].items():
        called = f"{prefix}{name}"
        types = field.get("anyOf", [field])
        inner = next((one["$ref"].rpartition("/")[2] for one in types if "$ref" in one), None)
        null = " or null" if {"type": "null"} in types else ""
        says = field.get("description", "")
        if inner is None:
            yield f"`{called}`", _type(field, types) + null, says
        elif inner in seen:
            yield f"`{called}`", f"as `{seen[inner]}`{null}", says
        else:
            seen[inner] = called
            own = definitions[inner]
            yield f"`{called}`", f"object{null}", says or own.get("description", "").partition("\n\n")[0]
            rest = _beyond(definitions, own, seen)
            if rest is not own:
                yield f"`{called}.…`", "", f"what `{seen['Segment']}` has, and"
            yield from _leaves(definitions, rest, f"{called}.", seen)


def _beyond(definitions: dict[str, Any], struct: dict[str, Any], seen: dict[str, str]) -> dict[str, Any]:
    """A SYN-ACK is a segment and more: what is more."""
    segment = definitions["Segment"]["properties"]
    fields = struct["properties"]
    if "Segment" not in seen or fields is segment or not segment.keys() <= fields.keys():
        return struct
    return {"properties": {name: field for name, field in fields.items() if name not in segment}}


def _type(field: dict[str, Any], types: list[dict[str, Any]]) -> str:
    words = [one for one in field.get("enum", []) if one is not None]
    if words:
        return ", ".join(map(str, words)) if len(words) <= _WORDS_MAX else "a word"
    kind = next((one["type"] for one in types if one.get("type") not in (None, "null")), "string")
    if kind == "array":
        return "list"
    return {"string": "text", "integer": "whole number", "boolean": "true, false"}.get(kind, kind)


def _short_names() -> Iterator[str]:
    rows = ((f"`{short}`", ", ".join(f"`{name}`" for name in names)) for short, names in ALIASES.items())
    return _table(("short name", "stands for"), rows)


# --- words ---


def _words(head: str, meanings: dict[Any, str]) -> Callable[[], Iterator[str]]:
    return lambda: _table(
        (head, "meaning"), ((f"`{name}`", says) for name, says in meanings.items() if name is not None)
    )


def _outcomes() -> Iterator[str]:
    rows = (
        (f"`{word(one)}`", GROUP_OF[one].word, EXPLANATIONS[word(one)]) for one in Outcome if one is not Outcome.UNKNOWN
    )
    return _table(("`tfo.outcome`", "group", "meaning"), rows)


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "commands": _commands,
    "options": _options,
    "exit status": _exit_codes,
    "keys": _keys,
    "short names": _short_names,
    "handshake": _fields("Handshake"),
    "start": _fields("Start"),
    "stats": _fields("Stats"),
    "notice": _fields("NoticeRecord"),
    "end": _fields("End"),
    "requests": _words("`tfo.request`", REQUESTS),
    "outcomes": _outcomes,
    "causes": _words("`tfo.cause`", CAUSES),
    "handshake causes": _words("`handshake.cause`", HANDSHAKE_CAUSES),
    "results": _words("`handshake.result`", {name: says for name, says in RESULTS.items() if name != "none"}),
    "afters": _words("`handshake.after`", AFTERS),
    "settled by": _words("`handshake.settled_by`", {name: says for name, says in SETTLED.items() if name != "not"}),
}
