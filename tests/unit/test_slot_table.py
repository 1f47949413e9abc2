"""Bounded memory: what is found, what takes whose place."""

from __future__ import annotations

import numpy as np
import pytest

from tracer.slot_table import RowHash, SlotTable


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


@pytest.mark.parametrize("width", [4, 20, 36, 72])
def test_one_bit_anywhere_makes_another_hash(width: int) -> None:
    hashes = RowHash(width)
    rows = np.zeros((8 * width + 1, width), np.uint8)
    for bit in range(8 * width):
        rows[bit, bit // 8] = 1 << bit % 8
    found = hashes.of(rows)
    # the lowest bit is always set, so two may share what is above it
    assert len(set(found.tolist())) >= len(rows) - 1
    assert found.all()
    assert (RowHash(width).of(rows) != found).any()
    left, right = rows[:, :4], rows[:, 4:]
    assert (hashes.of(left, right) == found).all() if width > 4 else True
