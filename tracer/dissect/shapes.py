"""Messages that say what an earlier one said, known again without a walk through them.

A walk reads lengths, types and names, and jumps over the rest, mostly random. What it finds follows from the bytes that
it read and from the length of the whole: a message of that length with the same bytes in these places says the same.
One client's messages for one server differ in what is jumped over only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Generic, TypeVar

SIZES_MAX = 256  # lengths of messages that are remembered
SHAPES_MAX = 8  # of a length: many clients fill up to 517 bytes, and host names are of many lengths
KNOWN_MAX = 4096  # messages
PATIENCE = 8  # messages of other shapes until one takes the place of the oldest that is remembered
NEAR = 4  # bytes: places this near are looked at as one

Span = tuple[int, int]  # from, to
T = TypeVar("T")


@dataclass(slots=True)
class _Shape(Generic[T]):
    places: Struct
    known: dict[tuple[bytes, ...], T] = field(default_factory=dict)
    strangers: int = 0


class Shapes(Generic[T]):
    """Some shapes a length; what is known of each by the bytes that were read."""

    def __init__(self) -> None:
        self._by_size: dict[int, list[_Shape[T]]] = {}
        self._held = 0

    def find(self, data: bytes) -> T | None:
        """What a message like this one said; None if none was seen."""
        for shape in self._by_size.get(len(data), ()):
            found = shape.known.get(shape.places.unpack(data))
            if found is not None:
                return found
        return None

    def add(self, data: bytes, jumped: Sequence[Span], value: T) -> None:
        """A message that was walked through; `jumped` over were these bytes, in ascending order."""
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
