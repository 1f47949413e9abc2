"""C structs as dtypes of the same offsets, and numbers in and out of their bytes."""

from __future__ import annotations

import ctypes
import struct

import msgspec
import numpy as np
import pytest

from tracer.ipc import layout
from tracer.ipc.layout import Field, Struct


class Inner(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_ubyte), ("value", ctypes.c_ushort)]


class Outer(ctypes.Structure):
    _fields_ = [
        ("id", ctypes.c_ulonglong),
        ("number", ctypes.c_uint),
        ("inner", Inner),
        ("bytes", ctypes.c_ubyte * 5),
        ("many", Inner * 3),
    ]


INNER = Struct(4, [Field("kind", 0, "u1"), Field("value", 2, "<u2")])
OUTER = Struct(40, [
    Field("id", 0, "<u8"), Field("number", 8, "<u4"), Field("inner", 12, INNER), Field("bytes", 16, "u1", 5),
    Field("many", 22, INNER, 3),
])  # fmt: skip


def test_offsets_sizes_and_values_agree() -> None:
    sent = msgspec.json.decode(msgspec.json.encode(OUTER), type=Struct)
    dtype = layout.to_dtype(sent)
    assert dtype.itemsize == ctypes.sizeof(Outer)
    value = Outer(7, 3, Inner(1, 513), (1, 2, 3, 4, 5), (Inner(9, 9), Inner(8, 8), Inner(7, 65535)))
    row = np.frombuffer(bytes(value), dtype)[0]
    assert (row["id"], row["number"], row["inner"]["value"]) == (7, 3, 513)
    assert row["bytes"].tolist() == [1, 2, 3, 4, 5]
    assert row["many"]["value"].tolist() == [9, 8, 65535]


def test_members_are_found_by_name() -> None:
    assert OUTER.field("inner").offset == Outer.inner.offset
    assert OUTER.nested("inner").size == ctypes.sizeof(Inner)
    with pytest.raises(KeyError):
        OUTER.field("none")
    with pytest.raises(KeyError):
        OUTER.nested("id")


def test_numbers_in_and_out() -> None:
    value = Outer.from_buffer_copy(OUTER.pack(id=1 << 63, number=5))
    assert (value.id, value.number, value.inner.value) == (1 << 63, 5, 0)
    assert OUTER.unpack(bytes(value)) == {"id": 1 << 63, "number": 5}
    data = bytearray(bytes(value))
    OUTER.pack_into(data, number=6)
    assert OUTER.unpack(data) == {"id": 1 << 63, "number": 6}
    assert OUTER.head("inner").unpack(data[:12]) == {"id": 1 << 63, "number": 6}
    with pytest.raises(struct.error):
        OUTER.pack(number=-1)
