"""Words in the place of an interface that name none: what was meant."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tracer.cli.arguments import COMMANDS
from tracer.errors import UsageError
from tracer.linux import interfaces
from tracer.vocabulary.near import nearest
from tracer.vocabulary.own_command import tfotrace

# the first words of packet filters, as tcpdump takes them without an option
_OF_A_FILTER = frozenset(["tcp", "ip", "ip6", "host", "net", "port", "portrange", "src", "dst", "not", "vlan"])
_RECORDS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json")


def such_as() -> str:
    """`, such as eth0`, if there is an interface that is up and not the loopback."""
    found = (link.name for link in interfaces.all_up() if not link.is_loopback)
    return next((f", such as {name}" for name in found), "")


def require_interfaces(words: Sequence[str]) -> None:
    """Raises UsageError for the first word that is neither `any` nor an interface or a group of this namespace."""
    for at, word in enumerate(words):
        if word == "any":
            continue
        try:
            interfaces.find_members(word)
        except UsageError as error:
            raise UsageError(_meant(words, at) or str(error)) from None


def _meant(words: Sequence[str], at: int) -> str | None:
    word = words[at]
    if os.path.isfile(word):
        replay = tfotrace("replay", word, root=not word.endswith(_RECORDS))
        return f"{word} is a file, no interface: show what it holds with `{replay}`"
    if word in _OF_A_FILTER:
        return f'"{word}" is no interface: give a packet filter by --filter "{" ".join(words[at:])}"'
    names = [link.name for link in interfaces.all_interfaces()]
    command = nearest(word, [*names, *COMMANDS]) if at == 0 else None
    if command in COMMANDS:
        return f'no command or interface "{word}": did you mean `{tfotrace(command, root=False)}`?'
    return None
