"""The C structs, enums and numbers of tracer/bpf, read from the headers that define them and never spelled again.

The reading follows the C ABI of x86-64 and arm64: each member is aligned to its size. Tests hold it against the layout
that the compiler gave the same structs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tracer.ipc.layout import Field, Struct

BPF_DIR = Path(__file__).parents[1] / "bpf"
_HEADERS = ("event.h", "parse_link.h", "state.h", "filter.h")  # a struct stands behind those that it is made of

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_DEFINE = re.compile(r"^#define\s+(\w+)\s+(0x[0-9a-fA-F]+|\d+)\s*$", re.MULTILINE)
_ENUM = re.compile(r"^enum\s+\w+\s*\{(.*?)^\};", re.MULTILINE | re.DOTALL)
_STRUCT = re.compile(r"^struct\s+(\w+)\s*\{\n((?:(?!\}).*\n)*)\};$", re.MULTILINE)  # without attributes
_MEMBER = re.compile(
    r"(?:volatile\s+)?(?:struct\s+(?P<struct>\w+)|__u(?P<bits>8|16|32|64))\s+(?P<name>\w+)(?:\[(?P<count>\w+)\])?"
)


@dataclass(slots=True)
class Header:
    """What some headers define. Structs with members that this reading does not know are left out."""

    structs: dict[str, Struct] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # and the member that was not understood
    constants: dict[str, int] = field(default_factory=dict)  # numbers by #define, and members of enums
    _alignments: dict[str, int] = field(default_factory=dict)

    def read(self, text: str, defined: frozenset[str] = frozenset()) -> None:
        """Add what a header defines, compiled with these names `defined`."""
        text = _chosen(_COMMENT.sub("", text), defined)
        self.constants |= {name: int(value, 0) for name, value in _DEFINE.findall(text)}
        for body in _ENUM.findall(text):
            value = -1
            for member in filter(None, (part.strip() for part in body.split(","))):
                name, _, given = (part.strip() for part in member.partition("="))
                value = int(given, 0) if given else value + 1
                self.constants[name] = value
        for name, body in _STRUCT.findall(text):
            members = [(part.strip(), _MEMBER.fullmatch(part.strip())) for part in body.split(";")[:-1]]
            known = [one for _, one in members if one and (not one["struct"] or one["struct"] in self.structs)]
            if len(known) == len(members):
                self._add(name, known)
            else:
                self.left_out[name] = next(text for text, one in members if one not in known)

    def _add(self, name: str, members: list[re.Match[str]]) -> None:
        fields, offset, widest = [], 0, 1
        for member in members:
            layout: str | Struct
            if member["struct"]:
                layout = self.structs[member["struct"]]
                size, alignment = layout.size, self._alignments[member["struct"]]
            else:
                size = alignment = int(member["bits"]) // 8
                layout = "u1" if size == 1 else f"<u{size}"
            count = member["count"] or "1"
            times = int(count) if count.isdigit() else self.constants[count]
            offset = _up(offset, alignment)
            fields.append(Field(member["name"], offset, layout, times))
            offset += size * times
            widest = max(widest, alignment)
        self.structs[name] = Struct(_up(offset, widest), fields)
        self._alignments[name] = widest


def _up(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _chosen(text: str, defined: frozenset[str]) -> str:
    """The lines that the preprocessor lets through. Raises ValueError for a condition other than a name."""
    open_: list[bool] = []
    lines = []
    for line in text.splitlines(keepends=True):
        words = line.split()
        if words[:1] == ["#ifdef"]:
            open_.append(words[1] in defined)
        elif words[:1] == ["#ifndef"]:
            open_.append(words[1] not in defined)
        elif words and words[0] in ("#if", "#elif"):
            raise ValueError(f"cannot decide {line.strip()!r}")
        elif words[:1] == ["#else"]:
            open_[-1] = not open_[-1]
        elif words[:1] == ["#endif"]:
            open_.pop()
        elif all(open_):
            lines.append(line)
    return "".join(lines)


@cache
def header(*, packets: bool = False) -> Header:
    """All that user space shares with the programs; `packets` as in their -DPACKETS."""
    found = Header()
    for name in _HEADERS:
        found.read((BPF_DIR / name).read_text(encoding="utf-8"), frozenset({"PACKETS"} if packets else ()))
    return found


def struct(name: str, *, packets: bool = False) -> Struct:
    """One C struct. KeyError if there is none of that name, or a member of it is not understood."""
    found = header(packets=packets)
    if name in found.left_out:
        raise KeyError(f"struct {name}: cannot read the member {found.left_out[name]!r}")
    return found.structs[name]


def constant(name: str) -> int:
    """A number by #define, or a member of an enum. KeyError if there is none of that name."""
    return header().constants[name]
