"""Recognises messages that say the same as an earlier one, without parsing them again.

A parse reads lengths, types and names, and skips the rest, which is mostly random. Its result depends only on the bytes
read and on the message's length: another message of that length with the same bytes at these places says the same.
One client's messages to one server differ only in the skipped bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from struct import Struct
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

SIZES_MAX = 256  # message lengths to remember
SHAPES_MAX = 8  # per length: many clients pad to 517 bytes, and host names have many lengths
KNOWN_MAX = 4096  # messages
PATIENCE = 8  # messages of other shapes until one replaces the oldest shape
NEAR = 4  # bytes: merge places this close

Span = tuple[int, int]  # from, to
T = TypeVar("T")


@dataclass(slots=True)
class _Shape:
    read: list[Span]
    places: Struct  # these bytes as strings, the others as padding
    columns: NDArray[np.intp]  # and their numbers
    known: dict[bytes, int] = field(default_factory=dict)
    strangers: int = 0

    @classmethod
    def of_size(cls, size: int, read: list[Span]) -> _Shape:
        """That of messages of this length."""
        ends = [0, *(stop for _, stop in read)]
        parts = [f"{start - end}x{stop - start}s" for end, (start, stop) in zip(ends, read, strict=False)]
        columns = np.concatenate([np.arange(start, stop) for start, stop in read])
        return cls(read, Struct(f"<{''.join(parts)}{size - ends[-1]}x"), columns)

    def of(self, data: bytes) -> bytes:
        """The bytes that are read."""
        return b"".join(self.places.unpack(data))


class Shapes(Generic[T]):
    """For each length some shapes; for each shape the known results by the bytes read.

    `values` are the results, which find_all() numbers; once there are KNOWN_MAX another list takes its place.
    """

    def __init__(self) -> None:
        self._by_size: dict[int, list[_Shape]] = {}
        self.values: list[T] = []

    def find(self, data: bytes) -> T | None:
        """The result of an earlier message like this one; None if there was none."""
        for shape in self._by_size.get(len(data), ()):
            number = shape.known.get(shape.of(data))
            if number is not None:
                return self.values[number]
        return None

    def find_all(self, messages: NDArray[np.uint8]) -> NDArray[np.intp]:
        """find() of many messages of one length, which are the rows: the result's number, -1 if there was none."""
        found = np.full(len(messages), -1, np.intp)
        rest = np.arange(len(messages))
        for shape in self._by_size.get(messages.shape[1], ()):
            read = np.take(messages, shape.columns, axis=1)[rest]
            keys = read.view(f"V{read.shape[1]}").reshape(-1).tolist()
            found[rest] = np.fromiter(map(shape.known.get, keys, repeat(-1)), np.intp, len(keys))
            rest = np.flatnonzero(found < 0)
            if not len(rest):
                break
        return found

    def add(self, data: bytes, jumped: Sequence[Span], value: T) -> None:
        """Remember a parsed message; the parse skipped the `jumped` bytes, in ascending order."""
        spans = _read(len(data), jumped)
        if len(self.values) >= KNOWN_MAX or (len(data) not in self._by_size and len(self._by_size) >= SIZES_MAX):
            self._by_size, self.values = {}, []
        shapes = self._by_size.setdefault(len(data), [])
        shape = next((one for one in shapes if one.read == spans), None)
        if shape is None:
            if len(shapes) >= SHAPES_MAX:
                shapes[0].strangers += 1
                if shapes[0].strangers < PATIENCE:
                    return
                del shapes[0]
            shape = _Shape.of_size(len(data), spans)
            shapes.append(shape)
        shape.known[shape.of(data)] = len(self.values)
        self.values.append(value)


def _read(size: int, jumped: Sequence[Span]) -> list[Span]:
    """The bytes between the spans. Spans may reach beyond the end."""
    found = []
    at = 0
    for start, end in jumped:
        stop = min(end, size)
        if stop - start > NEAR:
            found.append((at, start))
            at = stop
    return [(start, stop) for start, stop in (*found, (at, size)) if start < stop]
