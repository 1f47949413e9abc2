"""Keys and their slots against a dict, also where keys share their hash."""

from __future__ import annotations

import numpy as np
import pytest

from tracer.aggregate.keyindex import ABSENT, U64, KeyIndex, Slots


class Weak(KeyIndex):
    """Three hashes for all keys: most keys share theirs with others."""

    def hash(self, keys: U64) -> U64:
        found: U64 = keys.sum(axis=1, dtype=np.uint64) % np.uint64(3)
        return found


def no_room(_wanted: int, _found: Slots) -> None:
    raise AssertionError("there is room")


@pytest.mark.parametrize("kind", [KeyIndex, Weak])
def test_a_key_keeps_its_slot_and_shares_it_with_none(kind: type[KeyIndex]) -> None:
    rng = np.random.default_rng(1)
    index = kind(3, 64)
    expected: dict[bytes, int] = {}

    def room(wanted: int, found: Slots) -> None:
        free = 64 - len(index)
        gone = np.setdiff1d(index.live(), found)[: wanted - free + 5]
        index.remove(gone)
        for key in [key for key, slot in expected.items() if slot in gone]:
            del expected[key]

    for _ in range(200):
        keys = rng.integers(0, 5, (30, 3)).astype(np.uint64)
        for key, slot in zip(keys, index.find(keys).tolist(), strict=True):
            assert expected.get(key.tobytes(), ABSENT) == slot
        for key, slot in zip(keys, index.place(keys, room).tolist(), strict=True):
            assert expected.setdefault(key.tobytes(), slot) == slot
            assert index.keys[slot].tolist() == key.tolist()
        assert len(index) == len(expected) == len(set(expected.values())) <= 64
        assert index.live().tolist() == sorted(expected.values())


@pytest.mark.parametrize("kind", [KeyIndex, Weak])
def test_of_too_many_new_keys_the_first_are_taken(kind: type[KeyIndex]) -> None:
    index = kind(1, 64)
    keys = np.array([[7], [8], [7], [9], [10], [8]], np.uint64)
    slots = index.place(keys, no_room, 2)
    assert (slots == ABSENT).tolist() == [False, False, False, True, True, False]
    assert slots[0] == slots[2] != slots[1] == slots[5]


def test_an_empty_index_and_no_keys() -> None:
    index = KeyIndex(2, 4)
    assert index.find(np.ones((2, 2), np.uint64)).tolist() == [ABSENT, ABSENT]
    assert index.place(np.zeros((0, 2), np.uint64), no_room).tolist() == []
    index.place(np.ones((1, 2), np.uint64), no_room)
    index.remove(index.live())
    assert index.find(np.ones((1, 2), np.uint64)).tolist() == [ABSENT]
