"""The C structs of bpf/event.h as numpy dtypes, learnt from bcc and never spelled again.

`describe` runs in the short-lived process that has bcc; its result is plain JSON types and travels to the processes
that need a dtype (`to_dtype`) or just sizes and offsets (`Struct`).
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import numpy as np


class Field(msgspec.Struct, frozen=True):
    """One member of a C struct. `format` is a numpy type string or a nested struct; `count` > 1 is an array."""

    name: str
    offset: int
    format: str | Struct
    count: int = 1


class Struct(msgspec.Struct, frozen=True):
    """A C struct: its size in bytes, padding included, and its members."""

    size: int
    fields: list[Field]

    def field(self, name: str) -> Field:
        """The member of that name; KeyError if there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    def nested(self, name: str) -> Struct:
        """The member of that name, which must be a struct."""
        found = self.field(name).format
        if isinstance(found, str):
            raise KeyError(f"{name} is no struct")
        return found


def describe(ctype: Any) -> Struct:
    """The layout of a ctypes structure as bcc makes them (`table.Leaf`)."""
    fields = []
    for name, member, *_ in ctype._fields_:
        if name.startswith("__pad"):  # bcc's own alignment bytes
            continue
        count = 1
        if issubclass(member, ctypes.Array):
            count = member._length_
            member = member._type_
        layout: str | Struct
        if issubclass(member, (ctypes.Structure, ctypes.Union)):
            layout = describe(member)
        elif member is ctypes.c_char:  # bcc takes unsigned char for a character
            layout = "u1"
        else:
            signed = member(-1).value < 0
            layout = f"<{'i' if signed else 'u'}{ctypes.sizeof(member)}"
        fields.append(Field(name, getattr(ctype, name).offset, layout, count))
    return Struct(ctypes.sizeof(ctype), fields)


def to_dtype(struct: Struct) -> np.dtype[Any]:
    """A numpy structured dtype with exactly the offsets and the size of the C struct."""
    import numpy as np

    formats: list[Any] = []
    for field in struct.fields:
        base = field.format if isinstance(field.format, str) else to_dtype(field.format)
        formats.append(base if field.count == 1 else (base, (field.count,)))
    return np.dtype(
        {
            "names": [field.name for field in struct.fields],
            "formats": formats,
            "offsets": [field.offset for field in struct.fields],
            "itemsize": struct.size,
        }
    )


def read_u64s(struct: Struct, data: bytes | memoryview) -> dict[str, int]:
    """The members of a struct that consists of u64 only (the counters), by name."""
    values = memoryview(data)[: struct.size].cast("Q")
    return {field.name: values[field.offset // 8] for field in struct.fields}
