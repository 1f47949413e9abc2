"""The data of first SYNs, many at a time: columns that say where each one's bytes lie.

A handshake's id and its first SYN's time are the key: two sides of a router see one id at two times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from tracer.handshake.events import U32, U64, Indexes, pick, together

PayloadKey = tuple[int, int]  # handshake id, first SYN's time in ns
# structured arrays of _PLACE
Places: TypeAlias = NDArray[np.void]

_PLACE: np.dtype[Any] = np.dtype([
    ("key", np.uint64), ("id", np.uint64), ("syn_ns", np.uint64), ("start", np.uint64), ("block", np.uint64),
    ("captured", np.uint32), ("wire_len", np.uint32),
])  # fmt: skip
_MIX = np.uint64(0x9E3779B97F4A7C15)


class SynPayload(msgspec.Struct, frozen=True, gc=False):
    """The first SYN's data as captured: `wire_len` bytes were sent, `data` holds the first of them."""

    id: int
    syn_ns: int
    wire_len: int
    data: bytes


@dataclass(frozen=True, slots=True)
class PayloadBlock:
    """Payloads in one piece of memory: each has `captured` bytes there from `starts` on."""

    memory: bytes
    ids: U64
    syn_ns: U64
    starts: Indexes
    captured: U32
    wire_len: U32

    @classmethod
    def of(cls, payloads: Iterable[SynPayload]) -> PayloadBlock:
        """Single payloads as a block."""
        kept = list(payloads)
        sizes = np.array([len(one.data) for one in kept], np.uint32)
        return cls(
            b"".join(one.data for one in kept),
            np.array([one.id for one in kept], np.uint64),
            np.array([one.syn_ns for one in kept], np.uint64),
            (np.cumsum(sizes) - sizes).astype(np.intp),
            sizes,
            np.array([one.wire_len for one in kept], np.uint32),
        )

    def places(self, number: int) -> Places:
        """Where they lie, if the block has this number."""
        found = np.empty(len(self.ids), _PLACE)
        found["key"] = _keys(self.ids, self.syn_ns)
        found["id"], found["syn_ns"], found["start"], found["block"] = self.ids, self.syn_ns, self.starts, number
        found["captured"], found["wire_len"] = self.captured, self.wire_len
        return found


def no_places() -> Places:
    """None at all."""
    return np.empty(0, _PLACE)


def merged(parts: Sequence[Places]) -> Places:
    """All of them, by ascending key; of several with one id and time the last. There is at least one part."""
    whole = together(parts)
    # those that are sorted already are merged in one go
    whole = pick(whole, np.argsort(whole["key"], kind="stable"))
    same = (whole["key"][1:] == whole["key"][:-1]) & (whole["id"][1:] == whole["id"][:-1])
    return pick(whole, np.flatnonzero(~np.append(same, np.False_))) if same.any() else whole


def find(places: Places, ids: U64, syn_ns: U64) -> Indexes:
    """The index of each of these among places by ascending key; -1 where there is none."""
    if not len(places):
        return np.full(len(ids), -1, np.intp)
    at = np.searchsorted(places["key"], _keys(ids, syn_ns))
    at[at == len(places)] = 0
    found = pick(places, at)
    return np.where((found["id"] == ids) & (found["syn_ns"] == syn_ns), at, -1)


def _keys(ids: U64, syn_ns: U64) -> U64:
    return ids + syn_ns * _MIX


class SynPayloads(Mapping[PayloadKey, SynPayload]):
    """Payloads by key; find() and data() look many up at once.

    `places` are as merged() gives them, `blocks` what they lie in, by ascending number.
    """

    __slots__ = ("_blocks", "places")

    def __init__(self, places: Places, blocks: Mapping[int, bytes]) -> None:
        self.places = places
        self._blocks = blocks

    @classmethod
    def of(cls, payloads: Iterable[SynPayload]) -> SynPayloads:
        """Single payloads; of equal keys the last."""
        block = PayloadBlock.of(payloads)
        return cls(merged([block.places(0)]), {0: block.memory})

    @classmethod
    def joined(cls, parts: Iterable[SynPayloads]) -> SynPayloads:
        """All of some; of equal keys the last."""
        places, blocks = [no_places()], dict[int, bytes]()
        for part in parts:
            moved = part.places.copy()
            numbers = np.array(list(part._blocks), np.uint64)
            moved["block"] = np.searchsorted(numbers, moved["block"]) + len(blocks)
            blocks |= enumerate(part._blocks.values(), len(blocks))
            places.append(moved)
        return cls(merged(places), blocks)

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[PayloadKey]:
        return zip(self.places["id"].tolist(), self.places["syn_ns"].tolist(), strict=True)

    def __getitem__(self, key: PayloadKey) -> SynPayload:
        at = self.find(*(np.array([one], np.uint64) for one in key))
        if at[0] < 0:
            raise KeyError(key)
        return SynPayload(*key, int(self.places["wire_len"][at[0]]), *self.data(at))

    def find(self, ids: U64, syn_ns: U64) -> Indexes:
        """The index of each of these; -1 where there is none."""
        return find(self.places, ids, syn_ns)

    def data(self, at: Indexes) -> list[bytes]:
        """The bytes of those with these indexes."""
        places, blocks = pick(self.places, at), self._blocks
        starts = places["start"]
        ends = starts + places["captured"]
        where = zip(places["block"].tolist(), starts.tolist(), ends.tolist(), strict=True)
        return [blocks[block][start:end] for block, start, end in where]


NO_PAYLOADS = SynPayloads(no_places(), {})
