"""What a C struct looks like in memory: sizes and offsets, a numpy dtype of them, numbers in and out of bytes."""

from __future__ import annotations

import struct
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

    @property
    def number_size(self) -> int:
        """Its bytes if it is a single number, else 0."""
        return int(self.format[-1]) if isinstance(self.format, str) and self.count == 1 else 0


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

    def __contains__(self, name: str) -> bool:
        return any(field.name == name for field in self.fields)

    def nested(self, name: str) -> Struct:
        """The member of that name, which must be a struct."""
        found = self.field(name).format
        if isinstance(found, str):
            raise KeyError(f"{name} is not a struct")
        return found

    def pack_into(self, data: bytearray, **values: int) -> None:
        """Write some members, which are numbers."""
        for name, value in values.items():
            field = self.field(name)
            struct.pack_into(_code(field), data, field.offset, value)

    def pack(self, **values: int) -> bytes:
        """The struct with these members, which are numbers, and zeroes elsewhere."""
        data = bytearray(self.size)
        self.pack_into(data, **values)
        return bytes(data)

    def unpack(self, data: bytes | memoryview) -> dict[str, int]:
        """All members that are single numbers, by name."""
        return {one.name: struct.unpack_from(_code(one), data, one.offset)[0] for one in self.fields if one.number_size}

    def head(self, end: str) -> Struct:
        """The members in front of the one called `end`."""
        size = self.field(end).offset
        return Struct(size, [one for one in self.fields if one.offset < size])


def _code(field: Field) -> str:
    return "<" + {1: "B", 2: "H", 4: "I", 8: "Q"}[field.number_size]


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
