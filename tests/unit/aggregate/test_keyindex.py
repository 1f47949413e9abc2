"""Keys and their slots against a dict, also if keys share a hash."""

from __future__ import annotations

import numpy as np
import pytest

from tracer.aggregate.keyindex import ABSENT, Indexes, KeyIndex
from tracer.handshake.events import U64


class Weak(KeyIndex):
    """Three hashes for all keys: most keys share theirs with others."""

    def hash(self, keys: U64) -> U64:
        found: U64 = keys.sum(axis=1, dtype=np.uint64) % np.uint64(3)
        return found


def never(_slots: Indexes) -> None:
    raise AssertionError("there is room")


@pytest.mark.parametrize("kind", [KeyIndex, Weak])
def test_a_key_keeps_its_slot_and_shares_it_with_none(kind: type[KeyIndex]) -> None:
    rng = np.random.default_rng(1)
    expected: dict[bytes, int] = {}
    latest: set[bytes] = set()

    def forget(slots: Indexes) -> None:
        gone = [key for key, slot in expected.items() if slot in slots]
        assert len(gone) == len(slots) >= 64 // 4
        assert latest.isdisjoint(gone)
        for key in gone:
            del expected[key]

    index = kind(3, 64, forget)
    for _ in range(200):
        keys = rng.integers(0, 5, (30, 3)).astype(np.uint64)
        for key, slot in zip(keys, index.find(keys).tolist(), strict=True):
            assert expected.get(key.tobytes(), ABSENT) == slot
        latest = {key.tobytes() for key in keys}
        for key, slot in zip(keys, index.place(keys).tolist(), strict=True):
            assert expected.setdefault(key.tobytes(), slot) == slot
            assert index.keys[slot].tolist() == key.tolist()
        assert len(index) == len(expected) == len(set(expected.values())) <= 64
        assert index.live().tolist() == sorted(expected.values())


@pytest.mark.parametrize("kind", [KeyIndex, Weak])
def test_of_too_many_new_keys_the_first_are_taken(kind: type[KeyIndex]) -> None:
    index = kind(1, 64, never)
    keys = np.array([[7], [8], [7], [9], [10], [8]], np.uint64)
    slots = index.place(keys, 2)
    assert (slots == ABSENT).tolist() == [False, False, False, True, True, False]
    assert slots[0] == slots[2] != slots[1] == slots[5]


def test_an_empty_index_and_no_keys() -> None:
    index = KeyIndex(2, 4, never)
    assert index.find(np.ones((2, 2), np.uint64)).tolist() == [ABSENT, ABSENT]
    assert index.place(np.zeros((0, 2), np.uint64)).tolist() == []
    index.place(np.ones((1, 2), np.uint64))
    assert index.find(np.ones((1, 2), np.uint64)).tolist() == index.live().tolist() == [0]


def test_of_too_many_keys_those_not_seen_for_longest_are_forgotten() -> None:
    gone: list[int] = []
    index = KeyIndex(1, 8, lambda slots: gone.extend(slots.tolist()))
    keys = np.arange(8, dtype=np.uint64)[:, None]
    for key in keys:
        index.place(key[None])
    index.find(keys[:1])
    index.place(keys[1:2])
    index.place(np.array([[99]], np.uint64))
    assert sorted(gone) == [2, 3]
    assert index.find(keys).tolist() == [0, 1, ABSENT, ABSENT, 4, 5, 6, 7]
