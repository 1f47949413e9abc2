"""ctypes structures, as bcc makes them, become dtypes of the same offsets."""

from __future__ import annotations

import ctypes

import msgspec
import numpy as np
import pytest

from tracer.ipc import layout


class Inner(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_ubyte), ("value", ctypes.c_ushort)]


class Outer(ctypes.Structure):
    _fields_ = [
        ("id", ctypes.c_ulonglong),
        ("signed", ctypes.c_int),
        ("inner", Inner),
        ("bytes", ctypes.c_ubyte * 5),
        ("many", Inner * 3),
    ]


def test_offsets_sizes_and_values_agree() -> None:
    described = layout.describe(Outer)
    sent = msgspec.json.decode(msgspec.json.encode(described), type=layout.Struct)
    dtype = layout.to_dtype(sent)
    assert dtype.itemsize == ctypes.sizeof(Outer)
    value = Outer(7, -3, Inner(1, 513), (1, 2, 3, 4, 5), (Inner(9, 9), Inner(8, 8), Inner(7, 65535)))
    row = np.frombuffer(bytes(value), dtype)[0]
    assert (row["id"], row["signed"], row["inner"]["value"]) == (7, -3, 513)
    assert row["bytes"].tolist() == [1, 2, 3, 4, 5]
    assert row["many"]["value"].tolist() == [9, 8, 65535]


def test_members_are_found_by_name() -> None:
    described = layout.describe(Outer)
    assert described.field("inner").offset == Outer.inner.offset
    assert described.nested("inner").size == ctypes.sizeof(Inner)
    with pytest.raises(KeyError):
        described.field("none")
    with pytest.raises(KeyError):
        described.nested("id")
