"""struct handshake_event as a numpy dtype without bcc: read from event.h by the rules of the C ABI.

tests/netns/test_e2e_layout.py holds this reading against the layout that tracer learns from the compiled struct.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.ipc.layout import Field, Struct, to_dtype

EVENT_H = Path(__file__).resolve().parents[2] / "tracer" / "bpf" / "event.h"

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_CONDITIONAL = re.compile(r"^#ifdef .*?^#endif\n", re.DOTALL | re.MULTILINE)
_DEFINE = re.compile(r"^#define\s+(\w+)\s+(\d+)\s*$", re.MULTILINE)
_STRUCT = re.compile(r"^struct\s+(\w+)\s*\{(.*?)^\};", re.MULTILINE | re.DOTALL)
_MEMBER = re.compile(r"(?:struct\s+(?P<struct>\w+)|__u(?P<bits>8|16|32|64))\s+(?P<name>\w+)(?:\[(?P<count>\w+)\])?")


def _up(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def read_structs(text: str) -> dict[str, Struct]:
    """Every struct of a header, by name. Raises ValueError for a member that is not understood."""
    text = _CONDITIONAL.sub("", _COMMENT.sub("", text))  # as programs are compiled unless somebody asks for more
    constants = {name: int(value) for name, value in _DEFINE.findall(text)}
    structs: dict[str, Struct] = {}
    alignments: dict[str, int] = {}
    for struct_name, body in _STRUCT.findall(text):
        fields, offset, widest = [], 0, 1
        for declaration in filter(None, (part.strip() for part in body.split(";"))):
            member = _MEMBER.fullmatch(declaration)
            if member is None:
                raise ValueError(f"struct {struct_name}: {declaration}")
            count = member["count"] or "1"
            times = int(count) if count.isdigit() else constants[count]
            layout: str | Struct
            if member["struct"]:
                layout = structs[member["struct"]]
                size, alignment = layout.size, alignments[member["struct"]]
            else:
                size = alignment = int(member["bits"]) // 8
                layout = "u1" if size == 1 else f"<u{size}"
            offset = _up(offset, alignment)
            fields.append(Field(member["name"], offset, layout, times))
            offset += size * times
            widest = max(widest, alignment)
        structs[struct_name] = Struct(_up(offset, widest), fields)
        alignments[struct_name] = widest
    return structs


@cache
def structs() -> dict[str, Struct]:
    """The structs of event.h."""
    return read_structs(EVENT_H.read_text())


@cache
def event_dtype() -> np.dtype[Any]:
    """struct handshake_event."""
    return to_dtype(structs()["handshake_event"])


def blank(count: int) -> NDArray[np.void]:
    """Records of zeroes."""
    return np.zeros(count, event_dtype())
