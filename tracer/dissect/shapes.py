"""Recognises messages that say the same as an earlier one, without parsing them again.

A parse reads lengths, types and names, and skips the rest, which is mostly random. Its result depends only on the bytes
read and on the message's length: another message of that length with the same bytes at these places says the same.
One client's messages to one server differ only in the skipped bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Generic, TypeVar

SIZES_MAX = 256  # message lengths to remember
SHAPES_MAX = 8  # per length: many clients pad to 517 bytes, and host names have many lengths
KNOWN_MAX = 4096  # messages
PATIENCE = 8  # messages of other shapes until one replaces the oldest shape
NEAR = 4  # bytes: merge places this close

Span = tuple[int, int]  # from, to
T = TypeVar("T")


@dataclass(slots=True)
class _Shape(Generic[T]):
    places: Struct
    known: dict[tuple[bytes, ...], T] = field(default_factory=dict)
    strangers: int = 0


class Shapes(Generic[T]):
    """For each length some shapes; for each shape the known results by the bytes read."""

    def __init__(self) -> None:
        self._by_size: dict[int, list[_Shape[T]]] = {}
        self._held = 0

    def find(self, data: bytes) -> T | None:
        """The result of an earlier message like this one; None if there was none."""
        for shape in self._by_size.get(len(data), ()):
            found = shape.known.get(shape.places.unpack(data))
            if found is not None:
                return found
        return None

    def add(self, data: bytes, jumped: Sequence[Span], value: T) -> None:
        """Remember a parsed message; the parse skipped the `jumped` bytes, in ascending order."""
        spelled = _format(len(data), jumped)
        if self._held >= KNOWN_MAX or (len(data) not in self._by_size and len(self._by_size) >= SIZES_MAX):
            self._forget()
        shapes = self._by_size.setdefault(len(data), [])
        shape = next((one for one in shapes if one.places.format == spelled), None)
        if shape is None:
            if len(shapes) >= SHAPES_MAX:
                shapes[0].strangers += 1
                if shapes[0].strangers < PATIENCE:
                    return
                self._held -= len(shapes.pop(0).known)
            shape = _Shape(Struct(spelled))
            shapes.append(shape)
        shape.known[shape.places.unpack(data)] = value
        self._held += 1

    def _forget(self) -> None:
        self._by_size.clear()
        self._held = 0


def _format(size: int, jumped: Sequence[Span]) -> str:
    """The bytes between the spans as strings, the spans as padding. Spans may reach beyond the end."""
    parts = ["<"]
    at = 0
    for start, end in jumped:
        stop = min(end, size)
        if stop - start > NEAR:
            parts.append(f"{start - at}s{stop - start}x")
            at = stop
    return "".join([*parts, f"{size - at}s"])
