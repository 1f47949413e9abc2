"""Bounded memory: what is found, and what replaces what."""

from __future__ import annotations

import numpy as np
import pytest

from tracer.causes.slot_table import NumberHash, SlotTable, WordHash


def keys(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


# the upper bits choose the slot
ONE, SAME_SLOT, OTHER = (1 << 60) + 1, (1 << 60) + 3, (2 << 60) + 1


def test_what_was_noted_is_found() -> None:
    table = SlotTable(16, "noted")
    slots, own = table.claim(keys(ONE, OTHER))
    table["noted"][slots] = [5, 7]
    assert own.all()
    slots, known = table.find(keys(OTHER, ONE, SAME_SLOT))
    assert table["noted"][slots[:2]].tolist() == [7, 5]
    assert known.tolist() == [True, True, False]


def test_a_new_key_takes_the_place_and_begins_with_nothing() -> None:
    table = SlotTable(16, "noted")
    slots, _ = table.claim(keys(ONE))
    table["noted"][slots] = 5
    slots, own = table.claim(keys(SAME_SLOT))
    assert own.all()
    assert table["noted"][slots].tolist() == [0]
    assert not table.find(keys(ONE))[1].any()


def test_of_two_that_want_one_place_the_last_has_it() -> None:
    table = SlotTable(16, "noted")
    _, own = table.claim(keys(ONE, SAME_SLOT))
    assert own.tolist() == [False, True]


def test_clear() -> None:
    table = SlotTable(16, "noted")
    slots, _ = table.claim(keys(ONE))
    table["noted"][slots] = 5
    table.clear()
    assert not table.find(keys(ONE))[1].any()
    assert not table["noted"].any()


@pytest.mark.parametrize("width", [1, 2, 5])
def test_one_bit_anywhere_makes_another_hash(width: int) -> None:
    hashes = WordHash(width)
    rows = np.zeros((64 * width + 1, width), np.uint64)
    for bit in range(64 * width):
        rows[bit, bit // 64] = 1 << bit % 64
    found = hashes.of(*rows.T)
    assert len(set(found.tolist())) == len(rows)
    assert (WordHash(width).of(*rows[:-1].T) != found[:-1]).any()


def test_words_are_not_interchangeable() -> None:
    hashes = WordHash(2)
    one, other = keys(5, 1 << 40, 7), keys(1 << 40, 5, 9)
    assert (hashes.of(one, other) != hashes.of(other, one)).all()


def test_numbers_have_hashes_of_their_own() -> None:
    numbers = np.arange(1000, dtype=np.uint16)
    found = NumberHash().of(numbers)
    assert len(set(found.tolist())) == len(numbers)
    assert (NumberHash().of(numbers) != found)[1:].all()
